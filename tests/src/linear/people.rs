//! What Linear's users do. People, teams, issues and sessions are named by their ids or by what
//! people call them: an e-mail address or a name, `ENG`, `ENG-1`; a session also by its issue.

use serde_json::{Value, json};

use super::{
    FakeLinear,
    payload::{user_child, with},
    refusal::Refusal,
    state::State,
    world::{Id, Issue, Organization, Team, User, WorkflowState, new_id},
};

const STATES: [(&str, &str); 4] = [
    ("Backlog", "backlog"),
    ("Todo", "unstarted"),
    ("In Progress", "started"),
    ("Done", "completed"),
];

type Done<T = ()> = Result<T, Refusal>;

impl FakeLinear {
    /// Adds an organization.
    pub fn add_organization(&self, url_key: &str, name: &str) -> Id {
        self.act(|state| {
            let organization = Organization {
                id: new_id(),
                name: name.to_owned(),
                url_key: url_key.to_owned(),
                created_ms: state.clock.now_ms(),
                webhook: new_id(),
                is_authorized: false,
                app_user: None,
            };
            let id = organization.id.clone();
            state.world.organizations.add(organization);
            id
        })
    }

    /// Adds a person, who may be an admin.
    pub fn add_user(&self, organization: &str, name: &str, email: &str, admin: bool) -> Done<Id> {
        self.act(|state| {
            let user = User {
                id: new_id(),
                organization: state.world.organization(organization)?.id.clone(),
                name: name.to_owned(),
                email: email.to_owned(),
                admin,
                guest: false,
                app: false,
                active: true,
                created_ms: state.clock.now_ms(),
            };
            let id = user.id.clone();
            state.world.users.add(user);
            Ok(id)
        })
    }

    /// Makes a person a guest, or no longer one.
    pub fn set_guest(&self, user: &str, guest: bool) -> Done {
        self.act(|state| {
            let id = state.world.user(user)?.id.clone();
            state.world.users.get_mut(&id)?.guest = guest;
            Ok(())
        })
    }

    /// Makes a person an admin, or no longer one.
    pub fn set_admin(&self, user: &str, admin: bool) -> Done {
        self.act(|state| {
            let id = state.world.user(user)?.id.clone();
            state.world.users.get_mut(&id)?.admin = admin;
            Ok(())
        })
    }

    /// Suspends a person, or lets them in again. A suspended one's tokens end.
    pub fn set_active(&self, user: &str, active: bool) -> Done {
        self.act(|state| {
            let id = state.world.user(user)?.id.clone();
            state.world.users.get_mut(&id)?.active = active;
            if !active {
                state.authority.revoke_user(&id);
            }
            Ok(())
        })
    }

    /// Adds a team with its members.
    pub fn add_team(
        &self,
        organization: &str,
        (key, name): (&str, &str),
        members: &[&str],
        private: bool,
    ) -> Done<Id> {
        self.act(|state| {
            let members = members.iter().map(|user| Ok(state.world.user(user)?.id.clone()));
            let team = Team {
                id: new_id(),
                organization: state.world.organization(organization)?.id.clone(),
                key: key.to_owned(),
                name: name.to_owned(),
                private,
                members: members.collect::<Done<Vec<Id>>>()?,
                created_ms: state.clock.now_ms(),
            };
            let (id, organization) = (team.id.clone(), team.organization.clone());
            state.world.teams.add(team);
            for (position, (name, kind)) in (0..).zip(STATES) {
                let (team, organization) = (id.clone(), organization.clone());
                let row = WorkflowState { id: new_id(), organization, team, name, kind, position };
                state.world.states.add(row);
            }
            Ok(id)
        })
    }

    /// Adds a person to a team, or takes them out.
    pub fn set_member(&self, team: &str, user: &str, member: bool) -> Done {
        self.act(|state| {
            let (team, user) =
                (state.world.team(team)?.id.clone(), state.world.user(user)?.id.clone());
            let members = &mut state.world.teams.get_mut(&team)?.members;
            members.retain(|found| *found != user);
            members.extend(member.then_some(user));
            Ok(())
        })
    }

    /// Files an issue, which sends `Issue.create`. Gives back its identifier.
    pub fn add_issue(
        &self,
        team: &str,
        creator: &str,
        (title, description): (&str, &str),
    ) -> Done<Id> {
        self.act(|state| state.file_issue(team, creator, (title, description)))
    }

