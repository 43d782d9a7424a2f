//! Which stream an event goes to.
//!
//! The person whom the payload names as target (session creator, author of the comment answered,
//! assignee, owner, lead), else the person who acted, else the one who made the thing. Linear's
//! own target of agent events is the app user, one for the whole workspace and never a person: a
//! candidate that the payload shows to be an app user is passed over.
//!
//! Accepted limit: only sessions, notifications and delegated issues name their app user. In other
//! payloads an app user that wrote or owns something looks like a person.
//!
//! The organization is the event's own, whatever else the payload says. This file knows nothing
//! about who has an edge, or which session ran where.

use relay_schemas::{Channel, Envelope, StreamKey, UserId, WebhookKind};

/// Where an event goes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The stream, in the event's own organization.
    pub stream: StreamKey,
    /// What in the payload decided it.
    pub rule: Rule,
}

macro_rules! rules {
    ($($(#[$documentation:meta])* $rule:ident = $label:literal,)*) => {
        /// Why an event goes where it goes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$documentation])* $rule,)*
        }

        impl Rule {
            /// The rule's name in metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $label,)*
                }
            }
        }
    };
}

rules! {
    /// The person responsible for the agent session.
    SessionCreator = "session_creator",
    /// Who wrote the comment that started the session, or that is reacted to.
    CommentAuthor = "comment_author",
    /// Who wrote the comment that is answered.
    ParentCommentAuthor = "parent_comment_author",
    /// Who wrote the project update that is commented on or reacted to.
    UpdateAuthor = "update_author",
    /// Who prompted the agent.
    ActivityAuthor = "activity_author",
    /// To whom the issue is assigned.
    Assignee = "assignee",
    /// From whom the issue was taken, leaving it to nobody.
    PreviousAssignee = "previous_assignee",
    /// Who owns the initiative or customer.
    Owner = "owner",
    /// Who leads the project.
    Lead = "lead",
    /// The person that the event is about.
    TargetUser = "target_user",
    /// Who acted.
    Actor = "actor",
    /// Who wrote the comment, reaction or update itself.
    Author = "author",
    /// Who made the thing that changed.
    Creator = "creator",
    /// Nobody: it concerns the app's installation in the organization.
    OrganizationControl = "organization_control",
    /// Nobody: the payload names no person.
    Unrouted = "unrouted",
    /// Nobody: the table has no such type.
    UnknownType = "unknown_type",
}

impl Rule {
    /// Whether it found a person.
    pub fn is_person(self) -> bool {
        !matches!(self, Self::OrganizationControl | Self::Unrouted | Self::UnknownType)
    }
}

/// Decides the stream of an event. Depends on the payload alone, so that every delivery of an
/// event takes the same way.
pub fn route(envelope: &Envelope<'_>) -> Route {
    let (channel, rule) = choose(envelope);
    Route { stream: StreamKey { organization: envelope.organization.clone(), channel }, rule }
}

fn choose(envelope: &Envelope<'_>) -> (Channel, Rule) {
    let Some(row) = TABLE.iter().find(|row| row.is_for(&envelope.kind)) else {
        return (Channel::Unrouted, Rule::UnknownType);
    };
    let person = row.candidates.iter().find_map(|candidate| {
        candidate.person(envelope).map(|user| (Channel::User(user), candidate.rule))
    });
    person.unwrap_or((Channel::Unrouted, row.otherwise))
}

type Path = &'static [&'static str];

/// The first row for a type and action counts; in it, the first candidate that names a person.
struct Row {
    name: &'static str,
    /// `None`: every other action.
    action: Option<&'static str>,
    candidates: &'static [Candidate],
    otherwise: Rule,
}

impl Row {
    fn is_for(&self, kind: &WebhookKind) -> bool {
        self.name == kind.name && (self.action.is_none() || self.action == kind.action.as_deref())
    }
}

