//! Sends events that edges were given, and none has finished, to the dead letters.

use relay_durable::GivenUp;
use relay_schemas::{DeadLetter, StoredBody, limits::QUEUE_BODY_BYTES_MAX, oversize_body_key};
use serde_json::json;
use worker::{Env, Result};

use crate::{
    log::{self, Level},
    webhook::send_text,
};

/// Sends one. Its letter is named after the event, so that sending it twice is sending it once.
pub(crate) async fn send(env: &Env, given_up: GivenUp) -> Result<()> {
    let GivenUp { mut message, body, reason, attempts, .. } = given_up;
    if body.len() > QUEUE_BODY_BYTES_MAX {
        let key = oversize_body_key(message.id, body.as_bytes(), message.received_at);
        env.bucket("BUCKET")?.put(&key, body.as_bytes().to_vec()).execute().await?;
        message.stored_body = Some(StoredBody { key, bytes: body.len() });
    }
    let id = message.id.to_string();
    let letter = DeadLetter::new(id.clone(), reason, attempts, message.received_at);
    send_text(env, "DEAD_LETTERS", &letter.encode(&message.encode(&body))).await?;
    log::line(Level::Warn, "event_given_up", "", json!({ "id": id, "attempts": attempts }));
    Ok(())
}
