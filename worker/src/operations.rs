use relay_schemas::{ErrorCode, Problem, StreamKey};
use serde_json::{Value, json};
use worker::Response;

use crate::{
    call::Call,
    log, metrics, respond,
    stream_client::{ask, post_to_object, relay_answer},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /health`: says that the Worker runs and its settings are complete.
pub(crate) fn health(call: &Call) -> Result<Response, Problem> {
    let environment = &call.settings.environment;
    respond::json(200, &json!({ "status": "ok", "version": VERSION, "environment": environment }))
}

/// `GET /`: what this is, and where to go on.
pub(crate) fn info() -> Result<Response, Problem> {
    respond::json(
        200,
        &json!({
            "service": "edgerelay",
            "version": VERSION,
            "routes": {
                "POST /webhook": "Linear's webhooks",
                "GET /events/stream": "live events: NDJSON, SSE by Accept, WebSocket by Upgrade",
                "GET /events": "a page of events",
                "GET /events/{id}": "one event with its reports",
                "POST /events/status": "report what became of an event",
                "GET /state": "operators: streams and counts",
                "GET /state/{organization}/{channel}": "operators: one stream",
                "GET /metrics": "operators: Prometheus text",
                "POST /admin/edges": "operators: enrol an edge",
                "GET /admin/edges?organization=…": "operators: list edges",
                "DELETE /admin/edges/{id}?organization=…": "operators: revoke an edge",
                "GET /health": "liveness and version",
            },
        }),
    )
}

/// `GET /state`: counts and streams, of one organization when asked.
pub(crate) async fn state(call: &mut Call) -> Result<Response, Problem> {
    call.require_operator()?;
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
    call.require_operator()?;
    let channel = channel.replace("%3A", ":").replace("%3a", ":");
    let stream: StreamKey = format!("{organization}/{channel}")
        .parse()
        .map_err(|_| Problem::new(ErrorCode::NotFound, "no such stream"))?;
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
    call.require_operator()?;
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
