//! Stands between the service and the broker, rewrites nothing, and makes the network's worst happen at a chosen request:
//! a request that arrives late, an answer that is lost, a connection that is cut.
//!
//! The broker advertises the proxy's address to whoever comes through it ([`crate::broker::Facts::front`]).

mod frame;
mod pump;
mod rule;

use std::{
    collections::HashMap,
    io::Write,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use frame::Request;
pub use frame::api;
pub use rule::{Act, Network, Rule, Until};

use crate::Result;

/// What the proxy did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A rule met its request.
    Met {
        /// The request's API key.
        api: i16,
        /// Of an EndTxn, whether it commits.
        commits: Option<bool>,
    },
    /// A held request arrived after all.
    Released {
        /// The request's API key.
        api: i16,
        /// The broker's error code; none if the answer was not understood.
        code: Option<i16>,
    },
}

/// A proxy that forwards as long as this guard lives.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    upstream: String,
    frames: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    network: Network,
    rules: Vec<Rule>,
    held: Vec<Held>,
    /// Requests on whose connection the pump waits: they go on when this rises.
    releases: u64,
    events: Vec<Event>,
    seen: HashMap<i16, usize>,
    connections: HashMap<u64, TcpStream>,
    next_connection: u64,
}

#[derive(Debug)]
struct Held {
    request: Request,
    until: Until,
    /// Whether the same id has begun another transaction since.
    next_began: bool,
}

enum Verdict {
    Forward,
    Cut,
    DropAnswer,
}

impl Proxy {
    /// Understands Kafka's frames. `listen` may end in `:0`.
    pub fn start(listen: &str, upstream: &str) -> Result<Self> {
        Self::with(listen, upstream, true)
    }

    /// Forwards bytes of any protocol: only [`Proxy::network`] has an effect.
    pub fn plain(listen: &str, upstream: &str) -> Result<Self> {
        Self::with(listen, upstream, false)
    }

    fn with(listen: &str, upstream: &str, frames: bool) -> Result<Self> {
        let listener =
            TcpListener::bind(listen).map_err(|e| format!("the proxy cannot listen on {listen}: {e}"))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            frames,
            ..Shared::default()
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { shared })
    }

    /// Adds a rule; the first one that meets a request has it.
    pub fn on(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Faults of the network as a whole, from now on.
    pub fn network(&self, network: Network) {
        let mut state = self.shared.lock();
        state.network = network;
        if network == Network::Refuses {
            state.cut_all();
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Cuts every connection; new ones are accepted.
    pub fn cut_all(&self) {
        self.shared.lock().cut_all();
    }

    /// What happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    /// How many requests of this kind came by.
    pub fn seen(&self, api: i16) -> usize {
        self.shared.lock().seen.get(&api).copied().unwrap_or(0)
    }

    /// Sends every held request now, each on a connection of its own, and lets waiting connections go on. Returns the
    /// broker's error codes.
    pub fn release(&self) -> Vec<Option<i16>> {
        let mut state = self.shared.lock();
        let held = std::mem::take(&mut state.held);
        state.releases += 1;
        drop(state);
        self.shared.changed.notify_all();
        held.into_iter()
            .map(|held| self.shared.deliver(&held.request))
            .collect()
    }

    /// Waits until an event fits; false if none does in time.
    pub fn wait_for(&self, patience: Duration, fits: impl Fn(&Event) -> bool) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        while !state.events.iter().any(&fits) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.cut_all();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl State {
    fn cut_all(&mut self) {
        for (_, connection) in self.connections.drain() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, request: &Request) -> Verdict {
        let mut state = self.lock();
        *state.seen.entry(request.api).or_default() += 1;
        let mut state = self.deliver_late(state, request);
        let commits = request.commits();
        let mut met = None;
        for (place, rule) in state.rules.iter_mut().enumerate() {
            let fits = rule.api == request.api && rule.commits.is_none_or(|c| commits == Some(c));
            if fits {
                rule.nth = rule.nth.saturating_sub(1);
                if rule.nth == 0 {
                    met = Some(place);
                    break;
                }
            }
        }
        let Some(place) = met else { return Verdict::Forward };
        let rule = state.rules.remove(place);
        state.events.push(Event::Met {
            api: request.api,
            commits,
        });
        self.changed.notify_all();
        match rule.act {
            Act::Cut => Verdict::Cut,
            Act::DropAnswer => Verdict::DropAnswer,
            Act::HoldAndCut(until) => {
                state.held.push(Held {
                    request: request.clone(),
                    until,
                    next_began: false,
                });
                Verdict::Cut
            }
            Act::Delay(long) => {
                drop(state);
                thread::sleep(long);
                Verdict::Forward
            }
            Act::Hold => {
                let releases = state.releases;
                while state.releases == releases && !state.closed {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Verdict::Forward
            }
        }
    }

    /// Delivers what was held for the next transaction when that one has produced and comes to its offsets or its end.
    fn deliver_late<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        request: &Request,
    ) -> MutexGuard<'a, State> {
        let id = request.transactional_id();
        if id.is_none() {
            return state;
        }
        if request.api == api::ADD_PARTITIONS_TO_TXN {
            for held in state
                .held
                .iter_mut()
                .filter(|h| h.request.transactional_id() == id)
            {
                held.next_began = true;
            }
        }
        if !matches!(
            request.api,
            api::ADD_OFFSETS_TO_TXN | api::TXN_OFFSET_COMMIT | api::END_TXN
        ) {
            return state;
        }
        let (due, still) = std::mem::take(&mut state.held).into_iter().partition(|h| {
            h.until == Until::NextTransaction && h.next_began && h.request.transactional_id() == id
        });
        state.held = still;
        let due: Vec<Held> = due;
        if due.is_empty() {
            return state;
        }
        drop(state);
        for held in due {
            self.deliver(&held.request);
        }
        self.lock()
    }

    /// Sends a held request on a connection of its own and waits for the answer.
    fn deliver(&self, request: &Request) -> Option<i16> {
        let answer = TcpStream::connect(&self.upstream).and_then(|mut broker| {
            broker.set_read_timeout(Some(Duration::from_secs(10)))?;
            broker.write_all(&request.bytes)?;
            frame::read(&mut broker)
        });
        let code = answer
            .ok()
            .flatten()
            .and_then(|answer| frame::error_code(request, &answer));
        self.lock().events.push(Event::Released {
            api: request.api,
            code,
        });
        self.changed.notify_all();
        code
    }
}
