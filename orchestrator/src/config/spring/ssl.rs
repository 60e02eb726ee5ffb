//! `spring.kafka.ssl.…`, and the same by the Java clients' names. PEM is librdkafka's too, and so is a PKCS12 key store; what
//! only Java reads is refused, with the command that makes something else of it.

use super::{Leaf, key};
use crate::config::{
    read::Reader,
    report::Origin,
    yaml::{Data, Node},
};

/// Spring's sections, and ours.
const SECTIONS: [(&str, &str); 3] = [
    ("spring.kafka.ssl", "properties"),
    ("spring.kafka.consumer.ssl", "consumer"),
    ("spring.kafka.producer.ssl", "producer"),
];

/// Spring's names.
pub(super) const NAMES: [&str; 12] = [
    "key-password",
    "key-store-certificate-chain",
    "key-store-key",
    "key-store-location",
    "key-store-password",
    "key-store-type",
    "trust-store-certificates",
    "trust-store-location",
    "trust-store-password",
    "trust-store-type",
    "protocol",
    "bundle",
];

/// The Java clients' names, below `spring.kafka.properties` and its like.
const JAVA: [(&str, &str); 10] = [
    ("ssl.key.password", "key-password"),
    ("ssl.keystore.certificate.chain", "key-store-certificate-chain"),
    ("ssl.keystore.key", "key-store-key"),
    ("ssl.keystore.location", "key-store-location"),
    ("ssl.keystore.password", "key-store-password"),
    ("ssl.keystore.type", "key-store-type"),
    ("ssl.truststore.certificates", "trust-store-certificates"),
    ("ssl.truststore.location", "trust-store-location"),
    ("ssl.truststore.password", "trust-store-password"),
    ("ssl.truststore.type", "trust-store-type"),
];

/// One client's TLS settings as they were written.
#[derive(Default)]
pub(super) struct Stores {
    found: Vec<(&'static str, &'static str, Leaf)>,
}

/// The names at which Spring would look for them.
pub(super) fn known() -> impl Iterator<Item = String> {
    let of = |section: &'static str| NAMES.iter().map(move |name| format!("{section}.{name}"));
    SECTIONS.iter().flat_map(move |(section, _)| of(section))
}

impl Stores {
    /// Takes what belongs here; gives back what does not.
    pub(super) fn take(&mut self, leaf: Leaf) -> Option<Leaf> {
        for (spring, ours) in SECTIONS {
            let name = NAMES
                .iter()
                .find(|name| key(&leaf.name) == key(&format!("{spring}.{name}")));
            if let Some(name) = name {
                self.found.push((ours, name, leaf));
                return None;
            }
        }
        if let Some((section, property)) = super::property(&leaf.name)
            && let Some((_, name)) = JAVA.iter().find(|(java, _)| *java == property)
        {
            self.found.push((section, name, leaf));
            return None;
        }
        Some(leaf)
    }

