//! Data of daily work: issues, comments, reactions, attachments, labels, cycles, agents' sessions.

use serde_json::{Value, json};

use super::{
    agents,
    cast::{Cast, ISSUE_DESCRIPTION, ISSUE_TITLE, Thing, page, with},
};

/// An issue assigned to the person and delegated to the app.
pub(super) fn issue(cast: &Cast<'_>) -> Value {
    let people = json!({
        "assigneeId": cast.user, "assignee": cast.person(), "creatorId": cast.colleague_id(),
        "creator": cast.colleague(), "delegateId": cast.id(Thing::AppUser),
        "delegate": super::cast::user_child(&cast.id(Thing::AppUser), "Relay", "relay"),
        "externalUserCreatorId": null, "externalUserCreator": null, "botActor": null,
        "subscriberIds": [cast.user, cast.colleague_id()],
    });
    with(with(with(issue_text(cast), issue_dates(cast)), issue_relations(cast)), people)
}

fn issue_text(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Issue), "identifier": "REL-128", "number": 128,
        "previousIdentifiers": ["OPS-41"], "title": ISSUE_TITLE, "description": ISSUE_DESCRIPTION,
        "descriptionData": "{\"type\":\"doc\",\"content\":[]}", "estimate": 3, "priority": 2,
        "priorityLabel": "High", "prioritySortOrder": -1042.5, "sortOrder": -88.25,
        "subIssueSortOrder": null, "trashed": null, "url": page("issue/REL-128/the-stream-stops"),
        "integrationSourceType": null, "reactionData": [], "syncedWith": [],
    })
}

fn issue_dates(cast: &Cast<'_>) -> Value {
    let sla = json!({
        "slaType": "all", "slaStartedAt": cast.day(1), "slaMediumRiskAt": cast.ago(0),
        "slaHighRiskAt": cast.ago(0), "slaBreachesAt": cast.ago(0),
    });
    let dates = json!({
        "createdAt": cast.day(9), "updatedAt": cast.ago(140), "archivedAt": null,
        "autoArchivedAt": null, "autoClosedAt": null, "canceledAt": null, "completedAt": null,
        "startedAt": cast.day(2), "startedTriageAt": cast.day(9), "triagedAt": cast.day(8),
        "snoozedUntilAt": null, "dueDate": &cast.ago(0)[..10], "addedToCycleAt": cast.day(5),
        "addedToProjectAt": cast.day(5), "addedToTeamAt": cast.day(9),
    });
    with(dates, sla)
}

fn issue_relations(cast: &Cast<'_>) -> Value {
    let milestone = json!({
        "id": cast.id(Thing::Milestone), "name": "Beta", "targetDate": &cast.ago(0)[..10],
    });
    let label = json!({
        "id": cast.id(Thing::Label), "name": "Bug 🐛", "color": "#eb5757",
        "parentId": cast.id(Thing::ParentLabel),
    });
    let of_team = json!({
        "teamId": cast.id(Thing::Team), "team": cast.team(), "stateId": cast.id(Thing::State),
        "state": {
            "id": cast.id(Thing::State), "name": "In Progress", "color": "#f2c94c",
            "type": "started",
        },
        "cycleId": cast.id(Thing::Cycle), "cycle": cycle_child(cast),
        "parentId": cast.id(Thing::ParentIssue), "labelIds": [cast.id(Thing::Label)],
        "labels": [label], "lastAppliedTemplateId": null, "recurringIssueTemplateId": null,
        "sourceCommentId": null,
    });
    let of_project = json!({
        "projectId": cast.id(Thing::Project), "project": cast.project_child(),
        "projectMilestoneId": cast.id(Thing::Milestone), "milestone": milestone,
        "projectMilestone": milestone,
        "releases": [{
            "id": cast.id(Thing::Release), "name": "0.9", "version": "0.9.0", "completedAt": null,
            "pipeline": cast.pipeline(), "stage": super::plan::stage(cast),
        }],
    });
    with(of_team, of_project)
}

/// A comment by a colleague that answers one of the person.
pub(super) fn comment(cast: &Cast<'_>) -> Value {
    let author = cast.colleague_id();
    let text = json!({
        "id": cast.id(Thing::Comment), "body": "Подтверждаю: воспроизводится.\n\n> see REL-41",
        "userId": author, "user": cast.colleague(), "createdAt": cast.ago(500),
        "updatedAt": cast.ago(500), "archivedAt": null, "editedAt": null, "botActor": null,
        "externalUserId": null, "externalUser": null, "quotedText": null, "reactionData": [],
        "resolvedAt": null, "resolvingCommentId": null, "resolvingUserId": null, "syncedWith": [],
    });
    let place = json!({
        "parentId": cast.id(Thing::ParentComment),
        "parent": cast.comment_child(Thing::ParentComment, cast.user, "Can you reproduce it?"),
        "issueId": cast.id(Thing::Issue), "issue": cast.issue_child(), "documentContentId": null,
        "documentContent": null, "initiativeId": null, "initiativeUpdateId": null,
        "initiativeUpdate": null, "postId": null, "projectId": null, "projectUpdateId": null,
        "projectUpdate": null,
    });
    with(text, place)
}

