use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::ACTIVITY_LINE_BYTES_MAX;

/// Something that is to be shown in the agent session of an event.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// A UUID v4: the same again is the same activity.
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
        options: Vec<Choice>,
    },
    /// The answer.
    Response {
        /// Markdown.
        body: String,
    },
    /// What went wrong.
    Error {
        /// Markdown.
        body: String,
    },
    /// What the agent is going to do; takes the place of the plan before.
    Plan {
        /// In order.
        steps: Vec<Step>,
    },
    /// Links of the session.
    Urls {
        /// In order.
        urls: Vec<Link>,
    },
}

/// An answer to choose.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What the answer will be.
    pub value: String,
    /// What is shown, where it is not the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// One step of a plan.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub content: String,
    /// How far it is.
    pub status: StepStatus,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepStatus {
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
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What is shown.
    pub label: String,
    /// Where it leads.
    pub url: String,
}

impl Activity {
    /// Reads a line that a handler wrote; `None` when it is none. An id that is no UUID v4 is
    /// left out: one is made for it.
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > ACTIVITY_LINE_BYTES_MAX {
            return None;
        }
        let mut activity: Self = serde_json::from_slice(line).ok()?;
        activity.id = activity.id.filter(|id| is_uuid_v4(id));
        activity.content.says_something().then_some(activity)
    }

    /// With an id, so that it may be sent twice.
    pub(crate) fn identified(mut self) -> Self {
        self.id.get_or_insert_with(uuid_v4);
        self
    }
}

impl ActivityContent {
    /// Whether it is the last word of a run.
    pub(crate) fn is_conclusion(&self) -> bool {
        match self {
            Self::Elicitation { .. } | Self::Response { .. } | Self::Error { .. } => true,
            Self::Thought { .. } | Self::Action { .. } | Self::Plan { .. } | Self::Urls { .. } => {
                false
            }
        }
    }

    fn says_something(&self) -> bool {
        let is_text = |text: &str| !text.trim().is_empty();
        match self {
            Self::Thought { body, .. }
            | Self::Elicitation { body, .. }
            | Self::Response { body }
            | Self::Error { body } => is_text(body),
            Self::Action { action, .. } => is_text(action),
            Self::Plan { steps } => steps.iter().all(|step| is_text(&step.content)),
            Self::Urls { urls } => urls.iter().all(|link| is_text(&link.label)),
        }
    }

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
}

/// Without what it says: that is in no log.
impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Activity({}, {:?})", self.content.kind(), self.id)
    }
}

fn uuid_v4() -> String {
    let mut bytes = [0; 16];
    // Only fails where the system has no randomness at all, and then TLS has none either.
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

pub(crate) fn is_uuid_v4(text: &str) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
            _ => is_hex(&byte),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        let read = Activity::parse(line.as_bytes());
        let written = read.map(|activity| serde_json::to_string(&activity).unwrap());
        assert_eq!(written.as_deref(), expected, "{line}");
    }

    #[test]
    fn lines_are_read_and_written_as_the_relay_reads_them() {
        let thought = r#"{"type":"thought","body":"b","ephemeral":true}"#;
        check(thought, Some(thought));
        let id = r#"{"id":"11111111-2222-4333-8444-555555555555","type":"response","body":"b"}"#;
        check(id, Some(id));
        let other = r#"{"id":"no uuid","type":"error","body":"b","more":1}"#;
        check(other, Some(r#"{"type":"error","body":"b"}"#));
        let action =
            r#"{"type":"action","action":"ran","parameter":"ls","result":"ok","ephemeral":false}"#;
        check(action, Some(action));
        let question = r#"{"type":"elicitation","body":"which?","options":[{"value":"a"},{"value":"b","label":"B"}]}"#;
        check(question, Some(question));
        let plan = r#"{"type":"plan","steps":[{"content":"c","status":"inProgress"}]}"#;
        check(plan, Some(plan));
        let urls = r#"{"type":"urls","urls":[{"label":"l","url":"https://x"}]}"#;
        check(urls, Some(urls));
    }

    #[test]
    fn what_says_nothing_is_none() {
        for line in [
            "",
            "hello",
            "[]",
            r#"{"type":"thought"}"#,
            r#"{"type":"thought","body":" "}"#,
            r#"{"type":"novel","body":"b"}"#,
            r#"{"type":"plan","steps":[{"content":"c","status":"soon"}]}"#,
        ] {
            check(line, None);
        }
        let long = format!(r#"{{"type":"thought","body":"{}"}}"#, "x".repeat(16 * 1024));
        check(&long, None);
    }

    #[test]
    fn ids_are_version_4_and_distinct() {
        let made: Vec<String> = (0..100).map(|_| uuid_v4()).collect();
        assert!(made.iter().all(|id| is_uuid_v4(id)), "{made:?}");
        assert!(made.iter().enumerate().all(|(at, id)| !made[..at].contains(id)));
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in any::<Vec<u8>>()) {
            let _ = Activity::parse(&line);
        }
    }
}
