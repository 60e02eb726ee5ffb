//! `test-servers-hold KIND [panic]`: holds a server for a test of what happens to it when its holder ends badly.
//! `test-servers-hold redis shared`: where the process' shared Redis is, and what comes of killing it.

use std::io::{Read, Write};

use test_servers::{Kind, Server};

fn main() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let kind = [Kind::Postgres, Kind::Redis, Kind::Mongo, Kind::MongoStandalone]
        .into_iter()
        .find(|kind| words.first().is_some_and(|word| *word == kind.to_string()))
        .ok_or("usage: test-servers-hold postgres|redis|mongo|mongo-standalone [panic | shared]")?;
    if words.get(1).is_some_and(|word| word == "shared") {
        let server = test_servers::redis();
        let said = writeln!(std::io::stdout(), "{} {:?}", server.url(), server.kill());
        return said.map_err(|error| error.to_string());
    }
    let server = Server::start(kind)?;
    let said = writeln!(
        std::io::stdout(),
        "{} {}",
        server.pid(),
        server.folder().display()
    );
    said.map_err(|error| error.to_string())?;
    let _ = std::io::stdin().read(&mut [0]);
    assert!(words.get(1).is_none(), "asked to");
    Ok(())
}