    /// Gives librdkafka's settings to the reader, or says what to do instead.
    pub(super) fn read(self, reader: &mut Reader<'_>) {
        for (_, section) in SECTIONS {
            let text = |name: &str| {
                let of = |(s, n, _): &&(&str, &str, Leaf)| *s == section && *n == name;
                let (_, _, leaf) = self.found.iter().find(of)?;
                let Data::Text(text) = &leaf.node.data else {
                    return None;
                };
                Some((leaf, text.trim())).filter(|(_, text)| !text.is_empty())
            };
            let set = |reader: &mut Reader<'_>, property: &str, (leaf, text): (&Leaf, &str)| {
                reader.whole.clone_from(&leaf.whole);
                let (at, data) = (leaf.node.at, Data::Text(text.to_owned()));
                let path = ["kafka", section, property].map(str::to_owned);
                reader.property(&path, Node { at, data });
            };
            for (name, property) in [
                ("trust-store-certificates", "ssl.ca.pem"),
                ("key-store-certificate-chain", "ssl.certificate.pem"),
                ("key-store-key", "ssl.key.pem"),
            ] {
                if let Some(found) = text(name) {
                    set(reader, property, found);
                }
            }
            let form = |store: &str, path: &str| {
                let kind = text(&format!("{store}-type")).map(|(_, kind)| kind);
                Form::of(path, kind)
            };
            if let Some((leaf, location)) = text("trust-store-location") {
                match place(location).and_then(|path| Ok((path, form("trust-store", path)?))) {
                    Ok((path, Form::Pem)) => set(reader, "ssl.ca.location", (leaf, path)),
                    Ok((_, Form::Pkcs12 | Form::Jks)) => refuse(reader, leaf, TRUST_STORE),
                    Err(reason) => refuse(reader, leaf, reason),
                }
            }
            let mut key_password = "ssl.key.password";
            if let Some((leaf, location)) = text("key-store-location") {
                match place(location).and_then(|path| Ok((path, form("key-store", path)?))) {
                    Ok((path, Form::Pem)) => {
                        set(reader, "ssl.certificate.location", (leaf, path));
                        set(reader, "ssl.key.location", (leaf, path));
                    }
                    Ok((path, Form::Pkcs12)) => {
                        set(reader, "ssl.keystore.location", (leaf, path));
                        if let Some(password) = text("key-store-password") {
                            set(reader, "ssl.keystore.password", password);
                        }
                        // A PKCS12 key has the password of its store.
                        key_password = "";
                    }
                    Ok((_, Form::Jks)) => refuse(reader, leaf, KEY_STORE),
                    Err(reason) => refuse(reader, leaf, reason),
                }
            }
            if let Some(password) = text("key-password").filter(|_| !key_password.is_empty()) {
                set(reader, key_password, password);
            }
            if let Some((leaf, _)) = text("bundle") {
                refuse(
                    reader,
                    leaf,
                    "SSL bundles are Spring's own. Write the files here, as `trust-store-location` and `key-store-location`",
                );
            }
            if let Some((leaf, _)) = text("protocol") {
                let origin = origin(reader, leaf);
                let warning = "`protocol` is not used: TLS 1.2 or 1.3, as the broker and librdkafka agree";
                reader.report.warn(Some(&origin), warning);
            }
        }
    }
}

const TRUST_STORE: &str = "librdkafka reads the certificates to trust from PEM alone. Make it with `keytool -list -rfc -keystore FILE > ca.pem`, \
     then this key with `ca.pem`, or `orchestrator.kafka.properties.ssl.ca.location`";
const KEY_STORE: &str = "librdkafka reads a key store of the form PKCS12 or PEM. Make one with `keytool -importkeystore -srckeystore FILE \
     -destkeystore keys.p12 -deststoretype PKCS12`, then this key with `keys.p12`";

fn origin(reader: &Reader<'_>, leaf: &Leaf) -> Origin {
    leaf.whole
        .clone()
        .unwrap_or_else(|| reader.report.at(leaf.node.at))
}

fn refuse(reader: &mut Reader<'_>, leaf: &Leaf, reason: &str) {
    let origin = origin(reader, leaf);
    reader.report.problem(Some(&origin), Some(&leaf.name), reason);
}

/// The form of a store's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Pem,
    Pkcs12,
    Jks,
}

impl Form {
    /// By the type that is said, else by the name's ending.
    fn of(path: &str, kind: Option<&str>) -> Result<Self, &'static str> {
        let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
        match kind.unwrap_or(ending).to_lowercase().as_str() {
            "pem" | "crt" | "cer" => Ok(Self::Pem),
            "pkcs12" | "p12" | "pfx" => Ok(Self::Pkcs12),
            "jks" => Ok(Self::Jks),
            _ => Err(
                "its form is not known. Set its type (`trust-store-type`, `key-store-type`) to PEM, PKCS12 or JKS",
            ),
        }
    }
}

/// The file at a location of Spring's.
fn place(location: &str) -> Result<&str, &'static str> {
    if location.starts_with("classpath:") {
        return Err("there is no classpath here. Put the file beside the service, and write its path");
    }
    let path = location.strip_prefix("file:").unwrap_or(location);
    Ok(path.strip_prefix("//").unwrap_or(path))
}
