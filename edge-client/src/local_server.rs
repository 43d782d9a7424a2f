use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use relay_schemas::EdgeId;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{client::ClientHandle, session::SessionStatus, store::Keeper};

/// What the local server answers from.
#[derive(Debug)]
pub(crate) struct LocalState {
    pub(crate) handle: ClientHandle,
    pub(crate) keeper: Keeper,
    pub(crate) relay: String,
    pub(crate) edge: EdgeId,
}

#[derive(Serialize)]
struct LocalStatus<'a> {
    version: &'static str,
    relay: &'a str,
    edge: &'a EdgeId,
    reports_waiting: u64,
    #[serde(flatten)]
    session: SessionStatus,
}

/// Binds a loopback address; port 0 means a free one.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves people and scripts on this machine.
pub(crate) async fn serve(listener: TcpListener, state: LocalState) -> io::Result<()> {
    let router = Router::new()
        .route("/health", get(health))
        .route("/status", get(status))
        .route("/admin/reconnect", post(reconnect))
        .layer(from_fn(refuse_foreign))
        .with_state(Arc::new(state));
    axum::serve(listener, router).await
}

async fn health() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

async fn status(State(state): State<Arc<LocalState>>) -> Response {
    let (Some(session), Ok(reports_waiting)) =
        (state.handle.status().await, state.keeper.outbox_length().await)
    else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "ending", "the client is ending");
    };
    Json(LocalStatus {
        version: env!("CARGO_PKG_VERSION"),
        relay: &state.relay,
        edge: &state.edge,
        reports_waiting,
        session,
    })
    .into_response()
}

async fn reconnect(State(state): State<Arc<LocalState>>) -> Response {
    state.handle.reconnect().await;
    (StatusCode::ACCEPTED, Json(json!({ "status": "reconnecting" }))).into_response()
}

/// Keeps web pages out: one that a person visits can reach loopback, with its own `Origin`, or
/// under a name of its own that resolves to 127.0.0.1.
async fn refuse_foreign(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) || !is_for_loopback(headers) {
        return problem(StatusCode::FORBIDDEN, "foreign", "this is not for web pages");
    }
    next.run(request).await
}

fn is_for_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        is_loopback_host(name)
    })
}

/// Whether a URL's host can only mean this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message, "retryable": false } });
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_loopback() {
        for (host, expected) in [
            ("127.0.0.1:4317", true),
            ("127.0.0.1", true),
            ("localhost:1", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("evil.example", false),
            ("evil.example:80", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1:80", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(is_for_loopback(&headers), expected, "{host}");
        }
        assert!(!is_for_loopback(&HeaderMap::new()));
    }
}
