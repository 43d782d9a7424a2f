//! The decisions, written down one by one. `app` is the app user, `bot` an actor that is no person.

use crate::routing::Rule;

const USER_ACTS: &str = "actor.type=user actor.id=";
const BOT_ACTS: &str = "actor.type=oauthClient actor.id=bot";

pub(super) struct Case {
    pub(super) kind: String,
    /// `path=text`, separated by spaces.
    pub(super) fields: String,
    /// Empty for nobody.
    pub(super) person: &'static str,
    pub(super) rule: Rule,
}

fn case(kind: &str, fields: &str, person: &'static str, rule: Rule) -> Case {
    Case { kind: kind.into(), fields: fields.into(), person, rule }
}

/// Cases that a type has because of `actor`.
fn actor_cases(kind: &str) -> [Case; 3] {
    [
        case(kind, &format!("{USER_ACTS}ann"), "ann", Rule::Actor),
        case(kind, BOT_ACTS, "", Rule::Unrouted),
        case(kind, "actor.id=ann", "", Rule::Unrouted),
    ]
}

fn session_cases() -> Vec<Case> {
    use Rule::{ActivityAuthor, CommentAuthor, SessionCreator, Unrouted};
    let mut cases = Vec::new();
    for kind in ["AgentSessionEvent.created", "AgentSessionEvent.prompted"] {
        let fields = "agentSession.comment.userId=bob agentActivity.userId=cy";
        cases.extend([
            case(kind, &format!("agentSession.creatorId=ann {fields}"), "ann", SessionCreator),
            case(kind, &format!("agentSession.creator.id=ann {fields}"), "ann", SessionCreator),
            case(kind, fields, "bob", CommentAuthor),
            case(kind, "appUserId=app agentSession.creatorId=app", "", Unrouted),
            case(kind, "agentSession.appUserId=app agentSession.creatorId=app", "", Unrouted),
        ]);
    }
    cases.extend([
        case("AgentSessionEvent.created", "agentActivity.userId=cy", "", Unrouted),
        case("AgentSessionEvent.prompted", "agentActivity.userId=cy", "cy", ActivityAuthor),
        case("AgentSessionEvent.prompted", "agentActivity.user.id=cy", "cy", ActivityAuthor),
        case("AgentSessionEvent.prompted", "appUserId=app agentActivity.userId=app", "", Unrouted),
        case("AgentSessionEvent", "agentSession.creatorId=ann", "ann", SessionCreator),
        case("AgentSession.create", "data.creatorId=ann data.creator.id=x", "ann", SessionCreator),
        case("AgentSession.update", "data.creator.id=ann", "ann", SessionCreator),
        case("AgentSession.create", "data.comment.userId=bob", "bob", CommentAuthor),
        case("AgentSession.create", "data.appUserId=app data.creatorId=app", "", Unrouted),
        case(
            "AgentActivity.create",
            "data.content.type=prompt data.userId=cy",
            "cy",
            ActivityAuthor,
        ),
        case(
            "AgentActivity.create",
            "data.content.type=prompt data.user.id=cy",
            "cy",
            ActivityAuthor,
        ),
        case("AgentActivity.create", "data.content.type=thought data.userId=app", "", Unrouted),
    ]);
    cases.extend(["AgentSession.update", "AgentActivity.update"].into_iter().flat_map(actor_cases));
    cases
}

fn notification_cases() -> Vec<Case> {
    use Rule::{Actor, CommentAuthor, ParentCommentAuthor, Unrouted};
    const THREAD: &str = "notification.comment.userId=bob notification.parentComment.userId=cy";
    const APP: &str = "appUserId=app notification.userId=app";
    let mut cases = Vec::new();
    for action in ["issueAssignedToYou", "issueCommentMention", "issueCommentReaction", "system"] {
        let kind = &format!("AppUserNotification.{action}");
        cases.extend([
            case(kind, &format!("{APP} notification.actorId=ann {THREAD}"), "ann", Actor),
            case(kind, &format!("notification.actor.id=ann {THREAD}"), "ann", Actor),
            case(kind, &format!("notification.actorId=app {APP} {THREAD}"), "bob", CommentAuthor),
            case(kind, "notification.parentComment.userId=cy", "cy", ParentCommentAuthor),
            case(kind, APP, "", Unrouted),
            case(kind, "notification.userId=app notification.actorId=app", "", Unrouted),
        ]);
    }
    let reply = "AppUserNotification.issueNewComment";
    let by_app = format!("{APP} notification.parentComment.userId=app notification.actorId=ann");
    cases.extend([
        case(reply, &format!("notification.actorId=ann {THREAD}"), "cy", ParentCommentAuthor),
        case(reply, &by_app, "ann", Actor),
        case(reply, "notification.actor.id=ann notification.comment.userId=bob", "ann", Actor),
        case(reply, "notification.comment.userId=bob", "bob", CommentAuthor),
    ]);
    cases
}

