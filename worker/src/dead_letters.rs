//! The dead letters' consumer: keeps each with its reason in R2. The key comes from the message's
//! first id, so keeping one twice is keeping it once.

use relay_schemas::{
    Counter, DeadLetter, UnixMillis, dead_letter_key, limits::DELIVERY_ATTEMPTS_MAX,
};
use serde::Serialize;
use serde_json::json;
use worker::Env;

use crate::{
    consumer::Delivery,
    host,
    log::{self, Level},
    metrics,
};

/// A dead letter as it lies in R2.
#[derive(Serialize)]
struct KeptLetter<'a> {
    version: u32,
    message: &'a str,
    reason: &'a str,
    attempts: u32,
    first_seen_at: UnixMillis,
    kept_at: UnixMillis,
    body: &'a str,
}

/// Keeps a batch.
pub(crate) async fn keep(messages: Vec<Delivery>, env: &Env) {
    for message in &messages {
        // A message that the platform moved by itself tells neither reason nor attempts.
        let (letter, original) = DeadLetter::decode(&message.text).unwrap_or_else(|| {
            let reason = "retries_exhausted".to_owned();
            let letter =
                DeadLetter::new(message.id(), reason, DELIVERY_ATTEMPTS_MAX, message.sent_at());
            (letter, message.text.as_str())
        });
        match put(env, &letter, original).await {
            Ok(()) => {
                metrics::add(Counter::DeadLettered, 1);
                message.acknowledge();
                // What follows the first word may quote the message.
                let reason = letter.reason.split(':').next();
                log::line(
                    Level::Error,
                    "dead_letter_kept",
                    "",
                    json!({ "message": letter.message, "reason": reason, "attempts": letter.attempts }),
                );
            }
            Err(error) => {
                log::platform_error("dead_letter_not_kept", "", &error);
                message.retry();
            }
        }
    }
}

async fn put(env: &Env, letter: &DeadLetter, original: &str) -> worker::Result<()> {
    let kept = KeptLetter {
        version: 1,
        message: &letter.message,
        reason: &letter.reason,
        attempts: letter.attempts,
        first_seen_at: letter.first_seen_at,
        kept_at: host::now(),
        body: original,
    };
    let key = dead_letter_key(&letter.message, letter.first_seen_at);
    let bytes = serde_json::to_vec(&kept)?;
    env.bucket("BUCKET")?.put(&key, bytes).execute().await?;
    Ok(())
}
