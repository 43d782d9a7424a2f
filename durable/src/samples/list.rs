//! The samples one by one.

use relay_schemas::Channel;
use serde_json::{Value, json};

use super::{
    Sample, agents,
    cast::{Cast, ISSUE_TITLE, Thing, with},
    plan, work,
};

/// Samples in the making.
pub(super) struct Samples<'a> {
    pub(super) cast: Cast<'a>,
    pub(super) channel: Channel,
    pub(super) list: Vec<Sample>,
}

#[derive(Clone, Copy)]
enum Acts {
    Person,
    Colleague,
}

/// The three actions of a data type.
macro_rules! actions {
    ($name:literal) => {
        [concat!($name, ".create"), concat!($name, ".update"), concat!($name, ".remove")]
    };
}

impl Samples<'_> {
    pub(super) fn add(&mut self, name: &'static str, body: &Value) {
        self.add_text(name, body.to_string());
    }

    fn add_text(&mut self, name: &'static str, body: String) {
        let linear_event = name.split_once('.').map_or(name, |(kind, _)| kind);
        let expected_channel = self.channel.clone();
        self.list.push(Sample { name, body, linear_event, expected_channel });
    }

    /// A change of data by a colleague, or by the person where the payload has no target.
    fn change(&self, name: &str, acts: Acts, data: &Value, before: &Value) -> Value {
        let mut parts = name.split('.');
        let kind = (parts.next().unwrap_or(name), parts.next().unwrap_or("update"));
        let actor = match acts {
            Acts::Person => self.cast.person(),
            Acts::Colleague => self.cast.colleague(),
        };
        let actor = with(actor, json!({"type": "user"}));
        let mut fields = json!({"actor": actor, "data": data});
        for thing in [data, &data["issue"]] {
            if let (None, Some(url)) = (fields.get("url"), thing["url"].as_str()) {
                fields["url"] = url.into();
            }
        }
        if kind.1 == "update" {
            fields["updatedFrom"] = with(json!({"updatedAt": self.cast.day(1)}), before.clone());
        }
        agents::envelope(&self.cast, kind, fields)
    }

    fn add_change(&mut self, name: &'static str, acts: Acts, data: &Value, before: &Value) {
        let body = self.change(name, acts, data, before);
        self.add(name, &body);
    }

    fn add_changes(&mut self, names: [&'static str; 3], acts: Acts, data: &Value, before: &Value) {
        for name in names {
            self.add_change(name, acts, data, before);
        }
    }

    pub(super) fn add_sessions(&mut self) {
        let cast = &self.cast;
        let id = cast.id(Thing::Session);
        let session = agents::session(cast, &id);
        let created = agents::created(cast, session.clone());
        let mentioned = with(
            agents::session(cast, &cast.numbered_id(12)),
            json!({
                "creatorId": null, "creator": null,
                "comment": cast.comment_child(Thing::Comment, cast.user, "@relay, bitte prüfen"),
            }),
        );
        let mentioned = agents::created(cast, mentioned);
        let prompt = agents::activity(cast, &cast.id(Thing::Activity), &id);
        let prompted = agents::prompted(cast, session.clone(), prompt);
        let stop = with(
            agents::activity(cast, &cast.numbered_id(13), &id),
            json!({"signal": "stop", "content": {"type": "prompt", "body": "stop"}}),
        );
        let stopped = agents::prompted(cast, session, stop);
        self.add("AgentSessionEvent.created", &created);
        self.add("AgentSessionEvent.created.comment", &mentioned);
        self.add("AgentSessionEvent.prompted", &prompted);
        self.add("AgentSessionEvent.prompted.stop", &stopped);
    }

    pub(super) fn add_notifications(&mut self) {
        let cast = &self.cast;
        let (issue, comment) = (agents::about_issue(cast), agents::about_comment(cast));
        let emoji = json!({"reactionEmoji": "👀"});
        let update = agents::about_project_update(cast);
        let rows = [
            ("AppUserNotification.issueAssignedToYou", issue.clone()),
            ("AppUserNotification.issueUnassignedFromYou", issue.clone()),
            ("AppUserNotification.issueMention", issue.clone()),
            ("AppUserNotification.issueCommentMention", comment.clone()),
            ("AppUserNotification.issueNewComment", agents::about_first_comment(cast)),
            ("AppUserNotification.issueNewComment.reply", agents::about_reply(cast)),
            ("AppUserNotification.issueCommentReaction", with(comment.clone(), emoji.clone())),
            ("AppUserNotification.issueEmojiReaction", with(issue.clone(), emoji.clone())),
            ("AppUserNotification.issueStatusChanged", issue.clone()),
            ("AppUserNotification.issueSubscribed", issue),
            ("AppUserNotification.agentConversationMention", comment),
            ("AppUserNotification.documentMention", agents::about_document(cast)),
            ("AppUserNotification.projectAddedAsLead", agents::about_project(cast)),
            ("AppUserNotification.projectUpdateCreated", update.clone()),
            ("AppUserNotification.projectUpdateReaction", with(update, emoji)),
        ];
        for (number, (name, fields)) in (100..).zip(rows) {
            let action = name.split('.').nth(1).unwrap_or(name);
            let body = agents::notification(&self.cast, action, number, fields);
            self.add(name, &body);
        }
        let body = agents::authorization(&self.cast);
        self.add("OAuthAuthorization.created", &body);
    }

    pub(super) fn add_work(&mut self) {
        use Acts::{Colleague, Person};
        let cast = &self.cast;
        let issue = work::issue(cast);
        let sla = json!({"issueData": issue, "url": issue["url"]});
        let rows = [
            (actions!("Issue"), Colleague, issue, json!({"priority": 3})),
            (actions!("Comment"), Colleague, work::comment(cast), json!({"body": "Подтв"})),
            (actions!("Reaction"), Colleague, work::reaction(cast), json!({"emoji": "eyes"})),
            (actions!("Attachment"), Person, work::attachment(cast), json!({"subtitle": "Open"})),
            (actions!("IssueLabel"), Person, work::label(cast), json!({"color": "#000000"})),
            (actions!("ProjectLabel"), Person, work::label(cast), json!({"name": "Quality"})),
            (actions!("InitiativeLabel"), Person, work::initiative_label(cast), json!({})),
            (actions!("Cycle"), Person, work::cycle(cast), json!({"name": null})),
            (actions!("AgentSession"), Colleague, work::agent_session(cast), json!({})),
            (actions!("AgentActivity"), Colleague, work::agent_activity(cast), json!({})),
        ];
        for (names, acts, data, before) in &rows {
            self.add_changes(*names, *acts, data, before);
        }
        for name in ["IssueSLA.set", "IssueSLA.highRisk", "IssueSLA.breached"] {
            let action = name.split('.').nth(1).unwrap_or(name);
            let body = agents::envelope(&self.cast, ("IssueSLA", action), sla.clone());
            self.add(name, &body);
        }
    }

    pub(super) fn add_plans(&mut self) {
        use Acts::{Colleague, Person};
        let cast = &self.cast;
        let text = json!({"body": "One of three drills passed."});
        let rows = [
            (actions!("Project"), Colleague, plan::project(cast), json!({"health": "atRisk"})),
            (actions!("ProjectUpdate"), Person, plan::project_update(cast), text.clone()),
            (actions!("InitiativeUpdate"), Person, plan::initiative_update(cast), text),
            (actions!("Initiative"), Colleague, plan::initiative(cast), json!({"icon": null})),
            (actions!("Document"), Person, plan::document(cast), json!({"content": "1. Drain"})),
            (actions!("Customer"), Colleague, plan::customer(cast), json!({"size": 80})),
            (actions!("CustomerNeed"), Person, plan::customer_need(cast), json!({"priority": 0})),
            (actions!("Release"), Person, plan::release(cast), json!({"version": "0.9.0-rc.1"})),
            (actions!("ReleaseNote"), Person, plan::release_note(cast), json!({"title": null})),
            (actions!("User"), Colleague, plan::user(cast), json!({"timezone": "UTC"})),
        ];
        let audit_entry = plan::audit_entry(cast);
        for (names, acts, data, before) in &rows {
            self.add_changes(*names, *acts, data, before);
        }
        self.add_change("AuditEntry.create", Person, &audit_entry, &json!({}));
    }

    /// Bodies that differ from the others in who is named, or in how they are written.
    pub(super) fn add_variants(&mut self) {
        use Acts::{Colleague, Person};
        let cast = &self.cast;
        let nobody = json!({"assigneeId": null, "assignee": null});
        let unassigned = with(work::issue(cast), nobody.clone());
        let was_assigned = json!({"assigneeId": cast.user});
        let own = with(unassigned.clone(), json!({"number": 129, "identifier": "REL-129"}));
        let [first, on_update, on_document, to_update] = [
            work::first_comment(cast),
            work::update_comment(cast),
            work::document_comment(cast),
            work::update_reaction(cast),
        ];
        let (issue, project) = (work::issue(cast), plan::project(cast));
        self.add_change("Issue.update.unassigned", Colleague, &unassigned, &was_assigned);
        self.add_change("Issue.create.own", Person, &own, &json!({}));
        self.add_change("Comment.create.first", Person, &first, &json!({}));
        self.add_change("Comment.create.update", Colleague, &on_update, &json!({}));
        self.add_change("Comment.create.document", Person, &on_document, &json!({}));
        self.add_change("Reaction.create.update", Colleague, &to_update, &json!({}));
        let pretty = self.change("Issue.update", Colleague, &issue, &nobody);
        self.add_text("Issue.update.pretty", format!("{pretty:#}"));
        self.add_text("Issue.update.escapes", with_escapes(&pretty.to_string()));
        let pretty = self.change("Project.update", Colleague, &project, &json!({"icon": "Box"}));
        self.add_text("Project.update.crlf", format!("{pretty:#}\n").replace('\n', "\r\n"));
    }
}

/// What JSON allows, but few parsers keep: a zero character, half of a surrogate pair, and a
/// whole pair and a slash in needless escapes.
fn with_escapes(body: &str) -> String {
    body.replacen(ISSUE_TITLE, r"\u0000 \ud83d \uD83D\uDE80 and\/or \u00e9", 1)
}
