use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use tracker_api::Partition;

use super::{
    Error, ErrorKind, KafkaCustomizer, Positions as _, Result, Settings, Worker,
    identity::initialise,
    reader::{self, Reader},
    verdict,
};

/// Long enough to connect, to find a coordinator and to be refused by either.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one question waits, so that a refusal ends the patience.
const LOOK: Duration = Duration::from_secs(1);

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Good,
    /// It works, but not as well as it might.
    Warning,
    /// It does not work now, and may later without anybody's hand: a broker that is away.
    Away,
    /// A topic that the broker does not know: not every broker knows one that was made a moment ago; otherwise a fault.
    Absent,
    /// It does not work until somebody acts.
    Fault,
}

impl Severity {
    fn of(error: &Error) -> Self {
        if error.kind == ErrorKind::Retriable {
            Self::Away
        } else {
            Self::Fault
        }
    }
}

/// One thing that was looked at before the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub why: String,
    /// What to do about it; empty when there is nothing.
    pub fix: String,
}

impl fmt::Display for Finding {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if self.fix.is_empty() {
            Ok(())
        } else {
            write!(f, ". {}", self.fix)
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// In the order looked at; the first fault often explains those after it.
    pub findings: Vec<Finding>,
    /// The Kafka cluster's id, if a broker told it.
    pub cluster: Option<String>,
}

impl Probe {
    /// The gravest finding.
    pub fn severity(&self) -> Severity {
        self.findings
            .iter()
            .map(|f| f.severity)
            .max()
            .unwrap_or(Severity::Good)
    }

    fn add(
        &mut self,
        severity: Severity,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        });
    }
}

/// Looks whether a start would succeed, within half a minute: a broker answers, the source topic and `topics` exist, the
/// group may be read, and no other process uses the transactional id of `probe`. Changes nothing that a running service
/// depends on: its transactional id is one of its own. Blocks.
pub async fn probe(
    settings: &Settings,
    lanes: usize,
    topics: &[&str],
    customizer: Option<&dyn KafkaCustomizer>,
) -> Probe {
    let mut probe = Probe::default();
    let reader = match Reader::connect(settings, customizer) {
        Ok(reader) => reader,
        Err(error) => {
            probe.add(
                Severity::Fault,
                "settings",
                error.message,
                "Correct the Kafka settings",
            );
            return probe;
        }
    };
    let Some(mut reader) = brokers(&mut probe, reader, settings, customizer) else {
        return probe;
    };
    if let Some(partitions) = source(&mut probe, &reader, settings, lanes) {
        group(&mut probe, &mut reader, settings, &partitions).await;
    }
    for topic in topics.iter().filter(|t| **t != settings.source_topic) {
        target(&mut probe, &reader, topic);
    }
    transactions(&mut probe, settings, customizer);
    probe
}

/// Whether a broker answers. A refused connection is looked at twice: a handshake that a stopping broker cut off, or an
/// authority for tokens that is away, may look like a refusal once.
fn brokers(
    probe: &mut Probe,
    mut reader: Reader,
    settings: &Settings,
    customizer: Option<&dyn KafkaCustomizer>,
) -> Option<Reader> {
    let what = format!("brokers at {}", settings.bootstrap_servers);
    let mut silence = answered(&reader).err();
    if silence.as_ref().is_some_and(|silence| silence.refusal.is_some())
        && let Ok(fresh) = Reader::connect(settings, customizer)
    {
        thread::sleep(LOOK);
        reader = fresh;
        silence = answered(&reader).err();
    }
    let Some(Silence { why, refusal }) = silence else {
        probe.cluster = reader.client().fetch_cluster_id(PATIENCE);
        let id = probe.cluster.clone().unwrap_or_else(|| "unknown".into());
        probe.add(Severity::Good, what, format!("answered, cluster {id}"), "");
        return Some(reader);
    };
    let (severity, fix) = match refusal {
        Some(look_at) => (Severity::Fault, look_at),
        None => (
            Severity::Away,
            "Check that Kafka runs, that `bootstrap-servers` names it, that its advertised listeners can be reached from \
             here, and that `security.protocol` is the listener's",
        ),
    };
    probe.add(severity, what, why, fix);
    None
}

/// Why no broker answered.
struct Silence {
    why: String,
    /// What to look at, where the connection was refused.
    refusal: Option<&'static str>,
}

