use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LinearAnswer;
use crate::time::UnixMillis;

/// What is left of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// How many in a period, if it was told.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: u64,
    /// When all are back.
    pub reset_at: UnixMillis,
}

/// The longest that a reset is believed to be away; Linear's periods are an hour.
const RESET_MS_MAX: u64 = 2 * 3_600_000;

impl Allowance {
    fn read(answer: &LinearAnswer, name: &str, now: UnixMillis) -> Option<Self> {
        let number = |what: &str| answer.number(&format!("x-ratelimit-{name}-{what}"));
        Some(Self {
            limit: number("limit"),
            remaining: number("remaining")?,
            reset_at: UnixMillis::new(number("reset")?).min(now + RESET_MS_MAX),
        })
    }

    /// Nothing is left until the reset.
    pub fn is_spent(&self, now: UnixMillis) -> bool {
        now < self.reset_at && self.remaining == 0
    }

    /// A twentieth is left, or less: that is kept for what can't wait.
    pub fn is_low(&self, now: UnixMillis) -> bool {
        now < self.reset_at && self.limit.is_some_and(|limit| self.remaining <= limit / 20)
    }
}

/// What Linear says is left of a token's limits. It counts per app and organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateBudget {
    /// Requests in an hour.
    pub requests: Option<Allowance>,
    /// Points of complexity in an hour.
    pub complexity: Option<Allowance>,
    /// Requests to those operations that have limits of their own, by what they are called here.
    operations: BTreeMap<&'static str, Allowance>,
}

impl RateBudget {
    /// Reads the headers of an answer to an operation; what it doesn't tell stays as it was known.
    pub fn update(&mut self, operation: &'static str, answer: &LinearAnswer, now: UnixMillis) {
        self.requests = Allowance::read(answer, "requests", now).or(self.requests);
        self.complexity = Allowance::read(answer, "complexity", now).or(self.complexity);
        if let Some(allowance) = Allowance::read(answer, "endpoint-requests", now) {
            self.operations.insert(operation, allowance);
        }
    }

    fn of_all(&self) -> impl Iterator<Item = Allowance> {
        [self.requests, self.complexity].into_iter().flatten()
    }

    fn of(&self, operation: &str) -> impl Iterator<Item = Allowance> {
        self.of_all().chain(self.operations.get(operation).copied())
    }

    /// Until when nothing of an operation may be sent.
    pub fn spent_until(&self, operation: &str, now: UnixMillis) -> Option<UnixMillis> {
        self.of(operation).filter(|left| left.is_spent(now)).map(|left| left.reset_at).max()
    }

    /// Until when only what can't wait may be sent of an operation.
    pub fn low_until(&self, operation: &str, now: UnixMillis) -> Option<UnixMillis> {
        self.of(operation).filter(|left| left.is_low(now)).map(|left| left.reset_at).max()
    }

    /// Whether it is an operation's own limit that is used up, and none of those of all.
    pub fn is_spent_alone(&self, operation: &str, now: UnixMillis) -> bool {
        let is_spent = |left: Allowance| left.is_spent(now);
        self.operations.get(operation).copied().is_some_and(is_spent)
            && !self.of_all().any(is_spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

    fn answer(remaining: u64, reset: u64) -> LinearAnswer {
        LinearAnswer::new(200, "{}")
            .with("x-ratelimit-requests-limit", 5_000)
            .with("x-ratelimit-requests-remaining", remaining)
            .with("x-ratelimit-requests-reset", reset)
    }

    fn budget(remaining: u64, reset: u64) -> RateBudget {
        let mut budget = RateBudget::default();
        budget.update("one", &answer(remaining, reset), NOW);
        budget
    }

    #[test]
    fn resets_are_milliseconds_of_the_epoch() {
        let budget = budget(0, (NOW + 5_000).get());
        assert_eq!(budget.spent_until("one", NOW), Some(NOW + 5_000));
        assert_eq!(budget.spent_until("one", NOW + 5_000), None);
    }

    #[test]
    fn a_reset_that_is_days_away_is_not_believed() {
        let budget = budget(0, (NOW + 86_400_000).get());
        assert_eq!(budget.spent_until("one", NOW), Some(NOW + RESET_MS_MAX));
        assert_eq!(budget.spent_until("one", NOW + RESET_MS_MAX), None);
    }

    #[test]
    fn a_twentieth_is_kept_for_what_cannot_wait() {
        for (remaining, is_low) in [(251, false), (250, true), (1, true)] {
            let budget = budget(remaining, (NOW + 1).get());
            assert_eq!(budget.low_until("one", NOW).is_some(), is_low, "{remaining}");
            assert_eq!(budget.spent_until("one", NOW), None);
        }
    }

    #[test]
    fn an_operation_s_own_limit_is_nobody_else_s_and_silence_changes_nothing() {
        let endpoint = LinearAnswer::new(200, "{}")
            .with("x-ratelimit-endpoint-requests-remaining", 0)
            .with("x-ratelimit-endpoint-requests-reset", (NOW + 9).get());
        let mut budget = budget(3_000, (NOW + 5).get());
        budget.update("one", &endpoint, NOW);
        budget.update("one", &LinearAnswer::new(500, ""), NOW);
        assert_eq!(budget.spent_until("one", NOW), Some(NOW + 9));
        assert_eq!(budget.spent_until("other", NOW), None);
        assert_eq!(budget.requests.map(|left| left.remaining), Some(3_000));
        assert!(budget.is_spent_alone("one", NOW) && !budget.is_spent_alone("other", NOW));
        budget.update("one", &answer(0, (NOW + 5).get()), NOW);
        assert!(!budget.is_spent_alone("one", NOW));
    }
}
