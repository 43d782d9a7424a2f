//! What is to be done, and what came of it.

use std::fmt;

use relay_schemas::{
    Counter, SecretText, UnixMillis,
    limits::{CALL_AGE_MS_MAX, CALL_RETRY_MS},
    linear_api::{BatchOutcome, LinearAnswer, Outcome},
};

use super::{
    Installation, Random, SWEEP_INTERVAL_MS,
    answers::Wanted,
    call::{Call, Urgency, batch_request},
    grant::RefreshForm,
    outbox::Request,
    storage::{InstallationRow, InstallationStorage},
    work_clock::Pace,
};

/// How long batches are left alone after one was refused for being one.
const BATCH_PAUSE_MS: u64 = 600_000;

/// The longest that Linear's word on when to come back is believed.
const RETRY_AFTER_MS_MAX: u64 = 600_000;

/// How often a call is made with tokens that are refused: with its pauses, for the better part of an
/// hour.
const REFUSALS_MAX: u32 = 20;

/// What the shell is to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// Post to Linear's GraphQL endpoint.
    Call {
        /// To be given back with the answer.
        request: u64,
        /// What the request carries.
        token: SecretText,
        /// The body.
        body: String,
    },
    /// Post to Linear's token endpoint.
    Refresh {
        /// To be given back with the answer.
        request: u64,
        /// The app's client id; goes back, too.
        app: String,
        /// What to ask for.
        form: RefreshForm,
    },
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { request, .. } => write!(f, "Call({request})"),
            Self::Refresh { request, app, .. } => write!(f, "Refresh({request}, {app})"),
        }
    }
}

impl<S: InstallationStorage> Installation<S> {
    /// The next thing to do, until there is none. What it tells to do is under way from then on,
    /// and is told again only after its answer, or by a value loaded anew.
    pub fn next_effect(&mut self, now: UnixMillis) -> Result<Option<Effect>, S::Error> {
        self.next_effect_at(Pace::Full, now)
    }

    /// The next thing to do of what the work may still begin.
    pub fn next_effect_at(
        &mut self,
        pace: Pace,
        now: UnixMillis,
    ) -> Result<Option<Effect>, S::Error> {
        if pace == Pace::Ending {
            return Ok(None);
        }
        self.sweep(now)?;
        self.note_lost_grants(now)?;
        if let Some(effect) = self.next_refresh(now) {
            return Ok(Some(effect));
        }
        let calls = {
            let gate = |call: &Call| self.gate(call, now);
            self.outbox.next(&gate, (pace, now >= self.batches_from), now)
        };
        let Some((calls, urgency)) = calls else { return Ok(None) };
        Ok(self.begin_calls(calls, urgency, now))
    }

    fn next_refresh(&mut self, now: UnixMillis) -> Option<Effect> {
        let has_client_credentials = self.settings.has_client_credentials;
        let is_due = |at: Option<UnixMillis>| at.is_some_and(|at| at <= now);
        let due =
            self.grants.values().find(|grant| is_due(grant.refresh_at(has_client_credentials)));
        let app = due?.app().to_owned();
        let request = self.next_request();
        let form = self.grants.get_mut(&app)?.begin_refresh(request, now);
        Some(Effect::Refresh { request, app, form })
    }

    fn begin_calls(
        &mut self,
        numbers: Vec<u64>,
        urgency: Urgency,
        now: UnixMillis,
    ) -> Option<Effect> {
        let calls: Vec<&Call> =
            numbers.iter().filter_map(|number| self.outbox.call(*number)).collect();
        let app = calls.first()?.app.clone();
        let (generation, token) = self.grants.get(&app)?.token(now)?;
        let body = match calls.as_slice() {
            [call] => call.request(),
            calls => batch_request(calls),
        };
        let request = self.next_request();
        self.outbox.begin(request, (&app, generation), (numbers, urgency));
        Some(Effect::Call { request, token, body })
    }

