//! What each type's fields are.

use serde_json::{Value, json};

use super::{
    clock::text,
    execution::{Fields, Node},
    oauth::Grant,
    payload::page,
    refusal::Refusal,
    state::State,
    world::{Activity, Comment, Id, Issue, Row, Session, Table},
};

/// `"field" => value` for leaves.
macro_rules! leaves {
    ($($name:literal: $value:expr),* $(,)?) => { vec![$(($name, Node::leaf($value))),*] };
}

fn ids<'t, T: Row + 't>(table: &'t Table<T>, keep: impl Fn(&T) -> bool) -> Vec<Id> {
    table.iter().filter(|row| keep(row)).map(|row| row.id().to_owned()).collect()
}

impl State {
    /// A field of `Query`.
    pub(super) fn query(
        &self,
        caller: &Grant,
        field: &str,
        arguments: &Value,
    ) -> Result<Node, Refusal> {
        let (world, organization) = (&self.world, caller.organization.as_str());
        let id = arguments["id"].as_str().unwrap_or_default();
        let row = match field {
            "viewer" => ("User", caller.user.clone()),
            "organization" => ("Organization", caller.organization.clone()),
            "user" => ("User", world.users.within(organization, id)?.id.clone()),
            "team" => ("Team", world.teams.within(organization, id)?.id.clone()),
            "issue" => ("Issue", self.issue_within(organization, id)?.id.clone()),
            "comment" => ("Comment", world.comments.within(organization, id)?.id.clone()),
            "agentSession" => ("AgentSession", world.sessions.within(organization, id)?.id.clone()),
            "agentActivity" => {
                ("AgentActivity", world.activities.within(organization, id)?.id.clone())
            }
            _ => return Err(Refusal::document(format!("no such query: {field}"))),
        };
        Ok(Node::Row(row.0, row.1))
    }

    /// An issue by its id or its identifier.
    pub(super) fn issue_within(&self, organization: &str, id: &str) -> Result<&Issue, Refusal> {
        let mut all = self.world.issues.iter().filter(|row| row.organization == organization);
        all.find(|row| row.id == id || row.identifier == id)
            .ok_or_else(|| Refusal::not_found("Issue"))
    }

    /// The fields of a row of a type.
    pub(super) fn fields_of(
        &self,
        caller: &Grant,
        name: &str,
        id: &str,
    ) -> Result<Fields, Refusal> {
        let world = &self.world;
        match name {
            "Organization" => self.organization_fields(id),
            "User" => self.user_fields(caller, id),
            "Team" => self.team_fields(id),
            "WorkflowState" => self.state_fields(id),
            "Issue" => Ok(self.issue_fields(world.issues.get(id)?)),
            "Comment" => Ok(self.comment_fields(world.comments.get(id)?)),
            "Reaction" => self.reaction_fields(id),
            "AgentSession" => Ok(self.session_fields(world.sessions.get(id)?)),
            "AgentActivity" => Ok(activity_fields(world.activities.get(id)?)),
            _ => Err(Refusal::internal()),
        }
    }

    fn organization_fields(&self, id: &str) -> Result<Fields, Refusal> {
        let row = self.world.organizations.get(id)?;
        let at = text(row.created_ms);
        let mut fields = leaves! {
            "id": id, "name": row.name.as_str(), "urlKey": row.url_key.as_str(),
            "createdAt": at.clone(), "updatedAt": at,
        };
        let teams = ids(&self.world.teams, |team| team.organization == id);
        let users = ids(&self.world.users, |user| user.organization == id && user.active);
        fields.push(("teams", Node::Connection("TeamConnection", "Team", teams)));
        fields.push(("users", Node::Connection("UserConnection", "User", users)));
        Ok(fields)
    }

    fn user_fields(&self, caller: &Grant, id: &str) -> Result<Fields, Refusal> {
        let row = self.world.users.get(id)?;
        let at = text(row.created_ms);
        let teams = ids(&self.world.teams, |team| team.members.iter().any(|member| member == id));
        let mut fields = leaves! {
            "id": id, "name": row.name.as_str(), "displayName": row.name.as_str(),
            "email": row.email.as_str(), "admin": row.admin, "guest": row.guest, "app": row.app, "active": row.active,
            "isMe": caller.user == id, "createdAt": at.clone(), "updatedAt": at,
            "url": page(&format!("profiles/{id}")),
        };
        fields.push(("organization", Node::Row("Organization", row.organization.clone())));
        fields.push(("teams", Node::Connection("TeamConnection", "Team", teams)));
        Ok(fields)
    }

    fn team_fields(&self, id: &str) -> Result<Fields, Refusal> {
        let row = self.world.teams.get(id)?;
        let at = text(row.created_ms);
        let states = ids(&self.world.states, |state| state.team == id);
        let mut fields = leaves! {
            "id": id, "key": row.key.as_str(), "name": row.name.as_str(), "private": row.private,
            "createdAt": at.clone(), "updatedAt": at,
        };
        let members = row.members.clone();
        fields.push(("members", Node::Connection("UserConnection", "User", members)));
        fields.push(("organization", Node::Row("Organization", row.organization.clone())));
        fields
            .push(("states", Node::Connection("WorkflowStateConnection", "WorkflowState", states)));
        Ok(fields)
    }

    fn state_fields(&self, id: &str) -> Result<Fields, Refusal> {
        let row = self.world.states.get(id)?;
        let mut fields = leaves! {
            "id": id, "name": row.name, "type": row.kind, "position": f64::from(row.position),
        };
        fields.push(("team", Node::Row("Team", row.team.clone())));
        Ok(fields)
    }

