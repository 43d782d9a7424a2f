//! Calls from the Worker to installations.

use relay_schemas::{
    Abandoned, ActivityCommand, ActivityReply, Announce, Announcement, GivenUpList, OrganizationId,
    Problem, ReportCommand, Revoked, RevokedReply, ToldOfEnd,
};
use serde::{Serialize, de::DeserializeOwned};
use worker::Env;

use crate::objects::command_for;

type Outcome<T> = Result<T, Problem>;

/// Events that Linear waits to be answered, of one organization. May be repeated.
pub(crate) async fn announce(
    env: &Env,
    organization: &OrganizationId,
    announcements: Vec<Announcement>,
) -> Outcome<()> {
    command(env, organization, "/announce", &Announce { announcements }).await.map(ignored)
}

/// What became of an event on a machine. May be repeated.
pub(crate) async fn report(
    env: &Env,
    organization: &OrganizationId,
    report: &ReportCommand,
) -> Outcome<()> {
    command(env, organization, "/report", report).await.map(ignored)
}

/// No machine has finished an event. May be repeated.
pub(crate) async fn abandoned(
    env: &Env,
    organization: &OrganizationId,
    abandoned: &Abandoned,
) -> Outcome<()> {
    command(env, organization, "/abandoned", abandoned).await.map(ignored)
}

/// What a machine wants shown. May be repeated if it has an id of its own.
pub(crate) async fn activity(
    env: &Env,
    organization: &OrganizationId,
    activity: &ActivityCommand,
) -> Outcome<ActivityReply> {
    command(env, organization, "/activity", activity).await
}

/// The calls that an installation has given up.
pub(crate) async fn given_up(env: &Env, organization: &OrganizationId) -> Outcome<GivenUpList> {
    command(env, organization, "/given-up", &()).await
}

/// Linear says that an app is no longer installed. May be repeated.
pub(crate) async fn revoked(
    env: &Env,
    organization: &OrganizationId,
    revoked: &Revoked,
) -> Outcome<RevokedReply> {
    command(env, organization, "/revoked", revoked).await
}

/// So far the organization's streams know that no app is left.
pub(crate) async fn told_of_end(
    env: &Env,
    organization: &OrganizationId,
    up_to: String,
) -> Outcome<()> {
    command(env, organization, "/told-of-end", &ToldOfEnd { up_to }).await.map(ignored)
}

fn ignored(_: serde::de::IgnoredAny) {}

async fn command<T: DeserializeOwned>(
    env: &Env,
    organization: &OrganizationId,
    path: &str,
    body: &impl Serialize,
) -> Outcome<T> {
    command_for(env, "", ("INSTALLATIONS", organization.as_str()), path, body).await
}
