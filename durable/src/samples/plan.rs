//! Data of planning and administration: projects, initiatives, documents, customers, releases,
//! users, the audit log.

use serde_json::{Value, json};

use super::{
    cast::{Cast, Thing, page, with},
    work,
};

/// A project led by the person.
pub(super) fn project(cast: &Cast<'_>) -> Value {
    let text = json!({
        "id": cast.id(Thing::Project), "identifier": "PRJ-7", "previousIdentifiers": [],
        "name": "Übergabe ohne Verlust", "slugId": "handoff-4f2a",
        "url": page("project/handoff-4f2a"),
        "description": "No event is lost.", "content": "# Ziel\n\nKein Ereignis geht verloren.",
        "color": "#4ea7fc", "icon": "Rocket", "priority": 1, "prioritySortOrder": 17.5,
        "sortOrder": 4, "trashed": null, "syncedWith": [], "health": "onTrack",
        "status": {
            "id": cast.id(Thing::ProjectStatus), "name": "Started", "color": "#f2c94c",
            "type": "started",
        },
        "statusId": cast.id(Thing::ProjectStatus),
    });
    with(with(text, project_dates(cast)), project_relations(cast))
}

fn project_dates(cast: &Cast<'_>) -> Value {
    json!({
        "createdAt": cast.day(60), "updatedAt": cast.ago(650), "archivedAt": null,
        "autoArchivedAt": null, "canceledAt": null, "completedAt": null, "startedAt": cast.day(50),
        "healthUpdatedAt": cast.day(4), "projectUpdateRemindersPausedUntilAt": null,
        "startDate": &cast.day(50)[..10], "startDateResolution": "month",
        "targetDate": &cast.ago(0)[..10], "targetDateResolution": "quarter",
    })
}

fn project_relations(cast: &Cast<'_>) -> Value {
    json!({
        "leadId": cast.user, "lead": cast.person(), "creatorId": cast.colleague_id(),
        "memberIds": [cast.user, cast.colleague_id()], "teamIds": [cast.id(Thing::Team)],
        "labelIds": [], "initiatives": [cast.initiative_child(Thing::Initiative)],
        "milestones": [{
            "id": cast.id(Thing::Milestone), "name": "Beta", "targetDate": &cast.ago(0)[..10],
        }],
        "lastUpdateId": cast.id(Thing::ProjectUpdate), "lastAppliedTemplateId": null,
        "convertedFromIssueId": null, "documentContentId": cast.numbered_id(901),
        "scopeHistory": [40, 44], "issueCountHistory": [20, 22], "inProgressScopeHistory": [5, 9],
        "completedScopeHistory": [0, 12], "completedIssueCountHistory": [0, 6],
    })
}

fn update_text(cast: &Cast<'_>) -> Value {
    json!({
        "body": "Two of three drills passed. ✅\n\nNext: the clock. ⏱️",
        "bodyData": "{\"type\":\"doc\"}",
        "diffMarkdown": "* Health: **At risk** → **On track**", "health": "onTrack",
        "createdAt": cast.day(4), "updatedAt": cast.ago(450), "editedAt": cast.ago(450),
        "archivedAt": null, "reactionData": [{"emoji": "tada", "reactions": []}],
        "slugId": "drills-83", "userId": cast.user, "user": cast.person(),
        "url": page("project/handoff-4f2a/updates#drills-83"),
    })
}

pub(super) fn project_update(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "id": cast.id(Thing::ProjectUpdate), "projectId": cast.id(Thing::Project),
        "project": cast.project_child(),
    });
    with(update_text(cast), fields)
}

pub(super) fn initiative_update(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "id": cast.id(Thing::InitiativeUpdate), "initiativeId": cast.id(Thing::Initiative),
        "initiative": cast.initiative_child(Thing::Initiative),
    });
    with(update_text(cast), fields)
}

/// An initiative owned by the person.
pub(super) fn initiative(cast: &Cast<'_>) -> Value {
    let text = json!({
        "id": cast.id(Thing::Initiative), "identifier": "INI-3", "previousIdentifiers": [],
        "name": "Calm operations", "description": "Niemand wird nachts geweckt.",
        "slugId": "calm-19", "url": page("initiative/calm-19"), "color": "#26b5ce",
        "icon": "Moon", "status": "Active", "priority": 2, "sortOrder": 12.25, "trashed": null,
        "health": "atRisk", "frequencyResolution": "weekly", "updateReminderFrequency": 2,
        "updateReminderFrequencyInWeeks": 2, "updateRemindersDay": 1, "updateRemindersHour": 9,
    });
    with(with(text, initiative_dates(cast)), initiative_relations(cast))
}

fn initiative_dates(cast: &Cast<'_>) -> Value {
    json!({
        "createdAt": cast.day(120), "updatedAt": cast.ago(640), "archivedAt": null,
        "canceledAt": null, "completedAt": null, "startedAt": cast.day(100),
        "healthUpdatedAt": cast.day(6), "targetDate": &cast.ago(0)[..10],
        "targetDateResolution": "year",
    })
}

fn initiative_relations(cast: &Cast<'_>) -> Value {
    json!({
        "organizationId": cast.organization, "ownerId": cast.user, "owner": cast.person(),
        "creatorId": cast.colleague_id(), "creator": cast.colleague(), "labelIds": [],
        "leadTeamId": cast.id(Thing::Team), "lastUpdateId": cast.id(Thing::InitiativeUpdate),
        "lastUpdate": {
            "id": cast.id(Thing::InitiativeUpdate), "bodyData": "{\"type\":\"doc\"}",
            "editedAt": cast.day(6), "health": "atRisk",
        },
        "parentInitiative": cast.initiative_child(Thing::ParentInitiative),
        "parentInitiatives": [cast.initiative_child(Thing::ParentInitiative)],
        "subInitiatives": [], "projects": [cast.project_child()],
    })
}

