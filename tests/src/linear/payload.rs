//! The bodies of webhooks, after `@linear/sdk` 98's `*WebhookPayload` types. Time stamps that
//! belong to one sending are put in by the sender.

use serde_json::{Value, json};

use super::{
    clock::text,
    refusal::Refusal,
    world::{Activity, Comment, Issue, Reaction, Session, Team, User, World},
};

/// Something that happened, to be sent as a webhook.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) organization: String,
    pub(super) kind: &'static str,
    pub(super) action: String,
    /// What this type has beside the fields that all have.
    pub(super) fields: Value,
    /// The session that this event announces.
    pub(super) announces: Option<String>,
}

/// The address of a page in the organization.
pub(super) fn page(path: &str) -> String {
    format!("https://linear.app/{path}")
}

pub(super) fn user_child(user: &User) -> Value {
    json!({
        "id": user.id, "name": user.name, "email": user.email,
        "url": page(&format!("profiles/{}", user.name.to_lowercase().replace(' ', "-"))),
    })
}

fn team_child(team: &Team) -> Value {
    json!({"id": team.id, "key": team.key, "name": team.name})
}

/// `base` with the fields of `more`, which win.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut base, more) {
        fields.extend(more);
    }
    base
}

impl World {
    pub(super) fn issue_child(&self, issue: &Issue) -> Result<Value, Refusal> {
        Ok(json!({
            "id": issue.id, "identifier": issue.identifier, "title": issue.title,
            "url": page(&format!("issue/{}", issue.identifier)),
            "teamId": issue.team, "team": team_child(self.teams.get(&issue.team)?),
        }))
    }

    pub(super) fn described_issue(&self, issue: &Issue) -> Result<Value, Refusal> {
        Ok(with(self.issue_child(issue)?, json!({"description": issue.description})))
    }

    pub(super) fn issue_data(&self, issue: &Issue) -> Result<Value, Refusal> {
        let state = self.states.get(&issue.state)?;
        let child = |id: &Option<String>| -> Result<Value, Refusal> {
            id.as_ref().map_or(Ok(Value::Null), |id| Ok(user_child(self.users.get(id)?)))
        };
        let fields = json!({
            "createdAt": text(issue.created_ms), "updatedAt": text(issue.updated_ms),
            "archivedAt": null, "number": issue.number, "creatorId": issue.creator,
            "creator": child(&issue.creator)?, "assigneeId": issue.assignee,
            "assignee": child(&issue.assignee)?, "delegateId": issue.delegate,
            "delegate": child(&issue.delegate)?, "subscriberIds": issue.subscribers,
            "stateId": issue.state, "labelIds": [], "labels": [], "priority": 0,
            "priorityLabel": "No priority", "prioritySortOrder": 0, "sortOrder": 0,
            "previousIdentifiers": [], "releases": [], "reactionData": [], "syncedWith": null,
            "state": {"id": state.id, "name": state.name, "type": state.kind, "color": "#5e6ad2"},
        });
        Ok(with(self.described_issue(issue)?, fields))
    }

    pub(super) fn comment_child(&self, comment: &Comment) -> Value {
        json!({
            "id": comment.id, "body": comment.body, "userId": comment.author,
            "issueId": comment.issue,
        })
    }

    pub(super) fn comment_data(&self, comment: &Comment) -> Result<Value, Refusal> {
        let parent = match &comment.parent {
            Some(parent) => self.comment_child(self.comments.get(parent)?),
            None => Value::Null,
        };
        let at = text(comment.created_ms);
        let fields = json!({
            "createdAt": at, "updatedAt": at, "archivedAt": null, "editedAt": null,
            "user": user_child(self.users.get(&comment.author)?), "botActor": null,
            "issue": self.issue_child(self.issues.get(&comment.issue)?)?,
            "parentId": comment.parent, "parent": parent, "reactionData": [], "quotedText": null,
        });
        Ok(with(self.comment_child(comment), fields))
    }

    pub(super) fn reaction_data(&self, reaction: &Reaction) -> Result<Value, Refusal> {
        let at = text(reaction.created_ms);
        let comment = reaction.comment.as_ref().map(|id| self.comments.get(id)).transpose()?;
        let issue = reaction.issue.as_ref().map(|id| self.issues.get(id)).transpose()?;
        Ok(json!({
            "id": reaction.id, "createdAt": at, "updatedAt": at, "archivedAt": null,
            "emoji": reaction.emoji, "userId": reaction.user,
            "user": user_child(self.users.get(&reaction.user)?),
            "commentId": reaction.comment, "comment": comment.map(|c| self.comment_child(c)),
            "issueId": reaction.issue,
            "issue": issue.map(|issue| self.issue_child(issue)).transpose()?,
        }))
    }

    pub(super) fn session_data(&self, session: &Session, now_ms: u64) -> Result<Value, Refusal> {
        let creator = session.creator.as_ref().map(|id| self.users.get(id)).transpose()?;
        let started = self.activities.iter().find(|row| row.session == session.id);
        let issue = self.issues.get(&session.issue)?;
        let path = format!("issue/{}#agent-session-{}", issue.identifier, session.id);
        Ok(json!({
            "id": session.id, "createdAt": text(session.created_ms),
            "updatedAt": text(session.updated_ms), "archivedAt": null,
            "startedAt": started.map(|row| text(row.created_ms)), "endedAt": null,
            "status": self.status(session, now_ms).as_str(), "type": "commentThread",
            "summary": null, "url": page(&path), "organizationId": session.organization,
            "appUserId": session.app_user, "creatorId": session.creator,
            "creator": creator.map(user_child), "commentId": session.comment,
            "comment": self.comment_child(self.comments.get(&session.comment)?),
            "sourceCommentId": session.source_comment, "sourceMetadata": null,
            "issueId": session.issue, "issue": self.described_issue(issue)?,
        }))
    }

    pub(super) fn activity_data(&self, activity: &Activity) -> Result<Value, Refusal> {
        let at = text(activity.created_ms);
        Ok(json!({
            "id": activity.id, "agentSessionId": activity.session, "createdAt": at,
            "updatedAt": at, "archivedAt": null, "content": activity.content,
            "signal": activity.signal, "signalMetadata": activity.signal_metadata,
            "sourceCommentId": activity.source_comment, "userId": activity.user,
            "user": user_child(self.users.get(&activity.user)?),
        }))
    }

    /// What an agent is given to read when its session begins.
    pub(super) fn prompt_context(&self, issue: &Issue) -> String {
        format!(
            "<issue identifier=\"{}\"><title>{}</title><description>{}</description></issue>",
            issue.identifier,
            issue.title,
            issue.description.as_deref().unwrap_or_default(),
        )
    }

    /// An event of a data type.
    pub(super) fn change(
        &self,
        (kind, action): (&'static str, &str),
        actor: &str,
        (organization, data): (&str, Value),
    ) -> Result<Event, Refusal> {
        let actor = with(user_child(self.users.get(actor)?), json!({"type": "user"}));
        let url = data["url"].clone();
        Ok(Event {
            organization: organization.to_owned(),
            kind,
            action: action.to_owned(),
            fields: json!({"actor": actor, "data": data, "url": url}),
            announces: None,
        })
    }
}
