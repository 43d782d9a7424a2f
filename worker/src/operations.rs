use relay_schemas::{ErrorCode, Problem, Route, StreamKey};
use serde_json::{Value, json};
use worker::Response;

use crate::{
    call::Call,
    directory_object::EdgeList,
    log, metrics, respond,
    stream_client::{ask, post_to_object, relay_answer},
    sweep,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /health`: says that the Worker runs and its settings are complete.
pub(crate) fn health(call: &Call) -> Result<Response, Problem> {
    let environment = &call.settings.environment;
    respond::json(200, &json!({ "status": "ok", "version": VERSION, "environment": environment }))
}

/// `GET /`: what this is, and where to go on.
pub(crate) fn info() -> Result<Response, Problem> {
    let routes: serde_json::Map<String, Value> = Route::ALL
        .iter()
        .map(|route| (format!("{} {}", route.method(), route.path()), route.summary().into()))
        .collect();
    respond::json(200, &json!({ "service": "edgerelay", "version": VERSION, "routes": routes }))
}

/// `GET /state`: counts and streams, of one organization when asked.
pub(crate) async fn state(call: &mut Call) -> Result<Response, Problem> {
    let organization = call.parameter("organization").unwrap_or_default();
    let mut state: Value = ask_operations(call, "/state", organization).await?;
    state["version"] = VERSION.into();
    state["environment"] = call.settings.environment.as_str().into();
    respond::json(200, &state)
}

/// `GET /state/{organization}/{channel}`: one stream's log and connections.
pub(crate) async fn stream_state(
    call: &mut Call,
    organization: &str,
    channel: &str,
) -> Result<Response, Problem> {
    let stream = stream_named(organization, channel)?;
    relay_answer(
        &call.env,
        "STREAMS",
        &stream.to_string(),
        "/state",
        String::new(),
        &call.request_id,
    )
    .await
}

/// `GET /metrics`: Prometheus text.
pub(crate) async fn metrics(call: &mut Call) -> Result<Response, Problem> {
    metrics::flush(&call.env).await;
    let name = metrics::OPERATIONS_NAME;
    let text = async {
        post_to_object(&call.env, "OPERATIONS", name, "/metrics", String::new()).await?.text().await
    };
    let text = text.await.map_err(|error| {
        log::platform_error("metrics_unavailable", &call.request_id, &error);
        respond::unavailable()
    })?;
    respond::text_of(200, "text/plain; version=0.0.4; charset=utf-8", text)
}

async fn ask_operations(call: &Call, path: &str, body: String) -> Result<Value, Problem> {
    metrics::flush(&call.env).await;
    let name = metrics::OPERATIONS_NAME;
    ask(&call.env, "OPERATIONS", name, path, body).await.map_err(|error| {
        log::platform_error("state_unavailable", &call.request_id, &error);
        respond::unavailable()
    })
}

/// `POST /admin/streams/{organization}/{channel}/rebuild`: restores a stream from R2.
pub(crate) async fn rebuild(
    call: &mut Call,
    organization: &str,
    channel: &str,
) -> Result<Response, Problem> {
    let stream = stream_named(organization, channel)?;
    // A stream that lost its storage has lost its revocations. They are restored before anything
    // can be read again.
    restore_revocations(call, &stream).await.map_err(|error| {
        log::platform_error("object_unavailable", &call.request_id, &error);
        respond::unavailable()
    })?;
    let name = stream.to_string();
    relay_answer(&call.env, "STREAMS", &name, "/rebuild", name.clone(), &call.request_id).await
}

async fn restore_revocations(call: &Call, stream: &StreamKey) -> worker::Result<()> {
    let organization = stream.organization.as_str();
    let list: EdgeList =
        ask(&call.env, "DIRECTORIES", organization, "/list", String::new()).await?;
    let name = stream.to_string();
    for edge in list.edges.iter().filter(|edge| edge.revoked_at.is_some()) {
        if edge.streams_ever().contains(stream) {
            let command = json!({ "edge": edge.id }).to_string();
            post_to_object(&call.env, "STREAMS", &name, "/revoke", command).await?;
        }
    }
    Ok(())
}

/// `POST /admin/sweep`: looks at the first streams at once.
pub(crate) async fn sweep(call: &mut Call) -> Result<Response, Problem> {
    metrics::flush(&call.env).await;
    let report = sweep::run(&call.env, true).await.map_err(|error| {
        log::platform_error("sweep_failed", &call.request_id, &error);
        respond::unavailable()
    })?;
    respond::json(200, &report)
}

/// The stream that a path names.
pub(crate) fn stream_named(organization: &str, channel: &str) -> Result<StreamKey, Problem> {
    let channel = channel.replace("%3A", ":").replace("%3a", ":");
    format!("{organization}/{channel}")
        .parse()
        .map_err(|_| Problem::new(ErrorCode::NotFound, "no such stream"))
}
