use std::time::Duration;

/// What happens to a request or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The request is kept and its connection cut: a late request in the making. See [`Until`].
    HoldAndCut(Until),
    /// The request is kept; the connection stays, and whatever follows on it waits too, until [`super::Proxy::release`].
    Hold,
    /// The request never arrives; its connection is cut.
    Cut,
    /// The request arrives, its answer is thrown away, and the connection is cut then.
    DropAnswer,
    /// The request waits for so long.
    Delay(Duration),
}

/// When a held request arrives after all, on a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When [`super::Proxy::release`] is called.
    Released,
    /// While the same transactional id's next transaction stands between its last record and its offsets.
    NextTransaction,
}

/// Which request, and what happens to it. A rule is used up by one request.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The API key.
    pub api: i16,
    /// The how manieth such request after the rule was set, from 1.
    pub nth: usize,
    /// Of an EndTxn: only commits, or only aborts.
    pub commits: Option<bool>,
    /// What happens to it.
    pub act: Act,
}

impl Rule {
    /// The next request of this kind.
    pub fn next(api: i16, act: Act) -> Self {
        Self {
            api,
            nth: 1,
            commits: None,
            act,
        }
    }

    /// Only a commit (`true`) or only an abort.
    #[must_use]
    pub fn only(mut self, commits: bool) -> Self {
        self.commits = Some(commits);
        self
    }

    /// The how manieth.
    #[must_use]
    pub fn nth(mut self, nth: usize) -> Self {
        self.nth = nth;
        self
    }
}

/// What happens to every connection: faults of the network, for any protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing.
    #[default]
    Fine,
    /// New connections are closed at once, and those that are open are cut.
    Refuses,
    /// Connections are accepted and nothing is ever answered.
    Swallows,
    /// Whatever is sent takes so long.
    Takes(Duration),
}
