use relay_schemas::{
    Channel, Claims, EdgeId, ErrorCode, OrganizationId, Problem, RefreshClaims, Scope, TokenError,
    UnixMillis, UserId,
    limits::{ACCESS_TOKEN_MS, MACHINES_PER_PERSON_MAX, REFRESH_TOKEN_MS},
};
use serde::{Deserialize, Serialize};

use super::{
    Edge, EndReason, EnrolRequest, enrol,
    pairs::{Pairs, Standing},
};

/// What a machine has that its person has signed in: a pair of tokens at a time, of which the
/// second gets the next pair. Neither is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Which of them are good.
    #[serde(flatten)]
    pub(super) pairs: Pairs,
    /// The newest pair's `iat`, in whole seconds.
    pub issued_at_s: u64,
    /// When it was given out.
    pub refreshed_at: UnixMillis,
    /// When an access token last showed that a pair had arrived.
    #[serde(default)]
    pub used_at: Option<UnixMillis>,
    /// When Linear last said that the person is active.
    pub confirmed_at: UnixMillis,
    /// The channels that the person has approved; it reads those of them that the person may.
    #[serde(default)]
    pub approved: Vec<Channel>,
    /// Near where the person was, in the platform's words.
    #[serde(default)]
    pub location: Option<String>,
}

/// A person approves a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveMachine {
    /// The machine's id, chosen when it asked: approving it twice makes one machine.
    pub edge: EdgeId,
    /// The person's organization.
    pub organization: OrganizationId,
    /// The person.
    pub user: UserId,
    /// The machine's name.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The channels that it may read besides the person's.
    pub channels: Vec<Channel>,
    /// Near where the person is.
    pub location: Option<String>,
}

/// Makes the record of an approved machine, among all edges of its organization.
pub fn approve(request: ApproveMachine, edges: &[Edge], now: UnixMillis) -> Result<Edge, Problem> {
    if let Some(known) = edges.iter().find(|edge| edge.id == request.edge) {
        if known.user == request.user && known.is_active(now) {
            return Ok(known.clone());
        }
        let message = "this machine was approved by somebody else, or is revoked";
        return Err(Problem::new(ErrorCode::EdgeUnknown, message));
    }
    let active: Vec<&Edge> = edges.iter().filter(|edge| edge.is_active(now)).collect();
    let is_theirs = |edge: &&&Edge| edge.machine.is_some() && edge.user == request.user;
    if active.iter().filter(is_theirs).count() >= MACHINES_PER_PERSON_MAX {
        let message = format!(
            "a person has at most {MACHINES_PER_PERSON_MAX} machines; revoke one at /device/machines"
        );
        return Err(Problem::new(ErrorCode::EdgesTooMany, message));
    }
    let enrolment = EnrolRequest {
        organization: request.organization,
        user: request.user,
        name: Some(request.name),
        scopes: Some(request.scopes),
        channels: request.channels,
        expires_in_s: Some(REFRESH_TOKEN_MS / 1000),
    };
    let mut edge = enrol(enrolment, request.edge, active.len(), now)?;
    edge.machine = Some(Machine {
        pairs: Pairs::first(),
        issued_at_s: now.get() / 1000,
        refreshed_at: now,
        used_at: None,
        confirmed_at: now,
        approved: edge.channels.clone(),
        location: request.location,
    });
    Ok(edge)
}

impl Edge {
    /// What the newest access token of a machine says, for an hour from `now`.
    pub fn access_claims(&self, now: UnixMillis) -> Option<Claims> {
        let machine = self.machine.as_ref()?;
        let expires_at = (now + ACCESS_TOKEN_MS).min(self.expires_at);
        Some(Claims {
            generation: Some(machine.pairs.newest()),
            iat: machine.issued_at_s,
            exp: expires_at.get() / 1000,
            ..self.claims()
        })
    }

    /// What the newest refresh token of a machine says.
    pub fn refresh_claims(&self) -> Option<RefreshClaims> {
        let machine = self.machine.as_ref()?;
        Some(RefreshClaims {
            sub: self.id.clone(),
            org: self.organization.clone(),
            generation: machine.pairs.newest(),
            iat: machine.issued_at_s,
            exp: self.expires_at.get() / 1000,
        })
    }

    /// Refuses the machine's first pair when it has arrived, or is worth nothing any more. Until
    /// then the answer that brings it may have been lost, and is given again.
    pub fn first_pair(&self, now: UnixMillis) -> Result<(), TokenError> {
        match &self.machine {
            Some(machine) if machine.pairs.is_first_awaited() && self.is_active(now) => Ok(()),
            Some(_) | None => Err(TokenError::InvalidGrant(None)),
        }
    }

    /// Somebody shows an access token of this generation. Tells whether that changed anything: it
    /// has arrived, or it was given out beside the one that has, and the machine ends.
    ///
    /// A former one is nobody's fault: the machine's other connections use it for up to an hour.
    pub fn shown(&mut self, generation: u64, now: UnixMillis) -> bool {
        if self.revoked_at.is_some() {
            return false;
        }
        let Some(machine) = &mut self.machine else { return false };
        match machine.pairs.standing(generation) {
            Standing::Never | Standing::Current | Standing::Former => return false,
            Standing::Sibling => self.end(EndReason::RefreshReused, now),
            Standing::Awaited => {
                machine.pairs.arrive(generation);
                machine.used_at = Some(now);
            }
        }
        true
    }

    /// Whether streams must yet be told that it is revoked.
    pub fn is_end_untold(&self) -> bool {
        self.revoked_at.is_some() && !self.are_streams_told
    }
}
