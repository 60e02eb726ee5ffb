//! A decision about many records: first what would be done, then, asked or told to, done.

use std::io::{self, IsTerminal, Write};

use super::{Filter, Mass, print_all, report, user};
use crate::operate::{
    access::Access,
    ask::{Ask, Many, Resolve, Seen, Settled, Verb},
    error::{Error, Kind, Result},
    table,
};

/// A plan holds at most so many records.
const MOST: usize = 100_000;
/// Above so many the number is typed, not `y`.
const TYPED: usize = 100;

pub(super) async fn run(
    mass: &Mass,
    verb: Verb,
    access: &Access,
    out: &mut impl Write,
    err: &mut impl Write,
) -> i32 {
    match settle(mass, verb, access, out, err).await {
        Ok(code) => code,
        Err(error) => report(&error, err),
    }
}

async fn settle(
    mass: &Mass,
    verb: Verb,
    access: &Access,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<i32> {
    let by_name = !mass.ids.is_empty();
    if by_name && !mass.filter.is_empty() {
        return Err(Error::new(Kind::Invalid, "name records or filter them, not both"));
    }
    if !by_name && mass.filter.is_empty() && mass.filter.status.is_none() {
        return Err(Error::new(
            Kind::Invalid,
            "say which records: name them, or filter them (`--status` alone means all of them)",
        ));
    }
    let plan = match by_name {
        true => mass.ids.iter().map(|id| (id.to_string(), None)).collect(),
        false => plan(&mass.filter, verb, access).await?,
    };
    if plan.is_empty() {
        return Err(Error::new(Kind::NotFound, "no record matches"));
    }
    let what = format!("{} {} records", verb.word(), plan.len());
    if mass.dry_run {
        let _ = writeln!(err, "would {what}; the first: {}", table::escape(&first(&plan)));
        return Ok(0);
    }
    if !by_name && !mass.yes && !agreed(&what, &plan, err)? {
        let _ = writeln!(err, "nothing was done");
        return Ok(2);
    }
    let resolve = Resolve {
        reason: mass.reason.clone().unwrap_or_default(),
        actor: mass.actor.clone().unwrap_or_else(user),
        revision: None,
    };
    let mut settled: Vec<Settled> = Vec::with_capacity(plan.len());
    for records in plan.chunks(Many::MOST) {
        let many = Many {
            records: records.to_vec(),
            resolve: resolve.clone(),
        };
        match access.settle(verb, &many).await {
            Ok(more) => settled.extend(more),
            Err(error) if settled.is_empty() => return Err(error),
            Err(error) => {
                let _ = writeln!(
                    err,
                    "error: {}; {} of {} were decided",
                    table::escape(&error.message),
                    settled.len(),
                    plan.len()
                );
                return Ok(4);
            }
        }
    }
    print_all(out, mass.output, &settled, |_| table::settled(verb, &settled))?;
    let done = settled.iter().filter(|settled| settled.done).count();
    Ok(match () {
        () if done == settled.len() => 0,
        () if done > 0 => 4,
        () if settled.iter().any(|settled| settled.changed) => 75,
        () => 1,
    })
}

/// The records that a filter finds, each with the revision that was seen.
async fn plan(filter: &Filter, verb: Verb, access: &Access) -> Result<Vec<(String, Option<u64>)>> {
    let status = match verb {
        Verb::Discard => Seen::Open,
        Verb::Restore => Seen::Discarded,
    };
    let mut ask = Ask {
        limit: 200,
        ..filter.ask(status)
    };
    let mut plan = Vec::new();
    loop {
        let page = access.list(&ask).await?;
        plan.extend(
            page.failures
                .into_iter()
                .map(|shown| (shown.id, Some(shown.revision))),
        );
        if plan.len() > MOST {
            let message = format!("more than {MOST} records match: narrow the filter, and repeat");
            return Err(Error::new(Kind::Invalid, message));
        }
        ask.after = page.next;
        if ask.after.is_none() {
            return Ok(plan);
        }
    }
}

fn first(plan: &[(String, Option<u64>)]) -> String {
    plan.first().map(|(id, _)| id.clone()).unwrap_or_default()
}

/// Asks whoever sits there; nobody there has not agreed.
fn agreed(what: &str, plan: &[(String, Option<u64>)], err: &mut impl Write) -> Result<bool> {
    let _ = writeln!(
        err,
        "This will {what}; the first: {}",
        table::escape(&first(plan))
    );
    if !io::stdin().is_terminal() {
        let _ = writeln!(
            err,
            "Nobody can be asked here: say --yes, or --dry-run to only look"
        );
        return Ok(false);
    }
    let expected = if plan.len() > TYPED {
        plan.len().to_string()
    } else {
        "y".to_owned()
    };
    let _ = write!(err, "Type {expected} to go on: ").and_then(|()| err.flush());
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|e| Error::new(Kind::Failed, format!("cannot read the answer: {e}")))?;
    Ok(answer.trim() == expected)
}
