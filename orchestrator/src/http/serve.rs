use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, serve::Listener};
use hyper::{server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once. One more takes the place of the one that has waited longest for its client, so that clients that
/// neither ask nor read cannot keep a probe out.
const CONNECTIONS: usize = if cfg!(test) { 16 } else { 256 };
/// How long a connection waits for its client, from one answer of ours to the next: to take the answer, to stay idle, and to
/// send the next request's head.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head: request line and headers together.
const HEAD_BYTES: usize = 16 * 1024;
/// How long requests that are under way may take after `stop`.
const GOODBYE: Duration = Duration::from_secs(2);

/// Answers with `router` until `stop`, then lets the requests end that are under way, for 2 s at most.
pub(super) async fn serve(mut listener: impl Listener, router: Router, stop: CancellationToken) {
    let crowd = Arc::new(Crowd::default());
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let io = listener.accept().await.0;
            (crowd.enter().await, io)
        };
        let (place, io) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let (router, stop) = (TowerToHyperService::new(router.clone()), stop.clone());
        connections.spawn(async move {
            let turn = place.turn.clone();
            let service = hyper::service::service_fn(|request| {
                let answer = router.call(request);
                let turn = &turn;
                async move {
                    let _ours = Ours::begin(turn);
                    answer.await
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(io), service);
            let mut connection = std::pin::pin!(connection);
            // A client that goes away or sends what is no HTTP is its own affair: nothing of ours failed.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = turn.over() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = time::timeout(GOODBYE, connection).await;
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
}

/// Whose turn it is in a connection: ours while an answer is worked out, otherwise the client's.
#[derive(Debug)]
struct Turn {
    /// Since when we wait for the client; none while it is our turn.
    since: Mutex<Option<Instant>>,
    /// Another connection needs the place.
    gone: CancellationToken,
}

impl Turn {
    fn since(&self) -> Option<Instant> {
        *lock(&self.since)
    }

    /// Waits until the client has had its time, or its place is taken.
    async fn over(&self) {
        let patience = async {
            while let Some(left) = self.left(Instant::now()) {
                time::sleep(left).await;
            }
        };
        tokio::select! {
            () = patience => {}
            () = self.gone.cancelled() => {}
        }
    }

    /// When to look again; none if the client has had its time.
    fn left(&self, now: Instant) -> Option<Duration> {
        let waited = self.since().map_or(Duration::ZERO, |since| now - since);
        PATIENCE.checked_sub(waited).filter(|left| !left.is_zero())
    }
}

/// While it lives, it is our turn.
struct Ours<'a>(&'a Turn);

impl<'a> Ours<'a> {
    fn begin(turn: &'a Turn) -> Self {
        *lock(&turn.since) = None;
        Self(turn)
    }
}

impl Drop for Ours<'_> {
    fn drop(&mut self) {
        *lock(&self.0.since) = Some(Instant::now());
    }
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Crowd {
    places: Mutex<Places>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Arc<Turn>>,
}

impl Crowd {
    /// A place for one more connection. Waits only while all are at work on answers of ours.
    async fn enter(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_enter() {
                return place;
            }
            self.left.notified().await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut places = lock(&self.places);
        if places.taken.len() >= CONNECTIONS {
            let waiting = places.taken.iter();
            let waiting = waiting.filter_map(|(number, turn)| Some((turn.since()?, *number)));
            let (_, longest) = waiting.min()?;
            if let Some(turn) = places.taken.remove(&longest) {
                turn.gone.cancel();
            }
        }
        let turn = Arc::new(Turn {
            since: Mutex::new(Some(Instant::now())),
            gone: CancellationToken::new(),
        });
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, turn.clone());
        Some(Place {
            crowd: self.clone(),
            number,
            turn,
        })
    }
}

/// Given back when the connection is over.
struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    turn: Arc<Turn>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.crowd.places).taken.remove(&self.number);
        self.crowd.left.notify_one();
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
