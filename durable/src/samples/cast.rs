//! Who and what appears in the samples, and the short forms in which payloads name them.

use relay_schemas::UnixMillis;
use serde_json::{Value, json};

/// Things of the scene, each with an id of its own.
#[derive(Clone, Copy)]
pub(super) enum Thing {
    Webhook = 1,
    OauthClient,
    AppUser,
    Colleague,
    Team,
    ParentTeam,
    Issue,
    ParentIssue,
    Comment,
    ParentComment,
    State,
    Cycle,
    Label,
    ParentLabel,
    Project,
    ProjectStatus,
    Milestone,
    ProjectUpdate,
    Initiative,
    ParentInitiative,
    InitiativeUpdate,
    Document,
    Customer,
    CustomerStatus,
    CustomerTier,
    Need,
    Attachment,
    Reaction,
    Release,
    Pipeline,
    Stage,
    ReleaseNote,
    AuditEntry,
    Session,
    Activity,
    Template,
}

/// One person's scene in one organization, at one moment. The same arguments give the same bytes.
pub(super) struct Cast<'a> {
    pub(super) organization: &'a str,
    pub(super) user: &'a str,
    pub(super) now_ms: u64,
}

impl Cast<'_> {
    /// The id of a thing; shared by everybody in the organization only where Linear does so.
    pub(super) fn id(&self, thing: Thing) -> String {
        match thing {
            Thing::Webhook | Thing::OauthClient | Thing::AppUser => {
                uuid(&[self.organization], thing as u64)
            }
            _ => uuid(&[self.organization, self.user], thing as u64),
        }
    }

    /// An id beside those of the things.
    pub(super) fn numbered_id(&self, number: u64) -> String {
        uuid(&[self.organization, self.user], number.wrapping_add(1_000))
    }

    /// The text of a moment in the past.
    pub(super) fn ago(&self, milliseconds: u64) -> String {
        (UnixMillis::new(self.now_ms) - milliseconds).to_string()
    }

    pub(super) fn day(&self, days_ago: u64) -> String {
        self.ago(days_ago * 86_400_000)
    }

    pub(super) fn person(&self) -> Value {
        user_child(self.user, "Zoë Łukasiewicz", "zoe")
    }

    pub(super) fn colleague_id(&self) -> String {
        self.id(Thing::Colleague)
    }

    pub(super) fn colleague(&self) -> Value {
        user_child(&self.colleague_id(), "山田 太郎", "taro")
    }

    pub(super) fn team(&self) -> Value {
        json!({"id": self.id(Thing::Team), "key": "REL", "name": "Relay – Kern"})
    }

    pub(super) fn issue_child(&self) -> Value {
        json!({
            "id": self.id(Thing::Issue), "identifier": "REL-128", "title": ISSUE_TITLE,
            "url": page("issue/REL-128/the-stream-stops"), "teamId": self.id(Thing::Team),
            "team": self.team(),
        })
    }

    pub(super) fn described_issue(&self) -> Value {
        with(self.issue_child(), json!({"description": ISSUE_DESCRIPTION}))
    }

    pub(super) fn comment_child(&self, thing: Thing, author: &str, body: &str) -> Value {
        json!({
            "id": self.id(thing), "body": body, "userId": author,
            "issueId": self.id(Thing::Issue), "documentContentId": null, "projectId": null,
            "projectUpdateId": null, "initiativeId": null, "initiativeUpdateId": null,
        })
    }

    pub(super) fn project_child(&self) -> Value {
        json!({
            "id": self.id(Thing::Project), "name": "Übergabe ohne Verlust",
            "url": page("project/handoff-4f2a"),
        })
    }

    pub(super) fn project_update_child(&self, author: &str) -> Value {
        json!({
            "id": self.id(Thing::ProjectUpdate), "body": "Two of three drills passed. ✅",
            "userId": author, "project": self.project_child(),
        })
    }

    pub(super) fn initiative_child(&self, thing: Thing) -> Value {
        json!({"id": self.id(thing), "name": "Calm operations", "url": page("initiative/calm-19")})
    }

    pub(super) fn document_child(&self) -> Value {
        json!({
            "id": self.id(Thing::Document), "title": "Runbook: draining a stream",
            "projectId": self.id(Thing::Project), "project": self.project_child(),
            "initiativeId": null, "initiative": null,
        })
    }

    pub(super) fn pipeline(&self) -> Value {
        json!({
            "id": self.id(Thing::Pipeline), "name": "Production", "slugId": "production-7c",
            "type": "continuous", "url": page("pipeline/production-7c"),
        })
    }
}

pub(super) const ISSUE_TITLE: &str = "The stream stops after “bye” – naïve retry loses Ω events 🚧";

pub(super) const ISSUE_DESCRIPTION: &str = "## Steps\n\n1. Open a stream\n2. Cut the network\n\n\
    ```json\n{\"type\":\"bye\",\"cursor\":\"…\"}\n```\n\nWanted: `resume`, seen: \"gap\".\u{2028}";

pub(super) fn user_child(id: &str, name: &str, mailbox: &str) -> Value {
    json!({
        "id": id, "name": name, "email": format!("{mailbox}@example.com"),
        "url": page(&format!("profiles/{mailbox}")),
        "avatarUrl": format!("https://avatars.example.com/{mailbox}.png"),
    })
}

pub(super) fn page(path: &str) -> String {
    format!("https://linear.app/example/{path}")
}

/// `base` with the fields of `more`, which win.
pub(super) fn with(mut base: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut base, more) {
        fields.extend(more);
    }
    base
}

/// An id in the form of a random UUID, the same for the same arguments.
pub(super) fn uuid(owners: &[&str], number: u64) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in owners.iter().flat_map(|owner| owner.bytes().chain([0])) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let high = mix(state ^ mix(number));
    let low = mix(high.wrapping_add(number));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 50),
        low & 0xffff_ffff_ffff,
    )
}

/// Spreads every bit of the input over all bits of the output, one to one.
fn mix(number: u64) -> u64 {
    let mut state = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