/// What makes [`comment`] a first one, by the person.
pub(super) fn first_comment(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "userId": cast.user, "user": cast.person(), "parentId": null, "parent": null,
    });
    with(comment(cast), fields)
}

/// A colleague's comment on an update that the person wrote.
pub(super) fn update_comment(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "parentId": null, "parent": null, "issueId": null, "issue": null,
        "projectUpdateId": cast.id(Thing::ProjectUpdate),
        "projectUpdate": cast.project_update_child(cast.user),
    });
    with(comment(cast), fields)
}

/// A comment on a document, by the person.
pub(super) fn document_comment(cast: &Cast<'_>) -> Value {
    let content = json!({"document": cast.document_child(), "project": cast.project_child()});
    let fields = json!({
        "issueId": null, "issue": null, "documentContentId": cast.numbered_id(900),
        "documentContent": content, "quotedText": "drain first",
    });
    with(first_comment(cast), fields)
}

/// A colleague's reaction to a comment of the person.
pub(super) fn reaction(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Reaction), "emoji": "🎉", "createdAt": cast.ago(400),
        "updatedAt": cast.ago(400), "archivedAt": null, "userId": cast.colleague_id(),
        "user": cast.colleague(), "externalUserId": null, "commentId": cast.id(Thing::Comment),
        "comment": cast.comment_child(Thing::Comment, cast.user, "Fixed in 0.9."),
        "issueId": cast.id(Thing::Issue), "issue": cast.issue_child(), "postId": null,
        "initiativeUpdateId": null, "projectUpdateId": null, "projectUpdate": null,
    })
}

/// A colleague's reaction to an update that the person wrote.
pub(super) fn update_reaction(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "commentId": null, "comment": null, "issueId": null, "issue": null,
        "projectUpdateId": cast.id(Thing::ProjectUpdate),
        "projectUpdate": cast.project_update_child(cast.user),
    });
    with(reaction(cast), fields)
}

pub(super) fn attachment(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Attachment), "title": "relay#77: resume after “bye”",
        "subtitle": "Merged", "url": "https://git.example.com/relay/pull/77", "metadata": {
            "status": "merged", "reviews": [{"state": "approved", "at": cast.day(1)}],
        },
        "source": {"type": "github", "repository": "example/relay"}, "sourceType": "github",
        "groupBySource": false, "creatorId": cast.user, "externalUserCreatorId": null,
        "issueId": cast.id(Thing::Issue), "originalIssueId": null, "createdAt": cast.day(3),
        "updatedAt": cast.day(1), "archivedAt": null,
    })
}

/// A label of issues or projects.
pub(super) fn label(cast: &Cast<'_>) -> Value {
    let fields = json!({"inheritedFromId": null, "teamId": cast.id(Thing::Team)});
    with(initiative_label(cast), fields)
}

pub(super) fn initiative_label(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Label), "name": "Qualité", "color": "#5e6ad2", "description": null,
        "isGroup": false, "parentId": cast.id(Thing::ParentLabel), "creatorId": cast.user,
        "createdAt": cast.day(30), "updatedAt": cast.ago(700), "archivedAt": null,
    })
}

fn cycle_child(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Cycle), "name": "Spring clean", "number": 14,
        "startsAt": cast.day(7), "endsAt": cast.ago(0),
    })
}

pub(super) fn cycle(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "description": "Only what hurts.", "teamId": cast.id(Thing::Team), "inheritedFromId": null,
        "createdAt": cast.day(21), "updatedAt": cast.ago(600), "archivedAt": null,
        "autoArchivedAt": null, "completedAt": null, "scopeHistory": [12, 14.5, 15],
        "issueCountHistory": [6, 7, 7], "inProgressScopeHistory": [2, 4, 5],
        "completedScopeHistory": [0, 3, 7.5], "completedIssueCountHistory": [0, 1, 4],
        "uncompletedIssuesUponCloseIds": [],
    });
    with(cycle_child(cast), fields)
}

pub(super) fn agent_session(cast: &Cast<'_>) -> Value {
    agents::session(cast, &cast.id(Thing::Session))
}

/// A prompt by the person.
pub(super) fn agent_activity(cast: &Cast<'_>) -> Value {
    let author = json!({"userId": cast.user, "user": cast.person()});
    with(agents::activity(cast, &cast.id(Thing::Activity), &cast.id(Thing::Session)), author)
}