    /// Assigns an issue to a person, or to nobody.
    pub fn assign(&self, issue: &str, by: &str, assignee: Option<&str>) -> Done {
        self.act(|state| {
            let (issue, by) = state.issue_and_person(issue, by)?;
            let assignee = assignee.map(|user| Ok(state.world.user(user)?.id.clone()));
            let assignee = assignee.transpose()?;
            state.update_issue(
                &issue.id,
                &by,
                |row| json!({"assigneeId": std::mem::replace(&mut row.assignee, assignee)}),
            )
        })
    }

    /// Delegates an issue to the app: `Issue.update`, then `AgentSessionEvent.created`. Gives back
    /// the session's id.
    pub fn delegate(&self, issue: &str, by: &str) -> Done<Id> {
        self.act(|state| {
            let (issue, by) = state.issue_and_person(issue, by)?;
            let app_user = state.world.app_user(&issue.organization)?;
            state.update_issue(
                &issue.id,
                &by,
                |row| json!({"delegateId": row.delegate.replace(app_user)}),
            )?;
            state.begin_session(&issue.id, Some(&by), None)
        })
    }

    /// Takes an issue from the app again: `Issue.update`, and `issueUnassignedFromYou`.
    pub fn undelegate(&self, issue: &str, by: &str) -> Done {
        self.act(|state| {
            let (row, by) = state.issue_and_person(issue, by)?;
            state.update_issue(&row.id, &by, |row| json!({"delegateId": row.delegate.take()}))?;
            state.notify("issueUnassignedFromYou", issue, &by, None).map(|_| ())
        })
    }

    /// Comments on an issue, or answers a comment. Gives back the comment's id.
    pub fn comment(&self, issue: &str, by: &str, body: &str, parent: Option<&str>) -> Done<Id> {
        self.act(|state| {
            let (issue, by) = state.issue_and_person(issue, by)?;
            state.add_comment((&issue.id, parent), &by, (None, body))
        })
    }

    /// Mentions the app in a comment, which begins a session in its thread. Gives back the
    /// session's id.
    pub fn mention(&self, issue: &str, by: &str, body: &str) -> Done<Id> {
        self.act(|state| {
            let (issue, by) = state.issue_and_person(issue, by)?;
            state.world.app_user(&issue.organization)?;
            let comment = state.add_comment((&issue.id, None), &by, (None, body))?;
            state.begin_session(&issue.id, Some(&by), Some(&comment))
        })
    }

    /// Writes to the app in a session: `AgentSessionEvent.prompted`. Gives back the activity's id.
    pub fn prompt(&self, session: &str, by: &str, body: &str) -> Done<Id> {
        self.act(|state| {
            let (session, by) = state.session_and_person(session, by)?;
            state.prompt_session(&session, &by, (body, None))
        })
    }

    /// Tells the app to stop: `AgentSessionEvent.prompted` with the signal.
    pub fn stop(&self, session: &str, by: &str) -> Done<Id> {
        self.act(|state| {
            let (session, by) = state.session_and_person(session, by)?;
            state.prompt_session(&session, &by, ("Stop", Some("stop")))
        })
    }

    /// Reacts to an issue, or to a comment.
    pub fn react(&self, issue: &str, by: &str, emoji: &str, comment: Option<&str>) -> Done<Id> {
        self.act(|state| {
            let (issue, by) = state.issue_and_person(issue, by)?;
            let about = if comment.is_some() { None } else { Some(issue.id.as_str()) };
            state.add_reaction((about, comment), &by, (None, emoji))
        })
    }

    /// Sends the app user a notification of a kind, such as `issueCommentMention`.
    pub fn notify(&self, kind: &str, issue: &str, by: &str, comment: Option<&str>) -> Done<Id> {
        self.act(|state| {
            let by = state.world.user(by)?.id.clone();
            state.notify(kind, issue, &by, comment)
        })
    }

    /// Changes which teams the app can see: `PermissionChange.teamAccessChanged`.
    pub fn change_team_access(&self, added: &[&str], removed: &[&str]) -> Done {
        self.act(|state| {
            let all = added.iter().chain(removed);
            let teams =
                all.map(|team| Ok(state.world.team(team)?.clone())).collect::<Done<Vec<_>>>()?;
            let Some(first) = teams.first() else { return Ok(()) };
            let ids: Vec<&Id> = teams.iter().map(|team| &team.id).collect();
            let (added, removed) = ids.split_at(added.len());
            let fields = json!({
                "canAccessAllPublicTeams": false, "addedTeamIds": added, "removedTeamIds": removed,
            });
            let kind = ("PermissionChange", "teamAccessChanged");
            state.emit_to_app(&first.organization.clone(), kind, fields)
        })
    }

