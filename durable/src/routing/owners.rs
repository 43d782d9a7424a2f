use relay_schemas::{
    Channel, UnixMillis,
    limits::{OWNER_AGE_MS, OWNER_TOUCH_MS, OWNERS_PER_ISSUE_MAX},
};
use serde::{Deserialize, Serialize};

/// Where an agent session goes, and with it what happens to its issue. Mostly a person's channel;
/// the organization's or a team's, if it began there: whichever machine took it up reads that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Whose session it is, among several apps that post to one relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Where it goes.
    pub channel: Channel,
}

impl Owner {
    /// Whether an event that was sent to `app` concerns this owner. Changes of data are sent to no
    /// app in particular.
    pub(super) fn concerns(&self, app: Option<&str>) -> bool {
        match (&self.app, app) {
            (Some(own), Some(app)) => own == app,
            _ => true,
        }
    }
}

/// The owners of one session, or of the sessions on one issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRow {
    /// Oldest first; of a session there is one.
    pub owners: Vec<Owner>,
    /// When an event last followed them, to the day.
    pub seen_at: UnixMillis,
}

/// Of what something is the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owned<'a> {
    Session(&'a str),
    Issue(&'a str),
}

impl Owned<'_> {
    /// The key of its row.
    pub(super) fn key(self) -> String {
        match self {
            Self::Session(id) => format!("session/{id}"),
            Self::Issue(id) => format!("issue/{id}"),
        }
    }
}

impl OwnerRow {
    pub(super) fn empty(now: UnixMillis) -> Self {
        Self { owners: Vec::new(), seen_at: now }
    }

    pub(super) fn is_expired(&self, now: UnixMillis) -> bool {
        now.since_ms(self.seen_at) > OWNER_AGE_MS
    }

    /// Notes that an event has followed; answers whether that is to be written.
    pub(super) fn touch(&mut self, now: UnixMillis) -> bool {
        let is_old = now.since_ms(self.seen_at) >= OWNER_TOUCH_MS;
        if is_old {
            self.seen_at = now;
        }
        is_old
    }

    pub(super) fn forget(&mut self, lost: &[Owner]) -> bool {
        let count = self.owners.len();
        self.owners.retain(|owner| !lost.contains(owner));
        self.owners.len() != count
    }

    /// Adds an owner: in the place of the one before for a session, beside the others for an issue.
    pub(super) fn add(&mut self, owned: Owned<'_>, owner: &Owner) -> bool {
        if self.owners.contains(owner) {
            return false;
        }
        match owned {
            Owned::Session(_) => self.owners.retain(|other| !other.concerns(owner.app.as_deref())),
            Owned::Issue(_) if self.owners.len() >= OWNERS_PER_ISSUE_MAX => {
                self.owners.remove(0);
            }
            Owned::Issue(_) => {}
        }
        self.owners.push(owner.clone());
        true
    }
}
