//! How Linear shows a session: its state follows from the last activity and from time.

use super::world::{Activity, ExternalUrl, Session, World};

/// The app must answer `created` within this time, or the session is shown as unresponsive.
pub const ANSWER_LIMIT_MS: u64 = 10_000;
/// A session at work that is silent for this long becomes stale.
pub const SILENCE_LIMIT_MS: u64 = 30 * 60 * 1000;

/// A session's state, never set by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// The app has not done anything yet.
    Pending,
    /// The app is at work, or was prompted.
    Active,
    /// The app has asked something.
    AwaitingInput,
    /// The app has answered.
    Complete,
    /// The app has failed.
    Error,
    /// Nothing was heard for half an hour; another activity takes it up again.
    Stale,
}

impl SessionStatus {
    /// Linear's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::AwaitingInput => "awaitingInput",
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Stale => "stale",
        }
    }
}

/// A session as Linear's users see it.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// The issue, such as `ENG-1`.
    pub issue: String,
    /// Who is responsible, unless the app began it.
    pub creator: Option<String>,
    /// Its state.
    pub status: SessionStatus,
    /// From the sending of `created` to the app's first answer.
    pub first_response_ms: Option<u64>,
    /// The app took, or has been taking, longer than [`ANSWER_LIMIT_MS`].
    pub unresponsive: bool,
    /// The links at its head: label and URL.
    pub urls: Vec<(String, String)>,
    /// The app's plan, as it was sent.
    pub plan: serde_json::Value,
    /// Its activities that are shown.
    pub activities: Vec<ActivityView>,
}

/// An activity as Linear's users see it.
#[derive(Clone, Debug)]
pub struct ActivityView {
    /// Its id.
    pub id: String,
    /// When it was created, in milliseconds since the epoch.
    pub at_ms: u64,
    /// `thought`, `action`, `elicitation`, `response`, `error` or `prompt`.
    pub kind: String,
    /// The body, or the action and its parameter.
    pub text: String,
    /// Whose it is.
    pub author: String,
    /// `stop`, `auth`, `select` or `continue`.
    pub signal: Option<String>,
    /// It disappears when another follows.
    pub ephemeral: bool,
}

impl World {
    /// A session's state at a moment.
    pub(super) fn status(&self, session: &Session, now_ms: u64) -> SessionStatus {
        let last = self.activities.iter().rev().find(|row| row.session == session.id);
        let status = match last.map(Activity::kind) {
            None => SessionStatus::Pending,
            Some("elicitation") => SessionStatus::AwaitingInput,
            Some("response") => SessionStatus::Complete,
            Some("error") => SessionStatus::Error,
            Some(_) => SessionStatus::Active,
        };
        let is_at_work = matches!(status, SessionStatus::Pending | SessionStatus::Active);
        let heard_ms = last.map_or(session.created_ms, |row| row.created_ms);
        if is_at_work && now_ms >= heard_ms + SILENCE_LIMIT_MS {
            return SessionStatus::Stale;
        }
        status
    }

    /// A session as it is shown at a moment.
    pub(super) fn view(&self, session: &Session, now_ms: u64) -> SessionView {
        let (first_response_ms, unresponsive) = session.punctuality(now_ms);
        let identifier = self.issues.get(&session.issue).map(|issue| issue.identifier.clone());
        let activities = self.activities_of(&session.id);
        SessionView {
            id: session.id.clone(),
            issue: identifier.unwrap_or_default(),
            creator: session.creator.as_ref().map(|id| self.name_of(id)),
            status: self.status(session, now_ms),
            first_response_ms,
            unresponsive,
            urls: session.urls.iter().map(ExternalUrl::pair).collect(),
            plan: session.plan.clone(),
            activities: activities.into_iter().map(|row| self.activity_view(row)).collect(),
        }
    }

    fn activity_view(&self, activity: &Activity) -> ActivityView {
        let part = |name: &str| activity.content[name].as_str().unwrap_or_default();
        let text = match activity.kind() {
            "action" => [part("action"), part("parameter"), part("result")].join(" ").trim().into(),
            _ => part("body").to_owned(),
        };
        ActivityView {
            id: activity.id.clone(),
            at_ms: activity.created_ms,
            kind: activity.kind().to_owned(),
            text,
            author: self.name_of(&activity.user),
            signal: activity.signal.clone(),
            ephemeral: activity.ephemeral,
        }
    }

    /// A user's name.
    pub(super) fn name_of(&self, user: &str) -> String {
        self.users.get(user).map_or_else(|_| user.to_owned(), |user| user.name.clone())
    }
}

impl Session {
    /// The time to the app's first answer, and whether that was or is too long.
    fn punctuality(&self, now_ms: u64) -> (Option<u64>, bool) {
        let Some(announced_ms) = self.announced_ms else { return (None, false) };
        let took_ms = self.answered_ms.map(|at_ms| at_ms.saturating_sub(announced_ms));
        let waited_ms = took_ms.unwrap_or_else(|| now_ms.saturating_sub(announced_ms));
        (took_ms, waited_ms > ANSWER_LIMIT_MS)
    }
}

impl ExternalUrl {
    fn pair(&self) -> (String, String) {
        (self.label.clone(), self.url.clone())
    }
}
