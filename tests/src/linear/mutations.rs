//! What the app may change, and what it is refused.

use serde_json::{Value, json};

use super::{
    execution::Node,
    oauth::Grant,
    options::RepeatedId,
    refusal::Refusal,
    state::State,
    world::{Activity, ExternalUrl, Id, Row, Table, is_uuid_v4},
};

impl State {
    /// A field of `Mutation`.
    pub(super) fn mutation(
        &mut self,
        caller: &Grant,
        field: &str,
        arguments: &Value,
    ) -> Result<Node, Refusal> {
        let (input, id) = (&arguments["input"], arguments["id"].as_str().unwrap_or_default());
        require_scope(caller, field)?;
        let (payload, name, row, id) = match field {
            "agentActivityCreate" => {
                let id = self.create_activity(caller, input)?;
                ("AgentActivityPayload", "agentActivity", "AgentActivity", id)
            }
            "agentSessionUpdate" => {
                let id = self.update_session(caller, id, input)?;
                ("AgentSessionPayload", "agentSession", "AgentSession", id)
            }
            "agentSessionCreateOnIssue" | "agentSessionCreateOnComment" => {
                let id = self.create_session(caller, input)?;
                ("AgentSessionPayload", "agentSession", "AgentSession", id)
            }
            "commentCreate" => {
                ("CommentPayload", "comment", "Comment", self.create_comment(caller, input)?)
            }
            "reactionCreate" => {
                ("ReactionPayload", "reaction", "Reaction", self.create_reaction(caller, input)?)
            }
            "issueUpdate" => {
                ("IssuePayload", "issue", "Issue", self.change_issue(caller, id, input)?)
            }
            _ => return Err(Refusal::document(format!("no such mutation: {field}"))),
        };
        let fields = vec![
            ("success", Node::leaf(true)),
            ("lastSyncId", Node::leaf(f64::from(self.world.sync_id))),
            (name, Node::Row(row, id)),
        ];
        Ok(Node::Inline(payload, fields))
    }

    fn create_activity(&mut self, caller: &Grant, input: &Value) -> Result<Id, Refusal> {
        if let Some(id) = self.repeated(caller, &self.world.activities, input)? {
            return Ok(id);
        }
        let session = text_of(input, "agentSessionId").unwrap_or_default();
        let session = self.world.sessions.within(&caller.organization, session)?;
        if session.app_user != caller.user {
            return Err(Refusal::forbidden("The session is another agent's"));
        }
        let ephemeral = input["ephemeral"].as_bool().unwrap_or(false);
        check_content(&input["content"], ephemeral)?;
        let activity = Activity {
            id: chosen_id(input).unwrap_or_else(super::world::new_id),
            organization: caller.organization.clone(),
            session: session.id.clone(),
            user: caller.user.clone(),
            content: input["content"].clone(),
            ephemeral,
            signal: text_of(input, "signal").map(str::to_owned),
            signal_metadata: input["signalMetadata"].clone(),
            source_comment: None,
            created_ms: self.clock.now_ms(),
        };
        let id = activity.id.clone();
        self.add_activity(activity)?;
        Ok(id)
    }

    fn update_session(&mut self, caller: &Grant, id: &str, input: &Value) -> Result<Id, Refusal> {
        let session = self.world.sessions.within(&caller.organization, id)?;
        if session.app_user != caller.user {
            return Err(Refusal::forbidden("The session is another agent's"));
        }
        let mut urls = session.urls.clone();
        let before = urls.clone();
        let replaced = input["externalUrls"].is_array();
        if replaced {
            urls = urls_of(&input["externalUrls"]);
        }
        urls.extend(urls_of(&input["addedExternalUrls"]));
        let removed = input["removedExternalUrls"].as_array().cloned().unwrap_or_default();
        urls.retain(|url| !removed.iter().any(|gone| gone == &json!(url.url)));
        if replaced || urls != before {
            self.set_urls(id, urls)?;
        }
        self.touch_session(id, false)?;
        let session = self.world.sessions.get_mut(id)?;
        if let Some(plan) = input.get("plan") {
            session.plan = plan.clone();
        }
        if let Some(link) = input.get("externalLink") {
            session.external_link = link.as_str().map(str::to_owned);
        }
        Ok(id.to_owned())
    }

    fn create_session(&mut self, caller: &Grant, input: &Value) -> Result<Id, Refusal> {
        let comment = text_of(input, "commentId");
        let comment = comment.map(|id| self.world.comments.within(&caller.organization, id));
        let comment = comment.transpose()?.cloned();
        let issue = match &comment {
            Some(comment) => comment.issue.clone(),
            None => {
                let issue = text_of(input, "issueId").unwrap_or_default();
                self.issue_within(&caller.organization, issue)?.id.clone()
            }
        };
        let comment = comment.map(|comment| comment.id);
        let session = self.begin_session(&issue, None, comment.as_deref())?;
        if input["externalUrls"].is_array() {
            self.set_urls(&session, urls_of(&input["externalUrls"]))?;
        }
        let row = self.world.sessions.get_mut(&session)?;
        row.external_link = text_of(input, "externalLink").map(str::to_owned);
        Ok(session)
    }