struct Candidate {
    path: Path,
    rule: Rule,
    /// The text that must stand at another path for this one to name a person.
    only_if: Option<(Path, &'static str)>,
}

impl Candidate {
    fn person(&self, envelope: &Envelope<'_>) -> Option<UserId> {
        if let Some((path, text)) = self.only_if
            && envelope.text_at(path)? != text
        {
            return None;
        }
        let user: UserId = envelope.text_at(self.path)?.parse().ok()?;
        let is_app = APP_USERS
            .iter()
            .any(|path| envelope.text_at(path).is_some_and(|app| app == user.as_str()));
        (!is_app).then_some(user)
    }
}

/// Where payloads name an app user. Only agents can be delegates.
const APP_USERS: &[Path] = &[
    &["appUserId"],
    &["agentSession", "appUserId"],
    &["notification", "userId"],
    &["data", "appUserId"],
    &["data", "delegateId"],
    &["issueData", "delegateId"],
];

const fn at(path: Path, rule: Rule) -> Candidate {
    Candidate { path, rule, only_if: None }
}

const fn only_if(condition: (Path, &'static str), path: Path, rule: Rule) -> Candidate {
    Candidate { path, rule, only_if: Some(condition) }
}

const fn row(name: &'static str, candidates: &'static [Candidate]) -> Row {
    Row { name, action: None, candidates, otherwise: Rule::Unrouted }
}

const fn row_of(name: &'static str, action: &'static str, candidates: &'static [Candidate]) -> Row {
    Row { name, action: Some(action), candidates, otherwise: Rule::Unrouted }
}

const fn control(name: &'static str) -> Row {
    Row { name, action: None, candidates: &[], otherwise: Rule::OrganizationControl }
}

/// The actor may also be an OAuth client, an integration or a person outside of Linear.
const ACTOR: Candidate = only_if((&["actor", "type"], "user"), &["actor", "id"], Rule::Actor);
const CREATOR_ID: Candidate = at(&["data", "creatorId"], Rule::Creator);
const CREATOR: Candidate = at(&["data", "creator", "id"], Rule::Creator);
const AUTHOR_ID: Candidate = at(&["data", "userId"], Rule::Author);
const AUTHOR: Candidate = at(&["data", "user", "id"], Rule::Author);
const UPDATE_AUTHOR: Candidate = at(&["data", "projectUpdate", "userId"], Rule::UpdateAuthor);

const SESSION_CREATOR_ID: Candidate = at(&["agentSession", "creatorId"], Rule::SessionCreator);
const SESSION_CREATOR: Candidate = at(&["agentSession", "creator", "id"], Rule::SessionCreator);
const SESSION_COMMENT: Candidate = at(&["agentSession", "comment", "userId"], Rule::CommentAuthor);

const NOTIFICATION_ACTOR_ID: Candidate = at(&["notification", "actorId"], Rule::Actor);
const NOTIFICATION_ACTOR: Candidate = at(&["notification", "actor", "id"], Rule::Actor);
const NOTIFICATION_COMMENT: Candidate =
    at(&["notification", "comment", "userId"], Rule::CommentAuthor);
const NOTIFICATION_PARENT: Candidate =
    at(&["notification", "parentComment", "userId"], Rule::ParentCommentAuthor);

/// An activity of any other kind is written by the agent itself.
const IS_PROMPT: (Path, &str) = (&["data", "content", "type"], "prompt");

/// Payloads without a target.
const WHO_ACTED: &[Candidate] = &[ACTOR, CREATOR_ID];
const WHO_WROTE: &[Candidate] = &[ACTOR, AUTHOR_ID, AUTHOR];

const TABLE: &[Row] = &[
    // The session's creator keeps the session, also when somebody else prompts in it.
    row_of(
        "AgentSessionEvent",
        "prompted",
        &[
            SESSION_CREATOR_ID,
            SESSION_CREATOR,
            SESSION_COMMENT,
            at(&["agentActivity", "userId"], Rule::ActivityAuthor),
            at(&["agentActivity", "user", "id"], Rule::ActivityAuthor),
        ],
    ),
    row("AgentSessionEvent", &[SESSION_CREATOR_ID, SESSION_CREATOR, SESSION_COMMENT]),
    // A reply goes to the author of the comment it answers; if that is the app, or the comment
    // answers none, to who wrote it. A mention or a reaction is the doing of its actor, in
    // whosever thread: those follow the general row.
    row_of(
        "AppUserNotification",
        "issueNewComment",
        &[NOTIFICATION_PARENT, NOTIFICATION_ACTOR_ID, NOTIFICATION_ACTOR, NOTIFICATION_COMMENT],
    ),
    row(
        "AppUserNotification",
        &[NOTIFICATION_ACTOR_ID, NOTIFICATION_ACTOR, NOTIFICATION_COMMENT, NOTIFICATION_PARENT],
    ),
    control("PermissionChange"),
    control("OAuthApp"),
    row(
        "OAuthAuthorization",
        &[at(&["userId"], Rule::TargetUser), at(&["user", "id"], Rule::TargetUser)],
    ),
    row(
        "IssueSLA",
        &[
            at(&["issueData", "assigneeId"], Rule::Assignee),
            at(&["issueData", "assignee", "id"], Rule::Assignee),
            at(&["issueData", "creatorId"], Rule::Creator),
            at(&["issueData", "creator", "id"], Rule::Creator),
        ],
    ),
    row(
        "Issue",
        &[
            at(&["data", "assigneeId"], Rule::Assignee),
            at(&["data", "assignee", "id"], Rule::Assignee),
            at(&["updatedFrom", "assigneeId"], Rule::PreviousAssignee),
            ACTOR,
            CREATOR_ID,
            CREATOR,
        ],
    ),
    row(
        "Comment",
        &[
            at(&["data", "parent", "userId"], Rule::ParentCommentAuthor),
            UPDATE_AUTHOR,
            ACTOR,
            AUTHOR_ID,
            AUTHOR,
        ],
    ),
    row(
        "Reaction",
        &[
            at(&["data", "comment", "userId"], Rule::CommentAuthor),
            UPDATE_AUTHOR,
            ACTOR,
            AUTHOR_ID,
            AUTHOR,
        ],
    ),
    row(
        "Project",
        &[
            at(&["data", "leadId"], Rule::Lead),
            at(&["data", "lead", "id"], Rule::Lead),
            ACTOR,
            CREATOR_ID,
        ],
    ),
    row(
        "Initiative",
        &[
            at(&["data", "ownerId"], Rule::Owner),
            at(&["data", "owner", "id"], Rule::Owner),
            ACTOR,
            CREATOR_ID,
            CREATOR,
        ],
    ),
    row("Customer", &[at(&["data", "ownerId"], Rule::Owner), ACTOR]),
    row("User", &[at(&["data", "id"], Rule::TargetUser), ACTOR]),
    row("AuditEntry", &[at(&["data", "actorId"], Rule::Actor), ACTOR]),
    row(
        "AgentSession",
        &[
            at(&["data", "creatorId"], Rule::SessionCreator),
            at(&["data", "creator", "id"], Rule::SessionCreator),
            at(&["data", "comment", "userId"], Rule::CommentAuthor),
            ACTOR,
        ],
    ),
    row(
        "AgentActivity",
        &[
            only_if(IS_PROMPT, &["data", "userId"], Rule::ActivityAuthor),
            only_if(IS_PROMPT, &["data", "user", "id"], Rule::ActivityAuthor),
            ACTOR,
        ],
    ),
    row("Document", &[ACTOR, at(&["data", "updatedById"], Rule::Actor), CREATOR_ID]),
    row("ProjectUpdate", WHO_WROTE),
    row("InitiativeUpdate", WHO_WROTE),
    row("Cycle", &[ACTOR]),
    row("Attachment", WHO_ACTED),
    row("IssueLabel", WHO_ACTED),
    row("ProjectLabel", WHO_ACTED),
    row("InitiativeLabel", WHO_ACTED),
    row("CustomerNeed", WHO_ACTED),
    row("Release", WHO_ACTED),
    row("ReleaseNote", WHO_ACTED),
];

#[cfg(test)]
mod tests;
