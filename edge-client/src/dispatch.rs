use relay_schemas::{EventId, ReportStatus};
use serde::{Deserialize, Serialize};

use crate::activity::Activity;

/// What the relay is told about an event. Stored format of the outbox, and the bodies of
/// `POST /events/status` and `/events/activity`: fields may be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dispatch {
    /// Something for the agent session.
    Activity(ActivityReport),
    /// What becomes of the event.
    Status(StatusReport),
}

/// The body of `POST /events/activity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityReport {
    /// Which event.
    #[serde(rename = "eventId")]
    pub event_id: EventId,
    /// What is to be shown.
    pub activity: Activity,
}

/// The body of `POST /events/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Which event.
    #[serde(rename = "eventId")]
    pub event_id: EventId,
    /// What became of it.
    pub status: ReportStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// For people: what the handler said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the handler's command ended with.
    #[serde(default, rename = "exitCode", skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How long it ran.
    #[serde(default, rename = "durationMs", skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

impl StatusReport {
    /// Says only what became of it.
    pub fn new(event_id: EventId, status: ReportStatus) -> Self {
        Self { event_id, status, error: None, message: None, exit_code: None, duration_ms: None }
    }
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
