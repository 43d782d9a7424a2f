//! What the Worker and the object of an installation say to each other.

mod announcement;
mod revoked;
mod secret_text;

use serde::{Deserialize, Serialize};

pub use self::announcement::{Announcement, AnsweredIn};
pub use self::revoked::{Revoked, RevokedReply, ToldOfEnd};
pub use self::secret_text::SecretText;
use crate::{
    activity::Activity,
    identifier::{EdgeId, EventId, OrganizationId, UserId},
    status::ReportStatus,
    time::UnixMillis,
};

/// An organization as Linear names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledOrganization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// Its part of Linear's addresses.
    pub url_key: String,
}

/// `/granted`: an app was installed, or installed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The app's client id.
    pub app: String,
    /// The app's name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the token allows.
    pub scopes: Vec<String>,
    /// What requests carry.
    pub access_token: SecretText,
    /// What gets the next tokens; client credentials have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretText>,
    /// How long the access token lives, in seconds.
    pub expires_in_s: u64,
    /// Where it was installed.
    pub organization: InstalledOrganization,
    /// The app's user there.
    pub app_user: UserId,
}

/// `/announce`: events that Linear waits to be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// In the order of their streams.
    pub announcements: Vec<Announcement>,
}

/// A machine that says something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Which edge.
    pub id: EdgeId,
    /// Its display name.
    pub name: String,
}

/// `/report`: what became of an event on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportCommand {
    /// Which event.
    pub event: EventId,
    /// The event's `Type.action`, where it is known: it isn't where the event lies in history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Which machine.
    pub edge: Speaker,
    /// What became of it.
    pub status: ReportStatus,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long the handler ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How the handler ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// It has failed, and the event is given to a machine once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_retried: bool,
}

/// `/abandoned`: no machine has finished an event, and none is given it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// Which event.
    pub event: EventId,
    /// How often it was given to a machine.
    pub attempts: u32,
    /// The display name of the machine that had it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// What that machine said, if it said why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `/activity`: what a machine wants shown in an agent session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityCommand {
    /// Which event the machine works on.
    pub event: EventId,
    /// The event's `Type.action`, where it is known: it isn't where the event lies in history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Which machine.
    pub edge: Speaker,
    /// What it shows.
    pub activity: Activity,
}

/// The answer to `/activity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityReply {
    /// Always true.
    pub received: bool,
    /// The call's idempotency id; an activity has it at Linear.
    pub id: String,
}

/// `/person`: who somebody is in Linear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonQuery {
    /// Who.
    pub user: UserId,
}

/// A person as Linear knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Neither suspended nor removed.
    pub active: bool,
    /// Their name.
    pub name: String,
    /// Whether they administer the workspace.
    pub admin: bool,
    /// Whether they see some teams only; unknown if Linear doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<bool>,
    /// The teams they belong to.
    pub teams: Vec<PersonTeam>,
}

/// A team as Linear knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonTeam {
    /// Its id.
    pub id: String,
    /// What its issues begin with.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Only its members see it.
    #[serde(default)]
    pub private: bool,
}

/// Whether an app can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// It has tokens.
    Ready,
    /// Its tokens are dead: an administrator must install it again.
    NeedsSignIn,
    /// It was taken away.
    Revoked,
}

/// `/status`: how an installation does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationStatus {
    /// Where; absent before the first grant.
    pub organization: Option<InstalledOrganization>,
    /// Every app that was ever installed.
    pub apps: Vec<AppStatus>,
    /// The calls.
    pub outbox: OutboxStatus,
    /// The tightest of the apps' budgets that is known.
    pub budget: Option<BudgetStatus>,
    /// The agent sessions.
    pub sessions: SessionsStatus,
}

/// How one app does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its client id.
    pub app: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its user.
    pub app_user: UserId,
    /// Whether it can speak.
    pub state: AppState,
    /// When its access token ends.
    pub expires_at: UnixMillis,
    /// When it was last given tokens.
    pub refreshed_at: UnixMillis,
    /// Why the last refresh failed, if it did.
    #[serde(default)]
    pub refresh_error: Option<String>,
    /// What its token allows.
    pub scopes: Vec<String>,
}

/// How the calls do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// How many wait or are under way.
    pub waiting: usize,
    /// How many were given up in the last days.
    pub given_up: usize,
    /// When the oldest that waits was made.
    pub oldest_at: Option<UnixMillis>,
}

/// What is left of the requests of this hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// How many.
    pub remaining: u64,
    /// When all are back.
    pub reset_at: UnixMillis,
}

/// How the agent sessions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsStatus {
    /// How many wait for their first activity.
    pub waiting_first_activity: usize,
}

/// `/given-up`: a call that will not be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUpCall {
    /// The call's idempotency id.
    pub id: String,
    /// What it was: `thought`, `comment` and so on.
    pub purpose: String,
    /// Which event it answered.
    pub event: EventId,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Linear's code, or `expired`, `revoked`.
    pub code: String,
    /// What Linear says to people about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub at: UnixMillis,
}

/// `/given-up`'s answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUpList {
    /// Newest first.
    pub calls: Vec<GivenUpCall>,
}
