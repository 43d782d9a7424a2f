use relay_schemas::{
    Counter, Envelope, ErrorCode, Problem, QueueMessage, SignatureError, StoredBody,
    limits::{BODY_BYTES_MAX, QUEUE_BODY_BYTES_MAX},
    oversize_body_key, verify,
};
use serde_json::json;
use worker::{Env, QueueContentType, RawMessageBuilder, Response};

use crate::{
    call::Call,
    log::{self, Level},
    metrics, respond,
};

/// Linear's own headers that are handed on, as Linear spells them.
const HEADERS_KEPT: [&str; 6] = [
    "Content-Type",
    "User-Agent",
    "Linear-Delivery",
    "Linear-Event",
    "Linear-Signature",
    "Linear-Timestamp",
];
const HEADER_LENGTH_MAX: usize = 256;

/// `POST /webhook`: checks, makes durable, and only then answers 200, exactly as Linear demands.
pub(crate) async fn receive(call: &mut Call) -> Result<Response, Problem> {
    let outcome = accept(call).await;
    // Accepted webhooks are counted by the consumer, together with the batch that they come in.
    if let Err(problem) = &outcome {
        metrics::add(Counter::Webhooks(problem.code.as_str()), 1);
        metrics::flush_if_due(call);
    }
    outcome?;
    respond::text_of(200, "application/json", r#"{"received":true}"#.into())
}

async fn accept(call: &mut Call) -> Result<(), Problem> {
    call.require_json()?;
    let body = call.body(BODY_BYTES_MAX).await?;
    let signature = call.header("Linear-Signature");
    verify(&call.settings.webhook_secrets, &body, signature.as_deref()).map_err(refused)?;
    let envelope = Envelope::parse(&body)?;
    envelope.check_age(call.now, call.settings.retry_age_ms)?;
    let message = message_of(call, &envelope);
    let id = message.id;
    enqueue(&call.env, message, envelope.body(), &call.request_id).await?;
    log::line(
        Level::Info,
        "webhook_accepted",
        &call.request_id,
        json!({
            "id": id.to_string(),
            "kind": envelope.kind.to_string(),
            "organization": envelope.organization.as_str(),
            "bytes": body.len(),
        }),
    );
    Ok(())
}

fn refused(error: SignatureError) -> Problem {
    let code = match error {
        SignatureError::Missing => ErrorCode::SignatureMissing,
        SignatureError::Malformed => ErrorCode::SignatureMalformed,
        SignatureError::Mismatch => ErrorCode::SignatureInvalid,
    };
    Problem::new(code, error.to_string())
}

fn message_of(call: &Call, envelope: &Envelope<'_>) -> QueueMessage {
    let mut message = QueueMessage::new(envelope.event_id(), call.now, call.request_id.clone());
    message.headers = HEADERS_KEPT
        .iter()
        .filter_map(|name| call.header(name).map(|value| ((*name).to_owned(), value)))
        .filter(|(_, value)| value.len() <= HEADER_LENGTH_MAX)
        .collect();
    message.delivery = message
        .headers
        .iter()
        .find(|(name, _)| name == "Linear-Delivery")
        .map(|(_, value)| value.clone());
    message
}

/// Makes the event durable: a body too large for the queue first, so that no message ever points
/// at nothing. A crash between the two leaves an object that the bucket's lifecycle removes.
pub(crate) async fn enqueue(
    env: &Env,
    mut message: QueueMessage,
    body: &str,
    request_id: &str,
) -> Result<(), Problem> {
    let unavailable = |error: worker::Error| {
        log::platform_error("enqueue_failed", request_id, &error);
        Problem::new(ErrorCode::QueueUnavailable, "the event could not be stored; send it again")
    };
    if body.len() > QUEUE_BODY_BYTES_MAX {
        let key = oversize_body_key(message.id, body.as_bytes(), message.received_at);
        let bucket = env.bucket("BUCKET").map_err(unavailable)?;
        bucket.put(&key, body.as_bytes().to_vec()).execute().await.map_err(unavailable)?;
        message.stored_body = Some(StoredBody { key, bytes: body.len() });
    }
    send_text(env, "EVENTS", &message.encode(body)).await.map_err(unavailable)
}

/// Sends a text message; when this returns it is on disk.
pub(crate) async fn send_text(env: &Env, binding: &str, text: &str) -> worker::Result<()> {
    let message =
        RawMessageBuilder::new(text.into()).build_with_content_type(QueueContentType::Text);
    env.queue(binding)?.send_raw(message).await
}