    /// Linear has answered a call; `None`: the request has failed on its way.
    pub fn called(
        &mut self,
        request: u64,
        answer: Option<&LinearAnswer>,
        now: UnixMillis,
        random: Random<'_>,
    ) -> Result<(), S::Error> {
        let Some(ended) = self.outbox.end(request) else { return Ok(()) };
        if let (Some(answer), Some(grant)) = (answer, self.grants.get_mut(&ended.app)) {
            grant.budget.update(ended.endpoint, answer, now);
        }
        let failed = Outcome::Passing { retry_after_ms: None };
        let outcome = match answer {
            None => BatchOutcome::Whole(failed),
            Some(answer) if ended.is_batch => BatchOutcome::of(answer, ended.calls.len(), now),
            Some(answer) => BatchOutcome::Whole(Outcome::of(answer, now)),
        };
        match outcome {
            BatchOutcome::Whole(outcome) => {
                self.note_outcome(&ended, &outcome, now)?;
                for number in ended.calls {
                    self.settle(number, &outcome, now, random)?;
                }
            }
            BatchOutcome::Split => {
                self.batches_from = now + BATCH_PAUSE_MS;
                ended.calls.iter().for_each(|number| self.outbox.set_apart(*number));
            }
            BatchOutcome::Each(outcomes) => {
                for (number, outcome) in ended.calls.iter().copied().zip(outcomes) {
                    match outcome {
                        Some(outcome) => {
                            self.note_outcome(&ended, &outcome, now)?;
                            self.settle(number, &outcome, now, random)?;
                        }
                        None => self.outbox.set_apart(number),
                    }
                }
            }
        }
        self.give_up_revoked(now)
    }

    /// What an outcome says about the token and its budget.
    fn note_outcome(
        &mut self,
        request: &Request,
        outcome: &Outcome,
        now: UnixMillis,
    ) -> Result<(), S::Error> {
        let Request { app, generation, endpoint, .. } = request;
        match outcome {
            Outcome::Accepted | Outcome::AlreadyThere => self.note_worked(app, *generation)?,
            Outcome::Unauthorized => {
                if let Some(grant) = self.grants.get_mut(app) {
                    grant.refused(*generation, now);
                }
            }
            Outcome::RateLimited { until } => {
                if let Some(grant) = self.grants.get_mut(app) {
                    grant.limit(endpoint, *until, now);
                }
            }
            Outcome::Permanent { .. } | Outcome::Passing { .. } => {}
        }
        Ok(())
    }

    /// What an outcome says about the call.
    fn settle(
        &mut self,
        number: u64,
        outcome: &Outcome,
        now: UnixMillis,
        random: Random<'_>,
    ) -> Result<(), S::Error> {
        if let Some(result) = result_of(outcome) {
            self.counts.add(Counter::LinearCalls(result), 1);
        }
        match outcome {
            Outcome::Accepted | Outcome::AlreadyThere => self.finish(number, now),
            Outcome::Permanent { code, message } => {
                // First, so that a crash in between does both again.
                self.replace(number, (code, message), now)?;
                self.give_up(number, (code, message), now)
            }
            // It is the budget that waits.
            Outcome::RateLimited { .. } => Ok(()),
            Outcome::Unauthorized => self.refuse(number, now, random),
            Outcome::Passing { retry_after_ms } => {
                let Some(call) = self.outbox.call(number) else { return Ok(()) };
                let pause_ms = match retry_after_ms {
                    Some(asked_ms) => (*asked_ms).clamp(CALL_RETRY_MS.0, RETRY_AFTER_MS_MAX),
                    None => pause_ms(call.attempts, random),
                };
                self.postpone(number, now + pause_ms)
            }
        }
    }

    /// Linear refuses a call for good: whoever waits for an answer is told.
    fn replace(
        &mut self,
        number: u64,
        refusal: (&str, &str),
        now: UnixMillis,
    ) -> Result<(), S::Error> {
        let Some(call) = self.outbox.call(number) else { return Ok(()) };
        let Some(wanted) = Wanted::in_place_of(call, refusal, now) else { return Ok(()) };
        let (app, event, lane) = (call.app.clone(), call.event, call.lane.clone());
        self.want(wanted, (&app, event, lane), now)
    }

