//! The producer of a lane, and its replacement.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    ClientKind, ClientSettings, Error, ErrorKind, KafkaCustomizer, Recycle, Result, Settings, Stats,
    native::{self, Producer},
    verdict::{TxnError, Verdict},
};

/// So many replacements in a minute come without a pause between them.
const RECYCLES_A_MINUTE: usize = 20;
const PAUSE: Duration = Duration::from_secs(1);
/// How long a lane is kept from polling by a producer that is being initialised; it is resumed by the next call.
const STEP: Duration = Duration::from_secs(2);
/// When one that is still not initialised is given up for a new one.
const STUCK: Duration = Duration::from_secs(60);
/// Most bytes of a request's batch.
const BATCH_SIZE: &str = "batch.size";
/// When the bytes that may travel together are given back, with the next producer: the topic may take more by then.
const GIVE_BACK: Duration = Duration::from_secs(600);
/// How long a late copy of our own `init` may still fence us.
const OWN_INIT: Duration = Duration::from_secs(120);

pub(super) struct LaneProducer {
    settings: ClientSettings,
    producer: Option<Producer>,
    /// One whose initialisation goes on, and since when.
    starting: Option<(Producer, Instant)>,
    recycled: VecDeque<Instant>,
    /// When an `init` of ours was last not answered: a late copy of it fences the one after it.
    unanswered_init: Option<Instant>,
    recycles: bool,
    /// While each record travels alone: what `batch.num.messages` was before.
    alone: Option<Option<String>>,
    /// While it may be their sum that is too large, and not one of them.
    sum: bool,
    /// While fewer bytes travel together: how many did before, and since when.
    whole: Option<(usize, Instant)>,
    stats: Arc<Stats>,
}

impl LaneProducer {
    pub(super) fn new(
        settings: &Settings,
        lane: usize,
        customizer: Option<&dyn KafkaCustomizer>,
        stats: Arc<Stats>,
    ) -> Result<Self> {
        let client = settings.client(ClientKind::Producer { lane }, customizer)?;
        native::check(&client)?;
        Ok(Self {
            settings: client,
            producer: None,
            starting: None,
            recycled: VecDeque::new(),
            unanswered_init: None,
            recycles: settings.recycle,
            alone: None,
            sum: false,
            whole: None,
            stats,
        })
    }

    /// What its producers are made from.
    pub(super) fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    pub(super) fn backoff(&self) -> Duration {
        Duration::from_millis(self.settings.millis("retry.backoff.ms").unwrap_or(500))
    }