pub(super) fn document(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Document), "title": "Runbook: draining a stream",
        "content": "1. Drain\n2. Wait\n\n| 時刻 | 状態 |\n|---|---|\n| 09:00 | ✅ |",
        "description": null, "slugId": "runbook-5e", "color": "#bec2c8", "icon": "Book",
        "sortOrder": -3.5, "trashed": null, "hiddenAt": null, "createdAt": cast.day(14),
        "updatedAt": cast.ago(610), "archivedAt": null, "creatorId": cast.colleague_id(),
        "updatedById": cast.user, "subscriberIds": [cast.user], "initiativeId": null,
        "projectId": cast.id(Thing::Project), "resourceFolderId": null,
        "lastAppliedTemplateId": cast.id(Thing::Template),
    })
}

/// A customer owned by the person.
pub(super) fn customer(cast: &Cast<'_>) -> Value {
    let rank = json!({
        "statusId": cast.id(Thing::CustomerStatus), "tierId": cast.id(Thing::CustomerTier),
        "status": {
            "id": cast.id(Thing::CustomerStatus), "name": "active", "displayName": "Active",
            "color": "#4cb782", "description": null, "type": "active",
        },
        "tier": {
            "id": cast.id(Thing::CustomerTier), "name": "gold", "displayName": "Gold",
            "color": "#f2c94c", "description": "Answers within a day",
        },
    });
    let fields = json!({
        "url": page("customer/smorrebrod-2b"), "slugId": "smorrebrod-2b", "ownerId": cast.user,
        "approximateNeedCount": 4, "revenue": 120_000, "size": 85, "logoUrl": null,
        "mainSourceId": null, "slackChannelId": "C0EXAMPLE", "createdAt": cast.day(200),
        "updatedAt": cast.ago(620), "archivedAt": null,
    });
    with(with(customer_child(cast), rank), fields)
}

fn customer_child(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Customer), "name": "Smørrebrød & Sønner", "externalIds": ["crm-118"],
        "domains": ["smorrebrod.example"],
    })
}

pub(super) fn customer_need(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Need), "body": "We must not lose a single order.", "priority": 1,
        "creatorId": cast.user, "customerId": cast.id(Thing::Customer),
        "customer": customer_child(cast), "commentId": null, "issueId": cast.id(Thing::Issue),
        "issue": cast.issue_child(), "originalIssueId": null, "projectId": cast.id(Thing::Project),
        "project": cast.project_child(), "projectAttachmentId": null,
        "attachmentId": cast.id(Thing::Attachment), "attachment": work::attachment(cast),
        "createdAt": cast.day(2), "updatedAt": cast.ago(630), "archivedAt": null,
    })
}

pub(super) fn stage(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Stage), "name": "Canary", "color": "#f2994a", "position": 1.5,
        "type": "started",
    })
}

pub(super) fn release(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::Release), "name": "0.9", "version": "0.9.0", "slugId": "0-9-1d",
        "description": "Resume anywhere", "commitSha": "9f2c4e7a1b3d5f60718293a4b5c6d7e8f9012345",
        "url": page("release/0-9-1d"), "creatorId": cast.user, "issues": [cast.issue_child()],
        "pipelineId": cast.id(Thing::Pipeline), "pipeline": cast.pipeline(),
        "stageId": cast.id(Thing::Stage), "stage": stage(cast), "trashed": null,
        "startDate": &cast.day(3)[..10], "targetDate": &cast.ago(0)[..10],
        "startedAt": cast.day(3), "completedAt": null, "canceledAt": null,
        "createdAt": cast.day(10), "updatedAt": cast.ago(660), "archivedAt": null,
    })
}

pub(super) fn release_note(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::ReleaseNote), "title": "What’s new in 0.9", "slugId": "new-0-9-6a",
        "content": "- Streams resume\n- “Bye” says why", "url": page("release-note/new-0-9-6a"),
        "creatorId": cast.user, "pipelineId": cast.id(Thing::Pipeline),
        "pipeline": cast.pipeline(), "lastReleaseId": cast.id(Thing::Release),
        "releaseIds": [cast.id(Thing::Release)], "createdAt": cast.day(1),
        "updatedAt": cast.ago(670), "archivedAt": null,
    })
}

/// The person.
pub(super) fn user(cast: &Cast<'_>) -> Value {
    let fields = json!({
        "displayName": "zoë", "active": true, "admin": false, "owner": false, "guest": false,
        "app": false, "description": "On call until Friday 🌙", "disableReason": null,
        "timezone": "Europe/Warsaw", "createdAt": cast.day(400), "updatedAt": cast.ago(680),
        "archivedAt": null,
    });
    with(cast.person(), fields)
}

pub(super) fn audit_entry(cast: &Cast<'_>) -> Value {
    json!({
        "id": cast.id(Thing::AuditEntry), "type": "oauthUserGranted", "actorId": cast.user,
        "organizationId": cast.organization, "ip": "203.0.113.9", "countryCode": "PL",
        "metadata": {"clientId": cast.id(Thing::OauthClient)},
        "requestInformation": {"userAgent": "Mozilla/5.0 (X11; Linux x86_64)"},
        "createdAt": cast.ago(690), "updatedAt": cast.ago(690), "archivedAt": null,
    })
}
