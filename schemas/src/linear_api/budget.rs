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

impl Allowance {
    fn read(answer: &LinearAnswer, name: &str) -> Option<Self> {
        let number = |what: &str| answer.number(&format!("x-ratelimit-{name}-{what}"));
        Some(Self {
            limit: number("limit"),
            remaining: number("remaining")?,
            reset_at: UnixMillis::new(number("reset")?),
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateBudget {
    /// Requests in an hour.
    pub requests: Option<Allowance>,
    /// Points of complexity in an hour.
    pub complexity: Option<Allowance>,
    /// Requests to the one operation that was called, where it has a limit of its own.
    pub endpoint: Option<Allowance>,
}

impl RateBudget {
    /// Reads an answer's headers; what it doesn't tell stays as it was known.
    #[must_use]
    pub fn updated(self, answer: &LinearAnswer) -> Self {
        Self {
            requests: Allowance::read(answer, "requests").or(self.requests),
            complexity: Allowance::read(answer, "complexity").or(self.complexity),
            endpoint: Allowance::read(answer, "endpoint-requests").or(self.endpoint),
        }
    }

    fn all(&self) -> impl Iterator<Item = Allowance> {
        [self.requests, self.complexity, self.endpoint].into_iter().flatten()
    }

    /// Until when nothing may be sent.
    pub fn spent_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.all().filter(|allowance| allowance.is_spent(now)).map(|left| left.reset_at).max()
    }

    /// Until when only what can't wait may be sent.
    pub fn low_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.all().filter(|allowance| allowance.is_low(now)).map(|left| left.reset_at).max()
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

    #[test]
    fn resets_are_milliseconds_of_the_epoch() {
        let budget = RateBudget::default().updated(&answer(0, (NOW + 5_000).get()));
        assert_eq!(budget.spent_until(NOW), Some(NOW + 5_000));
        assert_eq!(budget.spent_until(NOW + 5_000), None);
    }

    #[test]
    fn a_twentieth_is_kept_for_what_cannot_wait() {
        for (remaining, is_low) in [(251, false), (250, true), (1, true)] {
            let budget = RateBudget::default().updated(&answer(remaining, (NOW + 1).get()));
            assert_eq!(budget.low_until(NOW).is_some(), is_low, "{remaining}");
            assert_eq!(budget.spent_until(NOW), None);
        }
    }

    #[test]
    fn the_tightest_of_the_limits_counts_and_silence_changes_nothing() {
        let endpoint = LinearAnswer::new(200, "{}")
            .with("x-ratelimit-endpoint-requests-remaining", 0)
            .with("x-ratelimit-endpoint-requests-reset", (NOW + 9).get());
        let budget = RateBudget::default().updated(&answer(3_000, (NOW + 5).get()));
        let budget = budget.updated(&endpoint).updated(&LinearAnswer::new(500, ""));
        assert_eq!(budget.spent_until(NOW), Some(NOW + 9));
        assert_eq!(budget.requests.map(|left| left.remaining), Some(3_000));
    }
}
