use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::{ErrorCode, Problem},
    identifier::EventId,
    limits::{
        ACTIVITY_BODY_BYTES_MAX, ACTIVITY_FIELD_BYTES_MAX, ACTIVITY_OPTIONS_MAX, PLAN_STEPS_MAX,
        SESSION_URLS_MAX,
    },
};

/// The body of `POST /events/activity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityRequest {
    /// The event that the handler works on.
    #[serde(rename = "eventId")]
    pub event_id: EventId,
    /// What Linear's user is to see.
    pub activity: Activity,
}

/// Something that an edge wants shown in the agent session of an event.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// A UUID v4 of the edge's own: the same again is the same activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub content: ActivityContent,
}

/// What an activity says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ActivityContent {
    /// What the agent thinks.
    Thought {
        /// Markdown.
        body: String,
        /// Whether the next activity takes its place.
        #[serde(default)]
        ephemeral: bool,
    },
    /// What the agent does.
    Action {
        /// A verb.
        action: String,
        /// What it is done to.
        parameter: String,
        /// What came of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<String>,
        /// Whether the next activity takes its place.
        #[serde(default)]
        ephemeral: bool,
    },
    /// A question.
    Elicitation {
        /// Markdown.
        body: String,
        /// Answers to choose from.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<ActivityOption>,
    },
    /// The answer; ends the agent's turn.
    Response {
        /// Markdown.
        body: String,
    },
    /// What went wrong; ends the agent's turn.
    Error {
        /// Markdown.
        body: String,
    },
    /// What the agent is going to do; takes the place of the plan before.
    Plan {
        /// In order.
        steps: Vec<PlanStep>,
    },
    /// Links of the session; take the place of those before.
    Urls {
        /// In order.
        urls: Vec<SessionUrl>,
    },
}

/// An answer to choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityOption {
    /// What the prompt says when it is chosen.
    pub value: String,
    /// What is shown, where it is not the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What is done.
    pub content: String,
    /// How far it is.
    pub status: PlanStatus,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlanStatus {
    /// Not begun.
    Pending,
    /// Being done.
    InProgress,
    /// Done.
    Completed,
    /// Given up.
    Canceled,
}

/// A link shown with a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionUrl {
    /// What is shown.
    pub label: String,
    /// Where it leads.
    pub url: String,
}

impl ActivityRequest {
    /// Reads a request body, telling apart what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|_| Problem::new(ErrorCode::BodyNotJson, "not JSON in UTF-8"))?;
        let event_id = value["eventId"].as_str().unwrap_or_default().parse().map_err(|error| {
            Problem::new(ErrorCode::ParameterInvalid, format!("eventId: {error}"))
        })?;
        let activity = Activity::deserialize(&value["activity"])
            .map_err(|_| invalid("write one of the activities that docs/wire.md lists"))?;
        activity.check()?;
        Ok(Self { event_id, activity })
    }
}

impl Activity {
    /// Says what Linear would not take of it.
    pub fn check(&self) -> Result<(), Problem> {
        if self.id.as_deref().is_some_and(|id| !is_uuid_v4(id)) {
            return Err(invalid("id must be a UUID of version 4, in lower case"));
        }
        match &self.content {
            ActivityContent::Thought { body, .. }
            | ActivityContent::Elicitation { body, .. }
            | ActivityContent::Response { body }
            | ActivityContent::Error { body } => text("body", body, ACTIVITY_BODY_BYTES_MAX)?,
            ActivityContent::Action { action, parameter, result, .. } => {
                text("action", action, ACTIVITY_FIELD_BYTES_MAX)?;
                short("parameter", parameter, ACTIVITY_BODY_BYTES_MAX)?;
                short("result", result.as_deref().unwrap_or(""), ACTIVITY_BODY_BYTES_MAX)?;
            }
            ActivityContent::Plan { steps } => {
                at_most("steps", steps.len(), PLAN_STEPS_MAX)?;
                for step in steps {
                    text("content", &step.content, ACTIVITY_FIELD_BYTES_MAX)?;
                }
            }
            ActivityContent::Urls { urls } => {
                at_most("urls", urls.len(), SESSION_URLS_MAX)?;
                urls.iter().try_for_each(check_url)?;
            }
        }
        let ActivityContent::Elicitation { options, .. } = &self.content else { return Ok(()) };
        at_most("options", options.len(), ACTIVITY_OPTIONS_MAX)?;
        options.iter().try_for_each(|option| {
            text("value", &option.value, ACTIVITY_FIELD_BYTES_MAX)?;
            short("label", option.label.as_deref().unwrap_or(""), ACTIVITY_FIELD_BYTES_MAX)
        })
    }
}

