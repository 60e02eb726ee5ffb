use std::{collections::BTreeMap, fmt};

/// What can be wrong with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Neither output nor dead letter.
    Lost,
    /// Some of its outputs, or a dead letter, are there more than once; or both are there.
    Duplicated,
    /// Its output stands before that of an earlier order with the same key.
    OutOfOrder,
    /// It has an output, and the group's offset is not behind it.
    Ahead,
    /// Some of its outputs are missing.
    Torn,
    /// A good one failed, or one that must fail was enriched.
    Misjudged,
    /// Its output carries another order.
    Mislabelled,
    /// Its dead letter differs from what came in.
    Altered,
    /// An output of no order: its dedup header is missing or names nothing.
    Foreign,
}

impl Fault {
    /// In the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Lost,
        Self::Duplicated,
        Self::OutOfOrder,
        Self::Ahead,
        Self::Torn,
        Self::Misjudged,
        Self::Mislabelled,
        Self::Altered,
        Self::Foreign,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::OutOfOrder => "out of order",
            Self::Ahead => "ahead of the committed offset",
            Self::Torn => "torn",
            Self::Misjudged => "with another outcome than it should have",
            Self::Mislabelled => "under the dedup key of another",
            Self::Altered => "altered on its way to the dead-letter topic",
            Self::Foreign => "from nowhere",
        }
    }
}

/// What became of every order, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Orders in the source topic.
    pub produced: usize,
    /// Orders with outputs.
    pub enriched: usize,
    /// Orders with a dead letter and no output.
    pub failed: usize,
    /// Orders of which nothing was to be found, and nothing was.
    pub nothing: usize,
    /// Partitions whose offset is not behind their last order.
    pub unfinished: Vec<String>,
    faults: BTreeMap<Fault, Vec<String>>,
}

impl Verdict {
    /// With which code a program that gives this verdict ends: 0 if it is true, 1 if not, 2 if nothing could be concluded.
    pub fn exit_code(&self) -> u8 {
        match (self.is_true(), self.is_empty()) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        }
    }

    /// Whether there was nothing to judge: no order in the source topic, and nothing that came from nowhere. Who looks at the
    /// wrong topic, or before the first order, must not read that all is well.
    pub fn is_empty(&self) -> bool {
        self.produced == 0 && self.faults.is_empty()
    }

    /// Every id exactly once, in order, as it should be, and everything done.
    pub fn is_true(&self) -> bool {
        !self.is_empty()
            && self.faults.is_empty()
            && self.unfinished.is_empty()
            && self.produced == self.enriched + self.failed + self.nothing
    }

    /// The ids with this fault, sorted.
    pub fn ids(&self, fault: Fault) -> &[String] {
        self.faults.get(&fault).map_or(&[], Vec::as_slice)
    }

    pub(super) fn of(produced: usize) -> Self {
        Self {
            produced,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, fault: Fault, id: String) {
        self.faults.entry(fault).or_default().push(id);
    }

    pub(super) fn sort(&mut self) {
        for ids in self.faults.values_mut() {
            ids.sort_unstable();
            ids.dedup();
        }
    }
}

/// `20 000`
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

const NAMED: usize = 5;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("could not conclude: the source topic holds no orders");
        }
        let count = |fault| grouped(self.ids(fault).len());
        write!(
            f,
            "produced {} = enriched {} + failed {}",
            grouped(self.produced),
            grouped(self.enriched),
            grouped(self.failed)
        )?;
        if self.nothing > 0 {
            write!(f, " + not to be found {}", grouped(self.nothing))?;
        }
        write!(
            f,
            "; lost {}; duplicated {}; out of order {}",
            count(Fault::Lost),
            count(Fault::Duplicated),
            count(Fault::OutOfOrder)
        )?;
        for fault in Fault::ALL {
            let ids = self.ids(fault);
            if !ids.is_empty() {
                let named = ids[..ids.len().min(NAMED)].join(", ");
                let more = if ids.len() > NAMED { ", …" } else { "" };
                write!(f, "\n  {} {}: {named}{more}", grouped(ids.len()), fault.text())?;
            }
        }
        for place in &self.unfinished {
            write!(f, "\n  not finished: {place}")?;
        }
        Ok(())
    }
}
