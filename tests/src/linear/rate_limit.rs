use std::collections::BTreeMap;

use crate::now_ms;

const HOUR_MS: u64 = 3_600_000;
/// A single document may cost so many points at most.
pub(super) const DOCUMENT_COMPLEXITY_MAX: u32 = 10_000;

/// Leaky buckets, one of each kind for each user that the app acts as: a new token doesn't empty
/// them.
pub(super) struct RateLimits {
    pub(super) requests_per_hour: u32,
    pub(super) complexity_per_hour: u32,
    /// Root fields with a limit of their own.
    pub(super) endpoints: BTreeMap<String, u32>,
    buckets: BTreeMap<String, Bucket>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    level: f64,
    at_ms: u64,
}

/// What a bucket says of itself.
struct Level {
    limit: u32,
    remaining: u32,
    /// Until it is empty.
    reset_ms: u64,
    /// Until it takes another drop.
    retry_ms: u64,
    overflows: bool,
}

impl Bucket {
    fn pour(&mut self, amount: u32, limit: u32, at_ms: u64) -> Level {
        let (amount, full) = (f64::from(amount), f64::from(limit));
        let per_ms = full / HOUR_MS as f64;
        let leaked = at_ms.saturating_sub(self.at_ms) as f64 * per_ms;
        self.level = (self.level - leaked).max(0.0);
        self.at_ms = at_ms;
        let overflows = self.level + amount > full;
        if !overflows {
            self.level += amount;
        }
        let until = |excess: f64| (excess / per_ms).ceil().max(0.0) as u64;
        Level {
            limit,
            remaining: (full - self.level).max(0.0) as u32,
            reset_ms: until(self.level),
            retry_ms: until(self.level + amount - full),
            overflows,
        }
    }
}

impl RateLimits {
    pub(super) fn new(requests_per_hour: u32, complexity_per_hour: u32) -> Self {
        let (endpoints, buckets) = (BTreeMap::new(), BTreeMap::new());
        Self { requests_per_hour, complexity_per_hour, endpoints, buckets }
    }

    /// Takes a request of `user` into account. Gives back its headers, and after how many seconds
    /// to come again if it is too much.
    pub(super) fn take(
        &mut self,
        (user, endpoint): (&str, &str),
        complexity: u32,
        at_ms: u64,
    ) -> (Vec<(&'static str, String)>, Option<u64>) {
        let own = self.endpoints.get(endpoint).copied().unwrap_or(self.requests_per_hour);
        let mut pour = |name: String, amount: u32, limit: u32| {
            self.buckets.entry(name).or_default().pour(amount, limit, at_ms)
        };
        let requests = pour(user.to_owned(), 1, self.requests_per_hour);
        let points = pour(format!("{user} points"), complexity, self.complexity_per_hour);
        let endpoint_level = pour(format!("{user} {endpoint}"), 1, own);
        let levels = [&requests, &points, &endpoint_level];
        let waits = levels.iter().filter(|level| level.overflows).map(|level| level.retry_ms);
        let retry_s = waits.max().map(|wait_ms| wait_ms.div_ceil(1000).max(1));
        let reset = |level: &Level| (now_ms() + level.reset_ms).to_string();
        let headers = vec![
            ("X-RateLimit-Requests-Limit", requests.limit.to_string()),
            ("X-RateLimit-Requests-Remaining", requests.remaining.to_string()),
            ("X-RateLimit-Requests-Reset", reset(&requests)),
            ("X-Complexity", complexity.to_string()),
            ("X-RateLimit-Complexity-Limit", points.limit.to_string()),
            ("X-RateLimit-Complexity-Remaining", points.remaining.to_string()),
            ("X-RateLimit-Complexity-Reset", reset(&points)),
            ("X-RateLimit-Endpoint-Requests-Limit", endpoint_level.limit.to_string()),
            ("X-RateLimit-Endpoint-Requests-Remaining", endpoint_level.remaining.to_string()),
            ("X-RateLimit-Endpoint-Requests-Reset", reset(&endpoint_level)),
            ("X-RateLimit-Endpoint-Name", endpoint.to_owned()),
        ];
        (headers, retry_s)
    }
}
