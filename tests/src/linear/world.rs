//! What a Linear has in it. Rows are never removed; an id is looked up within its organization.

use serde_json::Value;

use super::refusal::Refusal;

/// Linear's ids are UUIDs.
pub type Id = String;

/// An organization, which Linear's users call a workspace.
#[derive(Clone, Debug)]
pub(super) struct Organization {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) url_key: String,
    pub(super) created_ms: u64,
    pub(super) webhook: Id,
    /// Whether anybody here has authorized the app: only then are webhooks sent.
    pub(super) is_authorized: bool,
    /// The app's own user, once it is installed with `actor=app`.
    pub(super) app_user: Option<Id>,
}

#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) admin: bool,
    pub(super) guest: bool,
    pub(super) app: bool,
    pub(super) active: bool,
    pub(super) created_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Team {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) key: String,
    pub(super) name: String,
    pub(super) private: bool,
    pub(super) members: Vec<Id>,
    pub(super) created_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct WorkflowState {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) team: Id,
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) position: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Issue {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) team: Id,
    pub(super) number: u32,
    pub(super) identifier: String,
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) creator: Option<Id>,
    pub(super) assignee: Option<Id>,
    pub(super) delegate: Option<Id>,
    pub(super) state: Id,
    pub(super) subscribers: Vec<Id>,
    pub(super) created_ms: u64,
    pub(super) updated_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Comment {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) issue: Id,
    pub(super) parent: Option<Id>,
    pub(super) body: String,
    pub(super) author: Id,
    pub(super) created_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Reaction {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) emoji: String,
    pub(super) user: Id,
    pub(super) issue: Option<Id>,
    pub(super) comment: Option<Id>,
    pub(super) created_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) issue: Id,
    pub(super) app_user: Id,
    /// Nobody, if the app began the session itself.
    pub(super) creator: Option<Id>,
    /// The first comment of its thread.
    pub(super) comment: Id,
    /// The comment in which the app was mentioned.
    pub(super) source_comment: Option<Id>,
    pub(super) urls: Vec<ExternalUrl>,
    pub(super) external_link: Option<String>,
    pub(super) plan: Value,
    pub(super) created_ms: u64,
    pub(super) updated_ms: u64,
    /// When `created` was first sent.
    pub(super) announced_ms: Option<u64>,
    /// When the app first answered: an activity, or external URLs.
    pub(super) answered_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExternalUrl {
    pub(super) label: String,
    pub(super) url: String,
}

#[derive(Clone, Debug)]
pub(super) struct Activity {
    pub(super) id: Id,
    pub(super) organization: Id,
    pub(super) session: Id,
    pub(super) user: Id,
    pub(super) content: Value,
    pub(super) ephemeral: bool,
    pub(super) signal: Option<String>,
    pub(super) signal_metadata: Value,
    pub(super) source_comment: Option<Id>,
    pub(super) created_ms: u64,
}

impl Activity {
    /// `thought`, `action`, …
    pub(super) fn kind(&self) -> &str {
        self.content["type"].as_str().unwrap_or_default()
    }
}

/// Something with an id, in an organization.
pub(super) trait Row {
    const NAME: &'static str;
    fn id(&self) -> &str;
    fn organization(&self) -> &str;
}

macro_rules! row {
    ($($name:ident $text:literal $organization:ident;)*) => {$(
        impl Row for $name {
            const NAME: &'static str = $text;
            fn id(&self) -> &str { &self.id }
            fn organization(&self) -> &str { &self.$organization }
        }
    )*};
}

row! {
    Organization "Organization" id;
    User "User" organization;
    Team "Team" organization;
    WorkflowState "WorkflowState" organization;
    Issue "Issue" organization;
    Comment "Comment" organization;
    Reaction "Reaction" organization;
    Session "AgentSession" organization;
    Activity "AgentActivity" organization;
}

