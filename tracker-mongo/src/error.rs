use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use mongodb::{
    error::{ErrorKind as Cause, WriteFailure},
    event::{EventHandler, sdam::SdamEvent},
    options::ClientOptions,
};
use tracker_api::{Error, ErrorKind, SecretUrl};

/// Where something happened, as an error tells it: never with a password.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) hosts: String,
    pub(crate) database: String,
    pub(crate) user: Option<String>,
    pub(crate) heard: Heard,
}

/// What the driver's monitor has heard last. A server that is silent, one that refuses and one that is not trusted are one
/// error to the driver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<AtomicU8>);

impl Heard {
    const SILENCE: u8 = 0;
    const ANYTHING: u8 = 1;
    const DISTRUST: u8 = 2;

    pub(crate) fn listen(options: &mut ClientOptions) -> Self {
        let heard = Self::default();
        let last = Arc::clone(&heard.0);
        let note = move |event| {
            let what = match event {
                SdamEvent::ServerHeartbeatSucceeded(_) => Self::ANYTHING,
                SdamEvent::ServerHeartbeatFailed(event) => match event.failure.kind.as_ref() {
                    Cause::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Self::SILENCE,
                    Cause::Io(error) if is_tls(error) => Self::DISTRUST,
                    _ => Self::ANYTHING,
                },
                _ => return,
            };
            last.store(what, Ordering::Relaxed);
        };
        options.sdam_event_handler = Some(EventHandler::callback(note));
        heard
    }

    fn nothing(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::SILENCE
    }

    fn distrust(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::DISTRUST
    }
}

/// Whether the two sides do not trust each other: no later time heals a certificate.
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the database `{}` on {}", self.database, self.hosts)
    }
}

/// What a caller can do about an error of the server's, decided by its code, never by its text.
pub(crate) fn kind_of(code: i32) -> ErrorKind {
    match code {
        // BadValue (a hint at an index that is gone), FailedToParse, Unauthorized, TypeMismatch, AuthenticationFailed,
        // NamespaceNotFound, IndexNotFound, InvalidOptions, InvalidNamespace, IndexOptionsConflict, IndexKeySpecsConflict,
        // CommandNotFound, UnsatisfiableWriteConcern, CommandNotSupported, CommandNotSupportedOnView, an Atlas refusal.
        2 | 9 | 13 | 14 | 18 | 26 | 27 | 59 | 72 | 73 | 85 | 86 | 100 | 115 | 166 | 8000 => ErrorKind::Config,
        // MaxTimeMSExpired, LockTimeout, WriteConcernFailed, NetworkTimeout, NetworkInterfaceExceededTimeLimit, ExceededTimeLimit.
        24 | 50 | 64 | 89 | 202 | 262 => ErrorKind::Timeout,
        // InvalidBSON, Overflow, DocumentValidationFailure, BSONObjectTooLarge, and what an update would grow beyond its bound.
        15 | 22 | 121 | 10334 | 17280 | 17419 | 17420 => ErrorKind::Refused,
        // Shutting down, no primary, stepped down, a full disk, a write conflict; and what is not known.
        _ => ErrorKind::Unavailable,
    }
}

fn advice(code: i32) -> &'static str {
    match code {
        18 | 8000 => "look at mongo.username, mongo.password and the address's authSource",
        13 => "give the user the role `readWrite` on the database",
        2 | 26 | 27 => "a collection or an index is gone: start again, so that it is made anew",
        73 => "choose another mongo.database",
        85 | 86 => "an index of ours was changed: drop it, and start again",
        50 | 24 | 262 => {
            "the server is slow or held up: look at its load and locks, or raise mongo.call-timeout-ms"
        }
        64 | 100 | 202 => "a majority of the replica set did not confirm: look at its members",
        121 => "a validator on the collection refuses it: remove the validator",
        15 | 22 | 10334 | 17280 | 17419 | 17420 => "the server refuses this value",
        14031 => "the server's disk is full: make room",
        10107 | 13435 | 13436 | 10058 | 189 | 11602 | 91 | 11600 => {
            "the server is no primary now or is shutting down: wait, or look at the replica set"
        }
        _ => "look at the server's log",
    }
}

/// An answer of the server's that is an error. Its text may hold what was written, so only the code is told.
pub(crate) fn of_code(code: i32, name: &str, doing: &str, place: &Place) -> Error {
    let name = if name.is_empty() {
        String::new()
    } else {
        format!(" ({name})")
    };
    let who = match (code, &place.user) {
        (13 | 18 | 8000, Some(user)) => format!(" as user `{user}`"),
        (13 | 18 | 8000, None) => " without a user".to_owned(),
        _ => String::new(),
    };
    let message = format!(
        "{doing} failed{who} in {place}: error {code}{name}; {}",
        advice(code)
    );
    Error::new(kind_of(code), message)
}

