//! Whether the process may open as many files as it needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Error;

/// What the process itself needs: the log, the data directory, runtimes, listeners, a store with its connections and
/// tables, and a few clients of HTTP.
const PROCESS: u64 = 64;
/// What a lane needs: a consumer and a producer, each with a socket and its wake-up for some brokers and coordinators.
const LANE: u64 = 24;
/// With so many times what is needed nothing is tight: larger clusters, RocksDB's tables (256 files), 256 clients of HTTP.
const AMPLE: u64 = 8;

/// Raises the limit of open files as far as the process may, and looks whether that is enough for `lanes` lanes.
///
/// # Errors
///
/// When it is too low to work with: what would fail, and where, is anybody's guess.
pub(super) fn look(lanes: usize) -> Result<(), Error> {
    let found = getrlimit(Resource::Nofile);
    let ample = needed(lanes) * AMPLE;
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
    PROCESS + LANE * u64::try_from(lanes).unwrap_or(u64::MAX / LANE / AMPLE / 2)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ample,
    Tight(String),
    TooLow(String),
}

/// `limit` is none where there is none.
fn judge(limit: Option<u64>, lanes: usize) -> Verdict {
    let needed = needed(lanes);
    let ample = needed * AMPLE;
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
        for limit in [20, 40, 87] {
            let Verdict::TooLow(why) = judge(Some(limit), 1) else {
                panic!("{limit} is taken");
            };
            for part in [
                &limit.to_string()[..],
                "at least 88",
                "ulimit -n 704",
                "LimitNOFILE=704",
            ] {
                assert!(why.contains(part), "{part} is missing in {why}");
            }
        }
        assert!(matches!(judge(Some(256), 1), Verdict::Tight(_)));
        assert!(matches!(judge(Some(256), 16), Verdict::TooLow(_)));
        assert_eq!(judge(Some(1_024), 2), Verdict::Ample);
        assert_eq!(judge(None, 64), Verdict::Ample);
        assert_eq!(judge(Some(u64::MAX), 64), Verdict::Ample);
    }

    #[test]
    fn where_tests_run_there_is_enough() {
        look(4).unwrap();
    }
}
