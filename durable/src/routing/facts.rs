use relay_schemas::{
    Envelope, Subject, UserId,
    limits::{IDENTIFIER_LENGTH_MAX, TEAMS_PER_EVENT_MAX},
};
use serde::{Deserialize, Serialize};

use super::{Rule, table};

type Path = &'static [&'static str];

/// A person that a payload names, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// As what.
    pub rule: Rule,
    /// Whom; perhaps an app user.
    pub user: UserId,
}

/// All that the decision where an event goes needs of its payload. Holds no text that people wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteFacts {
    /// `Type.action`.
    pub kind: String,
    /// The persons named, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// Why it is nobody's, when none of them is a person.
    pub otherwise: Rule,
    /// The app of Linear that it was sent to (`oauthClientId`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// That app's user in this organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_user: Option<UserId>,
    /// All agents that it names: the app user, an issue's delegate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<UserId>,
    /// Who did it: a user, or an OAuth client, an integration, somebody outside of Linear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The agent session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What the agent is told besides (`agentActivity.signal`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue: Option<String>,
    /// The teams that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<String>,
    /// How it relates to agent sessions.
    #[serde(default)]
    pub bond: Bond,
}

/// How an event relates to agent sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bond {
    /// It announces its session, or goes on with it: whoever gets it is the session's owner.
    Session,
    /// It tells what happens in a session.
    InSession,
    /// What happens to an issue is told to whoever works on it.
    Issue,
    /// None.
    #[default]
    #[serde(other)]
    None,
}

impl RouteFacts {
    /// Reads a payload.
    pub fn of(envelope: &Envelope<'_>) -> Self {
        let (candidates, otherwise) = table::candidates(envelope);
        let kind = &envelope.kind;
        let (name, action) = (kind.name.as_str(), kind.action.as_deref().unwrap_or_default());
        let paths = Paths::of(name, action);
        Self {
            kind: kind.to_string(),
            candidates,
            otherwise,
            app: first_word(envelope, &[&["oauthClientId"]]),
            app_user: first_word(envelope, paths.app_user).and_then(|user| user.parse().ok()),
            agents: words(envelope, AGENTS).filter_map(|user| user.parse().ok()).collect(),
            actor: first_word(envelope, paths.actor),
            session: first_word(envelope, paths.session),
            signal: first_word(envelope, &[&["agentActivity", "signal"]]),
            issue: first_word(envelope, paths.issue),
            teams: teams(envelope, paths.teams),
            bond: bond(name, action),
        }
    }

    /// Whether it concerns the app's installation.
    pub fn is_control(&self) -> bool {
        self.otherwise == Rule::OrganizationControl
    }

    /// Whether it is addressed to an agent, and so starts work: one machine's, not a whole team's.
    pub fn is_addressed(&self) -> bool {
        let name = self.kind.split('.').next().unwrap_or_default();
        ["AgentSessionEvent", "AppUserNotification", "AgentSession", "AgentActivity"]
            .contains(&name)
    }

    /// What the event's record says that it is about.
    pub fn subject(&self, routed_by: Rule) -> Subject<'_> {
        Subject {
            app: self.app.as_deref().map(Into::into),
            session: self.session.as_deref().map(Into::into),
            issue: self.issue.as_deref().map(Into::into),
            routed_by: Some(routed_by.as_str().into()),
        }
    }
}

/// Where payloads name an agent, which is never a person. Only agents can be delegates.
const AGENTS: &[Path] = &[
    &["appUserId"],
    &["agentSession", "appUserId"],
    &["notification", "userId"],
    &["data", "appUserId"],
    &["data", "delegateId"],
    &["issueData", "delegateId"],
];

/// Where a type of payload says what it is about. Few, because each is looked for from the start
/// of a body that can have megabytes.
struct Paths {
    app_user: &'static [Path],
    actor: &'static [Path],
    session: &'static [Path],
    issue: &'static [Path],
    teams: &'static [Path],
}

const SESSION_EVENT: Paths = Paths {
    app_user: &[&["appUserId"], &["agentSession", "appUserId"]],
    actor: &[&["agentSession", "creatorId"], &["agentSession", "creator", "id"]],
    session: &[&["agentSession", "id"], &["agentActivity", "agentSessionId"]],
    issue: &[&["agentSession", "issueId"], &["agentSession", "issue", "id"]],
    teams: &[&["agentSession", "issue", "teamId"], &["agentSession", "issue", "team", "id"]],
};

