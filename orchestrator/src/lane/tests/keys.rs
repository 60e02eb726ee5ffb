//! What keys of the configuration do in a lane.

use super::*;

#[test]
fn a_transaction_takes_at_most_batch_records() {
    paused(async {
        let settings = Settings {
            batch_records: 100,
            ..settings()
        };
        let records = (0..450).map(|_| (0, "good"));
        let time = Duration::from_secs(5);
        let work = Work::of(Kafka::with(records), settings, Tracking::Reliable, time).await;
        assert_eq!(work.kafka.committed(0), 450);
        let log = work.kafka.0.lock().unwrap();
        let most = log.attempts.iter().map(|attempt| attempt.sends.len()).max();
        assert_eq!(most, Some(100));
    });
}

#[test]
fn a_lone_record_waits_for_more_as_long_as_batch_min_delay() {
    paused(async {
        let settings = Settings {
            delay: Duration::from_secs(5)..=Duration::from_secs(5),
            ..settings()
        };
        let time = Duration::from_secs(4);
        let work = Work::of(Kafka::with([(0, "good")]), settings, Tracking::Reliable, time).await;
        assert_eq!(work.kafka.committed(0), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(work.kafka.committed(0), 1);
    });
}

#[test]
fn a_new_group_begins_where_initial_offset_says() {
    for (initial_offset, sent) in [(InitialOffset::Earliest, 3), (InitialOffset::Latest, 0)] {
        paused(async move {
            let settings = Settings {
                initial_offset,
                ..settings()
            };
            let records = (0..3).map(|_| (0, "good"));
            let time = Duration::from_secs(2);
            let work = Work::of(Kafka::with(records), settings, Tracking::Reliable, time).await;
            assert_eq!(work.kafka.committed(0), 3);
            assert_eq!(work.kafka.sent("enriched").len(), sent, "{initial_offset}");
        });
    }
}

#[tokio::test]
async fn an_entry_keeps_the_bytes_that_store_payload_says() {
    let record = SourceRecord {
        id: Partition::new("orders", 0).at(0),
        timestamp: None,
        key: None,
        value: Some(Bytes::from_static(b"\xffx")),
        headers: vec![],
    };
    for (capture, capture_on_failure_only, failure, kept) in [
        (StorePayload::None, false, true, None),
        (StorePayload::Bytes, true, true, Some(&b"\xffx"[..])),
        (StorePayload::Bytes, true, false, None),
        (StorePayload::Bytes, false, false, Some(b"\xffx")),
        (StorePayload::Text, true, true, Some("\u{fffd}x".as_bytes())),
    ] {
        let told = recorder::Settings {
            capture,
            capture_on_failure_only,
            ..recorder::Settings::default()
        };
        let runtime = tokio::runtime::Handle::current();
        let (recorder, _feedback) = Recorder::new(told, None, None, runtime, Arc::new(SystemClock));
        let captured = recorder
            .capture(&record, failure)
            .and_then(|captured| captured.value);
        assert_eq!(captured.as_deref(), kept, "{told:?}, failure: {failure}");
    }
}
