//! Sends events that edges were given, and none has finished, to the dead letters, and lets Linear
//! hear of it where a machine said nothing.

use relay_durable::GivenUp;
use relay_schemas::{
    DeadLetter, OrganizationId, ReportCommand, ReportStatus, StoredBody,
    limits::QUEUE_BODY_BYTES_MAX, oversize_body_key,
};
use serde_json::json;
use worker::{Env, Error, Result};

use crate::{
    installation_client,
    log::{self, Level},
    settings::Settings,
    webhook::send_text,
};

/// What people are told in the session.
const NOBODY: &str = "no machine has finished it";

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
    if let Some(edge) = silent {
        let report = ReportCommand {
            event: message.id,
            kind: Some(kind),
            edge,
            status: ReportStatus::Failed,
            message: None,
            error: Some(NOBODY.into()),
            duration_ms: None,
            exit_code: None,
        };
        tell(env, organization, &report).await?;
    }
    let id = message.id.to_string();
    let letter = DeadLetter::new(id.clone(), reason, attempts, message.received_at);
    send_text(env, "DEAD_LETTERS", &letter.encode(&message.encode(&body))).await?;
    log::line(Level::Warn, "event_given_up", "", json!({ "id": id, "attempts": attempts }));
    Ok(())
}

/// As a machine's own report would be. It may be repeated.
async fn tell(env: &Env, organization: &OrganizationId, report: &ReportCommand) -> Result<()> {
    let failed = |problem: relay_schemas::Problem| Error::RustError(problem.to_string());
    let settings = Settings::of(env).map_err(failed)?;
    let is_addressed = report.kind.as_deref().is_some_and(|kind| {
        kind.starts_with("AgentSessionEvent.") || kind.starts_with("AppUserNotification.")
    });
    if settings.linear.is_none() || !is_addressed {
        return Ok(());
    }
    installation_client::report(env, organization, report).await.map_err(failed)
}