    /// Installs the app as an admin would with `actor=app`. Gives back the app user's id.
    pub fn install(&self, organization: &str) -> Done<Id> {
        self.act(|state| {
            let organization = state.world.organization(organization)?.id.clone();
            state.install(&organization)
        })
    }

    /// Removes the app from an organization: its tokens end, and `OAuthApp.revoked` is sent.
    pub fn uninstall(&self, organization: &str) -> Done {
        self.act(|state| {
            let organization = state.world.organization(organization)?.id.clone();
            state.uninstall(&organization)
        })
    }
}

impl State {
    fn issue_and_person(&self, issue: &str, person: &str) -> Done<(Issue, Id)> {
        let issue = self.world.issue(issue)?.clone();
        let person = self.world.user(person)?;
        if person.organization != issue.organization || !person.active {
            return Err(Refusal::not_found("User"));
        }
        Ok((issue, person.id.clone()))
    }

    fn session_and_person(&self, session: &str, person: &str) -> Done<(Id, Id)> {
        let session = self.world.session(session)?;
        let (_, person) = self.issue_and_person(&session.issue, person)?;
        Ok((session.id.clone(), person))
    }

    fn file_issue(
        &mut self,
        team: &str,
        creator: &str,
        (title, description): (&str, &str),
    ) -> Done<Id> {
        let team = self.world.team(team)?.clone();
        let creator = self.world.user(creator)?.id.clone();
        let earlier = self.world.issues.iter().filter(|issue| issue.team == team.id).count();
        let number = u32::try_from(earlier + 1).unwrap_or(u32::MAX);
        let mut states = self.world.states.iter().filter(|state| state.team == team.id);
        let state = states.find(|state| state.kind == "unstarted");
        let now_ms = self.clock.now_ms();
        let issue = Issue {
            id: new_id(),
            organization: team.organization.clone(),
            identifier: format!("{}-{number}", team.key),
            state: state.ok_or_else(|| Refusal::not_found("WorkflowState"))?.id.clone(),
            team: team.id,
            number,
            title: title.to_owned(),
            description: (!description.is_empty()).then(|| description.to_owned()),
            creator: Some(creator.clone()),
            assignee: None,
            delegate: None,
            subscribers: vec![creator.clone()],
            created_ms: now_ms,
            updated_ms: now_ms,
        };
        self.world.issues.add(issue.clone());
        self.world.sync_id += 1;
        let about = (issue.organization.as_str(), self.world.issue_data(&issue)?);
        let event = self.world.change(("Issue", "create"), &creator, about)?;
        self.outbox.push(event);
        Ok(issue.identifier)
    }

    fn notify(&mut self, kind: &str, issue: &str, by: &str, comment: Option<&str>) -> Done<Id> {
        let issue = self.world.issue(issue)?.clone();
        let comment = comment.map(|id| self.world.comments.get(id)).transpose()?;
        let parent = comment.and_then(|comment| comment.parent.as_ref());
        let parent = parent.map(|id| self.world.comments.get(id)).transpose()?;
        let at = super::clock::text(self.clock.now_ms());
        let id = new_id();
        let mut notification = json!({
            "id": id, "type": kind, "createdAt": at, "updatedAt": at, "archivedAt": null,
            "readAt": null, "snoozedUntilAt": null, "unsnoozedAt": null, "emailedAt": null,
            "externalUserActorId": null, "userId": self.world.app_user(&issue.organization)?,
            "actorId": by, "actor": user_child(self.world.users.get(by)?),
            "issueId": issue.id, "issue": self.world.described_issue(&issue)?,
        });
        let child = |row| self.world.comment_child(row);
        if let Some(comment) = comment {
            let fields = json!({"commentId": comment.id, "comment": child(comment)});
            notification = with(notification, fields);
        }
        if let Some(parent) = parent {
            let fields = json!({"parentCommentId": parent.id, "parentComment": child(parent)});
            notification = with(notification, fields);
        }
        let fields: Value = json!({"notification": notification});
        self.emit_to_app(&issue.organization, ("AppUserNotification", kind), fields)?;
        Ok(id)
    }
}