    /// A call whose token was refused goes at once when there is a new one. If it is refused again
    /// and again, it is the call that Linear doesn't want.
    fn refuse(&mut self, number: u64, now: UnixMillis, random: Random<'_>) -> Result<(), S::Error> {
        let Some(call) = self.outbox.call_mut(number) else { return Ok(()) };
        call.refusals = call.refusals.saturating_add(1);
        let pause_ms = match call.refusals {
            // A crash can take the news of a refusal with it.
            1..=3 => 0,
            REFUSALS_MAX.. => return self.give_up(number, ("unauthorized", ""), now),
            more => pause_ms(more - 4, random),
        };
        self.postpone(number, now + pause_ms)
    }

    fn postpone(&mut self, number: u64, until: UnixMillis) -> Result<(), S::Error> {
        let Some(call) = self.outbox.call_mut(number) else { return Ok(()) };
        call.attempts = call.attempts.saturating_add(1);
        call.not_before = until;
        let call = call.clone();
        self.put(InstallationRow::Call, &call.id, &call, None)
    }

    /// A call that was under way when its app was taken away.
    fn give_up_revoked(&mut self, now: UnixMillis) -> Result<(), S::Error> {
        let is_revoked = |app: &str| self.grants.get(app).is_some_and(|grant| grant.is_revoked());
        let orphans = self.outbox.idle_where(|call| is_revoked(&call.app));
        orphans.into_iter().try_for_each(|number| self.give_up(number, ("revoked", ""), now))
    }

    /// Gives up calls that are too old, and forgets rows whose time has come.
    fn sweep(&mut self, now: UnixMillis) -> Result<(), S::Error> {
        let is_old = |call: &Call| now.since_ms(call.made_at) >= CALL_AGE_MS_MAX;
        for number in self.outbox.idle_where(is_old) {
            self.give_up(number, ("expired", ""), now)?;
        }
        for (number, until) in self.outbox.holding_up(now) {
            // A thought after an answer would look as if the agent had begun again.
            if until <= now {
                self.give_up(number, ("overtaken", ""), now)?;
            }
        }
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.storage.delete_expired(now)?;
            self.forget_parked(now);
            let next = self.storage.next_expiry()?;
            self.save_sweep_at(next.map(|at| at.max(now + SWEEP_INTERVAL_MS)))?;
        }
        Ok(())
    }

    /// When there is something to do, as far as is known now. While requests are under way the
    /// shell is awake anyway.
    pub fn next_alarm(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.times(now).min()
    }

    /// When there is something new to do while requests are under way. What is due already has been
    /// told, or waits for one of them to end.
    pub fn next_look(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.times(now).filter(|at| *at > now).min()
    }

    fn times(&self, now: UnixMillis) -> impl Iterator<Item = UnixMillis> {
        let gate = |call: &Call| self.gate(call, now);
        let has_client_credentials = self.settings.has_client_credentials;
        let grants = self.grants.values();
        let refresh =
            grants.clone().filter_map(|grant| grant.refresh_at(has_client_credentials)).min();
        let end = grants.filter_map(|grant| grant.ends_at(has_client_credentials)).min();
        let expiry = self.outbox.calls().map(|call| call.made_at + CALL_AGE_MS_MAX).min();
        let overtaken = self.outbox.holding_up(now).into_iter().map(|(_, until)| until).min();
        let others = [refresh, end, expiry, overtaken, self.sweep_at].into_iter().flatten();
        self.outbox.times(&gate, now).into_iter().chain(others)
    }
}

/// What is given up is counted where that is done.
fn result_of(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Accepted => Some("accepted"),
        Outcome::AlreadyThere => Some("already_there"),
        Outcome::Unauthorized | Outcome::Passing { .. } => Some("retried"),
        Outcome::RateLimited { .. } => Some("rate_limited"),
        Outcome::Permanent { .. } => None,
    }
}

/// Half of the pause is left to chance, so that calls that failed together come back apart.
fn pause_ms(attempts: u32, random: Random<'_>) -> u64 {
    let (first, longest) = CALL_RETRY_MS;
    let whole = (first << attempts.min(20)).min(longest);
    let [chance, ..] = random().map(u64::from);
    whole / 2 + whole / 2 * chance / 255
}
