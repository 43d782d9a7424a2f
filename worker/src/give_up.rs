//! Sends events that edges were given, and none has finished, to the dead letters, and lets Linear
//! hear of it where a machine said nothing.

use relay_durable::GivenUp;
use relay_schemas::{
    Abandoned, AnsweredIn, DeadLetter, OrganizationId, StoredBody, limits::QUEUE_BODY_BYTES_MAX,
    oversize_body_key,
};
use serde_json::json;
use worker::{Env, Error, Result};

use crate::{
    installation_client,
    log::{self, Level},
    settings::Settings,
    webhook::send_text,
};

/// Sends one. Its letter is named after the event, so that sending it twice is sending it once.
pub(crate) async fn send(
    env: &Env,
    organization: &OrganizationId,
    given_up: GivenUp,
) -> Result<()> {
    let GivenUp { mut message, body, reason, attempts, kind, silent, .. } = given_up;
    if body.len() > QUEUE_BODY_BYTES_MAX {
        let key = oversize_body_key(message.id, body.as_bytes(), message.received_at);
        env.bucket("BUCKET")?.put(&key, body.as_bytes().to_vec()).execute().await?;
        message.stored_body = Some(StoredBody { key, bytes: body.len() });
    }
    if let Some(edge) = silent.filter(|_| AnsweredIn::of_kind(&kind).is_some()) {
        let abandoned =
            Abandoned { event: message.id, attempts, edge: Some(edge.name), error: None };
        tell(env, organization, &abandoned).await?;
    }
    let id = message.id.to_string();
    let letter = DeadLetter::new(id.clone(), reason, attempts, message.received_at);
    send_text(env, "DEAD_LETTERS", &letter.encode(&message.encode(&body))).await?;
    log::line(Level::Warn, "event_given_up", "", json!({ "id": id, "attempts": attempts }));
    Ok(())
}

/// May be repeated.
async fn tell(env: &Env, organization: &OrganizationId, abandoned: &Abandoned) -> Result<()> {
    let failed = |problem: relay_schemas::Problem| Error::RustError(problem.to_string());
    if Settings::of(env).map_err(failed)?.linear.is_none() {
        return Ok(());
    }
    installation_client::abandoned(env, organization, abandoned).await.map_err(failed)
}
