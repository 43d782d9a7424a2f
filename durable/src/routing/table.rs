//! Whom each payload names, in the order in which they are asked for: the person that it names as
//! target (session creator, author of the comment answered, assignee, owner, lead), else the person
//! who acted, else the one who made the thing.

use relay_schemas::{Envelope, WebhookKind};

use super::{Candidate, Rule};

/// The persons that a payload names, best first, and the rule when there is none among them. An app
/// user may be among them.
pub(super) fn candidates(envelope: &Envelope<'_>) -> (Vec<Candidate>, Rule) {
    let Some(row) = TABLE.iter().find(|row| row.is_for(&envelope.kind)) else {
        return (Vec::new(), Rule::UnknownType);
    };
    let named = row.sources.iter().filter_map(|source| source.candidate(envelope));
    (named.collect(), row.otherwise)
}

type Path = &'static [&'static str];

/// The first row for a type and action counts.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// `None`: every other action.
    pub(super) action: Option<&'static str>,
    pub(super) sources: &'static [Source],
    otherwise: Rule,
}

impl Row {
    fn is_for(&self, kind: &WebhookKind) -> bool {
        self.name == kind.name && (self.action.is_none() || self.action == kind.action.as_deref())
    }
}

/// Where a payload may name a person.
pub(super) struct Source {
    pub(super) path: Path,
    pub(super) rule: Rule,
    /// The text that must stand at another path for this one to name a person.
    only_if: Option<(Path, &'static str)>,
}

impl Source {
    fn candidate(&self, envelope: &Envelope<'_>) -> Option<Candidate> {
        if let Some((path, text)) = self.only_if
            && envelope.text_at(path)? != text
        {
            return None;
        }
        let user = envelope.text_at(self.path)?.parse().ok()?;
        Some(Candidate { rule: self.rule, user })
    }
}

const fn at(path: Path, rule: Rule) -> Source {
    Source { path, rule, only_if: None }
}

const fn only_if(condition: (Path, &'static str), path: Path, rule: Rule) -> Source {
    Source { path, rule, only_if: Some(condition) }
}

const fn row(name: &'static str, sources: &'static [Source]) -> Row {
    Row { name, action: None, sources, otherwise: Rule::Unrouted }
}

const fn row_of(name: &'static str, action: &'static str, sources: &'static [Source]) -> Row {
    Row { name, action: Some(action), sources, otherwise: Rule::Unrouted }
}

const fn control(name: &'static str) -> Row {
    Row { name, action: None, sources: &[], otherwise: Rule::OrganizationControl }
}

/// The actor may also be an OAuth client, an integration or a person outside of Linear.
const ACTOR: Source = only_if((&["actor", "type"], "user"), &["actor", "id"], Rule::Actor);
const CREATOR_ID: Source = at(&["data", "creatorId"], Rule::Creator);
const CREATOR: Source = at(&["data", "creator", "id"], Rule::Creator);
const AUTHOR_ID: Source = at(&["data", "userId"], Rule::Author);
const AUTHOR: Source = at(&["data", "user", "id"], Rule::Author);
const UPDATE_AUTHOR: Source = at(&["data", "projectUpdate", "userId"], Rule::UpdateAuthor);

const SESSION_CREATOR_ID: Source = at(&["agentSession", "creatorId"], Rule::SessionCreator);
const SESSION_CREATOR: Source = at(&["agentSession", "creator", "id"], Rule::SessionCreator);
const SESSION_COMMENT: Source = at(&["agentSession", "comment", "userId"], Rule::CommentAuthor);

const NOTIFICATION_ACTOR_ID: Source = at(&["notification", "actorId"], Rule::Actor);
const NOTIFICATION_ACTOR: Source = at(&["notification", "actor", "id"], Rule::Actor);
const NOTIFICATION_COMMENT: Source =
    at(&["notification", "comment", "userId"], Rule::CommentAuthor);
const NOTIFICATION_PARENT: Source =
    at(&["notification", "parentComment", "userId"], Rule::ParentCommentAuthor);

/// An activity of any other kind is written by the agent itself.
const IS_PROMPT: (Path, &str) = (&["data", "content", "type"], "prompt");

/// Payloads without a target.
const WHO_ACTED: &[Source] = &[ACTOR, CREATOR_ID];
const WHO_WROTE: &[Source] = &[ACTOR, AUTHOR_ID, AUTHOR];

pub(super) const TABLE: &[Row] = &[
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
