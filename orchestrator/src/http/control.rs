use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use axum::{
    Json, Router,
    extract::{Path as Segment, Query, Request, State, rejection::JsonRejection},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tracker_api::{CorruptRow, RecordId};

use super::{
    Health, Info,
    serve::{PATIENCE, serve},
};
use crate::operate::{
    About, Ask, Error, Exported, Grouped, Kind, Listing, Many, Operations, Position, ProgressLine, Purge,
    Reconciled, Resolve, Settled, Shown, Standing, Verb,
};

/// The socket's name in the data directory.
pub const SOCKET: &str = "control.sock";

/// The longest body of a request.
const BODY: usize = 64 * 1024;

/// Whether a control socket can stand in `data_dir`; otherwise why not, and what to do.
pub fn socket_fits(data_dir: &Path) -> Result<(), String> {
    // `sun_path` has 108 bytes, of which the last is NUL.
    const LONGEST: usize = 107;
    let path = data_dir.join(SOCKET);
    let length = path.as_os_str().len();
    if length <= LONGEST {
        return Ok(());
    }
    Err(format!(
        "the control socket {} would have a path of {length} bytes, and a socket's has at most {LONGEST}: choose a `data-dir` \
         whose path is at least {} bytes shorter, or one that is relative to where the service is started",
        path.display(),
        length - LONGEST
    ))
}

/// The control socket: what the command line asks. Bound when made, removed when served to its end.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

#[derive(Clone, Debug)]
struct Served {
    operations: Operations,
    health: Health,
    info: Info,
}

impl Control {
    /// Binds `data_dir/control.sock`, mode 0600. One that a killed predecessor left is replaced: whoever calls this
    /// holds the directory's lock.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made; see [`socket_fits`].
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        let fresh = data_dir.join("control.new");
        let make = || {
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&fresh)?;
            // Closed to others before it has the name that anybody looks for.
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
            fs::rename(&fresh, &path)?;
            Ok(listener)
        };
        let listener = make().map_err(|error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot make the control socket {}: {error}", path.display()),
            )
        })?;
        Ok(Self { listener, path })
    }

    /// Answers until `stop`, then removes the socket.
    pub async fn serve(self, operations: Operations, health: Health, info: Info, stop: CancellationToken) {
        let _removed = Removed(self.path);
        let served = Served {
            operations,
            health,
            info,
        };
        serve(self.listener, router(served), stop).await;
    }
}

/// Also when the task is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn router(served: Served) -> Router {
    Router::new()
        .route("/v1/info", get(info))
        .route("/v1/failures", get(list))
        .route("/v1/failures/{id}", get(show))
        .route("/v1/failures/{id}/retry", post(retry))
        .route("/v1/failures/{id}/skip", post(skip))
        .route("/v1/groups", get(groups))
        .route("/v1/discard", post(discard))
        .route("/v1/restore", post(restore))
        .route("/v1/purge", post(purge))
        .route("/v1/tracker", get(about))
        .route("/v1/tracker/corrupt", get(corrupt_rows))
        .route("/v1/export", get(export))
        .route("/v1/export/progress", get(raw_progress))
        .route("/v1/progress", get(progress))
        .route("/v1/stalls", get(stalls))
        .route("/v1/reconcile", post(reconcile))
        .layer(middleware::from_fn(short))
        .with_state(served)
}

type Answer<T> = Result<Json<T>, Refused>;

struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "error": self.0 }))).into_response()
    }
}

/// No id is longer than a topic's name and two numbers, and nobody takes long to send a body.
async fn short(request: Request, next: Next) -> Response {
    if request.uri().to_string().len() > 8 * 1024 {
        return StatusCode::URI_TOO_LONG.into_response();
    }
    let (head, body) = request.into_parts();
    match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, BODY)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, body.into())).await,
        Ok(Err(_)) => invalid(format!("the body ends early, or has more than {BODY} bytes")).into_response(),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

async fn info(State(served): State<Served>) -> Json<Value> {
    Json(json!({
        "info": served.info,
        "pid": std::process::id(),
        "phase": served.health.current(),
        "live": served.health.live(),
        "ready": served.health.ready(),
    }))
}

