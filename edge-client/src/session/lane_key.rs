use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
};

use relay_schemas::Webhook;
use serde::Deserialize;

/// Events with equal keys run in order. A hash: two keys that meet by chance cost waiting, not
/// correctness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneKey(pub(crate) u64);

impl LaneKey {
    /// The lane of everything, when the whole stream is to run in order.
    pub(crate) const STREAM: Self = Self(0);

    /// The lane of an event: its agent session, else its issue, else the event alone. The relay's
    /// own words count first; records that are older than these have only the body.
    pub(crate) fn of(webhook: &Webhook<'_>) -> Self {
        if let Some(session) = webhook.session.as_deref() {
            return Self::hash(&("session", session));
        }
        let body = webhook.body_bytes();
        let parsed: Option<Body<'_>> =
            body.as_deref().and_then(|body| serde_json::from_slice(body).ok());
        match parsed.as_ref().and_then(Body::subject) {
            Some(subject) => Self::hash(&subject),
            None => Self::hash(&("event", webhook.id.as_bytes())),
        }
    }

    fn hash(subject: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        subject.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The agent session that an event is about.
pub(crate) fn session_of(webhook: &Webhook<'_>) -> Option<String> {
    if let Some(session) = webhook.session.as_deref() {
        return Some(session.to_owned());
    }
    let body = webhook.body_bytes()?;
    let body: Body<'_> = serde_json::from_slice(&body).ok()?;
    match body.subject() {
        Some(("session", session)) => Some(session.to_owned()),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "agentSession")]
    agent_session: Option<Entity<'a>>,
    #[serde(borrow, default)]
    notification: Option<Entity<'a>>,
    #[serde(borrow, default)]
    data: Option<Entity<'a>>,
    #[serde(borrow, default, rename = "issueData")]
    issue_data: Option<Entity<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entity<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    agent_session_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    issue_id: Option<Cow<'a, str>>,
}

impl Body<'_> {
    fn subject(&self) -> Option<(&'static str, &str)> {
        let data = self.data.as_ref();
        let session = id(self.agent_session.as_ref())
            .or_else(|| data.and_then(|data| data.agent_session_id.as_deref()));
        if let Some(session) = session {
            return Some(("session", session));
        }
        let issue = self
            .notification
            .as_ref()
            .and_then(|notification| notification.issue_id.as_deref())
            .or_else(|| data.and_then(|data| data.issue_id.as_deref()))
            .or_else(|| id(self.issue_data.as_ref()))
            .or_else(|| id(data).filter(|_| self.kind.as_deref() == Some("Issue")));
        issue.map(|issue| ("issue", issue))
    }
}

fn id<'a>(entity: Option<&'a Entity<'_>>) -> Option<&'a str> {
    entity.and_then(|entity| entity.id.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(body: &str) -> Option<(&'static str, String)> {
        let body: Body<'_> = serde_json::from_str(body).ok()?;
        body.subject().map(|(kind, id)| (kind, id.to_owned()))
    }

    #[test]
    fn the_session_comes_before_the_issue() {
        for (body, expected) in [
            (r#"{"agentSession":{"id":"s","issueId":"i"}}"#, Some(("session", "s"))),
            (r#"{"data":{"agentSessionId":"s","issueId":"i"}}"#, Some(("session", "s"))),
            (r#"{"notification":{"issueId":"i"}}"#, Some(("issue", "i"))),
            (r#"{"type":"Comment","data":{"id":"c","issueId":"i"}}"#, Some(("issue", "i"))),
            (r#"{"type":"IssueSLA","issueData":{"id":"i"}}"#, Some(("issue", "i"))),
            (r#"{"type":"Issue","data":{"id":"i"}}"#, Some(("issue", "i"))),
            (r#"{"type":"Project","data":{"id":"p"}}"#, None),
            (r#"{"data":null,"agentSession":null}"#, None),
            (r#"{"data":7}"#, None),
        ] {
            let expected = expected.map(|(kind, id)| (kind, id.to_owned()));
            assert_eq!(subject(body), expected, "{body}");
        }
    }
}
