//! Listeners that do not do what a lane wants: what a test meets instead of a broker with another security protocol.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

/// What a listener does with a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listener {
    /// Ends it at once, as one that expects TLS does.
    Closes,
    /// Takes it and says nothing, as a broker that is frozen.
    Frozen,
    /// Answers in words that are neither Kafka nor TLS.
    Words,
    /// Knows SCRAM-SHA-512 alone.
    OtherMechanism,
    /// Knows PLAIN, and no such password.
    WrongPassword,
    /// Ends the first connection within its SASL handshake and every other at once, as a broker that stops.
    Torn,
}

impl Listener {
    /// Where it listens; for as long as the process lives.
    pub(super) fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            // Held, or they would be closed.
            let (keep, _kept) = mpsc::channel();
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                match self {
                    Self::Closes => {}
                    Self::Torn if number > 0 => {}
                    Self::Frozen => keep.send(stream).unwrap(),
                    Self::Words => {
                        // As any server, it hears first: words that come before the client's own are no broken handshake.
                        let _ = stream.read(&mut [0; 64]);
                        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                        keep.send(stream).unwrap();
                    }
                    Self::OtherMechanism | Self::WrongPassword | Self::Torn => {
                        thread::spawn(move || while self.answer(&mut stream).is_some() {});
                    }
                }
            }
        });
        address
    }

    /// Answers one request; none when the connection is over.
    fn answer(self, stream: &mut TcpStream) -> Option<()> {
        let mut size = [0; 4];
        stream.read_exact(&mut size).ok()?;
        let mut request = vec![0; usize::try_from(u32::from_be_bytes(size)).ok()?];
        stream.read_exact(&mut request).ok()?;
        let (api, correlation) = (i16::from_be_bytes([request[0], request[1]]), &request[4..8]);
        let mut body = correlation.to_vec();
        match (api, self) {
            (API_VERSIONS, _) => {
                // Version 3: no error, a compact array, no throttling, no tags.
                body.extend([0, 0, 4]);
                for (api, most) in [(SASL_HANDSHAKE, 1), (API_VERSIONS, 3), (SASL_AUTHENTICATE, 0_i16)] {
                    body.extend(api.to_be_bytes());
                    body.extend([0, 0]);
                    body.extend(most.to_be_bytes());
                    body.push(0);
                }
                body.extend([0; 5]);
            }
            (SASL_HANDSHAKE, Self::Torn) => return None,
            (SASL_HANDSHAKE, _) => {
                let (error, mechanism) = match self {
                    Self::WrongPassword => (0_i16, "PLAIN"),
                    _ => (33, "SCRAM-SHA-512"),
                };
                body.extend(error.to_be_bytes());
                body.extend(1_i32.to_be_bytes());
                text(&mut body, mechanism);
            }
            (SASL_AUTHENTICATE, _) => {
                body.extend(58_i16.to_be_bytes());
                text(&mut body, "Authentication failed: Invalid username or password");
                body.extend(0_i32.to_be_bytes());
            }
            _ => return None,
        }
        let size = u32::try_from(body.len()).unwrap();
        stream.write_all(&[&size.to_be_bytes()[..], &body].concat()).ok()
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text.as_bytes());
}
