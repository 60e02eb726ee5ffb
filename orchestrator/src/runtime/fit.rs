//! Whether Kafka and the store are fit for a start: one line per fault, with what to do. What is away is waited for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracker_api::{DynTracker, Namespace, Risk};

use super::Error;
use crate::{
    config::{self, OnStoreFailure, Settings, Tracking, nearest},
    http::Health,
    kafka::{self, Finding, KafkaCustomizer, Severity, probe},
    registry::Registry,
    resilience::late::Late,
};

/// How long a start waits between two looks at a broker or store that is away.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a topic that the broker does not know is waited for, in case it was made a moment ago.
const PROPAGATES: Duration = Duration::from_secs(10);

/// Whether Kafka is fit for this service; answers the cluster's id. Waits while the broker is away.
pub(super) async fn fit(
    settings: &Settings,
    own_topics: Vec<Arc<str>>,
    kafka: &Arc<kafka::Settings>,
    customizer: Option<Arc<dyn KafkaCustomizer>>,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Option<String>, Error> {
    let configured = [Some(&settings.target_topic), settings.dead_letter_topic.as_ref()];
    let topics: BTreeSet<Arc<str>> = configured
        .into_iter()
        .flatten()
        .cloned()
        .chain(own_topics)
        .collect();
    let lanes = settings.concurrency;
    let mut absent: Option<Instant> = None;
    loop {
        let (kafka, customizer, topics) = (kafka.clone(), customizer.clone(), topics.clone());
        let look = move || {
            let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            let found = probe(&kafka, lanes, &topics, customizer.as_deref());
            tokio::runtime::Handle::current().block_on(found)
        };
        let found = tokio::task::spawn_blocking(look)
            .await
            .map_err(|e| Error::Failed(e.to_string()))?;
        let of = |severity| found.findings.iter().filter(move |f| f.severity == severity);
        of(Severity::Good).for_each(|finding| tracing::info!("{finding}"));
        of(Severity::Warning).for_each(|finding| tracing::warn!("{finding}"));
        match next(&found.findings, absent.map(|since| since.elapsed())) {
            Next::Go => return Ok(found.cluster),
            Next::Refuse(why) => return Err(Error::Config(why)),
            Next::Wait(why) => wait(health, stop, why).await?,
        }
        if of(Severity::Absent).next().is_some() {
            absent.get_or_insert_with(Instant::now);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Go,
    Wait(String),
    Refuse(String),
}

/// What a start does about what was found. `absent`: how long ago a topic was first found missing.
fn next(findings: &[Finding], absent: Option<Duration>) -> Next {
    let of = |wanted: &[Severity]| -> Vec<String> {
        let those = findings.iter().filter(|f| wanted.contains(&f.severity));
        those.map(ToString::to_string).collect()
    };
    let is_new = absent.is_none_or(|since| since < PROPAGATES);
    let is_faulty = !of(&[Severity::Fault]).is_empty();
    let faults = match is_new && !is_faulty {
        true => Vec::new(),
        false => of(&[Severity::Fault, Severity::Absent]),
    };
    if !faults.is_empty() {
        return Next::Refuse(faults.join("\n"));
    }
    let waits = of(&[Severity::Away, Severity::Absent]);
    if waits.is_empty() {
        return Next::Go;
    }
    Next::Wait(format!("waiting for Kafka: {}", waits.join("; ")))
}

/// Where a store is opened, and for whom.
pub(super) struct Opener {
    pub(super) registry: Registry,
    pub(super) settings: Settings,
    pub(super) namespace: Namespace,
    pub(super) health: Health,
    pub(super) stop: CancellationToken,
}

/// Why a store cannot be used.
enum Unfit {
    /// An outage, which may pass.
    Away(String),
    /// What waiting does not mend.
    Wrong(Error),
}

impl Opener {
    /// Opens a store and looks whether it can be written to. Waits while it is away.
    pub(super) async fn open(&self, backend: &config::Backend) -> Result<Option<DynTracker>, Error> {
        loop {
            match self.attempt(backend).await {
                Ok(opened) => return Ok(opened),
                Err(Unfit::Away(what)) => wait(&self.health, &self.stop, what).await?,
                Err(Unfit::Wrong(error)) => return Err(error),
            }
        }
    }

    /// Opens the service's store. Where an outage is to hold up nothing, one that is away now is opened later.
    pub(super) async fn open_main(self) -> Result<Option<DynTracker>, Error> {
        let backend = self.settings.store.backend.clone();
        if self.settings.store.on_failure != OnStoreFailure::Degrade {
            return self.open(&backend).await;
        }
        let what = match self.attempt(&backend).await {
            Ok(opened) => return Ok(opened),
            Err(Unfit::Wrong(error)) => return Err(error),
            Err(Unfit::Away(what)) => what,
        };
        tracing::warn!("{what}; the service starts without it (`on-store-failure: degrade`)");
        let late = Arc::new(Late::new(what));
        let (running, stop) = (late.clone(), self.stop.clone());
        tokio::spawn(async move {
            let open = || async {
                match self.attempt(&backend).await {
                    Ok(Some(store)) => Ok(store),
                    Ok(None) => Err("it keeps nothing".to_owned()),
                    Err(Unfit::Away(what)) => Err(what),
                    Err(Unfit::Wrong(error)) => Err(error.to_string()),
                }
            };
            stop.run_until_cancelled(running.run(AGAIN, open)).await;
        });
        Ok(Some(late))
    }

    async fn attempt(&self, backend: &config::Backend) -> Result<Option<DynTracker>, Unfit> {
        let Some((tracker, found)) = self.looked_at(backend).await.map_err(|error| {
            let what = format!("the store `{}` cannot be used: {error}", backend.name);
            match error.kind() {
                tracker_api::ErrorKind::InUse => Unfit::Wrong(Error::Held(what)),
                _ if error.is_transient() => Unfit::Away(what),
                _ => Unfit::Wrong(Error::Config(what)),
            }
        })?
        else {
            return Ok(None);
        };
        risks(&self.settings, &backend.name, &found)
            .map_err(|refused| Unfit::Wrong(Error::Config(refused)))?;
        Ok(Some(tracker))
    }

    /// The opened store, and what it cannot promise.
    async fn looked_at(
        &self,
        backend: &config::Backend,
    ) -> tracker_api::Result<Option<(DynTracker, Vec<Risk>)>> {
        let (name, section) = (&backend.name, &backend.section);
        let opening = self
            .registry
            .open(name, section, &self.namespace, &self.settings.data_dir);
        let Some(tracker) = opening.await? else {
            return Ok(None);
        };
        tracker.ping().await?;
        let found = tracker.risks().await?;
        Ok(Some((tracker, found)))
    }
}

/// What the store cannot promise is refused where the tracking needs it, unless the operator has accepted it by name.
fn risks(settings: &Settings, store: &str, risks: &[Risk]) -> Result<(), String> {
    let accepted = &settings.store.accepted_risks;
    let names: Vec<&str> = risks.iter().map(|risk| risk.name.as_str()).collect();
    for name in accepted.iter().filter(|name| name.starts_with(store)) {
        if !names.contains(&name.as_str()) {
            let near = nearest(name, names.iter().copied());
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            tracing::warn!(
                "`accept-store-risks` names `{name}`, which the store `{store}` does not have{near}"
            );
        }
    }
    let needed = matches!(settings.tracking, Tracking::Reliable | Tracking::Outbox);
    let (refused, told): (Vec<_>, Vec<_>) = risks
        .iter()
        .partition(|risk| needed && !accepted.contains(&risk.name));
    for risk in told {
        tracing::warn!(risk = %risk.name, "the store `{store}`: {}", risk.what);
    }
    if refused.is_empty() {
        return Ok(());
    }
    let list = |risks: &[&Risk]| {
        risks
            .iter()
            .map(|risk| risk.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut message = format!(
        "the store `{store}` cannot promise what `tracking: {}` needs; mend it, or accept it with `accept-store-risks: [{}]`",
        settings.tracking,
        list(&refused)
    );
    for risk in &refused {
        message += &format!("\n  {}: {}", risk.name, risk.what);
    }
    Err(message)
}

/// Says what is waited for, and waits.
pub(super) async fn wait(health: &Health, stop: &CancellationToken, what: String) -> Result<(), Error> {
    tracing::warn!("{what}");
    health.reason(0, Some(what.clone()));
    tokio::select! {
        () = stop.cancelled() => return Err(Error::Stopped(what)),
        () = tokio::time::sleep(AGAIN) => {}
    }
    health.reason(0, None);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(tracking: Tracking, accepted: &[&str]) -> Settings {
        let mut settings = Settings::new("localhost:9092", "orders", "a", "b", "redis");
        settings.tracking = tracking;
        settings.store.accepted_risks = accepted.iter().map(|name| (*name).to_owned()).collect();
        settings
    }

    #[test]
    fn a_topic_that_may_be_new_is_waited_for_and_one_that_is_missing_is_refused() {
        let finding = |severity, what: &str| Finding {
            severity,
            what: what.to_owned(),
            why: "found".to_owned(),
            fix: String::new(),
        };
        let absent = [
            finding(Severity::Good, "brokers"),
            finding(Severity::Absent, "topic"),
        ];
        let second = Duration::from_secs(1);
        for since in [None, Some(9 * second)] {
            assert_eq!(
                next(&absent, since),
                Next::Wait("waiting for Kafka: topic: found".into())
            );
        }
        assert_eq!(
            next(&absent, Some(PROPAGATES)),
            Next::Refuse("topic: found".into())
        );
        // What waiting does not mend is told at once, with all that is wrong.
        let faulty = [
            finding(Severity::Fault, "group"),
            finding(Severity::Absent, "topic"),
        ];
        assert_eq!(
            next(&faulty, None),
            Next::Refuse("group: found\ntopic: found".into())
        );
        let away = [finding(Severity::Away, "brokers")];
        assert_eq!(
            next(&away, Some(60 * second)),
            Next::Wait("waiting for Kafka: brokers: found".into())
        );
        assert_eq!(next(&absent[..1], None), Next::Go);
    }

    #[test]
    fn a_risk_is_refused_where_tracking_needs_the_promise_unless_it_is_accepted_by_name() {
        let risk = |name: &str| Risk {
            name: name.to_owned(),
            what: format!("{name} loses entries"),
        };
        let found = [risk("redis-everysec"), risk("redis-failover")];
        for (tracking, accepted, refused) in [
            (Tracking::Reliable, vec![], "[redis-everysec, redis-failover]"),
            (Tracking::Outbox, vec!["redis-failover"], "[redis-everysec]"),
            (
                Tracking::Reliable,
                vec!["redis-everysek", "redis-failover"],
                "[redis-everysec]",
            ),
        ] {
            let told = risks(&settings(tracking, &accepted), "redis", &found).unwrap_err();
            assert!(told.contains(refused), "{told}");
            assert!(
                told.contains("redis-everysec: redis-everysec loses entries"),
                "{told}"
            );
        }
        for (tracking, accepted) in [
            (Tracking::Reliable, vec!["redis-everysec", "redis-failover"]),
            (Tracking::Lightweight, vec![]),
            (Tracking::None, vec![]),
        ] {
            risks(&settings(tracking, &accepted), "redis", &found).unwrap();
        }
    }
}
