use relay_durable::stream_of;
use relay_schemas::{
    Claims, Connect, Counter, Dialect, ErrorCode, PageCommand, PageQuery, Problem, Report, Scope,
    StatusCommand, StreamQuery,
};
use serde_json::json;
use worker::Response;

use crate::{
    bridge,
    call::Call,
    log::{self, Level},
    metrics, respond,
    stream_client::{self, relay_answer},
};

/// `GET /events/stream`: live events in the dialect that the caller speaks.
pub(crate) async fn stream(call: &mut Call) -> Result<Response, Problem> {
    let claims = call.edge(Scope::ReadEvents)?;
    let pairs = call.query();
    let query = StreamQuery::parse(
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        call.header("Last-Event-ID").as_deref(),
        call.now,
    )?;
    let connect = Connect {
        stream: stream_of(&claims),
        edge: claims.sub.clone(),
        expires_at: claims.expires_at(),
        dialect: dialect_of(call),
        start: query.start,
        kinds: query.kinds,
        body: query.body,
        on_gap: query.on_gap,
        heartbeat_s: query.heartbeat_s,
    };
    let failed = |error: worker::Error| {
        log::platform_error("connect_failed", &call.request_id, &error);
        respond::unavailable()
    };
    let opened =
        stream_client::connect(&call.env, &connect.stream, &connect).await.map_err(failed)?;
    if opened.status_code() != 101 {
        return stream_client::hand_on(opened).await.map_err(failed);
    }
    note_opened(call, &claims, &connect);
    bridge::answer(call, &connect, opened).map_err(|error| {
        log::platform_error("stream_failed", &call.request_id, &error);
        respond::unavailable()
    })
}

fn dialect_of(call: &Call) -> Dialect {
    let says = |header: &str, word: &str| {
        call.header(header).is_some_and(|value| value.to_ascii_lowercase().contains(word))
    };
    if says("Upgrade", "websocket") {
        Dialect::WebSocket
    } else if says("Accept", "text/event-stream") {
        Dialect::Sse
    } else {
        Dialect::Ndjson
    }
}

fn note_opened(call: &Call, claims: &Claims, connect: &Connect) {
    metrics::add(Counter::ConnectionsOpened(connect.dialect), 1);
    metrics::flush_if_due(call);
    log::line(
        Level::Info,
        "stream_opened",
        &call.request_id,
        json!({
            "edge": claims.sub.as_str(),
            "stream": connect.stream.to_string(),
            "dialect": connect.dialect.as_str(),
        }),
    );
}

/// `GET /events`: one page.
pub(crate) async fn page(call: &mut Call) -> Result<Response, Problem> {
    let claims = call.edge(Scope::ReadEvents)?;
    let pairs = call.query();
    let query = PageQuery::parse(
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        call.now,
    )?;
    let command = PageCommand { stream: stream_of(&claims), edge: claims.sub, query };
    let body = serde_json::to_string(&command).map_err(|_| respond::unavailable())?;
    let name = command.stream.to_string();
    relay_answer(&call.env, "STREAMS", &name, "/page", body, &call.request_id).await
}

/// `GET /events/{id}`: one event with its reports.
pub(crate) async fn one(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let claims = call.edge(Scope::ReadEvents)?;
    let id: relay_schemas::EventId = id.parse().map_err(|_| {
        Problem::new(ErrorCode::EventUnknown, "no event with this id is in your stream")
    })?;
    let body = json!({ "edge": claims.sub, "id": id }).to_string();
    let name = stream_of(&claims).to_string();
    relay_answer(&call.env, "STREAMS", &name, "/event", body, &call.request_id).await
}

/// `POST /events/status`: keeps what an edge reports with the event.
pub(crate) async fn report(call: &mut Call) -> Result<Response, Problem> {
    let claims = call.edge(Scope::WriteStatus)?;
    let report = Report::parse(&call.small_body().await?)?;
    let (id, status) = (report.event_id, report.status);
    let command = StatusCommand { stream: stream_of(&claims), edge: claims.sub, report };
    let body = serde_json::to_string(&command).map_err(|_| respond::unavailable())?;
    let name = command.stream.to_string();
    let answer =
        relay_answer(&call.env, "STREAMS", &name, "/status", body, &call.request_id).await?;
    if answer.status_code() == 200 {
        metrics::add(Counter::Reports(status.as_str()), 1);
        metrics::flush_if_due(call);
        log::line(
            Level::Info,
            "status_reported",
            &call.request_id,
            json!({ "id": id.to_string(), "status": status.as_str(), "edge": command.edge.as_str() }),
        );
    }
    Ok(answer)
}