/// Without what it says: that is in no log.
impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Activity({}, {:?})", self.content.kind(), self.id)
    }
}

impl fmt::Debug for ActivityContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl ActivityContent {
    /// The type's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Thought { .. } => "thought",
            Self::Action { .. } => "action",
            Self::Elicitation { .. } => "elicitation",
            Self::Response { .. } => "response",
            Self::Error { .. } => "error",
            Self::Plan { .. } => "plan",
            Self::Urls { .. } => "urls",
        }
    }

    /// Whether the agent's turn is over with it: it has answered, asked, or given up.
    pub fn ends_turn(&self) -> bool {
        match self {
            Self::Elicitation { .. } | Self::Response { .. } | Self::Error { .. } => true,
            Self::Thought { .. } | Self::Action { .. } | Self::Plan { .. } | Self::Urls { .. } => {
                false
            }
        }
    }

    /// `content` of Linear's `AgentActivityCreateInput`; `None` for what belongs to the session.
    pub fn linear_content(&self) -> Option<Value> {
        match self {
            Self::Thought { body, .. } => Some(json!({ "type": "thought", "body": body })),
            Self::Elicitation { body, .. } => Some(json!({ "type": "elicitation", "body": body })),
            Self::Response { body } => Some(json!({ "type": "response", "body": body })),
            Self::Error { body } => Some(json!({ "type": "error", "body": body })),
            Self::Action { action, parameter, result, .. } => {
                let mut content =
                    json!({ "type": "action", "action": action, "parameter": parameter });
                if let Some(result) = result {
                    content["result"] = result.as_str().into();
                }
                Some(content)
            }
            Self::Plan { .. } | Self::Urls { .. } => None,
        }
    }
}

fn check_url(link: &SessionUrl) -> Result<(), Problem> {
    text("label", &link.label, ACTIVITY_FIELD_BYTES_MAX)?;
    text("url", &link.url, ACTIVITY_FIELD_BYTES_MAX)?;
    let rest = link.url.strip_prefix("https://").unwrap_or_default();
    let is_plain = !rest.is_empty()
        && !rest.starts_with('/')
        && link.url.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain { Ok(()) } else { Err(invalid("url must be an https:// address")) }
}

fn text(name: &str, text: &str, bytes_max: usize) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(invalid(&format!("{name} must not be empty")));
    }
    short(name, text, bytes_max)
}

fn short(name: &str, text: &str, bytes_max: usize) -> Result<(), Problem> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::FieldTooLong, format!("{name} may have {bytes_max} bytes")))
}

fn at_most(name: &str, count: usize, count_max: usize) -> Result<(), Problem> {
    if count <= count_max {
        return Ok(());
    }
    Err(invalid(&format!("{name} may have {count_max} entries")))
}

fn invalid(message: &str) -> Problem {
    Problem::new(ErrorCode::ActivityInvalid, message)
}

