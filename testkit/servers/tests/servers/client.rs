//! As much of three protocols as proves that a server answers and keeps what it was given.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use test_servers::{Kind, Server};

use crate::mongo::{self, Document};

pub(crate) struct Client {
    kind: Kind,
    stream: TcpStream,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut client = Self {
            kind: server.kind(),
            stream,
        };
        if client.kind == Kind::Postgres {
            let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
            client.send_postgres(None, parameters);
            client.postgres_ready().unwrap();
        }
        client
    }

    /// Whether a small question is answered within this time.
    pub(crate) fn answers(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        let answer = match self.kind {
            Kind::Postgres => {
                self.send_postgres(Some(b'Q'), b"SELECT 1\0");
                self.postgres_ready().map(drop)
            }
            Kind::Redis | Kind::RedisSentinel => {
                self.stream.write_all(b"PING\r\n").unwrap();
                self.stream.read_exact(&mut [0; 7])
            }
            Kind::Mongo | Kind::MongoStandalone => mongo::ask(&mut self.stream, &mongo::hello()).map(drop),
        };
        let Err(error) = answer else { return true };
        let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(waited, "{} ended the connection: {error}", self.kind);
        false
    }

    /// Writes what a crash must not lose.
    pub(crate) fn write(&mut self) {
        let answer = match self.kind {
            Kind::Postgres => self.postgres("CREATE TABLE kept AS SELECT 4200 + 42 AS number"),
            Kind::Redis | Kind::RedisSentinel => self.redis("SET kept 4242"),
            Kind::Mongo | Kind::MongoStandalone => {
                let document = Document::new().int("_id", 1).text("number", "4242");
                let documents = Document::new().inner("0", Document::OBJECT, document);
                let concern = Document::new().int("j", 1);
                let insert = Document::new()
                    .text("insert", "kept")
                    .inner("documents", Document::ARRAY, documents)
                    .inner("writeConcern", Document::OBJECT, concern)
                    .text("$db", "test")
                    .end();
                String::from_utf8_lossy(&mongo::ask(&mut self.stream, &insert).unwrap()).into_owned()
            }
        };
        assert!(!answer.contains("rror"), "{answer}");
    }

    pub(crate) fn is_written(&mut self) -> bool {
        let answer = match self.kind {
            Kind::Postgres => self.postgres("SELECT number FROM kept"),
            Kind::Redis | Kind::RedisSentinel => self.redis("GET kept"),
            Kind::Mongo | Kind::MongoStandalone => {
                let find = Document::new().text("find", "kept").text("$db", "test").end();
                String::from_utf8_lossy(&mongo::ask(&mut self.stream, &find).unwrap()).into_owned()
            }
        };
        answer.contains("4242")
    }

    /// The beginning of Redis' answer.
    pub(crate) fn redis(&mut self, command: &str) -> String {
        write!(self.stream, "{command}\r\n").unwrap();
        let mut answer = [0; 512];
        let read = self.stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    /// All that PostgreSQL sends until it is ready for the next query.
    pub(crate) fn postgres(&mut self, query: &str) -> String {
        self.send_postgres(Some(b'Q'), format!("{query}\0").as_bytes());
        self.postgres_ready().unwrap()
    }

    fn send_postgres(&mut self, kind: Option<u8>, content: &[u8]) {
        let length = u32::try_from(4 + content.len()).unwrap().to_be_bytes();
        let message: Vec<u8> = kind
            .into_iter()
            .chain(length)
            .chain(content.iter().copied())
            .collect();
        self.stream.write_all(&message).unwrap();
    }

    fn postgres_ready(&mut self) -> std::io::Result<String> {
        let mut all = String::new();
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut content = vec![0; usize::try_from(length).unwrap() - 4];
            self.stream.read_exact(&mut content)?;
            if head[0] == b'Z' {
                return Ok(all);
            }
            all.push_str(if head[0] == b'E' { "error: " } else { "" });
            all.push_str(&String::from_utf8_lossy(&content));
        }
    }
}