/// Asks for a while; a refusal ends it sooner.
fn answered(reader: &Reader) -> Result<(), Silence> {
    let begun = Instant::now();
    let mut first = None;
    loop {
        let error = match reader.client().fetch_metadata(None, LOOK) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        for (code, why) in reader.errors() {
            let refusal = verdict::refusal(code);
            if refusal.is_some() {
                return Err(Silence { why, refusal });
            }
            first.get_or_insert(why);
        }
        if begun.elapsed() >= PATIENCE {
            let why = first.unwrap_or_else(|| verdict::of_kafka("no answer", &error).message);
            return Err(Silence { why, refusal: None });
        }
    }
}

fn source(probe: &mut Probe, reader: &Reader, settings: &Settings, lanes: usize) -> Option<Vec<Partition>> {
    let what = format!("source topic `{}`", settings.source_topic);
    match reader::partitions(reader.client(), &settings.source_topic) {
        Ok(partitions) if partitions.len() < lanes => {
            let why = format!("{} partitions for {lanes} lanes", partitions.len());
            let fix = "A lane without a partition does nothing: lower `concurrency` or add partitions";
            probe.add(Severity::Warning, what, why, fix);
            Some(partitions)
        }
        Ok(partitions) => {
            probe.add(
                Severity::Good,
                what,
                format!("{} partitions", partitions.len()),
                "",
            );
            Some(partitions)
        }
        Err(error) => {
            let severity = of_topic(reader, &settings.source_topic, &error);
            probe.add(severity, what, error.message, missing(&settings.source_topic));
            None
        }
    }
}

fn target(probe: &mut Probe, reader: &Reader, topic: &str) {
    let what = format!("topic `{topic}`");
    match reader::partitions(reader.client(), topic) {
        Ok(partitions) => probe.add(
            Severity::Good,
            what,
            format!("{} partitions", partitions.len()),
            "",
        ),
        Err(error) => {
            let severity = of_topic(reader, topic, &error);
            probe.add(severity, what, error.message, missing(topic));
        }
    }
}

fn of_topic(reader: &Reader, topic: &str, error: &Error) -> Severity {
    if reader::is_absent(reader.client(), topic) {
        Severity::Absent
    } else {
        Severity::of(error)
    }
}

fn missing(topic: &str) -> String {
    format!(
        "Create it (`kafka-topics.sh --create --topic {topic} --partitions 6`), correct its name, or permit us to describe it"
    )
}

async fn group(probe: &mut Probe, reader: &mut Reader, settings: &Settings, partitions: &[Partition]) {
    let what = format!("group `{}`", settings.group_id);
    match patiently(reader, partitions).await {
        Ok(positions) => {
            let started = positions.iter().filter(|p| p.offset.is_some()).count();
            let why = format!("has offsets for {started} of {} partitions", partitions.len());
            probe.add(Severity::Good, what, why, "");
        }
        Err(error) if error.kind == ErrorKind::Retriable => {
            let fix = "A transaction may still be open: it ends with its timeout. Otherwise look at the group's coordinator";
            probe.add(Severity::Warning, what, error.message, fix);
        }
        Err(error) => {
            let fix = "Permit READ on the group and on its topics";
            probe.add(Severity::Fault, what, error.message, fix);
        }
    }
}

/// Asks again while a transaction is pending.
async fn patiently(reader: &mut Reader, partitions: &[Partition]) -> Result<Vec<super::Position>> {
    let mut answer = reader.committed(partitions).await;
    for _ in 0..2 {
        if !answer.as_ref().is_err_and(|e| e.kind == ErrorKind::Retriable) {
            break;
        }
        answer = reader.committed(partitions).await;
    }
    answer
}

