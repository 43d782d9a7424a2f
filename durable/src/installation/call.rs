use relay_schemas::{
    EventId, Sha256Digest, UnixMillis,
    linear_api::{
        AGENT_ACTIVITY_CREATE, AGENT_SESSION_UPDATE, COMMENT_CREATE, REACTION_CREATE,
        agent_activities_create,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How long an answer waits behind a thought that fails.
const HELD_UP_MS_MAX: u64 = 60_000;

/// How long a first word does, while Linear's clock runs: one more attempt.
const FIRST_HELD_UP_MS_MAX: u64 = 1_000;

/// What can't wait comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Urgency {
    /// The first word in a session, and the answer to a stop: Linear's clock runs.
    First,
    /// Answers, questions, errors: somebody waits for them.
    Final,
    /// Thoughts, actions, plans, comments, reactions.
    Ordinary,
}

/// What Linear is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Operation {
    /// Shows something in a session.
    Activity {
        session: String,
        content: Value,
        #[serde(default)]
        ephemeral: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        options: Option<Value>,
    },
    /// Changes a session's plan or links.
    Session { session: String, input: Value },
    /// Writes a comment.
    Comment { issue: Option<String>, parent: Option<String>, body: String },
    /// Reacts to a comment, or to an issue.
    Reaction { issue: Option<String>, comment: Option<String>, emoji: String },
}

/// When the relay speaks because no machine does. A machine's word takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StandIn {
    /// Any word in the session will do.
    ForFirstWord,
    /// Only the end of the machine's turn will do.
    ForStop,
}

/// Why the relay speaks itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StandInReason {
    /// No machine was connected.
    Nobody,
    /// The machines that were said nothing in time.
    Silence,
    /// The machine that has the session is gone, and somebody wants it to stop.
    StopOfNobody,
    /// It was told to stop and said nothing in time.
    StopUnconfirmed,
}

impl StandInReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "no_machine",
            Self::Silence => "silent_machine",
            Self::StopOfNobody => "stop_no_machine",
            Self::StopUnconfirmed => "stop_silent_machine",
        }
    }
}

/// One call to Linear, as it is stored before it is made. The row is deleted when Linear has it: a
/// crash before that makes the same call again, with the same id, and Linear knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Call {
    /// The idempotency id; what is created has it at Linear.
    pub(super) id: String,
    /// Its place among all calls.
    pub(super) number: u64,
    /// Whose token it is made with.
    pub(super) app: String,
    /// Which event it answers.
    pub(super) event: EventId,
    /// Calls of one lane are made one after the other.
    pub(super) lane: String,
    pub(super) urgency: Urgency,
    pub(super) operation: Operation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stand_in: Option<StandIn>,
    /// Why it is the relay that speaks, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<StandInReason>,
    /// Whether it is said because Linear refused an answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_replacement: bool,
    /// When Linear sent the event of a new session, if this is the first that is shown in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_after: Option<UnixMillis>,
    pub(super) made_at: UnixMillis,
    pub(super) not_before: UnixMillis,
    #[serde(default)]
    pub(super) attempts: u32,
    /// How many of the attempts were refused for their token.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) refusals: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// A UUID of version 4's shape from what makes the call the same call.
