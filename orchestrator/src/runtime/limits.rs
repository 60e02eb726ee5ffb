//! Whether the process may open as many files as it needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Error;

/// What the process itself needs: the log, the data directory, runtimes, listeners, a store with its connections and
/// tables, and a few clients of HTTP.
const PROCESS: u64 = 64;
/// What a lane needs: a consumer and a producer, each with a socket and its wake-up for every broker and coordinator. A
/// service of one lane, one broker and RocksDB had 63 files open.
const LANE: u64 = 36;
/// A larger cluster needs more for each lane.
const CLUSTER: u64 = 4;
/// RocksDB's tables (at most 256 files) and clients of HTTP (at most 256).
const SPARE: u64 = 512;

/// Raises the limit of open files as far as the process may, and looks whether that is enough for `lanes` lanes.
///
/// # Errors
///
/// When it is too low to work with: what would fail, and where, is anybody's guess.
pub(super) fn look(lanes: usize) -> Result<(), Error> {
    let found = getrlimit(Resource::Nofile);
    let ample = ample(lanes);
    let raised = found
        .current
        .map(|soft| soft.max(found.maximum.map_or(ample, |hard| hard.min(ample))));
    if raised != found.current {
        let wanted = Rlimit {
            current: raised,
            maximum: found.maximum,
        };
        // If it is refused, what was found counts.
        let _ = setrlimit(Resource::Nofile, wanted);
    }
    match judge(getrlimit(Resource::Nofile).current, lanes) {
        Verdict::Ample => Ok(()),
        Verdict::Tight(why) => {
            tracing::warn!("{why}");
            Ok(())
        }
        Verdict::TooLow(why) => Err(Error::Config(why)),
    }
}

fn needed(lanes: usize) -> u64 {
    PROCESS + LANE * u64::try_from(lanes).unwrap_or(64)
}

/// With so many nothing is tight.
fn ample(lanes: usize) -> u64 {
    needed(lanes) * CLUSTER + SPARE
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ample,
    Tight(String),
    TooLow(String),
}

/// `limit` is none where there is none.
fn judge(limit: Option<u64>, lanes: usize) -> Verdict {
    let (needed, ample) = (needed(lanes), ample(lanes));
    let Some(limit) = limit.filter(|limit| *limit < ample) else {
        return Verdict::Ample;
    };
    let how = format!(
        "raise it to {ample}: `ulimit -n {ample}` in the shell that starts it, `LimitNOFILE={ample}` in a systemd unit, \
         `--ulimit nofile={ample}` of a container"
    );
    if limit < needed {
        let why = format!(
            "this process may open {limit} files (RLIMIT_NOFILE), but {lanes} lanes and a store need at least {needed}: {how}"
        );
        return Verdict::TooLow(why);
    }
    Verdict::Tight(format!(
        "this process may open {limit} files (RLIMIT_NOFILE), which is tight for {lanes} lanes with many brokers, clients or \
         tables: {how}"
    ))
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge, look};

    #[test]
    fn a_limit_that_cannot_work_is_refused_with_what_to_type_and_a_tight_one_is_said() {
        for limit in [20, 40, 99] {
            let Verdict::TooLow(why) = judge(Some(limit), 1) else {
                panic!("{limit} is taken");
            };
            for part in [
                &limit.to_string()[..],
                "at least 100",
                "ulimit -n 912",
                "LimitNOFILE=912",
            ] {
                assert!(why.contains(part), "{part} is missing in {why}");
            }
        }
        assert!(matches!(judge(Some(256), 1), Verdict::Tight(_)));
        assert!(matches!(judge(Some(256), 16), Verdict::TooLow(_)));
        assert_eq!(judge(Some(1_024), 1), Verdict::Ample);
        assert_eq!(judge(None, 64), Verdict::Ample);
        assert_eq!(judge(Some(u64::MAX), 64), Verdict::Ample);
    }

    #[test]
    fn where_tests_run_there_is_enough() {
        look(4).unwrap();
    }
}
