//! Values that name something: topics, brokers, records, this process.

use std::{collections::BTreeSet, net::SocketAddr};

use tracker_api::RecordId;

use super::{
    check::Checks,
    disclosure::{quoted, redact},
    written::Written,
};

impl Checks<'_> {
    pub(super) fn topic(&mut self, key: &str, name: Option<&String>, required: bool) -> String {
        let name = match required {
            true => self.required(key, name),
            false => name.cloned().unwrap_or_default(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.len() > 249 || !name.chars().all(plain) || matches!(name.as_str(), "." | "..") {
            let reason = "a topic's name has at most 249 letters, digits, dots, dashes and underscores";
            self.wrong(key, format!("{} is not a topic: {reason}", quoted(&name)));
        }
        name
    }

    /// The group and the prefix become part of each transactional id, which stands in every request of a transaction and is
    /// a key of the broker's log; Kafka itself would take 32 767 bytes.
    pub(super) fn part_of_ids(&mut self, key: &str, text: &str, most: usize) {
        if text.chars().any(char::is_control) {
            self.wrong(key, "control characters cannot stand here");
        }
        if text.len() > most {
            let reason = format!(
                "it has {} bytes, and at most {most} may become part of a transactional id",
                text.len()
            );
            self.wrong(key, reason);
        }
    }

    /// Brokers, however they are separated, with commas between them: librdkafka would take `a:1;b:2` for one host.
    pub(super) fn servers(&mut self, w: &Written) -> String {
        let servers = self.required("bootstrap-servers", w.bootstrap_servers.as_ref());
        let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | ';');
        let each: Vec<&str> = servers.split(is_between).filter(|s| !s.is_empty()).collect();
        for server in &each {
            let (scheme, address) = server.split_once("://").unwrap_or(("PLAINTEXT", server));
            let shown = quoted(server);
            if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&scheme.to_uppercase().as_str()) {
                self.wrong(
                    "bootstrap-servers",
                    format!("{shown} is not a broker: write host:port"),
                );
                continue;
            }
            let is_host = |host: &str| !host.contains(':') || host.starts_with('[') && host.ends_with(']');
            match address.rsplit_once(':') {
                Some((host, _)) if !is_host(host) => {
                    let reason = format!(
                        "{shown} is not one broker: write host:port,host:port, and an IPv6 address in brackets"
                    );
                    self.wrong("bootstrap-servers", reason);
                }
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {}
                Some((host, _)) if !host.is_empty() => {
                    self.wrong(
                        "bootstrap-servers",
                        format!("{shown} has no valid port: 1 to 65535"),
                    );
                }
                _ => self.wrong(
                    "bootstrap-servers",
                    format!(
                        "{shown} has no port: write host:port, such as {}:9092",
                        redact(address)
                    ),
                ),
            }
        }
        each.join(",")
    }

    pub(super) fn skip(&mut self, w: &Written) -> Vec<RecordId> {
        let mut ids = BTreeSet::new();
        for text in &w.skip {
            match text.parse::<RecordId>() {
                Ok(id)
                    if w.source_topic
                        .as_deref()
                        .is_some_and(|topic| topic != &*id.partition.topic) =>
                {
                    let reason = format!("`{id}` is not a record of the source topic");
                    self.wrong("skip", reason);
                }
                Ok(id) => {
                    ids.insert(id);
                }
                Err(reason) => self.wrong("skip", reason),
            }
        }
        ids.into_iter().collect()
    }

    pub(super) fn instance(&mut self, w: &Written) -> Option<String> {
        let instance = w.instance.clone()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if instance.len() > 64 || !instance.chars().all(plain) {
            let reason = "an instance's name has at most 64 letters, digits, dots, dashes and underscores: Kafka takes no others in a static member's id";
            self.wrong("instance", reason);
        }
        Some(instance)
    }

    pub(super) fn hosts(&mut self, w: &Written) -> Vec<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        for name in &w.management_hosts {
            if name.is_empty() || !name.chars().all(plain) {
                let reason = format!(
                    "{} is not a host's name: write it without a scheme and a port",
                    quoted(name)
                );
                self.wrong("management-hosts", reason);
            }
        }
        w.management_hosts.clone()
    }

    pub(super) fn management(&mut self, w: &Written) -> SocketAddr {
        let text = w.management_address.trim();
        let full = match text.split_once(':') {
            Some(("", port)) => format!("0.0.0.0:{port}"),
            Some(("localhost", port)) => format!("127.0.0.1:{port}"),
            _ => text.to_owned(),
        };
        full.parse().unwrap_or_else(|_| {
            let reason = format!(
                "{} is not an address and a port such as 0.0.0.0:8080",
                quoted(text)
            );
            self.wrong("management-address", reason);
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }
}
