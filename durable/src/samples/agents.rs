//! Payloads with an envelope of their own: agent sessions, notifications, the app's installation.

use serde_json::{Value, json};

use super::cast::{Cast, Thing, page, with};

/// The fields that every payload has, and those of this one.
pub(super) fn envelope(cast: &Cast<'_>, kind: (&str, &str), fields: Value) -> Value {
    let common = json!({
        "type": kind.0, "action": kind.1, "createdAt": cast.ago(120),
        "organizationId": cast.organization, "webhookId": cast.id(Thing::Webhook),
        "webhookTimestamp": cast.now_ms,
    });
    with(common, fields)
}

fn app_envelope(cast: &Cast<'_>, kind: (&str, &str), fields: Value) -> Value {
    let app = json!({
        "appUserId": cast.id(Thing::AppUser), "oauthClientId": cast.id(Thing::OauthClient),
    });
    envelope(cast, kind, with(app, fields))
}

/// A session that the person is responsible for, in a thread that a colleague began.
pub(super) fn session(cast: &Cast<'_>, id: &str) -> Value {
    json!({
        "id": id, "createdAt": cast.ago(900), "updatedAt": cast.ago(900), "archivedAt": null,
        "startedAt": null, "endedAt": null, "status": "pending", "type": "commentThread",
        "summary": null, "url": page("issue/REL-128/the-stream-stops#agent-session"),
        "organizationId": cast.organization, "appUserId": cast.id(Thing::AppUser),
        "creatorId": cast.user, "creator": cast.person(),
        "commentId": cast.id(Thing::Comment), "sourceCommentId": cast.id(Thing::ParentComment),
        "comment": cast.comment_child(
            Thing::Comment, &cast.colleague_id(), "@relay please look – it fails on « reconnect »",
        ),
        "sourceMetadata": {"type": "comment"},
        "issueId": cast.id(Thing::Issue), "issue": cast.described_issue(),
    })
}

/// A prompt written by a colleague.
pub(super) fn activity(cast: &Cast<'_>, id: &str, session_id: &str) -> Value {
    json!({
        "id": id, "agentSessionId": session_id, "createdAt": cast.ago(300),
        "updatedAt": cast.ago(300), "archivedAt": null, "signal": null, "signalMetadata": null,
        "content": {"type": "prompt", "body": "Try it with one second of delay… また明日 👍🏽"},
        "sourceCommentId": cast.id(Thing::ParentComment), "userId": cast.colleague_id(),
        "user": cast.colleague(),
    })
}

pub(super) fn created(cast: &Cast<'_>, session: Value) -> Value {
    let team = json!({
        "id": cast.id(Thing::Team), "key": "REL", "name": "Relay – Kern",
        "displayName": "Platform › Relay – Kern", "parentId": cast.id(Thing::ParentTeam),
    });
    let fields = json!({
        "agentSession": session, "agentActivity": null,
        "promptContext": "<issue identifier=\"REL-128\"><title>The stream stops</title></issue>",
        "guidance": [
            {"body": "Answer in one paragraph.", "origin": {"type": "organization"}},
            {"body": "Tests first.", "origin": {"type": "team", "team": team}},
        ],
        "previousComments": [cast.comment_child(
            Thing::ParentComment, &cast.colleague_id(), "It began on Tuesday.",
        )],
    });
    app_envelope(cast, ("AgentSessionEvent", "created"), fields)
}

pub(super) fn prompted(cast: &Cast<'_>, session: Value, activity: Value) -> Value {
    let session = with(session, json!({"status": "active", "startedAt": cast.ago(800)}));
    let fields = json!({
        "agentSession": session, "agentActivity": activity, "promptContext": null,
        "guidance": null, "previousComments": null,
    });
    app_envelope(cast, ("AgentSessionEvent", "prompted"), fields)
}

/// A notification of the app user, `number` apart from the others; `fields` are those of its type.
pub(super) fn notification(cast: &Cast<'_>, action: &str, number: u64, fields: Value) -> Value {
    let common = json!({
        "id": cast.numbered_id(number), "type": action, "createdAt": cast.ago(200),
        "updatedAt": cast.ago(200), "archivedAt": null, "readAt": null, "snoozedUntilAt": null,
        "unsnoozedAt": null, "emailedAt": null, "externalUserActorId": null,
        "userId": cast.id(Thing::AppUser), "actorId": cast.user, "actor": cast.person(),
    });
    let fields = json!({"notification": with(common, fields)});
    app_envelope(cast, ("AppUserNotification", action), fields)
}

pub(super) fn about_issue(cast: &Cast<'_>) -> Value {
    json!({"issueId": cast.id(Thing::Issue), "issue": cast.described_issue()})
}

/// A comment by the person, in the thread of a colleague.
pub(super) fn about_comment(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "commentId": cast.id(Thing::Comment),
        "comment": cast.comment_child(Thing::Comment, cast.user, "@relay и ещё раз, пожалуйста"),
        "parentCommentId": cast.id(Thing::ParentComment), "parentComment": parent(cast, None),
    });
    with(about_issue(cast), fields)
}

/// A comment by a colleague that answers one of the person.
pub(super) fn about_reply(cast: &Cast<'_>) -> Value {
    let author = cast.colleague_id();
    let fields = json!({
        "actorId": author, "actor": cast.colleague(),
        "comment": cast.comment_child(Thing::Comment, &author, "Agreed, but not before noon."),
        "parentComment": parent(cast, Some(cast.user)),
    });
    with(about_comment(cast), fields)
}

/// A new comment that answers none.
pub(super) fn about_first_comment(cast: &Cast<'_>) -> Value {
    with(about_comment(cast), json!({"parentCommentId": null, "parentComment": null}))
}

fn parent(cast: &Cast<'_>, author: Option<&str>) -> Value {
    let colleague = cast.colleague_id();
    cast.comment_child(Thing::ParentComment, author.unwrap_or(&colleague), "It began on Tuesday.")
}

pub(super) fn about_document(cast: &Cast<'_>) -> Value {
    json!({"documentId": cast.id(Thing::Document), "document": cast.document_child()})
}

pub(super) fn about_project(cast: &Cast<'_>) -> Value {
    json!({"projectId": cast.id(Thing::Project), "project": cast.project_child()})
}

pub(super) fn about_project_update(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "projectUpdateId": cast.id(Thing::ProjectUpdate),
        "projectUpdate": cast.project_update_child(&cast.colleague_id()),
    });
    with(about_project(cast), fields)
}

/// Linear documents no actions of this type; the name is plausible.
pub(super) fn authorization(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "oauthClientId": cast.id(Thing::OauthClient),
        "oauthClient": {"id": cast.id(Thing::OauthClient), "name": "Relay"},
        "userId": cast.user, "user": cast.person(), "activeTokensForUser": 2,
    });
    envelope(cast, ("OAuthAuthorization", "created"), fields)
}

pub(super) fn team_access_changed(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "canAccessAllPublicTeams": false, "addedTeamIds": [cast.id(Thing::Team)],
        "removedTeamIds": [cast.id(Thing::ParentTeam)],
    });
    app_envelope(cast, ("PermissionChange", "teamAccessChanged"), fields)
}

pub(super) fn app_revoked(cast: &Cast<'_>) -> Value {
    let fields = json!({"oauthClientId": cast.id(Thing::OauthClient)});
    envelope(cast, ("OAuthApp", "revoked"), fields)
}
