//! Asks a server, in its own protocol, whether it takes work. A server that wants a password or refuses us answers too.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{Kind, mongo};

const PATIENCE: Duration = Duration::from_secs(2);

/// Whether it answers and takes work. The single node of a replica set is told to form it if it has not.
pub(crate) fn answers(kind: Kind, port: u16) -> bool {
    let asked = || {
        let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        match kind {
            Kind::Postgres => postgres(&mut stream),
            Kind::Redis | Kind::RedisSentinel => redis(&mut stream),
            Kind::Mongo => replica_set(&mut stream, port),
            Kind::MongoStandalone => mongo::ask(&mut stream, &mongo::hello()).map(|r| mongo::succeeded(&r)),
        }
    };
    asked().unwrap_or(false)
}

/// PostgreSQL refuses with 57P03 while it starts, recovers or ends.
fn postgres(stream: &mut TcpStream) -> io::Result<bool> {
    const PROTOCOL: u32 = 3 << 16;
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(8 + parameters.len()).map_err(io::Error::other)?;
    let start = [&length.to_be_bytes(), &PROTOCOL.to_be_bytes(), &parameters[..]].concat();
    stream.write_all(&start)?;
    let mut reply = [0; 512];
    let read = stream.read(&mut reply)?;
    let reply = &reply[..read];
    let _ = stream.write_all(&[b'X', 0, 0, 0, 4]);
    Ok(match reply.first() {
        Some(b'E') => !reply.windows(5).any(|code| code == b"57P03"),
        Some(_) => true,
        None => false,
    })
}

/// Redis answers an error that begins with LOADING while it reads its log.
fn redis(stream: &mut TcpStream) -> io::Result<bool> {
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 64];
    let read = stream.read(&mut reply)?;
    Ok(read > 0 && !reply.starts_with(b"-LOADING"))
}

fn replica_set(stream: &mut TcpStream, port: u16) -> io::Result<bool> {
    let state = mongo::ask(stream, &mongo::hello())?;
    if mongo::is_true(&state, "isWritablePrimary") {
        return Ok(true);
    }
    // Refused, and rightly, by a node that already belongs to its set and only has not elected itself yet.
    let _ = mongo::ask(stream, &mongo::initiate(port))?;
    Ok(false)
}
