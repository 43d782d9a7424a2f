use std::collections::BTreeMap;

use futures::future::{join_all, try_join_all};
use relay_schemas::{Announcement, Attendance, OrganizationId, Revoked, RevokedReply};
use worker::Env;

use super::{Decoded, Failure};
use crate::{directory_object::EdgeList, installation_client, settings::Settings, stream_client};

/// Streams that are told of an organization's end at once.
const TOLD_AT_ONCE: usize = 20;

/// Which machines are there for an event, over all of its streams.
#[derive(Default)]
pub(super) struct Attended {
    edges: Vec<String>,
    is_held: bool,
}

impl Attended {
    /// Adds those of another stream.
    pub(super) fn add(&mut self, attendance: &Attendance) {
        let new = attendance.edges.iter().filter(|edge| !self.edges.contains(edge)).cloned();
        let new: Vec<String> = new.collect();
        self.edges.extend(new);
        self.is_held |= attendance.is_held;
    }
}

/// Step 5 for events that are in one of their streams or more, one call for each organization. Answers why
/// those of an organization have to come again.
pub(super) async fn announce(
    stored: Vec<(&Decoded<'_>, Option<Attended>)>,
    env: &Env,
) -> BTreeMap<OrganizationId, Failure> {
    let is_answering = Settings::of(env).is_ok_and(|settings| settings.linear.is_some());
    let mut organizations: BTreeMap<OrganizationId, Told> = BTreeMap::new();
    for (event, attended) in stored.into_iter().filter(|_| is_answering) {
        if let Some(revoked) = &event.uninstalled {
            let told = organizations.entry(event.organization.clone()).or_default();
            told.uninstalled.push(revoked.clone());
        }
        if let Some(announcement) = &event.announcement {
            let told = organizations.entry(event.organization.clone()).or_default();
            let Attended { edges, is_held } = attended.unwrap_or_default();
            told.announcements.push(Announcement { edges, is_held, ..announcement.clone() });
        }
    }
    let calls = organizations.into_iter().map(|(organization, told)| async move {
        tell(&organization, told, env).await.err().map(|failure| (organization, failure))
    });
    join_all(calls).await.into_iter().flatten().collect()
}

/// What an installation is told.
#[derive(Default)]
struct Told {
    announcements: Vec<Announcement>,
    /// Apps that were taken out of the organization.
    uninstalled: Vec<Revoked>,
}

async fn tell(organization: &OrganizationId, told: Told, env: &Env) -> Result<(), Failure> {
    if !told.announcements.is_empty() {
        let told = installation_client::announce(env, organization, told.announcements).await;
        told.map_err(|problem| passing(problem.code.as_str()))?;
    }
    for revoked in &told.uninstalled {
        let reply = installation_client::revoked(env, organization, revoked).await;
        let reply = reply.map_err(|problem| passing(problem.code.as_str()))?;
        if reply.is_uninstalled {
            end_streams(organization, &reply, env).await?;
        }
    }
    Ok(())
}

fn passing(why: &str) -> Failure {
    Failure::Passing(format!("installation_unavailable: {why}"))
}

/// Ends the connections of an organization's machines, and says why. Streams that were told are
/// noted a few at a time: what is tried again after a failure goes on behind them.
async fn end_streams(
    organization: &OrganizationId,
    reply: &RevokedReply,
    env: &Env,
) -> Result<(), Failure> {
    let failed = |error: worker::Error| passing(&error.to_string());
    let name = organization.as_str();
    let list = stream_client::ask(env, "DIRECTORIES", name, "/list", String::new()).await;
    let list: EdgeList = list.map_err(failed)?;
    let streams = list.edges.iter().flat_map(|edge| edge.streams()).map(|one| one.to_string());
    for few in reply.untold(streams.collect()).chunks(TOLD_AT_ONCE) {
        let told = few.iter().map(|stream| {
            stream_client::post_to_object(env, "STREAMS", stream, "/uninstalled", String::new())
        });
        try_join_all(told).await.map_err(failed)?;
        if let Some(last) = few.last() {
            let noted = installation_client::told_of_end(env, organization, last.clone()).await;
            noted.map_err(|problem| passing(problem.code.as_str()))?;
        }
    }
    Ok(())
}
