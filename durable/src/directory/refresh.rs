//! A machine gets its next pair of tokens. Each showing of a refresh token gives a pair of its own,
//! and none of them counts until one is shown: answers are lost on their way, and a laptop that was
//! closed just then is opened days later, so that until then the token that was shown is good again,
//! however often and late. The first of those pairs that is shown, to refresh or to read, is the
//! machine's. Whoever comes with an older refresh token from then on, or with either token of a pair
//! that was given out beside it, has a copy or was copied, and ends the machine everywhere.
//!
//! A thief who keeps a pair for later, or only reads with it, holds another than the machine does. A
//! request that was sent again and arrives only when the next pair is in use looks like a copy, too:
//! nothing tells them apart.

use relay_schemas::{
    EdgeId, ErrorCode, PersonCheck, Problem, UnixMillis,
    limits::{PERSON_BELIEVED_MS, REFRESH_TOKEN_MS},
};
use serde::{Deserialize, Serialize};

use super::{Edge, EndReason, Machine, pairs::Standing};

/// A machine asks for its next pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshMachine {
    /// Which machine.
    pub edge: EdgeId,
    /// Of the token that it shows.
    pub generation: u64,
    /// What Linear says of its person.
    pub person: PersonCheck,
}

/// What the directory answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshReply {
    /// The machine as it is now; absent if there is none.
    pub edge: Option<Edge>,
    /// Why it gets no next pair.
    pub refused: Option<RefreshRefusal>,
}

/// Why a machine gets no next pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshRefusal {
    /// There is no such machine, or it never had this token.
    Unknown,
    /// It has been off for too long.
    Expired,
    /// It is revoked, perhaps just now.
    Ended(EndReason),
    /// Its organization has no installation.
    NotInstalled,
    /// Nobody could say whether its person is still active; it may try again with the same token.
    Unconfirmed(ErrorCode),
}

impl RefreshRefusal {
    /// The word that it is counted under.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Ended(_) => "ended",
            Self::NotInstalled => "not_installed",
            Self::Unconfirmed(_) => "unconfirmed",
        }
    }

    /// What the machine is told. Only the last is worth trying again.
    pub fn problem(&self) -> Problem {
        let (code, message) = match self {
            Self::Unknown => {
                (ErrorCode::CredentialInvalid, "this is not a machine's refresh token")
            }
            Self::Expired => (ErrorCode::CredentialExpired, "the machine was off for too long"),
            Self::Ended(EndReason::RefreshReused) => (
                ErrorCode::RefreshReused,
                "a refresh token was used twice: somebody may have a copy, so the machine is revoked",
            ),
            Self::Ended(EndReason::PersonInactive) => {
                (ErrorCode::PersonInactive, "the person is no longer active in Linear")
            }
            Self::Ended(_) => (ErrorCode::CredentialRevoked, "the machine was revoked"),
            Self::NotInstalled => (
                ErrorCode::OrganizationNotInstalled,
                "the app is no longer installed in the organization",
            ),
            Self::Unconfirmed(code) => {
                let message = "Linear could not be asked for the person; try again";
                return Problem::new(ErrorCode::Unavailable, message).with("reason", code.as_str());
            }
        };
        Problem::new(code, message)
    }
}

impl Machine {
    /// Whoever shows the refresh token of this generation gets the next pair.
    fn rotate(&mut self, generation: u64, now: UnixMillis) {
        self.pairs.arrive(generation);
        self.pairs.give();
        self.issued_at_s = (now.get() / 1000).max(self.issued_at_s + 1);
        self.refreshed_at = now;
    }
}

/// Gives a machine its next pair, or ends it. Changed or not, `edge` is to be stored before
/// anybody is answered: a crash before that leaves the token that was shown as it was.
pub fn refresh(
    edge: &mut Edge,
    generation: u64,
    person: &PersonCheck,
    now: UnixMillis,
) -> Result<(), RefreshRefusal> {
    if edge.revoked_at.is_some() {
        return Err(RefreshRefusal::Ended(edge.ended_by.unwrap_or(EndReason::Operator)));
    }
    let Some(machine) = &edge.machine else { return Err(RefreshRefusal::Unknown) };
    match machine.pairs.standing(generation) {
        Standing::Never => return Err(RefreshRefusal::Unknown),
        Standing::Sibling | Standing::Former => return end(edge, EndReason::RefreshReused, now),
        Standing::Current | Standing::Awaited => {}
    }
    if now >= edge.expires_at {
        return Err(RefreshRefusal::Expired);
    }
    confirm(edge, person, now)?;
    edge.machine.as_mut().expect("looked at above").rotate(generation, now);
    edge.expires_at = now + REFRESH_TOKEN_MS;
    Ok(())
}

fn end(edge: &mut Edge, reason: EndReason, now: UnixMillis) -> Result<(), RefreshRefusal> {
    edge.end(reason, now);
    Err(RefreshRefusal::Ended(reason))
}

/// Whoever has left loses access here, and whoever has left a team its channel.
fn confirm(edge: &mut Edge, check: &PersonCheck, now: UnixMillis) -> Result<(), RefreshRefusal> {
    let machine = edge.machine.as_mut().expect("a machine is refreshed");
    match check {
        PersonCheck::Confirmed(person) if !person.active => {
            end(edge, EndReason::PersonInactive, now)
        }
        PersonCheck::Confirmed(person) => {
            machine.confirmed_at = now;
            edge.channels = person.allowed(&machine.approved);
            Ok(())
        }
        PersonCheck::Unavailable(_) if now.since_ms(machine.confirmed_at) < PERSON_BELIEVED_MS => {
            Ok(())
        }
        PersonCheck::Unavailable(code) => Err(RefreshRefusal::Unconfirmed(*code)),
        PersonCheck::NotInstalled => Err(RefreshRefusal::NotInstalled),
    }
}
