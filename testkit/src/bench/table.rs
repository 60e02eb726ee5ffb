//! What is printed: a line per run, and the table that goes into the documentation.

use std::fmt::Write;

use super::{
    Run,
    contestant::{Cell, Contestant},
};

impl Run {
    fn millions(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "exact below 2^53 records")]
        let records = self.commits.iter().map(|c| c.records).sum::<usize>() as f64;
        records / 1e6
    }

    fn rate(&self) -> f64 {
        self.millions() * 1e6 / self.seconds
    }

    fn cpu(&self) -> f64 {
        self.cpu_seconds / self.millions()
    }
}

/// One run.
pub(super) fn line(run: &Run) -> String {
    let Cell { lanes, batch } = run.cell;
    let commit = |share| quantile(run.commits.iter().map(|c| c.commit).collect(), share) * 1e3;
    let mut line = format!(
        "round {} {lanes} lane(s) batch {batch} {:8} {:7.0} records/s {:5.2} CPU-s/M (broker {:5.2}, store {:5.2}) {:4} MiB, commit p50 {:.1} p99 {:.1} ms, {} transactions, load {:.2}",
        run.round,
        run.contestant.to_string(),
        run.rate(),
        run.cpu(),
        run.broker_cpu_seconds / run.millions(),
        run.store_cpu_seconds / run.millions(),
        run.peak_rss_kib / 1024,
        commit(0.5),
        commit(0.99),
        run.commits.len(),
        run.load,
    );
    if let Some(wrong) = &run.wrong {
        let _ = write!(line, "\n  VOID: {wrong}");
    }
    line
}

/// Medians, minima and maxima; ratios pair by pair within a round. Commits of all rounds are taken together. Void runs are
/// left out and counted.
pub(super) fn of(runs: &[Run], cells: &[Cell], contestants: &[Contestant]) -> String {
    let mut text = String::from(
        "| lanes | batch | contestant | records/s: median (min–max) | ratio: median (min–max) | CPU s per million: median (min–max) | the store's server | peak RSS MiB: max | ack wait p50 ms | offsets p50 ms | commit p50 / p99 ms | records a transaction | runs |\n|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for cell in cells {
        for contestant in contestants {
            let of = |who: Contestant| {
                runs.iter()
                    .filter(move |r| r.cell == *cell && r.contestant == who && r.wrong.is_none())
            };
            let base = contestants.first().copied().unwrap_or(*contestant);
            let pairs: Vec<f64> = of(*contestant)
                .filter_map(|run| Some(run.rate() / of(base).find(|b| b.round == run.round)?.rate()))
                .collect();
            let commits: Vec<_> = of(*contestant).flat_map(|r| &r.commits).collect();
            let pooled = |f: fn(&super::Commit) -> f64, share| {
                quantile(commits.iter().map(|c| f(c)).collect(), share) * 1e3
            };
            let all = runs
                .iter()
                .filter(|r| r.cell == *cell && r.contestant == *contestant)
                .count();
            let rss = of(*contestant).map(|r| r.peak_rss_kib).max().unwrap_or(0);
            let _ = writeln!(
                text,
                "| {} | {} | {contestant} | {} | {} | {} | {:.2} | {} | {:.1} | {:.1} | {:.1} / {:.1} | {} | {} of {all} |",
                cell.lanes,
                cell.batch,
                spread(&of(*contestant).map(Run::rate).collect::<Vec<_>>(), 0),
                spread(&pairs, 2),
                spread(&of(*contestant).map(Run::cpu).collect::<Vec<_>>(), 2),
                quantile(
                    of(*contestant)
                        .map(|run| run.store_cpu_seconds / run.millions())
                        .collect(),
                    0.5
                ),
                rss.div_ceil(1024),
                pooled(|c| c.acknowledged, 0.5),
                pooled(|c| c.offsets, 0.5),
                pooled(|c| c.commit, 0.5),
                pooled(|c| c.commit, 0.99),
                commits.iter().map(|c| c.records).sum::<usize>() / commits.len().max(1),
                of(*contestant).count(),
            );
        }
    }
    text
}

fn spread(values: &[f64], digits: usize) -> String {
    let at = |share| quantile(values.to_vec(), share);
    format!("{:.digits$} ({:.digits$}–{:.digits$})", at(0.5), at(0.0), at(1.0))
}

/// The value below which this share lies; the mean of the two in the middle for the median of an even number.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let place = share * last as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the list"
    )]
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    let part = place.fract();
    values[low] * (1.0 - part) + values[high] * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_between_values() {
        let values = || vec![4.0, 1.0, 3.0, 2.0];
        for (share, expected) in [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0)] {
            assert!((quantile(values(), share) - expected).abs() < 1e-9);
        }
        assert!(quantile(vec![], 0.5).is_nan());
    }
}