pub(super) fn call_id(event: EventId, who: &str, what: &str, purpose: &str) -> String {
    let digest = Sha256Digest::of(&[
        b"edgerelay-call-1\0",
        event.as_bytes(),
        who.as_bytes(),
        b"\0",
        what.as_bytes(),
        b"\0",
        purpose.as_bytes(),
    ]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

impl Call {
    /// The body of the request that makes it.
    pub(super) fn request(&self) -> String {
        let (document, variables) = match &self.operation {
            Operation::Activity { .. } => {
                (AGENT_ACTIVITY_CREATE, json!({ "input": self.activity_input() }))
            }
            Operation::Session { session, input } => {
                (AGENT_SESSION_UPDATE, json!({ "id": session, "input": input }))
            }
            Operation::Comment { issue, parent, body } => {
                let input = present([("issueId", issue), ("parentId", parent)]);
                (COMMENT_CREATE, json!({ "input": self.created(input, json!({ "body": body })) }))
            }
            Operation::Reaction { issue, comment, emoji } => {
                let input = present([("issueId", issue), ("commentId", comment)]);
                let emoji = json!({ "emoji": emoji });
                (REACTION_CREATE, json!({ "input": self.created(input, emoji) }))
            }
        };
        json!({ "query": document, "variables": variables }).to_string()
    }

    fn activity_input(&self) -> Value {
        let Operation::Activity { session, content, ephemeral, options } = &self.operation else {
            return Value::Null;
        };
        let mut input = json!({ "agentSessionId": session, "content": content });
        if *ephemeral {
            input["ephemeral"] = true.into();
        }
        if let Some(options) = options {
            input["signal"] = "select".into();
            input["signalMetadata"] = json!({ "options": options });
        }
        input["id"] = self.id.as_str().into();
        input
    }

    fn created(&self, mut input: Map<String, Value>, fields: Value) -> Value {
        if let Value::Object(fields) = fields {
            input.extend(fields);
        }
        input.insert("id".into(), self.id.as_str().into());
        Value::Object(input)
    }

    /// What Linear calls it: limits of requests can be an operation's own.
    pub(super) fn endpoint(&self) -> &'static str {
        match &self.operation {
            Operation::Activity { .. } => "agentActivityCreate",
            Operation::Session { .. } => "agentSessionUpdate",
            Operation::Comment { .. } => "commentCreate",
            Operation::Reaction { .. } => "reactionCreate",
        }
    }

    /// Calls of one lane are made one after the other.
    pub(super) fn lane(&self) -> (&str, &str) {
        (&self.app, &self.lane)
    }

    /// Whether the relay would stand in for a machine that still has time to speak.
    pub(super) fn is_early(&self, now: UnixMillis) -> bool {
        self.stand_in.is_some() && self.attempts == 0 && self.not_before > now
    }

    /// Whether somebody waits for it: an answer, a question, an error, a comment.
    pub(super) fn is_answer(&self) -> bool {
        match &self.operation {
            Operation::Activity { content, .. } => {
                matches!(content["type"].as_str(), Some("response" | "error" | "elicitation"))
            }
            Operation::Comment { .. } => true,
            Operation::Session { .. } | Operation::Reaction { .. } => false,
        }
    }

    /// Whether nobody misses it in its place: a plan, links and a reaction stand by themselves.
    pub(super) fn may_come_later(&self) -> bool {
        matches!(self.operation, Operation::Session { .. } | Operation::Reaction { .. })
    }

    /// Whether it would undo what a later one does, if it were made after that.
    pub(super) fn would_undo(&self, later: &Self) -> bool {
        match (&self.operation, &later.operation) {
            (
                Operation::Session { session, input: Value::Object(input) },
                Operation::Session { session: later, input: changed },
            ) => session == later && input.keys().any(|field| changed.get(field).is_some()),
            _ => false,
        }
    }

    /// Until when it waits behind a thought that fails, if it isn't one itself.
    pub(super) fn waits_until(&self) -> Option<UnixMillis> {
        // Until its time a stand-in waits for nobody.
        let since = if self.attempts == 0 { self.not_before } else { self.made_at };
        match self.urgency {
            Urgency::First => Some(since + FIRST_HELD_UP_MS_MAX),
            Urgency::Final | Urgency::Ordinary => {
                self.is_answer().then_some(since + HELD_UP_MS_MAX)
            }
        }
    }

    /// What it is, for operators.
    pub(super) fn purpose(&self) -> &str {
        match &self.operation {
            Operation::Activity { content, .. } => content["type"].as_str().unwrap_or("activity"),
            Operation::Session { .. } => "session",
            Operation::Comment { .. } => "comment",
            Operation::Reaction { .. } => "reaction",
        }
    }

    /// The agent session it is about.
    pub(super) fn session(&self) -> Option<&str> {
        match &self.operation {
            Operation::Activity { session, .. } | Operation::Session { session, .. } => {
                Some(session)
            }
            Operation::Comment { .. } | Operation::Reaction { .. } => None,
        }
    }

    /// Whether it may share a request: first words come in crowds. After two failures it goes
    /// alone, in case the company is what is wrong.
    pub(super) fn is_sociable(&self) -> bool {
        self.urgency == Urgency::First
            && self.attempts < 2
            && matches!(self.operation, Operation::Activity { .. })
    }
}

/// The body of one request for several activities.
pub(super) fn batch_request(calls: &[&Call]) -> String {
    let inputs = calls.iter().enumerate();
    let variables: Map<String, Value> =
        inputs.map(|(index, call)| (format!("i{index}"), call.activity_input())).collect();
    json!({ "query": agent_activities_create(calls.len()), "variables": variables }).to_string()
}

fn present<const COUNT: usize>(fields: [(&str, &Option<String>); COUNT]) -> Map<String, Value> {
    let present = fields.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    present.map(|(name, value)| (name.to_owned(), value.as_str().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_v4_and_the_same_for_the_same_call() {
        let event = EventId::from_bytes([7; 16]);
        let id = call_id(event, "edge_1", "completed", "response");
        assert_eq!(id, "65eda77f-5d58-438b-87a3-f77b5d215c68");
        assert_ne!(id, call_id(event, "edge_1completed", "", "response"));
        assert_ne!(id, call_id(event, "edge_2", "completed", "response"));
    }
}
