//! An organization's machines, and who may change them.

mod enrol;
mod location;
mod machine;
mod pairs;
mod refresh;

use relay_schemas::{
    Channel, Claims, EdgeId, OrganizationId, Problem, Scope, StreamKey, UnixMillis, UserId,
    limits::ENDED_EDGE_LISTED_MS,
};
use serde::{Deserialize, Serialize};

use self::enrol::check_name;
pub use self::{
    enrol::{EnrolRequest, enrol},
    location::{Whereabouts, location_hint},
    machine::{ApproveMachine, Machine, approve},
    refresh::{RefreshMachine, RefreshRefusal, RefreshReply, refresh},
};

/// An enrolled edge as the directory keeps it. Holds no secret: the credential is shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The edge.
    pub id: EdgeId,
    /// Its organization.
    pub organization: OrganizationId,
    /// Its person.
    pub user: UserId,
    /// A name for people.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The channels that it may read besides its own person's.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// When it was enrolled.
    pub created_at: UnixMillis,
    /// When its credential expires.
    pub expires_at: UnixMillis,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// Who revoked it, or why the relay did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndReason>,
    /// Whether its streams know that it was revoked: what asks with its tokens from then on costs
    /// them nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub are_streams_told: bool,
    /// What a machine has that its person has signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

impl Edge {
    /// What its credential says.
    pub fn claims(&self) -> Claims {
        Claims {
            sub: self.id.clone(),
            org: self.organization.clone(),
            user: self.user.clone(),
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            channels: self.channels.clone(),
            generation: None,
            iat: self.created_at.get() / 1000,
            exp: self.expires_at.get() / 1000,
        }
    }

    /// Whether its credential opens anything at `now`.
    pub fn is_active(&self, now: UnixMillis) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }

    /// Revokes it; a second time changes nothing.
    pub fn end(&mut self, reason: EndReason, now: UnixMillis) {
        if self.revoked_at.is_none() {
            self.revoked_at = Some(now);
            self.ended_by = Some(reason);
        }
    }

    /// All of its streams have learned that it is revoked. Tells whether that was news.
    pub fn streams_told(&mut self) -> bool {
        let is_news = self.revoked_at.is_some() && !self.are_streams_told;
        self.are_streams_told |= is_news;
        is_news
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: &str) -> Result<(), Problem> {
        check_name(name)?;
        self.name = Some(name.to_owned());
        Ok(())
    }

    /// Whether it ended so long ago that nobody looks for it any more. A credential without
    /// sign-in would be good until it expires: a stream that is rebuilt has to learn that it isn't.
    pub fn is_forgotten(&self, now: UnixMillis) -> bool {
        let ended_at = self.revoked_at.map_or(self.expires_at, |at| at.min(self.expires_at));
        let could_be_used = self.machine.is_none() && now < self.expires_at;
        now >= ended_at + ENDED_EDGE_LISTED_MS && !could_be_used
    }

    /// The streams that must yet learn that it is revoked.
    pub fn streams_to_tell(&self) -> Vec<StreamKey> {
        if self.are_streams_told { Vec::new() } else { self.streams_ever() }
    }

    /// The streams that it may read, and those that it could read once.
    pub fn streams_ever(&self) -> Vec<StreamKey> {
        let approved = self.machine.iter().flat_map(|machine| &machine.approved);
        let mut streams = self.streams();
        streams.extend(approved.map(|channel| StreamKey {
            organization: self.organization.clone(),
            channel: channel.clone(),
        }));
        streams.sort();
        streams.dedup();
        streams
    }

    /// The streams that it may read: its own person's first.
    pub fn streams(&self) -> Vec<StreamKey> {
        let own = Channel::User(self.user.clone());
        let channels = std::iter::once(&own).chain(&self.channels);
        let organization = &self.organization;
        channels
            .map(|channel| StreamKey {
                organization: organization.clone(),
                channel: channel.clone(),
            })
            .collect()
    }
}

impl EndReason {
    /// The word that it is counted under.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Owner => "owner",
            Self::LoggedOut => "logged_out",
            Self::RefreshReused => "refresh_reused",
            Self::PersonInactive => "person_inactive",
            Self::Unknown => "unknown",
        }
    }
}

/// Why an edge was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// An operator did.
    Operator,
    /// Its person did, from another machine or a browser.
    Owner,
    /// It said good-bye.
    LoggedOut,
    /// Two came with tokens that only one can have: somebody has a copy.
    RefreshReused,
    /// Its person is no longer active in Linear.
    PersonInactive,
    /// A reason of a newer relay.
    #[serde(other)]
    Unknown,
}