/// Whether a text is a UUID of version 4, in lower case.
pub fn is_uuid_v4(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            14 => *byte == b'4',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(activity: &str) -> String {
        format!(r#"{{"eventId":"{}","activity":{activity}}}"#, EventId::from_bytes([1; 16]))
    }

    #[track_caller]
    fn accept(activity: &str, linear: Option<Value>) {
        let read = ActivityRequest::parse(request(activity).as_bytes()).unwrap();
        assert_eq!(read.activity.content.linear_content(), linear, "{activity}");
        let again = serde_json::to_vec(&read).unwrap();
        assert_eq!(ActivityRequest::parse(&again), Ok(read));
    }

    #[track_caller]
    fn refuse(body: &str, code: ErrorCode) {
        let refused = ActivityRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(refused.code, code, "{body:.100}");
    }

    #[test]
    fn every_type_is_read() {
        accept(
            r#"{"type":"thought","body":"b","ephemeral":true}"#,
            Some(json!({"type":"thought","body":"b"})),
        );
        accept(
            r#"{"type":"action","action":"a","parameter":""}"#,
            Some(json!({"type":"action","action":"a","parameter":""})),
        );
        accept(
            r#"{"type":"action","action":"a","parameter":"p","result":"r"}"#,
            Some(json!({"type":"action","action":"a","parameter":"p","result":"r"})),
        );
        accept(
            r#"{"type":"elicitation","body":"b","options":[{"value":"v","label":"l"},{"value":"w"}]}"#,
            Some(json!({"type":"elicitation","body":"b"})),
        );
        accept(
            r#"{"id":"12345678-1234-4234-8234-123456789abc","type":"response","body":"b"}"#,
            Some(json!({"type":"response","body":"b"})),
        );
        accept(r#"{"type":"error","body":"b"}"#, Some(json!({"type":"error","body":"b"})));
        accept(r#"{"type":"plan","steps":[{"content":"c","status":"inProgress"}]}"#, None);
        accept(r#"{"type":"urls","urls":[{"label":"l","url":"https://example.com/a"}]}"#, None);
    }

    #[test]
    fn each_fault_has_its_code() {
        refuse("{", ErrorCode::BodyNotJson);
        refuse(r#"{"eventId":"evt_1","activity":{}}"#, ErrorCode::ParameterInvalid);
        let long = "x".repeat(ACTIVITY_BODY_BYTES_MAX + 1);
        let thought = format!(r#"{{"type":"thought","body":"{long}"}}"#);
        refuse(&request(&thought), ErrorCode::FieldTooLong);
        for activity in [
            "null",
            "{}",
            r#"{"type":"prompt","body":"b"}"#,
            r#"{"type":"thought"}"#,
            r#"{"type":"thought","body":" "}"#,
            r#"{"type":"response","body":"b","id":"12345678-1234-1234-8234-123456789abc"}"#,
            r#"{"type":"response","body":"b","id":"12345678-1234-4234-8234-123456789ABC"}"#,
            r#"{"type":"plan","steps":[{"content":"c","status":"done"}]}"#,
            r#"{"type":"urls","urls":[{"label":"l","url":"http://example.com"}]}"#,
            r#"{"type":"urls","urls":[{"label":"l","url":"https://"}]}"#,
            r#"{"type":"urls","urls":[{"label":"l","url":"https:// a"}]}"#,
            r#"{"type":"urls","urls":[{"label":"l","url":"javascript:alert(1)"}]}"#,
        ] {
            refuse(&request(activity), ErrorCode::ActivityInvalid);
        }
        let steps = vec![r#"{"content":"c","status":"pending"}"#; PLAN_STEPS_MAX + 1].join(",");
        let plan = format!(r#"{{"type":"plan","steps":[{steps}]}}"#);
        refuse(&request(&plan), ErrorCode::ActivityInvalid);
    }

    #[test]
    fn only_a_question_an_answer_and_an_error_end_the_turn() {
        let ends = |activity: &str| {
            ActivityRequest::parse(request(activity).as_bytes())
                .unwrap()
                .activity
                .content
                .ends_turn()
        };
        assert!(ends(r#"{"type":"elicitation","body":"b"}"#));
        assert!(ends(r#"{"type":"error","body":"b"}"#));
        assert!(!ends(r#"{"type":"thought","body":"b"}"#));
        assert!(!ends(r#"{"type":"plan","steps":[]}"#));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in any::<Vec<u8>>()) {
            let _ = ActivityRequest::parse(&body);
        }
    }
}
