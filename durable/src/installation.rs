//! An organization's installation as a value: the apps' tokens, the calls to Linear, and the clock
//! of its agent sessions.
//!
//! Commands come in as `(input, now)`; what is to be done comes out of
//! [`Installation::next_effect`], and what came of it goes back in. Everything that matters is
//! stored before it is told: a crash at any point does the same again, with the same ids.

mod answers;
mod call;
mod effects;
mod grant;
#[cfg(feature = "test-util")]
mod memory;
mod news;
mod outbox;
mod person;
mod speaking;
mod storage;
mod tokens;
mod vault;
mod work_clock;

use std::collections::BTreeMap;

use relay_schemas::{
    BudgetStatus, Counter, ErrorCode, EventId, GivenUpCall, GivenUpList, Histogram,
    InstallationStatus, InstallationTouch, InstalledOrganization, MetricsDelta, OutboxStatus,
    Person, Problem, SessionsStatus, UnixMillis, UserId,
    limits::{CALL_REMEMBERED_MS, FIRST_ACTIVITY_MS, GIVEN_UP_MS},
};
use serde::{Serialize, de::DeserializeOwned};

pub use self::effects::Effect;
pub use self::grant::RefreshForm;
#[cfg(feature = "test-util")]
pub use self::memory::MemoryInstallation;
pub use self::news::News;
pub use self::person::PersonStep;
pub use self::storage::{InstallationRow, InstallationStorage};
pub use self::vault::{Random, TokenKeys};
pub use self::work_clock::{Pace, Wake, WorkClock};
use self::{
    answers::Wanted,
    call::{Call, Urgency},
    grant::Grant,
    outbox::{Gate, Outbox},
    speaking::Parked,
    vault::Vault,
};

/// Rows whose time has come are looked for at most so often.
const SWEEP_INTERVAL_MS: u64 = 3_600_000;

/// What an operator has set.
#[derive(Clone, Debug)]
pub struct InstallationSettings {
    /// What tokens are kept under.
    pub keys: TokenKeys,
    /// How long the first word in a session is left to the machine.
    pub answer_after_ms: u64,
    /// How long a report on an event is answered: as long as the event is kept.
    pub event_kept_ms: u64,
    /// Whether a token without a refresh token is followed by another of the app's own.
    pub has_client_credentials: bool,
}

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError<E: std::fmt::Display> {
    /// The caller can read why.
    #[error(transparent)]
    Refused(Problem),
    /// What is in memory may be wrong now.
    #[error("storage failed: {0}")]
    Storage(E),
}

impl<E: std::fmt::Display> From<E> for InstallationError<E> {
    fn from(error: E) -> Self {
        Self::Storage(error)
    }
}

/// One organization's installation.
pub struct Installation<S> {
    storage: S,
    settings: InstallationSettings,
    organization: Option<InstalledOrganization>,
    grants: BTreeMap<String, Grant>,
    outbox: Outbox,
    parked: BTreeMap<EventId, Vec<Parked>>,
    /// When a machine's turn in a session has ended, by lane.
    ended_at: BTreeMap<String, UnixMillis>,
    people: BTreeMap<UserId, (UnixMillis, Person)>,
    /// Whom Linear is being asked about, and since when.
    asked: BTreeMap<UserId, UnixMillis>,
    /// When calls were given up, as far as they are listed.
    given_up_at: Vec<UnixMillis>,
    sweep_at: Option<UnixMillis>,
    last_request: u64,
    batches_from: UnixMillis,
    counts: MetricsDelta,
    /// What was last told of how it does.
    told: Option<InstallationTouch>,
}

