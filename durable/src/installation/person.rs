//! Who somebody is in Linear.

use std::fmt;

use relay_schemas::{
    ErrorCode, Person, Problem, SecretText, UnixMillis, UserId,
    linear_api::{LinearAnswer, PERSON, PersonOutcome},
};
use serde_json::json;

use super::{Installation, not_installed, storage::InstallationStorage};

/// How long an answer about a person is believed.
const PERSON_KEPT_MS: u64 = 60_000;

/// What Linear calls the question.
const ENDPOINT: &str = "user";

/// How long an answer is waited for at most, before somebody else may ask.
const PERSON_ASKED_MS: u64 = 6_000;

/// People that are kept in memory.
const PEOPLE_MAX: usize = 1_000;

/// What to do to know somebody.
#[derive(Clone, PartialEq, Eq)]
pub enum PersonStep {
    /// Known.
    Known(Person),
    /// Linear is to be asked.
    Ask {
        /// The app whose token it is; goes back with the answer.
        app: String,
        /// Of which generation it is; goes back, too.
        generation: u64,
        /// What the request carries.
        token: SecretText,
        /// The body.
        body: String,
    },
    /// Tokens are being refreshed, or about to be, or Linear has been asked already.
    Wait,
    /// It can't be known now.
    Refused(Problem),
}

impl fmt::Debug for PersonStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(_) => "Known",
            Self::Ask { .. } => "Ask",
            Self::Wait => "Wait",
            Self::Refused(_) => "Refused",
        })
    }
}

impl<S: InstallationStorage> Installation<S> {
    /// The next step towards knowing somebody.
    pub fn person(&mut self, user: &UserId, now: UnixMillis) -> PersonStep {
        if let Some((at, person)) = self.people.get(user)
            && now.since_ms(*at) < PERSON_KEPT_MS
        {
            return PersonStep::Known(person.clone());
        }
        if self.asked.get(user).is_some_and(|at| now.since_ms(*at) < PERSON_ASKED_MS) {
            return PersonStep::Wait;
        }
        let with_token = self.grants.values().filter_map(|grant| Some((grant, grant.token(now)?)));
        // One that may speak, if there is any.
        let first = with_token.min_by_key(|(grant, _)| grant.closed_until(ENDPOINT, now).max(now));
        let Some((grant, (generation, token))) = first else { return self.without_token() };
        if grant.closed_until(ENDPOINT, now) > now {
            return PersonStep::Refused(unavailable());
        }
        let app = grant.app().to_owned();
        self.asked.retain(|_, at| now.since_ms(*at) < PERSON_ASKED_MS);
        self.asked.insert(user.clone(), now);
        let body = json!({ "query": PERSON, "variables": { "id": user } }).to_string();
        PersonStep::Ask { app, generation, token, body }
    }

    fn without_token(&self) -> PersonStep {
        if !self.has_app() {
            return PersonStep::Refused(not_installed());
        }
        if self.grants.values().any(|grant| grant.is_ready()) {
            return PersonStep::Wait;
        }
        let message = "Linear no longer accepts the app's tokens: install it again";
        PersonStep::Refused(Problem::new(ErrorCode::NeedsSignIn, message))
    }

    /// Linear has answered. `None`: the token is no good, and the next step tells what to do.
    pub fn person_answered(
        &mut self,
        user: &UserId,
        (app, generation): (&str, u64),
        answer: Option<&LinearAnswer>,
        now: UnixMillis,
    ) -> Result<Option<Result<Person, Problem>>, S::Error> {
        self.asked.remove(user);
        let Some(answer) = answer else { return Ok(Some(Err(unavailable()))) };
        if let Some(grant) = self.grants.get_mut(app) {
            grant.budget.update(ENDPOINT, answer, now);
        }
        match PersonOutcome::of(answer, now) {
            PersonOutcome::Known(person) => {
                self.note_worked(app, generation)?;
                if self.people.len() >= PEOPLE_MAX {
                    self.people.clear();
                }
                self.people.insert(user.clone(), (now, person.clone()));
                Ok(Some(Ok(person)))
            }
            PersonOutcome::Unauthorized => {
                if let Some(grant) = self.grants.get_mut(app) {
                    grant.refused(generation, now);
                }
                Ok(None)
            }
            PersonOutcome::RateLimited { until } => {
                if let Some(grant) = self.grants.get_mut(app) {
                    grant.limit(ENDPOINT, until, now);
                }
                Ok(Some(Err(unavailable())))
            }
            PersonOutcome::Unavailable => Ok(Some(Err(unavailable()))),
        }
    }
}

fn unavailable() -> Problem {
    Problem::new(ErrorCode::Unavailable, "Linear did not answer; try again")
}