/// An error of the driver's, with what was being done and where.
pub(crate) fn of_driver(error: &mongodb::error::Error, doing: &str, place: &Place) -> Error {
    let told = |kind, what: &str| Error::new(kind, format!("{doing} failed in {place}: {what}"));
    match error.kind.as_ref() {
        Cause::Command(error) => of_code(error.code, &error.code_name, doing, place),
        Cause::Write(WriteFailure::WriteError(error)) => of_code(
            error.code,
            error.code_name.as_deref().unwrap_or_default(),
            doing,
            place,
        ),
        Cause::Write(WriteFailure::WriteConcernError(error)) => {
            of_code(error.code, &error.code_name, doing, place)
        }
        Cause::Authentication { .. } => of_code(18, "AuthenticationFailed", doing, place),
        Cause::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => told(
            ErrorKind::Timeout,
            "no answer in time; look at the server and the network",
        ),
        Cause::Io(error) => told(
            ErrorKind::Unavailable,
            &format!(
                "the connection broke ({}); look at the server and the network",
                error.kind()
            ),
        ),
        Cause::ServerSelection { .. } if place.heard.nothing() => told(
            ErrorKind::Timeout,
            "the server accepts connections or drops them, and never answers; look at the server and the network",
        ),
        Cause::ServerSelection { .. } if place.heard.distrust() => told(
            ErrorKind::Config,
            "the two sides do not trust each other's certificate; check mongo.tls-ca-file, the name in the server's certificate, and \
             whether the server speaks TLS",
        ),
        Cause::ServerSelection { .. } => told(
            ErrorKind::Unavailable,
            "no server answers that can be written to; look at mongo.url, whether the servers run, and whether one is primary",
        ),
        Cause::ConnectionPoolCleared { .. } => told(
            ErrorKind::Unavailable,
            "the connections were given up after an error; try again",
        ),
        Cause::DnsResolve { .. } => told(
            ErrorKind::Unavailable,
            "the host's name is unknown; look at mongo.url",
        ),
        Cause::InvalidTlsConfig { .. } => told(
            ErrorKind::Config,
            "the TLS options are wrong; look at mongo.tls-ca-file and the address",
        ),
        Cause::IncompatibleServer { .. } => told(
            ErrorKind::Config,
            "the server is too old or too new for this version",
        ),
        Cause::InvalidArgument { .. } => told(ErrorKind::Refused, "the driver refuses the command"),
        Cause::Bson(_) | Cause::InvalidResponse { .. } => told(
            ErrorKind::Corrupt,
            "the answer cannot be read; look at what stands at this address",
        ),
        _ => told(
            ErrorKind::Unavailable,
            "the driver gave up; try again, or look at the server's log",
        ),
    }
}

/// The address cannot be read. The driver's text may repeat a part of it, so it is not told.
pub(crate) fn of_address(error: &mongodb::error::Error, url: &SecretUrl) -> Error {
    match error.kind.as_ref() {
        Cause::DnsResolve { .. } => Error::new(
            ErrorKind::Unavailable,
            format!("the name server does not know the hosts of mongo.url ({url})"),
        ),
        _ => Error::new(
            ErrorKind::Config,
            format!(
                "mongo.url ({url}) is no address of MongoDB's: write mongodb://user@host:27017/?option=value, and what is special \
                 in a name or a password as %XX"
            ),
        ),
    }
}

/// No answer within the call's bound.
pub(crate) fn no_answer(doing: &str, place: &Place, millis: u128) -> Error {
    let message = format!(
        "{doing} failed in {place}: no answer in {millis} ms; look at the server and the network, or raise mongo.call-timeout-ms"
    );
    Error::new(ErrorKind::Timeout, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_transient_and_bad_data_is_not() {
        for outage in [11600, 91, 189, 10107, 13435, 11602, 14031, 50, 64, 112, 99_999] {
            assert!(Error::new(kind_of(outage), "").is_transient(), "{outage}");
        }
        for data in [121, 10334, 17280, 17419] {
            assert_eq!(kind_of(data), ErrorKind::Refused);
        }
        for setup in [13, 18, 85, 26] {
            assert_eq!(kind_of(setup), ErrorKind::Config);
        }
    }

    #[test]
    fn a_refused_user_is_named_and_the_servers_text_is_not_told() {
        let place = Place {
            hosts: "db1:27017".into(),
            database: "orders".into(),
            user: Some("ada".into()),
            heard: Heard::default(),
        };
        let text = of_code(18, "AuthenticationFailed", "opening", &place).to_string();
        assert!(
            text.contains("as user `ada`") && text.contains("db1:27017"),
            "{text}"
        );
    }
}
