use relay_schemas::{
    ActivityCommand, ActivityRequest, AnsweredIn, Counter, ErrorCode, EventId, Problem, Report,
    ReportCommand, ReportReply, Speaker, StatusCommand, StreamKey,
};
use serde_json::json;
use worker::Response;

use crate::{
    call::Call,
    events::ask_stream,
    installation_client,
    log::{self, Level},
    metrics, respond,
};

/// `POST /events/status`: keeps what an edge reports with the event, and lets Linear hear of it.
///
/// The stream is told first, then the installation, and only then the edge: whatever fails in
/// between, the edge reports again, and both find that they have it.
pub(crate) async fn report(call: &mut Call) -> Result<Response, Problem> {
    let stream = call.stream_of_channel()?;
    let report = Report::parse(&call.small_body().await?)?;
    let edge = call.claims().sub.clone();
    let command = StatusCommand { stream, edge, report };
    let body = serde_json::to_string(&command).map_err(|_| respond::unavailable())?;
    let reply: ReportReply = match ask_stream(call, &command.stream, "/status", body).await? {
        Ok(reply) => reply,
        Err(refusal) => return Ok(refusal),
    };
    let StatusCommand { stream, report, .. } = command;
    let (id, status) = (report.event_id, report.status);
    if is_answered(call, reply.kind.as_deref()) {
        let report = ReportCommand {
            event: id,
            kind: reply.kind,
            edge: speaker(call),
            status,
            message: report.message,
            error: report.error,
            duration_ms: report.duration_ms,
            exit_code: report.exit_code,
            is_retried: reply.retried,
        };
        installation_client::report(&call.env, &stream.organization, &report).await?;
    }
    note(call, id, status.as_str());
    metrics::add(Counter::Reports(status.as_str()), 1);
    metrics::flush_if_due(call);
    respond::json(200, &json!({ "received": true }))
}

/// `POST /events/activity`: what an edge wants shown in an agent session.
pub(crate) async fn activity(call: &mut Call) -> Result<Response, Problem> {
    let stream = call.stream_of_channel()?;
    let request = ActivityRequest::parse(&call.small_body().await?)?;
    let id = request.event_id;
    let kind = match may_report(call, &stream, id).await? {
        Ok(reply) => reply.kind,
        Err(refusal) => return Ok(refusal),
    };
    if call.settings.linear.is_none() {
        let message = "this relay has no LINEAR_CLIENT_ID: it answers nothing to Linear";
        return Err(Problem::new(ErrorCode::OauthNotConfigured, message));
    }
    let edge = speaker(call);
    let command = ActivityCommand { event: id, kind, edge, activity: request.activity };
    let reply = installation_client::activity(&call.env, &stream.organization, &command).await?;
    note(call, id, "activity");
    metrics::add(Counter::Reports("activity"), 1);
    metrics::flush_if_due(call);
    respond::json(200, &reply)
}

/// Asks the stream whether the event is the caller's to speak about.
async fn may_report(
    call: &Call,
    stream: &StreamKey,
    id: EventId,
) -> Result<Result<ReportReply, Response>, Problem> {
    let body = json!({ "edge": call.claims().sub, "id": id }).to_string();
    ask_stream(call, stream, "/may-report", body).await
}

/// Whether Linear is to hear of reports on events of this kind. One that lies in history has a kind
/// that the stream does not know: the installation knows whether it waits for an answer.
fn is_answered(call: &Call, kind: Option<&str>) -> bool {
    let is_awaited = kind.is_none_or(|kind| AnsweredIn::of_kind(kind).is_some());
    call.settings.linear.is_some() && is_awaited
}

fn speaker(call: &Call) -> Speaker {
    let claims = call.claims();
    let name = claims.name.clone().unwrap_or_else(|| claims.sub.to_string());
    Speaker { id: claims.sub.clone(), name }
}

fn note(call: &Call, id: EventId, status: &str) {
    let fields =
        json!({ "id": id.to_string(), "status": status, "edge": call.claims().sub.as_str() });
    log::line(Level::Info, "status_reported", &call.request_id, fields);
}