/// Begins no transaction. The id is not that of a lane: taking that would fence a service that runs.
fn transactions(probe: &mut Probe, settings: &Settings, customizer: Option<&dyn KafkaCustomizer>) {
    let id = settings.transactional_id(Worker::Probe);
    let what = "transactions".to_owned();
    let initialised = initialise(settings, &id, customizer);
    match initialised {
        Ok(()) => probe.add(Severity::Good, what, format!("`{id}` may be used"), ""),
        Err(Error {
            kind: ErrorKind::Refused,
            message,
        }) => {
            let fix = format!(
                "Permit WRITE and DESCRIBE on transactional ids that begin with `{}{}-`, and check `transaction-timeout` \
                 against the broker's `transaction.max.timeout.ms`",
                settings.transactional_id_prefix, settings.group_id
            );
            probe.add(Severity::Fault, what, message, fix);
        }
        Err(error) => {
            let fix = "With fewer brokers than `transaction.state.log.replication.factor`, the topic of transactions cannot be made: \
                       look at the broker's log";
            probe.add(Severity::of(&error), what, error.message, fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Finding, PATIENCE, Severity, probe};
    use crate::kafka::{Instance, Settings, listener::Listener, native::mock::Mock};

    fn settings(servers: String) -> Settings {
        let instance = Instance {
            id: "one".into(),
            configured: false,
        };
        Settings::new(servers, "group", "in", instance)
    }

    #[tokio::test]
    async fn a_probe_of_a_sound_cluster_finds_nothing_wrong() {
        let mock = Mock::new(&[("in", 4), ("out", 1)]);
        let found = probe(&settings(mock.servers()), 2, &["out"], None).await;
        assert_eq!(found.severity(), Severity::Good, "{found:?}");
        assert_eq!(found.findings.len(), 5);
        let few = probe(&settings(mock.servers()), 8, &[], None).await;
        assert_eq!(few.severity(), Severity::Warning, "{few:?}");
    }

    #[tokio::test]
    async fn a_probe_without_brokers_says_so_once_and_what_to_do() {
        // Port 1 answers nobody.
        let found = probe(&settings("127.0.0.1:1".into()), 1, &["out"], None).await;
        let [only] = &found.findings[..] else {
            panic!("{found:?}");
        };
        assert_eq!(only.severity, Severity::Away);
        assert!(
            only.to_string().contains("127.0.0.1:1") && only.fix.contains("bootstrap-servers"),
            "{only}"
        );
        assert_eq!(found.cluster, None);
    }

    /// What a probe of this listener finds, with these settings.
    async fn met(listener: Listener, set: &'static [(&'static str, &'static str)]) -> Finding {
        let mut settings = settings(listener.start());
        for (key, value) in set {
            settings.common.insert((*key).into(), (*value).into());
        }
        let found = probe(&settings, 1, &[], None).await;
        let [only] = &found.findings[..] else {
            panic!("{found:?}");
        };
        only.clone()
    }

    const SASL: [(&str, &str); 4] = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "orders"),
        ("sasl.password", "hunter2"),
    ];

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_connection_is_a_fault_that_names_the_setting() {
        const TLS: [(&str, &str); 1] = [("security.protocol", "ssl")];
        for (listener, set, named) in [
            (Listener::WrongPassword, &SASL[..], "sasl.password"),
            (Listener::OtherMechanism, &SASL[..], "sasl.mechanism"),
            (Listener::Words, &TLS[..], "security.protocol"),
        ] {
            let begun = Instant::now();
            let only = met(listener, set).await;
            assert_eq!(only.severity, Severity::Fault, "{listener:?}: {only}");
            assert!(only.fix.contains(named), "{listener:?}: {only}");
            assert!(!only.to_string().contains("hunter2"), "{only}");
            assert!(begun.elapsed() < PATIENCE, "{listener:?} was not seen at once");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_merely_away_is_waited_for_whatever_librdkafka_guesses() {
        const TLS: [(&str, &str); 1] = [("security.protocol", "ssl")];
        // Side by side: each is waited for with the whole patience.
        let met = [
            (Listener::Closes, &[][..]),
            (Listener::Closes, &TLS[..]),
            (Listener::Frozen, &[][..]),
            (Listener::Torn, &SASL[..]),
        ]
        .map(|(listener, set)| (listener, tokio::spawn(met(listener, set))));
        for (listener, only) in met {
            let only = only.await.unwrap();
            assert_eq!(only.severity, Severity::Away, "{listener:?}: {only}");
            assert!(only.fix.contains("bootstrap-servers"), "{only}");
            assert!(!only.to_string().contains("0.10"), "{only}");
        }
    }

    #[tokio::test]
    async fn a_setting_that_does_not_exist_is_a_fault_before_any_broker_is_asked() {
        let mut wrong = settings("127.0.0.1:1".into());
        wrong.common.insert("securty.protocol".into(), "ssl".into());
        let found = probe(&wrong, 1, &[], None).await;
        let [only] = &found.findings[..] else {
            panic!("{found:?}");
        };
        assert!(only.why.contains("Did you mean `security.protocol`"), "{only}");
    }
}