fn control_cases() -> Vec<Case> {
    use Rule::{OrganizationControl, TargetUser, UnknownType, Unrouted};
    vec![
        case("PermissionChange.teamAccessChanged", "userId=ann", "", OrganizationControl),
        case(
            "OAuthApp.revoked",
            "userId=ann actor.type=user actor.id=ann",
            "",
            OrganizationControl,
        ),
        case("OAuthAuthorization.created", "userId=ann user.id=bob", "ann", TargetUser),
        case("OAuthAuthorization.revoked", "user.id=ann", "ann", TargetUser),
        case("OAuthAuthorization", "userId=a/b", "", Unrouted),
        case("Weather.create", "data.userId=ann actor.type=user actor.id=ann", "", UnknownType),
        case("issue.create", "data.assigneeId=ann", "", UnknownType),
    ]
}

fn target_cases() -> Vec<Case> {
    use Rule::{
        Assignee, Author, CommentAuthor, Lead, Owner, ParentCommentAuthor, PreviousAssignee,
        TargetUser, UpdateAuthor,
    };
    let acted =
        |fields: &str| format!("{fields} {USER_ACTS}zed data.userId=zed data.creatorId=zed");
    let mut cases = Vec::new();
    for (kind, field, rule) in [
        ("Issue.create", "data.assigneeId=ann data.assignee.id=x", Assignee),
        ("Issue.update", "data.assignee.id=ann updatedFrom.assigneeId=bob", Assignee),
        ("Issue.update", "updatedFrom.assigneeId=ann", PreviousAssignee),
        (
            "Issue.update",
            "data.assigneeId=app data.delegateId=app updatedFrom.assigneeId=ann",
            PreviousAssignee,
        ),
        ("IssueSLA.set", "issueData.assigneeId=ann issueData.creatorId=bob", Assignee),
        ("IssueSLA.highRisk", "issueData.assignee.id=ann issueData.creatorId=bob", Assignee),
        ("IssueSLA.breached", "issueData.creatorId=ann", Rule::Creator),
        ("IssueSLA.breached", "issueData.creator.id=ann", Rule::Creator),
        (
            "IssueSLA.set",
            "issueData.delegateId=app issueData.assigneeId=app issueData.creatorId=ann",
            Rule::Creator,
        ),
        (
            "Comment.create",
            "data.parent.userId=ann data.projectUpdate.userId=bob",
            ParentCommentAuthor,
        ),
        ("Comment.create", "data.projectUpdate.userId=ann", UpdateAuthor),
        ("Reaction.create", "data.comment.userId=ann data.projectUpdate.userId=bob", CommentAuthor),
        ("Reaction.remove", "data.projectUpdate.userId=ann", UpdateAuthor),
        ("Project.update", "data.leadId=ann data.lead.id=x", Lead),
        ("Project.update", "data.lead.id=ann", Lead),
        ("Initiative.update", "data.ownerId=ann data.owner.id=x", Owner),
        ("Initiative.update", "data.owner.id=ann", Owner),
        ("Customer.update", "data.ownerId=ann", Owner),
        ("User.update", "data.id=ann", TargetUser),
        ("AuditEntry.create", "data.actorId=ann", Rule::Actor),
    ] {
        cases.push(case(kind, &acted(field), "ann", rule));
    }
    for name in ["Comment", "Reaction", "ProjectUpdate", "InitiativeUpdate"] {
        let kind = &format!("{name}.create");
        cases.push(case(kind, &format!("{BOT_ACTS} data.userId=ann"), "ann", Author));
        cases.push(case(kind, &format!("{BOT_ACTS} data.user.id=ann"), "ann", Author));
    }
    cases
}

fn actor_and_creator_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in [
        "Issue",
        "Comment",
        "Reaction",
        "Project",
        "Initiative",
        "Customer",
        "User",
        "AuditEntry",
        "Document",
        "ProjectUpdate",
        "InitiativeUpdate",
        "Cycle",
        "Attachment",
        "IssueLabel",
        "ProjectLabel",
        "InitiativeLabel",
        "CustomerNeed",
        "Release",
        "ReleaseNote",
    ] {
        cases.extend(
            ["create", "update", "remove"]
                .map(|action| format!("{name}.{action}"))
                .iter()
                .flat_map(|kind| actor_cases(kind)),
        );
    }
    for name in [
        "Issue",
        "Project",
        "Initiative",
        "Document",
        "Attachment",
        "IssueLabel",
        "ProjectLabel",
        "InitiativeLabel",
        "CustomerNeed",
        "Release",
        "ReleaseNote",
    ] {
        let kind = &format!("{name}.update");
        cases.push(case(kind, &format!("{BOT_ACTS} data.creatorId=ann"), "ann", Rule::Creator));
        cases.push(case(kind, &format!("{USER_ACTS}bob data.creatorId=ann"), "bob", Rule::Actor));
    }
    for name in ["Issue", "Initiative"] {
        cases.push(case(&format!("{name}.update"), "data.creator.id=ann", "ann", Rule::Creator));
    }
    cases.push(case(
        "Document.update",
        "data.updatedById=ann data.creatorId=bob",
        "ann",
        Rule::Actor,
    ));
    cases
}

pub(super) fn cases() -> Vec<Case> {
    [
        session_cases(),
        notification_cases(),
        control_cases(),
        target_cases(),
        actor_and_creator_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
