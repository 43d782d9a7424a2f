use relay_durable::{
    EventAnswer, Fetched, Page, PageFill, PagePart, PageStep, SegmentObject, sealed_event,
};
use relay_schemas::{
    Connect, Counter, Dialect, ErrorCode, PageCommand, PageQuery, Problem, Scope, StreamKey,
    StreamQuery, Token,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use worker::Response;

use crate::{
    bridge,
    call::Call,
    history::{self, Opened},
    history_socket,
    log::{self, Level},
    metrics, respond, segments,
    stream_client::{self, RESUMED_FROM_HEADER},
};

/// `GET /events/stream`: live events in the dialect that the caller speaks.
pub(crate) async fn stream(call: &mut Call) -> Result<Response, Problem> {
    let pairs = call.query();
    let query = StreamQuery::parse(
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        call.header("Last-Event-ID").as_deref(),
        call.now,
    )?;
    let stream = call.stream(query.channel.as_ref())?;
    let claims = call.claims();
    let connect = Connect {
        stream,
        edge: claims.sub.clone(),
        edge_name: claims.name.clone(),
        expires_at: claims.expires_at(),
        dialect: dialect_of(call),
        start: query.start,
        kinds: query.kinds,
        body: query.body,
        on_gap: query.on_gap,
        heartbeat_s: query.heartbeat_s,
        resume: None,
        allowed: call.allowed_kinds(),
        own: query.own,
        app: query.app,
        capacity: query.capacity,
        may_report: claims.require_any(&[Scope::WriteStatus]).is_ok(),
    };
    let failed = |error: worker::Error| {
        log::platform_error("connect_failed", &call.request_id, &error);
        respond::unavailable()
    };
    let (opened, resumed_from) = history::connect(&call.env, &connect).await.map_err(failed)?;
    if let Opened::Refused(response) = opened {
        return Ok(response);
    }
    note_opened(call, &connect);
    let response = match (opened, connect.dialect) {
        (Opened::Live(socket), Dialect::WebSocket) => Response::from_websocket(socket),
        (Opened::History(offer), Dialect::WebSocket) => {
            history_socket::answer(call, connect, offer)
        }
        (opened, _) => bridge::answer(call, connect, opened),
    };
    let response = response.map_err(failed)?;
    if let Some(cursor) = resumed_from {
        response.headers().set(RESUMED_FROM_HEADER, &cursor).map_err(failed)?;
    }
    Ok(response)
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

fn note_opened(call: &Call, connect: &Connect) {
    metrics::add(Counter::ConnectionsOpened(connect.dialect), 1);
    metrics::flush_if_due(call);
    log::line(
        Level::Info,
        "stream_opened",
        &call.request_id,
        json!({
            "edge": connect.edge.as_str(),
            "stream": connect.stream.to_string(),
            "dialect": connect.dialect.as_str(),
        }),
    );
}

/// `GET /events`: one page.
pub(crate) async fn page(call: &mut Call) -> Result<Response, Problem> {
    let pairs = call.query();
    let query = PageQuery::parse(
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        call.now,
    )?;
    let stream = call.stream(query.channel.as_ref())?;
    let edge = call.claims().sub.clone();
    let allowed = call.allowed_kinds();
    answer_page(call, PageCommand { stream, edge, allowed, query, events: 0, bytes: 0 }).await
}

/// A page as the answer to a request.
pub(crate) async fn answer_page(call: &Call, command: PageCommand) -> Result<Response, Problem> {
    let page = match read_page(call, command).await? {
        Ok(page) => page,
        Err(refusal) => return Ok(refusal),
    };
    let response = respond::json(200, &page)?;
    if let Some(gap) = &page.gap {
        let cursor = gap.resumed_from.to_string();
        let set = response.headers().set(RESUMED_FROM_HEADER, &cursor);
        set.map_err(|_| respond::unavailable())?;
    }
    Ok(response)
}

/// Puts a page together, or answers the stream's refusal.
pub(crate) async fn read_page(
    call: &Call,
    command: PageCommand,
) -> Result<Result<Page, Response>, Problem> {
    let mut fill = PageFill::new(command);
    loop {
        match fill.next_step() {
            PageStep::Ask(command) => match ask_page(call, &command).await? {
                Ok(part) => fill.answered(part),
                Err(refusal) => return Ok(Err(refusal)),
            },
            PageStep::Fetch(object) => {
                let fetched = history::fetch_for(&call.env, &object).await?;
                fill.fetched(&object.entry, fetched);
            }
            PageStep::Done => break,
        }
    }
    metrics::add(Counter::SegmentsLost, fill.segments_lost());
    metrics::flush_if_due(call);
    Ok(Ok(fill.into_page().ok_or_else(respond::unavailable)?))
}

async fn ask_page(
    call: &Call,
    command: &PageCommand,
) -> Result<Result<PagePart, Response>, Problem> {
    let body = serde_json::to_string(command).map_err(|_| respond::unavailable())?;
    ask_stream(call, &command.stream, "/page", body).await
}

/// Asks a stream's object for a value, or answers its refusal.
pub(crate) async fn ask_stream<T: DeserializeOwned>(
    call: &Call,
    stream: &StreamKey,
    path: &str,
    body: String,
) -> Result<Result<T, Response>, Problem> {
    let asked = async {
        let name = stream.to_string();
        let mut response =
            stream_client::post(&call.env, "STREAMS", &name, path, body.into()).await?;
        Ok(match response.status_code() {
            // Not `json()`: what is kept raw in the value must come from text.
            200 => Ok(serde_json::from_str(&response.text().await?)?),
            _ => Err(stream_client::hand_on(response).await?),
        })
    };
    asked.await.map_err(|error: worker::Error| {
        log::platform_error("object_unavailable", &call.request_id, &error);
        respond::unavailable()
    })
}

/// `GET /events/{id}`: one event with its reports.
pub(crate) async fn one(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let stream = call.stream_of_channel()?;
    let id: relay_schemas::EventId = id.parse().map_err(|_| event_unknown())?;
    let allowed = call.allowed_kinds();
    let body = json!({ "edge": call.claims().sub, "id": id, "allowed": allowed }).to_string();
    match ask_stream(call, &stream, "/event", body).await? {
        Ok(EventAnswer::Hot(event)) => respond::json(200, &event),
        Ok(EventAnswer::Sealed { cursor, segment, reports }) => {
            let object = SegmentObject { key: segment.key(&stream, cursor.epoch), entry: segment };
            let event = match history::fetch_for(&call.env, &object).await? {
                Fetched::Bytes(bytes) => {
                    sealed_event(bytes, &object.entry, cursor, reports, &allowed).ok()
                }
                Fetched::Missing => None,
            };
            let event = event.ok_or_else(segments::lost)?;
            respond::json(200, &event.ok_or_else(event_unknown)?)
        }
        Err(refusal) => Ok(refusal),
    }
}

fn event_unknown() -> Problem {
    Problem::new(ErrorCode::EventUnknown, "no event with this id is in your stream")
}
