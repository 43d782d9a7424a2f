//! A machine that waits to be approved (RFC 8628).

mod guesses;

use relay_schemas::{
    DeviceRequest, EdgeId, ErrorCode, OrganizationId, Problem, SecretDigest, TokenError,
    UnixMillis, UserCode, UserId,
    limits::{DEVICE_CODE_MS, DEVICE_INTERVAL_S},
};
use serde::{Deserialize, Serialize};

pub use self::guesses::Guesses;
use crate::directory::Edge;

/// Earlier than the interval by no more than this is not too fast: what was sent in time may
/// arrive so, when the request before was slower.
const POLL_TOLERANCE_MS: u64 = 500;

/// Who decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approver {
    /// The person's organization.
    pub organization: OrganizationId,
    /// The person.
    pub user: UserId,
}

/// What a person says to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceDecision {
    /// It is theirs, and enrolled.
    Approved(Box<Edge>),
    /// It isn't.
    Denied,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Progress {
    Pending,
    /// A person is being served: the machine is enrolled next.
    Claimed(Approver),
    Decided(DeviceDecision),
    /// An earlier relay has given the tokens out, once and for all.
    Redeemed,
}

/// A machine's request for a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceGrant {
    /// What the person types.
    pub user_code: UserCode,
    /// The id that the machine will have.
    pub edge: EdgeId,
    /// What it asks for.
    pub request: DeviceRequest,
    /// When it is too late.
    pub expires_at: UnixMillis,
    secret: SecretDigest,
    interval_s: u64,
    polled_at: Option<UnixMillis>,
    progress: Progress,
}

impl DeviceGrant {
    /// A request that nobody has looked at.
    pub fn new(
        user_code: UserCode,
        secret: SecretDigest,
        edge: EdgeId,
        request: DeviceRequest,
        now: UnixMillis,
    ) -> Self {
        Self {
            user_code,
            edge,
            request,
            expires_at: now + DEVICE_CODE_MS,
            secret,
            interval_s: DEVICE_INTERVAL_S,
            polled_at: None,
            progress: Progress::Pending,
        }
    }

    /// Whether its code can be given to another request.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.expires_at
    }

    /// Refuses unless a person may still decide. What is wrong with a code is not told.
    pub fn look(&self, approver: &Approver, now: UnixMillis) -> Result<(), Problem> {
        let is_open = match &self.progress {
            Progress::Pending => true,
            Progress::Claimed(by) => by == approver,
            Progress::Decided(_) | Progress::Redeemed => false,
        };
        if is_open && !self.is_over(now) { Ok(()) } else { Err(code_unknown()) }
    }

    /// Reserves the request for a person, so that two can't approve it for two organizations.
    pub fn claim(&mut self, approver: &Approver, now: UnixMillis) -> Result<(), Problem> {
        self.look(approver, now)?;
        self.progress = Progress::Claimed(approver.clone());
        Ok(())
    }

    /// The person who has reserved it decides.
    pub fn decide(
        &mut self,
        approver: &Approver,
        decision: DeviceDecision,
        now: UnixMillis,
    ) -> Result<(), Problem> {
        match &self.progress {
            Progress::Claimed(by) if by == approver && !self.is_over(now) => {
                self.progress = Progress::Decided(decision);
                Ok(())
            }
            Progress::Pending
            | Progress::Claimed(_)
            | Progress::Decided(_)
            | Progress::Redeemed => Err(code_unknown()),
        }
    }

    /// The machine asks; only who knows the secret changes anything. It may ask again when it has
    /// its answer: whether that has arrived is not known here, but where its edge is.
    pub fn poll(&mut self, secret: &str, now: UnixMillis) -> Result<Edge, TokenError> {
        if !self.secret.is_of(secret) {
            return Err(TokenError::InvalidGrant(None));
        }
        let is_over = self.is_over(now);
        match &self.progress {
            Progress::Redeemed => Err(TokenError::InvalidGrant(None)),
            Progress::Pending | Progress::Claimed(_) | Progress::Decided(_) if is_over => {
                Err(TokenError::ExpiredToken)
            }
            Progress::Decided(DeviceDecision::Denied) => Err(TokenError::AccessDenied),
            Progress::Decided(DeviceDecision::Approved(edge)) => Ok(Edge::clone(edge)),
            Progress::Pending | Progress::Claimed(_) => Err(self.keep_waiting(now)),
        }
    }

    fn keep_waiting(&mut self, now: UnixMillis) -> TokenError {
        let earliest = |polled: UnixMillis| polled + (self.interval_s * 1000 - POLL_TOLERANCE_MS);
        let is_too_fast = self.polled_at.is_some_and(|polled| now < earliest(polled));
        self.polled_at = Some(now);
        if is_too_fast {
            self.interval_s += DEVICE_INTERVAL_S;
            return TokenError::SlowDown;
        }
        TokenError::AuthorizationPending
    }
}

/// There is no such request, it is over, or somebody has decided it.
pub fn code_unknown() -> Problem {
    let message = "no machine waits with this code; look at what the machine shows now";
    Problem::new(ErrorCode::ParameterInvalid, message).with("parameter", "user_code")
}