    fn create_comment(&mut self, caller: &Grant, input: &Value) -> Result<Id, Refusal> {
        if let Some(id) = self.repeated(caller, &self.world.comments, input)? {
            return Ok(id);
        }
        let body = text_of(input, "body").unwrap_or_default();
        if body.is_empty() {
            return Err(Refusal::input("body should not be empty"));
        }
        let parent = text_of(input, "parentId");
        let parent = parent.map(|id| self.world.comments.within(&caller.organization, id));
        let parent = parent.transpose()?.cloned();
        let issue = match (&parent, text_of(input, "issueId")) {
            (_, Some(issue)) => self.issue_within(&caller.organization, issue)?.id.clone(),
            (Some(parent), None) => parent.issue.clone(),
            (None, None) => return Err(Refusal::input("issueId or parentId must be given")),
        };
        let parent = parent.map(|parent| parent.id);
        self.add_comment((&issue, parent.as_deref()), &caller.user, (chosen_id(input), body))
    }

    fn create_reaction(&mut self, caller: &Grant, input: &Value) -> Result<Id, Refusal> {
        if let Some(id) = self.repeated(caller, &self.world.reactions, input)? {
            return Ok(id);
        }
        let issue = text_of(input, "issueId");
        let issue = issue.map(|id| self.issue_within(&caller.organization, id)).transpose()?;
        let comment = text_of(input, "commentId");
        let comment = comment.map(|id| self.world.comments.within(&caller.organization, id));
        let comment = comment.transpose()?.map(|comment| comment.id.clone());
        let issue = issue.map(|issue| issue.id.clone());
        if issue.is_none() && comment.is_none() {
            return Err(Refusal::input("issueId or commentId must be given"));
        }
        let emoji = text_of(input, "emoji").unwrap_or_default();
        let about = (issue.as_deref(), comment.as_deref());
        self.add_reaction(about, &caller.user, (chosen_id(input), emoji))
    }

    fn change_issue(&mut self, caller: &Grant, id: &str, input: &Value) -> Result<Id, Refusal> {
        let id = self.issue_within(&caller.organization, id)?.id.clone();
        for user in ["assigneeId", "delegateId"].iter().filter_map(|name| text_of(input, name)) {
            self.world.users.within(&caller.organization, user)?;
        }
        if let Some(state) = text_of(input, "stateId") {
            self.world.states.within(&caller.organization, state)?;
        }
        let owned = |name: &str| text_of(input, name).map(str::to_owned);
        self.update_issue(&id, &caller.user, |issue| {
            let mut before = json!({});
            if input.get("assigneeId").is_some() {
                before["assigneeId"] =
                    json!(std::mem::replace(&mut issue.assignee, owned("assigneeId")));
            }
            if input.get("delegateId").is_some() {
                before["delegateId"] =
                    json!(std::mem::replace(&mut issue.delegate, owned("delegateId")));
            }
            if let Some(state) = owned("stateId") {
                before["stateId"] = json!(std::mem::replace(&mut issue.state, state));
            }
            if let Some(title) = owned("title") {
                before["title"] = json!(std::mem::replace(&mut issue.title, title));
            }
            if let Some(text) = owned("description") {
                before["description"] = json!(issue.description.replace(text));
            }
            before
        })?;
        Ok(id)
    }

    /// What was already created with the id that the app has chosen, or why there can't be such.
    fn repeated<T: Row>(
        &self,
        caller: &Grant,
        table: &Table<T>,
        input: &Value,
    ) -> Result<Option<Id>, Refusal> {
        let Some(id) = chosen_id(input) else { return Ok(None) };
        if !is_uuid_v4(&id) {
            return Err(Refusal::input("id must be a UUID v4"));
        }
        let Ok(row) = table.get(&id) else { return Ok(None) };
        let own = row.organization() == caller.organization;
        match self.options.repeated_id {
            RepeatedId::Returned if own => Ok(Some(id)),
            RepeatedId::Returned | RepeatedId::Refused => {
                Err(Refusal::input(format!("{} with this id already exists", T::NAME)))
            }
        }
    }
}

fn require_scope(caller: &Grant, field: &str) -> Result<(), Refusal> {
    let enough: &[&str] = match field {
        "commentCreate" => &["write", "comments:create"],
        _ => &["write"],
    };
    if enough.iter().any(|scope| caller.scope.iter().any(|granted| granted == scope)) {
        return Ok(());
    }
    Err(Refusal::forbidden(format!("Invalid scope: `{}` required", enough[0])))
}

fn check_content(content: &Value, ephemeral: bool) -> Result<(), Refusal> {
    let kind = content["type"].as_str().unwrap_or_default();
    let needed: &[&str] = match kind {
        "thought" | "elicitation" | "response" | "error" => &["body"],
        "action" => &["action", "parameter"],
        "prompt" => return Err(Refusal::input("Agents can't create activities of type prompt")),
        _ => return Err(Refusal::input("content.type is not a type of activity")),
    };
    for name in needed {
        // Nothing says that an action must be done to something.
        let may_be_empty = *name == "parameter";
        if content[name].as_str().is_none_or(|text| text.is_empty() && !may_be_empty) {
            return Err(Refusal::input(format!("content.{name} should not be empty")));
        }
    }
    if ephemeral && !matches!(kind, "thought" | "action") {
        return Err(Refusal::input("Only thoughts and actions can be ephemeral"));
    }
    Ok(())
}

fn text_of<'v>(input: &'v Value, name: &str) -> Option<&'v str> {
    input[name].as_str()
}

/// The id that the app has chosen for what it creates.
fn chosen_id(input: &Value) -> Option<Id> {
    text_of(input, "id").map(str::to_owned)
}

fn urls_of(list: &Value) -> Vec<ExternalUrl> {
    let part = |url: &Value, name: &str| url[name].as_str().unwrap_or_default().to_owned();
    let urls = list.as_array().into_iter().flatten();
    urls.map(|url| ExternalUrl { label: part(url, "label"), url: part(url, "url") }).collect()
}