impl<S: InstallationStorage> Installation<S> {
    /// Reads what is stored. Tokens under an old key are stored again under the first.
    pub fn load(
        storage: S,
        settings: InstallationSettings,
        random: Random<'_>,
    ) -> Result<Self, S::Error> {
        let head = storage.get(InstallationRow::Head, "")?;
        let sweep_at = storage.get(InstallationRow::Sweep, "")?;
        let mut installation = Self {
            organization: head.and_then(|text| serde_json::from_str(&text).ok()),
            settings,
            grants: BTreeMap::new(),
            outbox: Outbox::default(),
            parked: BTreeMap::new(),
            ended_at: BTreeMap::new(),
            people: BTreeMap::new(),
            given_up_at: Vec::new(),
            asked: BTreeMap::new(),
            sweep_at: sweep_at.and_then(|text| text.parse().ok()).map(UnixMillis::new),
            storage,
            // An answer to a request of before must fit none of this value's.
            last_request: u64::from(u32::from_le_bytes(std::array::from_fn({
                let bytes = random();
                move |index| bytes[index]
            }))) << 20,
            batches_from: UnixMillis::default(),
            counts: MetricsDelta::default(),
            told: None,
        };
        installation.load_grants(random)?;
        installation.load_calls()?;
        let given_up = installation.given_up(UnixMillis::default())?;
        installation.given_up_at = given_up.calls.iter().map(|call| call.at).collect();
        for (_, text) in installation.storage.all(InstallationRow::Parked)? {
            if let Ok(parked) = serde_json::from_str::<Parked>(&text) {
                installation.parked.entry(parked.event()).or_default().push(parked);
            }
        }
        installation.parked.values_mut().for_each(|parked| parked.sort_by_key(Parked::number));
        Ok(installation)
    }

    /// A crash may have come between the word that a call is over and the deletion of its row.
    fn load_calls(&mut self) -> Result<(), S::Error> {
        for (id, text) in self.storage.all(InstallationRow::Call)? {
            if self.is_over(&id)? {
                self.storage.delete(InstallationRow::Call, &id)?;
            } else if let Ok(call) = serde_json::from_str(&text) {
                self.outbox.insert(call, text.len());
            }
        }
        Ok(())
    }

    /// Whether a call was made, or given up.
    fn is_over(&self, id: &str) -> Result<bool, S::Error> {
        let is_done = self.storage.get(InstallationRow::Done, id)?.is_some();
        Ok(is_done || self.storage.get(InstallationRow::GivenUp, id)?.is_some())
    }

    /// What is stored.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// How the installation does.
    pub fn status(&self, now: UnixMillis) -> InstallationStatus {
        let budgets = self.grants.values().filter_map(|grant| grant.budget.requests);
        let tightest = budgets.filter(|left| now < left.reset_at).min_by_key(|left| left.remaining);
        let is_first = |call: &&Call| call.urgency == Urgency::First && call.session().is_some();
        InstallationStatus {
            organization: self.organization.clone(),
            apps: self.grants.values().map(Grant::status).collect(),
            outbox: OutboxStatus {
                waiting: self.outbox.len(),
                given_up: self.given_up_count(now),
                oldest_at: self.outbox.calls().map(|call| call.made_at).min(),
            },
            budget: tightest
                .map(|left| BudgetStatus { remaining: left.remaining, reset_at: left.reset_at }),
            sessions: SessionsStatus {
                waiting_first_activity: self.outbox.calls().filter(is_first).count(),
            },
        }
    }

