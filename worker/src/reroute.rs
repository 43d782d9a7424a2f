use futures::{TryStreamExt, stream};
use relay_durable::Page;
use relay_schemas::{
    Channel, Counter, ErrorCode, Frame, Problem, QueueMessage, Reroute, RerouteRequest, StreamKey,
    UnixMillis, Webhook,
};
use serde_json::json;
use worker::Response;

use crate::{
    call::Call,
    directory_object::{Rerouted, RoutingView},
    events,
    log::{self, Level},
    metrics, operator_pages, respond,
    routing::ask_directory,
    webhook::enqueue,
};

/// Messages sent at once.
const SENDS_AT_ONCE: usize = 8;

/// `POST /admin/streams/{organization}/unrouted/reroute`: sends events that found nobody on their
/// way again, oldest first, and remembers how far it came. A crash before that is remembered sends
/// some of them twice, which their streams recognise.
pub(crate) async fn reroute(call: &mut Call, organization: &str) -> Result<Response, Problem> {
    let request = RerouteRequest::parse(&call.small_body().await?)?;
    let stream = stream_of(organization)?;
    let view: RoutingView = ask_directory(call, organization, "/routing", String::new()).await?;
    let mut query = request.query(view.rerouted_until, call.now)?;
    // What the app itself did may have found nobody, too.
    query.own = true;
    let page = match events::read_page(call, operator_pages::command(stream, query)).await? {
        Ok(page) => page,
        Err(refusal) => return Ok(refusal),
    };
    request.check_start(page.gap.as_ref())?;
    let sent = send_all(call, &page, &request.reroute()).await?;
    let cursor = page.cursor.to_string();
    let reached = serde_json::to_string(&Rerouted { cursor: cursor.clone() })
        .map_err(|_| respond::unavailable())?;
    let _: serde_json::Value = ask_directory(call, organization, "/rerouted", reached).await?;
    metrics::add(Counter::Rerouted, sent as u64);
    metrics::flush_if_due(call);
    let fields = json!({ "organization": organization, "to": request.to, "events": sent });
    log::line(Level::Info, "events_rerouted", &call.request_id, fields);
    let answer = json!({
        "rerouted": sent,
        "unreadable": page.events.len() - sent,
        "cursor": cursor,
        "has_more": page.has_more,
        "gap": page.gap,
    });
    respond::json(200, &answer)
}

fn stream_of(organization: &str) -> Result<StreamKey, Problem> {
    let organization = organization
        .parse()
        .map_err(|_| Problem::new(ErrorCode::NotFound, "no such organization"))?;
    Ok(StreamKey { organization, channel: Channel::Unrouted })
}

/// Nothing is remembered when the queue refuses one: then all are sent again.
async fn send_all(call: &Call, page: &Page, reroute: &Reroute) -> Result<usize, Problem> {
    let frames = page.events.iter().filter_map(|event| match Frame::parse(event.get()) {
        Ok(Frame::Webhook(webhook)) => Some(webhook),
        _ => None,
    });
    let sends = stream::iter(frames.map(Ok)).map_ok(|webhook| send(call, *webhook, reroute));
    sends
        .try_buffer_unordered(SENDS_AT_ONCE)
        .try_fold(0, |sent, was_sent| async move { Ok(sent + usize::from(was_sent)) })
        .await
}

/// The event as it came, with the same id. Answers `false` for one that can't be read.
async fn send(call: &Call, webhook: Webhook<'_>, reroute: &Reroute) -> Result<bool, Problem> {
    let unreadable = || log::line(Level::Error, "event_unreadable", &call.request_id, json!({}));
    let received_at = UnixMillis::parse_rfc3339(&webhook.timestamp);
    let body = webhook.body_bytes().and_then(|body| String::from_utf8(body.into_owned()).ok());
    let (Some(received_at), Some(body)) = (received_at, body) else {
        unreadable();
        return Ok(false);
    };
    let mut message = QueueMessage::new(webhook.id, received_at, call.request_id.clone());
    message.delivery = webhook.delivery.as_deref().map(str::to_owned);
    message.headers =
        webhook.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    message.reroute = Some(reroute.clone());
    enqueue(&call.env, message, &body, &call.request_id).await?;
    Ok(true)
}
