use std::borrow::Cow;

use relay_schemas::{
    EdgeId, Envelope, EventId, ReadFilter, Seq, Subject, UnixMillis, record_is_own, record_kind,
};
use serde::{Deserialize, Serialize};

use super::letter::letter_of;

/// What decides who gets an event. Kept with its lease, so that the record is read only to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSubject {
    /// The event.
    pub id: EventId,
    /// `Type.action`.
    pub kind: String,
    /// The agent session that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The issue that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    /// The app that it was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Whether the app itself caused it.
    #[serde(default)]
    pub is_own: bool,
    /// Whether it stops its session: whoever gets it does not hold the session for that.
    #[serde(default)]
    pub is_stop: bool,
}

impl LeaseSubject {
    /// What a stored record says.
    pub fn read(record: &str) -> Option<Self> {
        let id = relay_schemas::record_id(record)?;
        let own = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        let subject = Subject::read(record)?;
        let kind = record_kind(record)?.into_owned();
        Some(Self {
            id,
            is_stop: kind == "AgentSessionEvent.prompted" && is_stop(record),
            kind,
            session: own(subject.session),
            issue: own(subject.issue),
            app: own(subject.app),
            is_own: record_is_own(record),
        })
    }

    /// Whether a reader wants it, and may have it.
    pub fn passes(&self, filter: &ReadFilter) -> bool {
        filter.passes_parts(&self.kind, self.is_own, self.app.as_deref())
    }

    /// The name under which its session is held.
    pub fn session_key(&self) -> Option<String> {
        self.session.as_deref().map(session_key)
    }

    /// The name under which its issue is held.
    pub fn issue_key(&self) -> Option<String> {
        self.issue.as_deref().map(|issue| format!("issue:{issue}"))
    }
}

/// Not taken from the append: the event may be considered long after it.
fn is_stop(record: &str) -> bool {
    letter_of(record).is_some_and(|(_, body)| {
        Envelope::parse(body.as_bytes()).is_ok_and(|envelope| envelope.signal().is_some())
    })
}

/// The name under which a session is held.
pub fn session_key(session: &str) -> String {
    format!("session:{session}")
}

/// Where a lease stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Nobody has the event.
    Waiting,
    /// An edge has it.
    Held {
        /// Which.
        edge: EdgeId,
        /// When it was given to it.
        sent_at: UnixMillis,
        /// When it last reported `processing`.
        #[serde(default)]
        processing_at: Option<UnixMillis>,
    },
    /// It is on its way to the dead letters.
    GivingUp,
    /// It lies in the dead letters. Earlier versions kept a lease of those.
    GivenUp,
}

/// What an edge had begun when it went away: it may well go on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// This event.
    Begun,
    /// Another one, behind which this waited.
    Queued,
}

/// An event that was considered and is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its position.
    pub seq: Seq,
    /// What decides who gets it.
    pub subject: LeaseSubject,
    /// How often it was given to an edge.
    #[serde(default)]
    pub attempt: u32,
    /// To which ones, without success; the latest last.
    #[serde(default)]
    pub tried: Vec<EdgeId>,
    /// Why it was taken away last: a stable word.
    #[serde(default)]
    pub failure: Option<String>,
    /// The edge that fell silent over it: as long as nobody else has it, its report counts.
    #[serde(default)]
    pub late: Option<EdgeId>,
    /// What that one was doing with it, when it went away without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
    /// It failed, and is not given to anybody before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<UnixMillis>,
    /// Where it stands.
    pub state: LeaseState,
}

impl Lease {
    /// An event that nobody has been given.
    pub fn waiting(seq: Seq, subject: LeaseSubject) -> Self {
        Self {
            seq,
            subject,
            attempt: 0,
            tried: Vec::new(),
            failure: None,
            late: None,
            left: None,
            paused_until: None,
            state: LeaseState::Waiting,
        }
    }

    /// Who has it.
    pub fn edge(&self) -> Option<&EdgeId> {
        match &self.state {
            LeaseState::Held { edge, .. } => Some(edge),
            LeaseState::Waiting | LeaseState::GivingUp | LeaseState::GivenUp => None,
        }
    }

    /// The edge that went away from its work on it, or on something before it, and what this was to
    /// it.
    pub fn left_by(&self) -> Option<(&EdgeId, Left)> {
        self.late.as_ref().zip(self.left)
    }

    /// Whether it may be given to an edge now.
    pub fn may_be_given(&self, now: UnixMillis) -> bool {
        self.state == LeaseState::Waiting && self.paused_until.is_none_or(|until| until <= now)
    }

    /// Whether an edge has it and has not said that it works on it.
    pub fn is_unreported(&self) -> bool {
        matches!(self.state, LeaseState::Held { processing_at: None, .. })
    }

    /// Whether its edge has said that it works on it.
    pub fn is_processed(&self) -> bool {
        matches!(self.state, LeaseState::Held { processing_at: Some(_), .. })
    }
}

/// Which of a stream's events are given to single edges, and how far they have been considered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedHead {
    /// Events up to here are everybody's: each reader reads them from its cursor.
    #[serde(default)]
    pub from: Seq,
    /// Every event behind that and up to here has a lease, or is finished.
    pub until: Seq,
    /// Who was given something last.
    #[serde(default)]
    pub last: Option<EdgeId>,
    /// Events behind this are everybody's again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<Seq>,
    /// Stops of sessions of which something before them is yet to be given, or finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Stop>,
}

/// The edge that a session, or an issue, stays with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `session:…` or `issue:…`.
    pub key: String,
    /// Which.
    pub edge: EdgeId,
    /// Since it was last given or reported something of it, to within an hour.
    pub at: UnixMillis,
    /// Where earlier versions noted a stop that the edge has yet to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
}

/// What ends the work on a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The event that asked for it.
    pub id: EventId,
    /// Which session.
    pub session: String,
    /// Its position; earlier versions didn't note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// When the relay received it.
    pub received_at: UnixMillis,
    /// When the edge was last told; it may not have heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<UnixMillis>,
}

/// What a stream remembers of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRecord {
    /// Which.
    pub edge: EdgeId,
    /// Its display name.
    #[serde(default)]
    pub name: Option<String>,
    /// What it read last, while it is expected to come back.
    #[serde(default)]
    pub filter: Option<ReadFilter>,
    /// When its last connection ended; `None` while there is one.
    #[serde(default)]
    pub gone_at: Option<UnixMillis>,
    /// Whether it said so, or was revoked: it is not waited for.
    #[serde(default)]
    pub has_ended: bool,
    /// Events in a row over which it fell silent.
    #[serde(default)]
    pub timeouts_in_a_row: u32,
    /// When it last finished something while it had more to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed_at: Option<UnixMillis>,
    /// Stops that it has yet to be told, or may not have heard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<Stop>,
}

impl EdgeRecord {
    /// One that was never seen.
    pub fn new(edge: EdgeId) -> Self {
        Self {
            edge,
            name: None,
            filter: None,
            gone_at: None,
            has_ended: false,
            timeouts_in_a_row: 0,
            freed_at: None,
            stops: Vec::new(),
        }
    }
}
