use relay_schemas::{ActivityRequest, EventId, Report};
use serde::{Deserialize, Serialize};

/// What the relay is told about an event. Stored format of the outbox, and the bodies of
/// `POST /events/status` and `/events/activity`: fields may be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dispatch {
    /// Something for the agent session.
    Activity(ActivityRequest),
    /// What becomes of the event.
    Status(Report),
}

impl Dispatch {
    /// What it is about.
    pub fn event_id(&self) -> EventId {
        match self {
            Self::Activity(report) => report.event_id,
            Self::Status(report) => report.event_id,
        }
    }

    /// For logs: what it is, without what it says.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Activity(report) => report.activity.content.kind(),
            Self::Status(report) => report.status.as_str(),
        }
    }

    /// Where it is posted to.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Activity(_) => "/events/activity",
            Self::Status(_) => "/events/status",
        }
    }
}
