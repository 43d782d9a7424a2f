//! Changes that have rules of their own, whoever makes them: a person or the app.

use serde_json::{Value, json};

use super::{
    clock::text,
    payload::Event,
    refusal::Refusal,
    state::State,
    world::{Activity, Comment, ExternalUrl, Id, Reaction, Session, new_id},
};

impl State {
    /// Changes an issue and sends `Issue.update`. `change` gives back `updatedFrom`.
    pub(super) fn update_issue(
        &mut self,
        issue: &str,
        actor: &str,
        change: impl FnOnce(&mut super::world::Issue) -> Value,
    ) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        let row = self.world.issues.get_mut(issue)?;
        let mut updated_from = change(row);
        updated_from["updatedAt"] = text(row.updated_ms).into();
        row.updated_ms = now_ms;
        let row = row.clone();
        self.world.sync_id += 1;
        let about = (row.organization.as_str(), self.world.issue_data(&row)?);
        let mut event = self.world.change(("Issue", "update"), actor, about)?;
        event.fields["updatedFrom"] = updated_from;
        self.outbox.push(event);
        Ok(())
    }

    /// Adds a comment and sends `Comment.create`.
    pub(super) fn add_comment(
        &mut self,
        (issue, parent): (&str, Option<&str>),
        author: &str,
        (id, body): (Option<Id>, &str),
    ) -> Result<Id, Refusal> {
        let organization = self.world.issues.get(issue)?.organization.clone();
        let comment = Comment {
            id: id.unwrap_or_else(new_id),
            organization,
            issue: issue.to_owned(),
            parent: parent.map(str::to_owned),
            body: body.to_owned(),
            author: author.to_owned(),
            created_ms: self.clock.now_ms(),
        };
        self.world.comments.add(comment.clone());
        self.world.sync_id += 1;
        let about = (comment.organization.as_str(), self.world.comment_data(&comment)?);
        let event = self.world.change(("Comment", "create"), author, about)?;
        self.outbox.push(event);
        Ok(comment.id)
    }

    /// Adds a reaction and sends `Reaction.create`.
    pub(super) fn add_reaction(
        &mut self,
        (issue, comment): (Option<&str>, Option<&str>),
        user: &str,
        (id, emoji): (Option<Id>, &str),
    ) -> Result<Id, Refusal> {
        let reaction = Reaction {
            id: id.unwrap_or_else(new_id),
            organization: self.world.users.get(user)?.organization.clone(),
            emoji: emoji.to_owned(),
            user: user.to_owned(),
            issue: issue.map(str::to_owned),
            comment: comment.map(str::to_owned),
            created_ms: self.clock.now_ms(),
        };
        self.world.reactions.add(reaction.clone());
        self.world.sync_id += 1;
        let about = (reaction.organization.as_str(), self.world.reaction_data(&reaction)?);
        let event = self.world.change(("Reaction", "create"), user, about)?;
        self.outbox.push(event);
        Ok(reaction.id)
    }

    /// Begins a session of the app on an issue. Without a comment it gets a thread of its own,
    /// which is no comment that anybody wrote: nothing is sent for it.
    pub(super) fn begin_session(
        &mut self,
        issue: &str,
        creator: Option<&str>,
        comment: Option<&str>,
    ) -> Result<Id, Refusal> {
        let row = self.world.issues.get(issue)?;
        let (organization, now_ms) = (row.organization.clone(), self.clock.now_ms());
        let app_user = self.world.app_user(&organization)?;
        let thread = match comment {
            Some(comment) => self.world.comments.get(comment)?.id.clone(),
            None => self.add_thread(issue, &organization, &app_user),
        };
        let session = Session {
            id: new_id(),
            organization,
            issue: issue.to_owned(),
            app_user,
            creator: creator.map(str::to_owned),
            comment: thread,
            source_comment: comment.map(str::to_owned),
            urls: Vec::new(),
            external_link: None,
            plan: Value::Null,
            created_ms: now_ms,
            updated_ms: now_ms,
            announced_ms: None,
            answered_ms: None,
        };
        let id = session.id.clone();
        self.world.sessions.add(session);
        self.world.sync_id += 1;
        if creator.is_some() || self.options.announce_own_sessions {
            self.announce(&id)?;
        }
        Ok(id)
    }

    fn add_thread(&mut self, issue: &str, organization: &str, app_user: &str) -> Id {
        let id = new_id();
        self.world.comments.add(Comment {
            id: id.clone(),
            organization: organization.to_owned(),
            issue: issue.to_owned(),
            parent: None,
            body: format!("This thread is for an agent session with {}.", self.options.app_name),
            author: app_user.to_owned(),
            created_ms: self.clock.now_ms(),
        });
        id
    }

    fn announce(&mut self, session: &str) -> Result<(), Refusal> {
        let row = self.world.sessions.get(session)?;
        let issue = self.world.issues.get(&row.issue)?;
        let organization = row.organization.clone();
        let earlier = self.world.comments.iter().filter(|comment| {
            comment.issue == row.issue
                && comment.id != row.comment
                && comment.author != row.app_user
        });
        let earlier: Vec<Value> = earlier.map(|row| self.world.comment_child(row)).collect();
        let fields = json!({
            "agentSession": self.world.session_data(row, self.clock.now_ms())?,
            "agentActivity": null, "promptContext": self.world.prompt_context(issue),
            "guidance": null, "previousComments": earlier,
        });
        self.emit_to_app(&organization, ("AgentSessionEvent", "created"), fields)?;
        let announced = self.outbox.last_mut();
        announced.expect("an event was just added").announces = Some(session.to_owned());
        Ok(())
    }

    /// Adds an activity. The app's count as its answer; its last words also become a comment.
    pub(super) fn add_activity(&mut self, activity: Activity) -> Result<(), Refusal> {
        let is_of_app = activity.kind() != "prompt";
        let said = matches!(activity.kind(), "response" | "elicitation" | "error");
        self.touch_session(&activity.session, is_of_app)?;
        let (session, user) = (activity.session.clone(), activity.user.clone());
        let body = activity.content["body"].as_str().unwrap_or_default().to_owned();
        self.world.activities.add(activity);
        if said {
            let row = self.world.sessions.get(&session)?.clone();
            self.add_comment((&row.issue, Some(&row.comment)), &user, (None, &body))?;
        }
        Ok(())
    }

    /// Replaces a session's links, which counts as the app's answer.
    pub(super) fn set_urls(
        &mut self,
        session: &str,
        urls: Vec<ExternalUrl>,
    ) -> Result<(), Refusal> {
        self.touch_session(session, true)?;
        self.world.sessions.get_mut(session)?.urls = urls;
        Ok(())
    }

    pub(super) fn touch_session(&mut self, session: &str, answers: bool) -> Result<(), Refusal> {
        let now_ms = self.clock.now_ms();
        let row = self.world.sessions.get_mut(session)?;
        row.updated_ms = now_ms;
        if answers {
            row.answered_ms.get_or_insert(now_ms);
        }
        self.world.sync_id += 1;
        Ok(())
    }

    /// A person's words in a session, sent as `prompted`. Words are also a comment in its thread; a
    /// signal is a button's.
    pub(super) fn prompt_session(
        &mut self,
        session: &str,
        user: &str,
        (body, signal): (&str, Option<&str>),
    ) -> Result<Id, Refusal> {
        let row = self.world.sessions.get(session)?.clone();
        let thread = (row.issue.as_str(), Some(row.comment.as_str()));
        let comment = match signal {
            None => Some(self.add_comment(thread, user, (None, body))?),
            Some(_) => None,
        };
        let activity = Activity {
            id: new_id(),
            organization: row.organization.clone(),
            session: row.id,
            user: user.to_owned(),
            content: json!({"type": "prompt", "body": body}),
            ephemeral: false,
            signal: signal.map(str::to_owned),
            signal_metadata: Value::Null,
            source_comment: comment,
            created_ms: self.clock.now_ms(),
        };
        self.add_activity(activity.clone())?;
        let session = self.world.sessions.get(session)?;
        let fields = json!({
            "agentSession": self.world.session_data(session, self.clock.now_ms())?,
            "agentActivity": self.world.activity_data(&activity)?,
            "promptContext": null, "guidance": null, "previousComments": null,
        });
        self.emit_to_app(&row.organization, ("AgentSessionEvent", "prompted"), fields)?;
        Ok(activity.id)
    }

    /// Removes the app from an organization: its tokens end and `OAuthApp.revoked` is sent.
    pub(super) fn uninstall(&mut self, organization: &str) -> Result<(), Refusal> {
        self.authority.revoke_organization(organization);
        let row = self.world.organizations.get_mut(organization)?;
        row.is_authorized = false;
        if let Some(app_user) = row.app_user.take() {
            self.world.users.get_mut(&app_user)?.active = false;
        }
        self.outbox.push(Event {
            organization: organization.to_owned(),
            kind: "OAuthApp",
            action: "revoked".to_owned(),
            fields: json!({"oauthClientId": self.options.client_uuid}),
            announces: None,
        });
        Ok(())
    }
}
