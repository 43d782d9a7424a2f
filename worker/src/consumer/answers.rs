use std::collections::BTreeMap;

use futures::future::join_all;
use relay_schemas::{Announcement, Attendance, OrganizationId};
use worker::Env;

use super::{Decoded, Failure};
use crate::{directory_object::EdgeList, installation_client, settings::Settings, stream_client};

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
        if let Some(app) = &event.uninstalled {
            let told = organizations.entry(event.organization.clone()).or_default();
            told.uninstalled.push(app.clone());
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
    uninstalled: Vec<String>,
}

async fn tell(organization: &OrganizationId, told: Told, env: &Env) -> Result<(), Failure> {
    let passing = |why: &str| Failure::Passing(format!("installation_unavailable: {why}"));
    if !told.announcements.is_empty() {
        let told = installation_client::announce(env, organization, told.announcements).await;
        told.map_err(|problem| passing(problem.code.as_str()))?;
    }
    for app in told.uninstalled {
        let told = installation_client::revoked(env, organization, &app).await;
        told.map_err(|problem| passing(problem.code.as_str()))?;
        end_streams(organization, env).await.map_err(|error| passing(&error.to_string()))?;
    }
    Ok(())
}

/// Ends the connections of an organization's machines, and says why.
async fn end_streams(organization: &OrganizationId, env: &Env) -> worker::Result<()> {
    let name = organization.as_str();
    let list: EdgeList =
        stream_client::ask(env, "DIRECTORIES", name, "/list", String::new()).await?;
    let mut streams: Vec<String> =
        list.edges.iter().flat_map(|edge| edge.streams()).map(|one| one.to_string()).collect();
    streams.sort_unstable();
    streams.dedup();
    for stream in streams {
        let path = "/uninstalled";
        stream_client::post_to_object(env, "STREAMS", &stream, path, String::new()).await?;
    }
    Ok(())
}