    fn issue_fields(&self, row: &Issue) -> Fields {
        let world = &self.world;
        let comments = ids(&world.comments, |comment| comment.issue == row.id);
        let sessions = ids(&world.sessions, |session| session.issue == row.id);
        let reactions = ids(&world.reactions, |found| found.issue.as_ref() == Some(&row.id));
        let mut fields = leaves! {
            "id": row.id.as_str(), "identifier": row.identifier.as_str(),
            "number": f64::from(row.number), "title": row.title.as_str(),
            "description": row.description.clone(), "createdAt": text(row.created_ms),
            "updatedAt": text(row.updated_ms), "url": page(&format!("issue/{}", row.identifier)),
        };
        fields.extend([
            ("team", Node::Row("Team", row.team.clone())),
            ("state", Node::Row("WorkflowState", row.state.clone())),
            ("assignee", Node::maybe("User", row.assignee.as_ref())),
            ("delegate", Node::maybe("User", row.delegate.as_ref())),
            ("creator", Node::maybe("User", row.creator.as_ref())),
            ("subscribers", Node::Connection("UserConnection", "User", row.subscribers.clone())),
            ("comments", Node::Connection("CommentConnection", "Comment", comments)),
            ("reactions", Node::Rows("Reaction", reactions)),
            ("agentSessions", Node::Connection("AgentSessionConnection", "AgentSession", sessions)),
        ]);
        fields
    }

    fn comment_fields(&self, row: &Comment) -> Fields {
        let at = text(row.created_ms);
        let reactions = ids(&self.world.reactions, |found| found.comment.as_ref() == Some(&row.id));
        let session = self.world.sessions.iter().find(|session| session.comment == row.id);
        let mut fields = leaves! {
            "id": row.id.as_str(), "body": row.body.as_str(), "createdAt": at.clone(),
            "updatedAt": at, "issueId": row.issue.as_str(), "parentId": row.parent.clone(),
            "url": page(&format!("comment/{}", row.id)),
        };
        fields.extend([
            ("issue", Node::Row("Issue", row.issue.clone())),
            ("parent", Node::maybe("Comment", row.parent.as_ref())),
            ("user", Node::Row("User", row.author.clone())),
            ("reactions", Node::Rows("Reaction", reactions)),
            ("agentSession", Node::maybe("AgentSession", session.map(|session| &session.id))),
        ]);
        fields
    }

    fn reaction_fields(&self, id: &str) -> Result<Fields, Refusal> {
        let row = self.world.reactions.get(id)?;
        Ok(vec![
            ("id", Node::leaf(id)),
            ("emoji", Node::leaf(row.emoji.as_str())),
            ("createdAt", Node::leaf(text(row.created_ms))),
            ("user", Node::Row("User", row.user.clone())),
            ("issue", Node::maybe("Issue", row.issue.as_ref())),
            ("comment", Node::maybe("Comment", row.comment.as_ref())),
        ])
    }

    fn session_fields(&self, row: &Session) -> Fields {
        let status = self.world.status(row, self.clock.now_ms());
        let activities = self.world.activities_of(&row.id);
        let started = activities.first().map(|activity| text(activity.created_ms));
        let activities = activities.into_iter().map(|activity| activity.id.clone()).collect();
        let urls = row.urls.iter().map(|url| json!({"label": url.label, "url": url.url}));
        let links = row.urls.iter().map(|url| {
            leaves! {"label": url.label.as_str(), "url": url.url.as_str()}
        });
        let mut fields = leaves! {
            "id": row.id.as_str(), "status": status.as_str(), "type": "commentThread",
            "createdAt": text(row.created_ms), "updatedAt": text(row.updated_ms),
            "startedAt": started, "endedAt": Value::Null, "plan": row.plan.clone(),
            "externalLink": row.external_link.clone(), "externalUrls": urls.collect::<Value>(),
            "url": page(&format!("agent-session/{}", row.id)),
        };
        fields.extend([
            ("externalLinks", Node::Inlines("AgentSessionExternalLink", links.collect())),
            ("appUser", Node::Row("User", row.app_user.clone())),
            ("creator", Node::maybe("User", row.creator.as_ref())),
            ("issue", Node::Row("Issue", row.issue.clone())),
            ("comment", Node::Row("Comment", row.comment.clone())),
            ("sourceComment", Node::maybe("Comment", row.source_comment.as_ref())),
            (
                "activities",
                Node::Connection("AgentActivityConnection", "AgentActivity", activities),
            ),
        ]);
        fields
    }
}

fn activity_fields(row: &Activity) -> Fields {
    let at = text(row.created_ms);
    let part = |name: &str| row.content[name].clone();
    let content = leaves! {
        "type": row.kind(), "body": part("body"), "action": part("action"),
        "parameter": part("parameter"), "result": part("result"),
    };
    let mut fields = leaves! {
        "id": row.id.as_str(), "createdAt": at.clone(), "updatedAt": at,
        "ephemeral": row.ephemeral, "signal": row.signal.clone(),
        "signalMetadata": row.signal_metadata.clone(),
    };
    fields.extend([
        ("content", Node::Inline(content_type(row.kind()), content)),
        ("agentSession", Node::Row("AgentSession", row.session.clone())),
        ("user", Node::Row("User", row.user.clone())),
        ("sourceComment", Node::maybe("Comment", row.source_comment.as_ref())),
    ]);
    fields
}

fn content_type(kind: &str) -> &'static str {
    match kind {
        "action" => "AgentActivityActionContent",
        "elicitation" => "AgentActivityElicitationContent",
        "error" => "AgentActivityErrorContent",
        "prompt" => "AgentActivityPromptContent",
        "response" => "AgentActivityResponseContent",
        _ => "AgentActivityThoughtContent",
    }
}