async fn list(
    State(served): State<Served>,
    ask: Result<Query<Ask>, axum::extract::rejection::QueryRejection>,
) -> Answer<Listing> {
    let Query(ask) = ask.map_err(|error| invalid(error.body_text()))?;
    Ok(Json(served.operations.list(&ask).await?))
}

#[derive(Deserialize)]
struct Look {
    #[serde(default)]
    payload: bool,
}

async fn show(
    State(served): State<Served>,
    Segment(id): Segment<String>,
    look: Result<Query<Look>, axum::extract::rejection::QueryRejection>,
) -> Answer<Shown> {
    let Query(look) = look.map_err(|error| invalid(error.body_text()))?;
    Ok(Json(served.operations.show(&record(&id)?, look.payload).await?))
}

async fn retry(
    State(served): State<Served>,
    Segment(id): Segment<String>,
    body: Result<Json<Resolve>, JsonRejection>,
) -> Answer<Shown> {
    let Json(resolve) = body.map_err(|error| invalid(error.body_text()))?;
    Ok(Json(served.operations.retry(&record(&id)?, &resolve).await?))
}

async fn skip(
    State(served): State<Served>,
    Segment(id): Segment<String>,
    body: Result<Json<Resolve>, JsonRejection>,
) -> Answer<Shown> {
    let Json(resolve) = body.map_err(|error| invalid(error.body_text()))?;
    Ok(Json(served.operations.skip(&record(&id)?, &resolve).await?))
}

async fn groups(
    State(served): State<Served>,
    ask: Result<Query<Ask>, axum::extract::rejection::QueryRejection>,
) -> Answer<Vec<Grouped>> {
    let Query(ask) = ask.map_err(|error| invalid(error.body_text()))?;
    Ok(Json(served.operations.groups(&ask).await?))
}

async fn settle(served: Served, verb: Verb, body: Result<Json<Many>, JsonRejection>) -> Answer<Vec<Settled>> {
    let Json(many) = body.map_err(|error| invalid(error.body_text()))?;
    Ok(Json(served.operations.settle(verb, &many).await?))
}

async fn discard(
    State(served): State<Served>,
    body: Result<Json<Many>, JsonRejection>,
) -> Answer<Vec<Settled>> {
    settle(served, Verb::Discard, body).await
}

async fn restore(
    State(served): State<Served>,
    body: Result<Json<Many>, JsonRejection>,
) -> Answer<Vec<Settled>> {
    settle(served, Verb::Restore, body).await
}

async fn purge(State(served): State<Served>, body: Result<Json<Purge>, JsonRejection>) -> Answer<u64> {
    let Json(purge) = body.map_err(|error| invalid(error.body_text()))?;
    Ok(Json(served.operations.purge(&purge).await?))
}

async fn about(State(served): State<Served>) -> Answer<About> {
    Ok(Json(served.operations.about().await?))
}

async fn corrupt_rows(State(served): State<Served>) -> Answer<Vec<CorruptRow>> {
    Ok(Json(served.operations.corrupt_rows()?))
}

#[derive(Deserialize)]
struct Behind {
    after: Option<String>,
}

async fn export(
    State(served): State<Served>,
    behind: Result<Query<Behind>, axum::extract::rejection::QueryRejection>,
) -> Answer<Exported> {
    let Query(behind) = behind.map_err(|error| invalid(error.body_text()))?;
    let after = behind.after.as_deref().map(record).transpose()?;
    Ok(Json(served.operations.export(after).await?))
}

async fn raw_progress(State(served): State<Served>) -> Answer<Vec<ProgressLine>> {
    Ok(Json(served.operations.raw_progress().await?))
}

async fn progress(State(served): State<Served>) -> Answer<Vec<Position>> {
    Ok(Json(served.operations.progress().await?))
}

async fn stalls(State(served): State<Served>) -> Json<Standing> {
    Json(Standing::of(served.health.standing()))
}

async fn reconcile(State(served): State<Served>) -> Answer<Vec<Reconciled>> {
    Ok(Json(served.operations.reconcile().await?))
}

fn record(id: &str) -> Result<RecordId, Refused> {
    id.parse().map_err(invalid)
}

fn invalid(message: String) -> Refused {
    Refused(Error::new(Kind::Invalid, message))
}
