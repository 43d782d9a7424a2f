use fastrand::Rng;
use relay_schemas::UnixMillis;

use super::{failure::Failure, notice::Notice};
use crate::{config::Retry, fault::Fault, session::Backoff};

/// One request, made again until it succeeds or must not be made again.
#[derive(Debug)]
pub(super) struct Trial {
    what: String,
    state: State,
    backoff: Backoff,
    attempts_max: u32,
}

#[derive(Debug)]
enum State {
    Due,
    UnderWay,
    WaitingUntil(UnixMillis),
    Succeeded,
    Failed(Failure),
}

impl Trial {
    /// A request that is to be made.
    pub(super) fn new(what: String, retry: &Retry) -> Self {
        Self {
            what,
            state: State::Due,
            backoff: Backoff::new(retry.base_ms, retry.cap_ms),
            attempts_max: retry.attempts_max,
        }
    }

    /// Whether it is to be made now; then it is under way.
    pub(super) fn start(&mut self, now: UnixMillis) -> bool {
        let is_due = match self.state {
            State::Due => true,
            State::WaitingUntil(until) => until <= now,
            State::UnderWay | State::Succeeded | State::Failed(_) => false,
        };
        if is_due {
            self.state = State::UnderWay;
        }
        is_due
    }

    /// Takes a failure; says so if the request will be made again.
    pub(super) fn fail(
        &mut self,
        fault: Fault,
        now: UnixMillis,
        random: &mut Rng,
    ) -> Option<Notice> {
        let (message, asked_ms) = match fault {
            Fault::Passing { message, retry_after_ms } => (message, retry_after_ms),
            Fault::Terminal(refusal) => {
                self.end(Failure::of_refusal(refusal, &self.what));
                return None;
            }
        };
        let attempt = self.backoff.failures() + 1;
        let (what, attempts_max) = (self.what.clone(), self.attempts_max);
        if attempt >= attempts_max {
            self.end(Failure::GaveUp { what, message, attempts: attempt });
            return None;
        }
        let wait_ms = self.backoff.next_ms(random, asked_ms);
        self.state = State::WaitingUntil(now + wait_ms);
        Some(Notice::Retry { what, message, wait_ms, attempt, attempts_max })
    }

    /// It came further than the last time, so failures are counted anew.
    pub(super) fn note_progress(&mut self) {
        self.backoff.reset();
    }

    /// It is to be made again at once.
    pub(super) fn renew(&mut self) {
        self.state = State::Due;
    }

    pub(super) fn succeed(&mut self) {
        self.state = State::Succeeded;
    }

    /// It must not be made again.
    pub(super) fn end(&mut self, failure: Failure) {
        self.state = State::Failed(failure);
    }

    pub(super) fn has_succeeded(&self) -> bool {
        matches!(self.state, State::Succeeded)
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Failed(failure) => Some(failure),
            State::Due | State::UnderWay | State::WaitingUntil(_) | State::Succeeded => None,
        }
    }

    /// When it is to be made.
    pub(super) fn poll_timeout(&self) -> Option<UnixMillis> {
        match self.state {
            State::WaitingUntil(until) => Some(until),
            State::Due | State::UnderWay | State::Succeeded | State::Failed(_) => None,
        }
    }
}