/// Rows in the order of their creation.
#[derive(Debug)]
pub(super) struct Table<T>(Vec<T>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Row> Table<T> {
    pub(super) fn add(&mut self, row: T) {
        self.0.push(row);
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// The row of an id that was handed out by this fake.
    pub(super) fn get(&self, id: &str) -> Result<&T, Refusal> {
        self.0.iter().find(|row| row.id() == id).ok_or_else(|| Refusal::not_found(T::NAME))
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Result<&mut T, Refusal> {
        self.0.iter_mut().find(|row| row.id() == id).ok_or_else(|| Refusal::not_found(T::NAME))
    }

    /// The row of an id that came from a client: those of other organizations aren't there for it.
    pub(super) fn within(&self, organization: &str, id: &str) -> Result<&T, Refusal> {
        let row = self.get(id)?;
        if row.organization() == organization { Ok(row) } else { Err(Refusal::not_found(T::NAME)) }
    }
}

/// Everything that is in the fake's organizations.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) organizations: Table<Organization>,
    pub(super) users: Table<User>,
    pub(super) teams: Table<Team>,
    pub(super) states: Table<WorkflowState>,
    pub(super) issues: Table<Issue>,
    pub(super) comments: Table<Comment>,
    pub(super) reactions: Table<Reaction>,
    pub(super) sessions: Table<Session>,
    pub(super) activities: Table<Activity>,
    /// The number of the last change.
    pub(super) sync_id: u32,
}

impl World {
    /// An organization by its id or its URL key.
    pub(super) fn organization(&self, reference: &str) -> Result<&Organization, Refusal> {
        let mut all = self.organizations.iter();
        all.find(|row| row.id == reference || row.url_key == reference)
            .ok_or_else(|| Refusal::not_found("Organization"))
    }

    /// A person by id, e-mail address or name.
    pub(super) fn user(&self, reference: &str) -> Result<&User, Refusal> {
        let mut all = self.users.iter();
        all.find(|row| [&row.id, &row.email, &row.name].iter().any(|text| *text == reference))
            .ok_or_else(|| Refusal::not_found("User"))
    }

    /// A team by its id or its key.
    pub(super) fn team(&self, reference: &str) -> Result<&Team, Refusal> {
        let mut all = self.teams.iter();
        all.find(|row| row.id == reference || row.key == reference)
            .ok_or_else(|| Refusal::not_found("Team"))
    }

    /// An issue by its id or its identifier, such as `ENG-1`.
    pub(super) fn issue(&self, reference: &str) -> Result<&Issue, Refusal> {
        let mut all = self.issues.iter();
        all.find(|row| row.id == reference || row.identifier == reference)
            .ok_or_else(|| Refusal::not_found("Issue"))
    }

    /// A session by its id, or the last one on an issue.
    pub(super) fn session(&self, reference: &str) -> Result<&Session, Refusal> {
        if let Ok(session) = self.sessions.get(reference) {
            return Ok(session);
        }
        let issue = self.issue(reference).map_err(|_| Refusal::not_found("AgentSession"))?;
        let mut all = self.sessions.iter().rev();
        all.find(|row| row.issue == issue.id).ok_or_else(|| Refusal::not_found("AgentSession"))
    }

    /// The app's user in an organization.
    pub(super) fn app_user(&self, organization: &str) -> Result<Id, Refusal> {
        let installed = self.organizations.get(organization)?.app_user.clone();
        installed.ok_or_else(|| Refusal::input("The app is not installed in this organization"))
    }

    /// A session's activities as its thread shows them: what was ephemeral is gone once another
    /// follows.
    pub(super) fn activities_of(&self, session: &str) -> Vec<&Activity> {
        let all = self.activities.iter().filter(|row| row.session == session);
        let all: Vec<&Activity> = all.collect();
        let last = all.len().saturating_sub(1);
        let shown = |index: usize, row: &Activity| index == last || !row.ephemeral;
        all.into_iter().enumerate().filter(|(i, row)| shown(*i, row)).map(|(_, row)| row).collect()
    }
}

/// A new random UUID, version 4.
pub(super) fn new_id() -> Id {
    let bits = (fastrand::u128(..) & !(0xf000 << 64) & !(0xc << 60)) | (0x4000 << 64) | (0x8 << 60);
    let text = format!("{bits:032x}");
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

/// Whether an id is a UUID, version 4, as Linear demands of those that clients choose.
pub(super) fn is_uuid_v4(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(index, digit)| match index {
            8 | 13 | 18 | 23 => digit == '-',
            14 => digit == '4',
            19 => matches!(digit.to_ascii_lowercase(), '8' | '9' | 'a' | 'b'),
            _ => digit.is_ascii_hexdigit(),
        })
}
