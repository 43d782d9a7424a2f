use serde::{Deserialize, Serialize};

use crate::{
    error::{ErrorCode, Problem},
    identifier::EventId,
    limits::REPORT_TEXT_BYTES_MAX,
    time::UnixMillis,
};

/// What became of an event on an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportStatus {
    /// A handler has started.
    Processing,
    /// The handler has succeeded.
    Completed,
    /// The handler has given up.
    Failed,
}

impl ReportStatus {
    /// The status' text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// The body of `POST /events/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which event.
    #[serde(rename = "eventId")]
    pub event_id: EventId,
    /// What became of it.
    pub status: ReportStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long the handler ran.
    #[serde(rename = "durationMs", default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How the handler ended.
    #[serde(rename = "exitCode", default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

#[derive(Deserialize)]
struct LooseReport {
    #[serde(rename = "eventId")]
    event_id: String,
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(rename = "durationMs", default)]
    duration_ms: Option<u64>,
    #[serde(rename = "exitCode", default)]
    exit_code: Option<i32>,
}

impl Report {
    /// Says only what became of it.
    pub fn new(event_id: EventId, status: ReportStatus) -> Self {
        Self { event_id, status, error: None, message: None, duration_ms: None, exit_code: None }
    }

    /// Reads a request body, telling apart what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let loose: LooseReport = serde_json::from_slice(body).map_err(|error| {
            Problem::new(ErrorCode::BodyNotJson, format!("not a status report: {error}"))
        })?;
        let event_id = loose.event_id.parse().map_err(|error| {
            Problem::new(ErrorCode::ParameterInvalid, format!("eventId: {error}"))
        })?;
        let status = [ReportStatus::Processing, ReportStatus::Completed, ReportStatus::Failed]
            .into_iter()
            .find(|status| status.as_str() == loose.status)
            .ok_or_else(|| {
                Problem::new(
                    ErrorCode::StatusUnknown,
                    "status is one of processing, completed, failed",
                )
            })?;
        for (name, text) in [("error", &loose.error), ("message", &loose.message)] {
            if text.as_ref().is_some_and(|text| text.len() > REPORT_TEXT_BYTES_MAX) {
                return Err(Problem::new(
                    ErrorCode::FieldTooLong,
                    format!("{name} may have {REPORT_TEXT_BYTES_MAX} bytes"),
                ));
            }
        }
        Ok(Self {
            event_id,
            status,
            error: loose.error,
            message: loose.message,
            duration_ms: loose.duration_ms,
            exit_code: loose.exit_code,
        })
    }
}

/// A report as the stream keeps it: the last one of each status from each edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReport {
    /// Which edge.
    pub edge: String,
    /// What became of the event there.
    pub status: ReportStatus,
    /// When the relay heard of it.
    pub at: UnixMillis,
    /// How long after the event was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_fault_has_its_code() {
        let id = EventId::from_bytes([1; 16]);
        let long = "x".repeat(REPORT_TEXT_BYTES_MAX + 1);
        for (body, code) in [
            ("{".to_owned(), ErrorCode::BodyNotJson),
            (r#"{"eventId":"evt_1","status":"failed"}"#.into(), ErrorCode::ParameterInvalid),
            (format!(r#"{{"eventId":"{id}","status":"done"}}"#), ErrorCode::StatusUnknown),
            (
                format!(r#"{{"eventId":"{id}","status":"failed","error":"{long}"}}"#),
                ErrorCode::FieldTooLong,
            ),
        ] {
            assert_eq!(Report::parse(body.as_bytes()).unwrap_err().code, code, "{body:.60}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in any::<Vec<u8>>()) {
            let _ = Report::parse(&body);
        }
    }
}
