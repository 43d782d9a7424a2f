use fastrand::Rng;

/// Waiting times after failures: full jitter over a doubling range, without an attempt limit.
#[derive(Clone, Debug)]
pub struct Backoff {
    base_ms: u64,
    cap_ms: u64,
    failures: u32,
}

impl Backoff {
    /// No failures yet.
    pub fn new(base_ms: u64, cap_ms: u64) -> Self {
        Self { base_ms, cap_ms, failures: 0 }
    }

    /// How long to wait after one more failure: at random up to the range, and at least what the
    /// other side asked for.
    pub fn next_ms(&mut self, random: &mut Rng, asked_ms: Option<u64>) -> u64 {
        let wait_ms = jitter_ms(self.base_ms, self.cap_ms, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        match asked_ms {
            Some(asked_ms) => asked_ms.max(wait_ms),
            None => wait_ms,
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// At random from 0 to `base · 2^failures`, at most `cap`.
pub(crate) fn jitter_ms(base_ms: u64, cap_ms: u64, failures: u32, random: &mut Rng) -> u64 {
    let range_ms = base_ms.saturating_mul(1 << failures.min(30)).min(cap_ms);
    random.u64(0..=range_ms)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_stay_in_their_range(seed: u64, failures in 0u32..200) {
            let mut random = Rng::with_seed(seed);
            let mut backoff = Backoff::new(500, 60_000);
            for failure in 0..failures {
                let range_ms = 500u64.saturating_mul(1 << failure.min(20)).min(60_000);
                prop_assert!(backoff.next_ms(&mut random, None) <= range_ms);
            }
            prop_assert_eq!(backoff.failures(), failures);
            backoff.reset();
            prop_assert!(backoff.next_ms(&mut random, None) <= 500);
        }

        #[test]
        fn what_was_asked_for_is_waited(seed: u64, failures in 0u32..20, asked_ms in 0u64..4_000_000) {
            let mut random = Rng::with_seed(seed);
            let mut backoff = Backoff::new(500, 60_000);
            for _ in 0..failures {
                backoff.next_ms(&mut random, None);
            }
            prop_assert!(backoff.next_ms(&mut random, Some(asked_ms)) >= asked_ms);
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut random = Rng::with_seed(7);
        let waits: Vec<u64> = (0..1_000).map(|_| jitter_ms(500, 60_000, 20, &mut random)).collect();
        assert!(waits.iter().any(|wait_ms| *wait_ms < 5_000));
        assert!(waits.iter().any(|wait_ms| *wait_ms > 55_000));
    }
}
