use std::{sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{sync::Semaphore, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once; the next ones wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// How long a client may take to send a request's head, and how long an idle connection is kept.
const HEAD: Duration = Duration::from_secs(10);
/// The longest head: request line and headers together.
const HEAD_BYTES: usize = 16 * 1024;
/// How long requests that are under way may take after `stop`.
const GOODBYE: Duration = Duration::from_secs(2);

/// Answers with `router` until `stop`, then lets the requests end that are under way, for 2 s at most.
pub(super) async fn serve(mut listener: impl Listener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await.0)
        };
        let (place, io) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let stop = stop.clone();
        connections.spawn(async move {
            let _place = place;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(io), service);
            let mut connection = std::pin::pin!(connection);
            // A client that goes away or sends what is no HTTP is its own affair: nothing of ours failed.
            tokio::select! {
                _ = connection.as_mut() => {}
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