    /// The calls that were given up, newest first.
    pub fn given_up(&self, now: UnixMillis) -> Result<GivenUpList, S::Error> {
        let rows = self.storage.all(InstallationRow::GivenUp)?;
        let calls = rows.iter().filter_map(|(_, text)| serde_json::from_str(text).ok());
        let mut calls: Vec<GivenUpCall> =
            calls.filter(|call: &GivenUpCall| now.since_ms(call.at) < GIVEN_UP_MS).collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.at));
        Ok(GivenUpList { calls })
    }

    /// How many of them there are, without reading them.
    fn given_up_count(&self, now: UnixMillis) -> usize {
        self.given_up_at.iter().filter(|at| now.since_ms(**at) < GIVEN_UP_MS).count()
    }

    fn put(
        &mut self,
        kind: InstallationRow,
        key: &str,
        value: &impl Serialize,
        until: Option<UnixMillis>,
    ) -> Result<(), S::Error> {
        let text = serde_json::to_string(value).expect("plain fields serialise");
        self.put_text(kind, key, &text, until)
    }

    fn put_text(
        &mut self,
        kind: InstallationRow,
        key: &str,
        text: &str,
        until: Option<UnixMillis>,
    ) -> Result<(), S::Error> {
        self.storage.put(kind, key, text, until)?;
        let sweep_at = self.sweep_at.into_iter().chain(until).min();
        if sweep_at != self.sweep_at {
            self.save_sweep_at(sweep_at)?;
        }
        Ok(())
    }

    /// Stored, so that waking doesn't read every row to know when the first one's time comes.
    fn save_sweep_at(&mut self, at: Option<UnixMillis>) -> Result<(), S::Error> {
        self.sweep_at = at;
        match at {
            Some(at) => self.storage.put(InstallationRow::Sweep, "", &at.get().to_string(), None),
            None => self.storage.delete(InstallationRow::Sweep, ""),
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        kind: InstallationRow,
        key: &str,
    ) -> Result<Option<T>, S::Error> {
        let text = self.storage.get(kind, key)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Makes a call, unless it was made, is being made, or was given up before.
    fn want(
        &mut self,
        wanted: Wanted,
        about: (&str, EventId, String),
        now: UnixMillis,
    ) -> Result<(), S::Error> {
        if self.outbox.contains(&wanted.id) || self.is_over(&wanted.id)? {
            return Ok(());
        }
        let (app, event, lane) = about;
        if self.grants.get(app).is_none_or(Grant::is_revoked) {
            return Ok(());
        }
        let call = Call {
            id: wanted.id,
            number: self.outbox.next_number(),
            app: app.to_owned(),
            event,
            lane,
            urgency: wanted.urgency,
            operation: wanted.operation,
            stand_in: wanted.stand_in,
            reason: wanted.reason,
            is_replacement: wanted.is_replacement,
            first_after: wanted.first_after,
            made_at: now,
            not_before: wanted.not_before,
            attempts: 0,
            refusals: 0,
        };
        let text = serde_json::to_string(&call).expect("plain fields serialise");
        self.put_text(InstallationRow::Call, &call.id, &text, None)?;
        self.outbox.insert(call, text.len());
        Ok(())
    }

    /// Linear has it. A crash before the deletion makes the call again, and Linear knows its id.
    fn finish(&mut self, number: u64, now: UnixMillis) -> Result<(), S::Error> {
        let Some(call) = self.outbox.remove(number) else { return Ok(()) };
        if let Some(reason) = call.reason {
            self.counts.add(Counter::LinearStandIns(reason.as_str()), 1);
        }
        if let Some(called_at) = call.first_after {
            let waited_ms = now.since_ms(called_at);
            self.counts.observe(Histogram::FirstActivity, waited_ms);
            let in_time = waited_ms < FIRST_ACTIVITY_MS;
            self.counts.add(Counter::LinearFirstActivities(in_time), 1);
        }
        let until = Some(now + CALL_REMEMBERED_MS);
        self.put_text(InstallationRow::Done, &call.id, "", until)?;
        self.storage.delete(InstallationRow::Call, &call.id)
    }

    fn give_up(
        &mut self,
        number: u64,
        (code, message): (&str, &str),
        now: UnixMillis,
    ) -> Result<(), S::Error> {
        let Some(call) = self.outbox.remove(number) else { return Ok(()) };
        self.counts.add(Counter::LinearCalls("given_up"), 1);
        if call.first_after.is_some() {
            self.counts.add(Counter::LinearFirstActivities(false), 1);
        }
        let row = GivenUpCall {
            id: call.id.clone(),
            purpose: call.purpose().to_owned(),
            event: call.event,
            session: call.session().map(str::to_owned),
            code: code.to_owned(),
            message: message.to_owned(),
            attempts: call.attempts + 1,
            at: now,
        };
        self.put(InstallationRow::GivenUp, &call.id, &row, Some(now + GIVEN_UP_MS))?;
        self.given_up_at.retain(|at| now.since_ms(*at) < GIVEN_UP_MS);
        self.given_up_at.push(now);
        self.storage.delete(InstallationRow::Call, &call.id)
    }

    fn gate(&self, call: &Call, now: UnixMillis) -> Gate {
        let closed = Gate { urgent: None, ordinary: None };
        let Some(grant) = self.grants.get(&call.app) else { return closed };
        if grant.token(now).is_none() {
            return closed;
        }
        let urgent = grant.closed_until(call.endpoint(), now);
        let ordinary = grant.budget.low_until(call.endpoint(), now).unwrap_or_default().max(urgent);
        Gate { urgent: Some(urgent), ordinary: Some(ordinary) }
    }

    /// Whether any app is installed.
    fn has_app(&self) -> bool {
        self.grants.values().any(|grant| !grant.is_revoked())
    }

    fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }
}

/// The organization's apps are all gone, or there never was one.
fn not_installed() -> Problem {
    let message = "the app is not installed in this organization; see /oauth/authorize";
    Problem::new(ErrorCode::OrganizationNotInstalled, message)
}

fn vault<'a>(
    settings: &'a InstallationSettings,
    organization: &'a InstalledOrganization,
) -> Vault<'a> {
    Vault { keys: &settings.keys, organization: &organization.id }
}
