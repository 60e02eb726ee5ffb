use std::io;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Health, Hosts, Info, Verdict, host, serve::serve};
use crate::telemetry::Renderer;

#[derive(Clone)]
struct Shown {
    health: Health,
    metrics: Renderer,
    info: Info,
}

/// Serves health and metrics on `listener` until `stop`, to requests for `hosts`. Nothing here writes, and nothing shows a
/// payload, a key, an address or an error in its own words: reasons are told by their kind.
///
/// `/livez` and `/readyz` answer 200 or 503 with the reasons, as text, or as JSON to whoever accepts it; `/metrics`; and
/// the paths of the original: `/actuator/health`, `/actuator/health/liveness`, `/actuator/health/readiness`,
/// `/actuator/prometheus`, `/actuator/info`. Any other method than GET and HEAD is answered with 405.
pub async fn management(
    listener: TcpListener,
    health: Health,
    metrics: Renderer,
    info: Info,
    hosts: Hosts,
    stop: CancellationToken,
) {
    serve(listener, router(health, metrics, info, hosts), stop).await;
}

fn router(health: Health, metrics: Renderer, info: Info, hosts: Hosts) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(prometheus))
        .route("/actuator/health", get(actuator_health))
        .route("/actuator/health/liveness", get(actuator_liveness))
        .route("/actuator/health/readiness", get(actuator_readiness))
        .route("/actuator/prometheus", get(prometheus))
        .route("/actuator/info", get(actuator_info))
        .with_state(Shown {
            health,
            metrics,
            info,
        })
        .layer(middleware::from_fn_with_state(hosts, host::check))
        .layer(middleware::map_response(no_guessing))
}

/// No browser takes an answer for something else than it says it is.
async fn no_guessing(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

async fn livez(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    answer("live", &shown.health.live(), &headers)
}

async fn readyz(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    answer("ready", &shown.health.ready_to_the_network(), &headers)
}

fn answer(what: &str, verdict: &Verdict, headers: &HeaderMap) -> Response {
    let status = status(verdict.ok);
    let json = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    if json {
        return (status, Json(verdict)).into_response();
    }
    let not = if verdict.ok { "" } else { "not " };
    let mut text = format!("{not}{what}\n");
    for line in verdict.reasons.iter().chain(&verdict.notes) {
        text.push_str(&format!("{}\n", crate::operate::escape(line)));
    }
    (status, text).into_response()
}

fn status(ok: bool) -> StatusCode {
    if ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn prometheus(State(shown): State<Shown>) -> Response {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], shown.metrics.render()).into_response()
}

async fn actuator_health(State(shown): State<Shown>) -> Response {
    let (live, ready) = (shown.health.live(), shown.health.ready_to_the_network());
    let mut components = json!({
        "livenessState": component(&live, "DOWN"),
        "readinessState": component(&ready, "OUT_OF_SERVICE"),
    });
    // A degraded store is no reason to take the instance out: the original says so too.
    if let Some(state) = shown.health.store_state() {
        let status = if state.is_degraded() { "DEGRADED" } else { "UP" };
        components["db"] = json!({ "status": status, "details": { "state": format!("{state:#}") } });
    }
    let whole = if !live.ok {
        "DOWN"
    } else if !ready.ok {
        "OUT_OF_SERVICE"
    } else {
        "UP"
    };
    let body = json!({ "status": whole, "components": components });
    (status(live.ok && ready.ok), Json(body)).into_response()
}

fn component(verdict: &Verdict, otherwise: &str) -> Value {
    let status = if verdict.ok { "UP" } else { otherwise };
    let mut component = json!({ "status": status });
    if !verdict.reasons.is_empty() || !verdict.notes.is_empty() {
        component["details"] = json!({ "reasons": verdict.reasons, "notes": verdict.notes });
    }
    component
}

async fn actuator_liveness(State(shown): State<Shown>) -> Response {
    let live = shown.health.live();
    (status(live.ok), Json(component(&live, "DOWN"))).into_response()
}

async fn actuator_readiness(State(shown): State<Shown>) -> Response {
    let ready = shown.health.ready_to_the_network();
    (status(ready.ok), Json(component(&ready, "OUT_OF_SERVICE"))).into_response()
}

async fn actuator_info(State(shown): State<Shown>) -> Json<Value> {
    let info = &shown.info;
    Json(json!({
        "app": { "name": info.name, "version": info.version },
        "orchestrator": {
            "instance": info.instance,
            "group": info.group,
            "tracking": info.tracking,
            "store": info.store,
        },
    }))
}

/// Listens at `address`.
///
/// # Errors
///
/// When the address is taken or not allowed; the error names it.
pub async fn listen(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot listen at {address} (management-address): {error}"),
        )
    })
}
