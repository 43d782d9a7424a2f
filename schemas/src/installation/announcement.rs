use serde::{Deserialize, Serialize};

use crate::{identifier::EventId, linear::Envelope, time::UnixMillis};

/// An event that Linear waits to be answered, and who is there for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Which event.
    pub event: EventId,
    /// Its `Type.action`.
    pub kind: String,
    /// `oauthClientId`: the app as webhooks name it, which is not its client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// `appUserId`: by this the app's grant is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_user: Option<String>,
    /// The agent session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    /// The comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The comment that its thread begins with, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_comment: Option<String>,
    /// When Linear sent it; its clock for the first activity starts here.
    pub sent_at: UnixMillis,
    /// `stop`, where a person wants the agent to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The names of connected machines that will get it.
    #[serde(default)]
    pub edges: Vec<String>,
    /// Whether the machine that works on the session is among them.
    #[serde(default)]
    pub is_held: bool,
}

/// Where an event is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredIn {
    /// In an agent session.
    Session,
    /// With a comment and a reaction.
    Thread,
}

impl AnsweredIn {
    /// Where events of a kind, `Type.action`, are answered. `None`: nobody waits for an answer, and
    /// none of them is ever announced.
    pub fn of_kind(kind: &str) -> Option<Self> {
        match kind.split_once('.')? {
            ("AgentSessionEvent", "created" | "prompted") => Some(Self::Session),
            ("AppUserNotification", action) if !UNANSWERED.contains(&action) => Some(Self::Thread),
            _ => None,
        }
    }
}

/// Notifications in which nobody speaks to the app: a reaction to what it said, an issue taken
/// away or closed. An answer would be noise, or a loop.
const UNANSWERED: [&str; 4] =
    ["issueCommentReaction", "issueEmojiReaction", "issueUnassignedFromYou", "issueStatusChanged"];

impl Announcement {
    /// What of an event matters for its answer, with no machine there for it yet. `None`: nobody
    /// waits for one.
    pub fn of(envelope: &Envelope<'_>, event: EventId) -> Option<Self> {
        let announcement = Self {
            event,
            kind: envelope.kind.to_string(),
            app: envelope.text_at(&["oauthClientId"]),
            app_user: envelope.text_at(&["appUserId"]),
            session: None,
            issue: None,
            comment: None,
            parent_comment: None,
            sent_at: envelope.timestamp,
            signal: None,
            edges: Vec::new(),
            is_held: false,
        };
        match AnsweredIn::of_kind(&announcement.kind)? {
            AnsweredIn::Session => announcement.of_session(envelope),
            AnsweredIn::Thread => announcement.of_notification(envelope),
        }
    }

    fn of_session(self, envelope: &Envelope<'_>) -> Option<Self> {
        let session = envelope.text_at(&["agentSession", "id"])?;
        let signal = envelope.text_at(&["agentActivity", "signal"]);
        Some(Self {
            session: Some(session),
            issue: envelope.text_at(&["agentSession", "issueId"]),
            signal: signal.filter(|signal| signal == "stop"),
            ..self
        })
    }

    fn of_notification(self, envelope: &Envelope<'_>) -> Option<Self> {
        let id = |flat: &str, nested: &str| {
            envelope
                .text_at(&["notification", flat])
                .or_else(|| envelope.text_at(&["notification", nested, "id"]))
        };
        let issue = id("issueId", "issue");
        let comment = id("commentId", "comment");
        if issue.is_none() && comment.is_none() {
            return None;
        }
        let parent_comment = id("parentCommentId", "parentComment");
        Some(Self { issue, comment, parent_comment, ..self })
    }

    /// Whether this is a person's wish that the agent stop.
    pub fn is_stop(&self) -> bool {
        self.signal.as_deref() == Some("stop")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Option<Announcement> {
        let middle = r#""organizationId":"org","webhookTimestamp":1790000000000,"oauthClientId":"app-uuid","appUserId":"app-user""#;
        let body = format!("{{{middle},{body}}}");
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        Announcement::of(&envelope, EventId::from_bytes([1; 16]))
    }

    #[test]
    fn a_session_is_announced_with_its_signal() {
        let created = of(r#""type":"AgentSessionEvent","action":"created","agentSession":{"id":"s","issueId":"i"},"agentActivity":null"#).unwrap();
        assert_eq!(created.kind, "AgentSessionEvent.created");
        assert_eq!((created.session.as_deref(), created.issue.as_deref()), (Some("s"), Some("i")));
        assert_eq!(created.sent_at, UnixMillis::new(1_790_000_000_000));
        assert_eq!(created.app_user.as_deref(), Some("app-user"));
        assert_eq!(created.app.as_deref(), Some("app-uuid"));
        assert!(!created.is_stop());
        let stop = of(r#""type":"AgentSessionEvent","action":"prompted","agentSession":{"id":"s"},"agentActivity":{"id":"a","signal":"stop"}"#).unwrap();
        assert!(stop.is_stop());
        let other = of(r#""type":"AgentSessionEvent","action":"prompted","agentSession":{"id":"s"},"agentActivity":{"id":"a","signal":"continue"}"#).unwrap();
        assert_eq!(other.signal, None);
    }

    #[test]
    fn a_notification_is_announced_with_what_it_is_about() {
        let comment = of(r#""type":"AppUserNotification","action":"issueCommentMention","notification":{"id":"n","issueId":"i","commentId":"c","parentCommentId":"p"}"#).unwrap();
        assert_eq!(
            (
                comment.issue.as_deref(),
                comment.comment.as_deref(),
                comment.parent_comment.as_deref()
            ),
            (Some("i"), Some("c"), Some("p"))
        );
        let issue = of(r#""type":"AppUserNotification","action":"issueMention","notification":{"id":"n","issue":{"id":"i"}}"#).unwrap();
        assert_eq!((issue.issue.as_deref(), issue.comment), (Some("i"), None));
    }

    #[test]
    fn nobody_waits_for_an_answer_to_the_rest() {
        for body in [
            r#""type":"Issue","action":"update","data":{"id":"i"}"#,
            r#""type":"AgentSessionEvent","action":"created""#,
            r#""type":"AgentSessionEvent","action":"archived","agentSession":{"id":"s"}"#,
            r#""type":"AppUserNotification","action":"documentMention","notification":{"id":"n"}"#,
            r#""type":"AppUserNotification","action":"issueEmojiReaction","notification":{"id":"n","issueId":"i"}"#,
            r#""type":"AppUserNotification","action":"issueUnassignedFromYou","notification":{"id":"n","issueId":"i"}"#,
        ] {
            assert_eq!(of(body), None, "{body}");
        }
    }

    #[test]
    fn a_later_version_may_say_more_and_an_earlier_one_less() {
        let text = r#"{"event":"evt_00000000000000000000000000","kind":"AgentSessionEvent.created","sent_at":5,"new":1}"#;
        let read: Announcement = serde_json::from_str(text).unwrap();
        assert_eq!((read.session, read.edges, read.is_held), (None, vec![], false));
    }
}