const PROMPT: Paths = Paths {
    actor: &[&["agentActivity", "userId"], &["agentActivity", "user", "id"]],
    ..SESSION_EVENT
};

const NOTIFICATION: Paths = Paths {
    app_user: &[&["appUserId"], &["notification", "userId"]],
    actor: &[&["notification", "actorId"], &["notification", "actor", "id"]],
    session: &[],
    issue: &[&["notification", "issueId"], &["notification", "issue", "id"]],
    teams: &[&["notification", "issue", "teamId"], &["notification", "issue", "team", "id"]],
};

const DATA: Paths = Paths {
    app_user: &[],
    actor: &[&["actor", "id"]],
    session: &[],
    issue: &[&["data", "issueId"], &["data", "issue", "id"]],
    teams: &[
        &["data", "teamId"],
        &["data", "team", "id"],
        &["data", "issue", "teamId"],
        &["data", "issue", "team", "id"],
    ],
};

const CREATED_BY_USER: Paths =
    Paths { actor: &[&["actor", "id"], &["data", "userId"], &["data", "user", "id"]], ..DATA };

impl Paths {
    fn of(name: &str, action: &str) -> Self {
        match (name, action) {
            ("AgentSessionEvent", "prompted") => PROMPT,
            ("AgentSessionEvent", _) => SESSION_EVENT,
            ("AppUserNotification", _) => NOTIFICATION,
            ("AgentSession", _) => {
                Self { app_user: &[&["data", "appUserId"]], session: &[&["data", "id"]], ..DATA }
            }
            ("AgentActivity", _) => {
                Self { session: &[&["data", "agentSessionId"]], ..CREATED_BY_USER }
            }
            ("Issue", _) => Self { issue: &[&["data", "id"]], ..DATA },
            ("IssueSLA", _) => Self {
                issue: &[&["issueData", "id"]],
                teams: &[&["issueData", "teamId"], &["issueData", "team", "id"]],
                ..DATA
            },
            ("Reaction", "create") => Self {
                issue: &[&["data", "issue", "id"], &["data", "comment", "issueId"]],
                ..CREATED_BY_USER
            },
            ("Reaction", _) => {
                Self { issue: &[&["data", "issue", "id"], &["data", "comment", "issueId"]], ..DATA }
            }
            ("Comment" | "ProjectUpdate" | "InitiativeUpdate", "create") => CREATED_BY_USER,
            ("Project", _) => Self { teams: &[&["data", "teamIds"]], ..DATA },
            ("Initiative", _) => Self { teams: &[&["data", "leadTeamId"]], ..DATA },
            ("PermissionChange", _) => Self { app_user: &[&["appUserId"]], teams: &[], ..DATA },
            _ => DATA,
        }
    }
}

/// What begins something goes to who began it, whoever works on the issue already: a delegation, a
/// mention. What goes on goes to who works on it.
fn bond(name: &str, action: &str) -> Bond {
    match name {
        "AgentSessionEvent" | "AgentSession" => Bond::Session,
        "AgentActivity" => Bond::InSession,
        "AppUserNotification" if action == "issueAssignedToYou" => Bond::None,
        "AppUserNotification" if action.to_ascii_lowercase().ends_with("mention") => Bond::None,
        "AppUserNotification" | "Issue" | "Comment" | "Reaction" | "Attachment" => Bond::Issue,
        _ => Bond::None,
    }
}

fn words(envelope: &Envelope<'_>, paths: &'static [Path]) -> impl Iterator<Item = String> {
    paths.iter().filter_map(|path| envelope.text_at(path)).filter(|text| is_word(text))
}

fn first_word(envelope: &Envelope<'_>, paths: &'static [Path]) -> Option<String> {
    words(envelope, paths).next()
}

fn teams(envelope: &Envelope<'_>, paths: &'static [Path]) -> Vec<String> {
    let mut teams: Vec<String> = Vec::new();
    for team in paths.iter().flat_map(|path| envelope.texts_at(path)) {
        if is_word(&team) && !teams.contains(&team) && teams.len() < TEAMS_PER_EVENT_MAX {
            teams.push(team);
        }
    }
    teams
}

/// Linear's ids are UUIDs. What is stranger is not kept, and nothing is found by it.
fn is_word(text: &str) -> bool {
    (1..=IDENTIFIER_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
