//! As much of MongoDB's protocol as makes a replica set and asks for its state: there is no shell in the wheel.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// Sends one command and answers the reply's bytes.
pub(crate) fn ask(stream: &mut TcpStream, command: &[u8]) -> std::io::Result<Vec<u8>> {
    const OP_MSG: u32 = 2013;
    let length = u32::try_from(16 + 4 + 1 + command.len()).map_err(std::io::Error::other)?;
    let mut message = Vec::new();
    for number in [length, 1, 0, OP_MSG, 0] {
        message.extend_from_slice(&number.to_le_bytes());
    }
    message.push(0); // a section of one document
    message.extend_from_slice(command);
    stream.write_all(&message)?;
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let total = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if !(16..1 << 20).contains(&total) {
        return Err(std::io::Error::other("not a reply of MongoDB"));
    }
    let mut reply = vec![0; usize::try_from(total).map_err(std::io::Error::other)? - 16];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

/// `{hello: 1}`.
pub(crate) fn hello() -> Vec<u8> {
    Document::new().int("hello", 1).text("$db", "admin").end()
}

/// `{replSetInitiate: {_id: "rs0", members: [{_id: 0, host: "127.0.0.1:PORT"}]}}`.
pub(crate) fn initiate(port: u16) -> Vec<u8> {
    let member = Document::new()
        .int("_id", 0)
        .text("host", &format!("127.0.0.1:{port}"));
    let members = Document::new().inner("0", Document::OBJECT, member);
    let set = Document::new()
        .text("_id", "rs0")
        .inner("members", Document::ARRAY, members);
    Document::new()
        .inner("replSetInitiate", Document::OBJECT, set)
        .text("$db", "admin")
        .end()
}

/// Whether the reply holds this field with `true`.
pub(crate) fn is_true(reply: &[u8], field: &str) -> bool {
    holds(reply, 0x08, field, &[1])
}

/// Whether the command succeeded.
pub(crate) fn succeeded(reply: &[u8]) -> bool {
    holds(reply, 0x01, "ok", &1_f64.to_le_bytes())
}

fn holds(reply: &[u8], kind: u8, field: &str, value: &[u8]) -> bool {
    let wanted = [&[kind], field.as_bytes(), &[0], value].concat();
    reply.windows(wanted.len()).any(|part| part == wanted)
}

/// A BSON document that grows by a field at a time.
pub(crate) struct Document(Vec<u8>);

impl Document {
    pub(crate) const OBJECT: u8 = 0x03;
    pub(crate) const ARRAY: u8 = 0x04;

    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    fn named(mut self, kind: u8, name: &str) -> Self {
        self.0.push(kind);
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    pub(crate) fn int(self, name: &str, value: i32) -> Self {
        let mut document = self.named(0x10, name);
        document.0.extend_from_slice(&value.to_le_bytes());
        document
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        let mut document = self.named(0x02, name);
        document.0.extend_from_slice(&length(value.len() + 1));
        document.0.extend_from_slice(value.as_bytes());
        document.0.push(0);
        document
    }

    pub(crate) fn inner(self, name: &str, kind: u8, value: Self) -> Self {
        let mut document = self.named(kind, name);
        document.0.extend(value.end());
        document
    }

    pub(crate) fn end(self) -> Vec<u8> {
        let mut bytes = length(4 + self.0.len() + 1).to_vec();
        bytes.extend(self.0);
        bytes.push(0);
        bytes
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}