    /// The producer, created and initialised if there is none. Gives up after a while with `Retriable`: the next call
    /// goes on where this one stopped.
    pub(super) fn ready(&mut self) -> Result<&mut Producer> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => self.initialise()?,
        };
        Ok(self.producer.insert(producer))
    }

    /// The same, with more patience: for a lane that has nothing to poll yet.
    pub(super) fn ready_within(&mut self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.ready() {
                Err(error) if error.kind == ErrorKind::Retriable && begun.elapsed() < patience => {}
                answer => return answer.map(drop),
            }
        }
    }

    fn initialise(&mut self) -> Result<Producer> {
        let (producer, since) = match self.starting.take() {
            Some(starting) => starting,
            None => {
                if self.is_due()
                    && let Some((whole, _)) = self.whole.take()
                {
                    self.settings.set(BATCH_SIZE, whole.to_string());
                }
                (Producer::new(&self.settings)?, Instant::now())
            }
        };
        let Err(error) = producer.init(STEP) else {
            if producer.has_unanswered_init() {
                self.unanswered_init = Some(Instant::now());
            }
            return Ok(producer);
        };
        let (verdict, refused) = (error.verdict(), producer.refused());
        if verdict != Verdict::Refused {
            self.unanswered_init = Some(Instant::now());
        }
        if verdict == Verdict::Again && since.elapsed() < STUCK {
            self.starting = Some((producer, since));
        }
        let mut error = error.during("initialising the transactional producer");
        if let Some(why) = refused {
            error.message += &format!(": {why}");
        }
        if error.kind == ErrorKind::Fenced {
            // A newer `init` of our own may have overtaken it.
            error.kind = ErrorKind::Retriable;
        }
        Err(error)
    }

    /// Replaces the producer: the broker then refuses every late request of the old one. Errors leave none; the next
    /// [`ready`](Self::ready) tries again.
    pub(super) fn recycle(&mut self, why: Recycle) -> Result<()> {
        if !self.recycles
            && self.alone.is_none()
            && matches!(why, Recycle::Unanswered | Recycle::Slow | Recycle::Abort)
        {
            return Ok(());
        }
        let begun = Instant::now();
        self.stats.recycled(why);
        tracing::info!(why = why.label(), "the transactional producer is replaced");
        self.discard();
        self.pause();
        let made = self.ready().map(drop);
        self.stats.recycle_took(begun.elapsed());
        made
    }

    /// Keeps a fault that comes back at once from replacing producers without end.
    fn pause(&mut self) {
        let now = Instant::now();
        while self
            .recycled
            .front()
            .is_some_and(|then| now.duration_since(*then) > Duration::from_secs(60))
        {
            self.recycled.pop_front();
        }
        if self.recycled.len() >= RECYCLES_A_MINUTE {
            thread::sleep(PAUSE);
        }
        self.recycled.push_back(Instant::now());
    }

    /// Drops a producer that can do nothing more, so that the next attempt begins with a new one.
    pub(super) fn look(&mut self) {
        if let Some(error) = self.producer.as_ref().and_then(Producer::fatal)
            && error.verdict() != Verdict::Fenced
        {
            tracing::warn!(code = ?error.code, "the transactional producer failed while idle: {}", error.text);
            self.stats.recycled(Recycle::Fatal);
            self.discard();
        }
    }

    /// Forgets the producer, whatever it was doing.
    pub(super) fn discard(&mut self) {
        self.producer = None;
        self.starting = None;
    }

    /// Whether `error` says that somebody else has our transactional id. Not if a late copy of our own `init` may have
    /// done it, nor if the broker may have given the transaction up because it was open for too long.
    pub(super) fn is_fenced(&mut self, error: &TxnError, open: Duration, limit: Duration) -> bool {
        if error.verdict() != Verdict::Fenced {
            return false;
        }
        let own = self.producer.as_ref().is_some_and(Producer::has_unanswered_init)
            || self
                .unanswered_init
                .take()
                .is_some_and(|then| then.elapsed() < OWN_INIT);
        !own && open < limit.mul_f64(0.9)
    }

    /// Whether each record travels in a request of its own.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// From the next producer on, sends each record in a request of its own, so that an answer about a request is one about a
    /// record; or again many together. `of_size`: after a refusal of sizes.
    pub(super) fn send_alone(&mut self, on: bool, of_size: bool) {
        const TOGETHER: &str = "batch.num.messages";
        if on && self.alone.is_none() {
            self.alone = Some(self.settings.get(TOGETHER).map(str::to_owned));
            self.settings.set(TOGETHER, "1");
            self.sum = of_size;
        } else if let Some(before) = self.alone.take_if(|_| !on) {
            match before {
                Some(value) => self.settings.set(TOGETHER, value),
                None => self.settings.remove(TOGETHER),
            };
            if std::mem::take(&mut self.sum) {
                // Each was taken alone.
                self.fit(self.bytes() / 2);
            }
        }
    }

    /// A record was named: it was not the sum that was too large.
    pub(super) fn told_apart(&mut self) {
        self.sum = false;
    }

    /// From the next producer on, lets no more bytes than these travel together. False: they do not now.
    pub(super) fn fit(&mut self, bytes: usize) -> bool {
        let now = self.bytes();
        if bytes >= now {
            return false;
        }
        let (whole, _) = self.whole.unwrap_or((now, Instant::now()));
        self.whole = Some((whole, Instant::now()));
        self.settings.set(BATCH_SIZE, bytes.max(1).to_string());
        tracing::info!(bytes, "fewer bytes travel together: a topic takes no more");
        true
    }

    /// Whether the bytes that may travel together are to be given back.
    pub(super) fn is_due(&self) -> bool {
        self.whole.is_some_and(|(_, since)| since.elapsed() >= GIVE_BACK)
    }

    fn bytes(&self) -> usize {
        let set = self.settings.millis(BATCH_SIZE);
        set.and_then(|bytes| bytes.try_into().ok()).unwrap_or(1_000_000)
    }
}

/// An error that says who else is there.
fn fenced(id: Option<&str>, error: &TxnError) -> Error {
    Error {
        kind: ErrorKind::Fenced,
        message: format!(
            "another process uses the transactional id `{}`: give each process its own `instance` ({:?})",
            id.unwrap_or("?"),
            error.code
        ),
    }
}

impl LaneProducer {
    pub(super) fn fenced(&self, error: &TxnError) -> Error {
        fenced(self.settings.get("transactional.id"), error)
    }
}
