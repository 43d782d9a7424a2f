use relay_schemas::{
    ErrorCode, Problem, UnixMillis,
    limits::{BROWSER_SESSION_MS, USER_CODE_ATTEMPTS_MAX},
};
use serde::{Deserialize, Serialize};

/// How many codes a person has looked up lately. Counted before the look, so that looks side by
/// side are all counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guesses {
    since: UnixMillis,
    count: u32,
}

impl Guesses {
    /// Counts one more, or refuses it.
    pub fn spend(&mut self, now: UnixMillis) -> Result<(), Problem> {
        if now >= self.ends_at() {
            *self = Self { since: now, count: 0 };
        }
        if self.count >= USER_CODE_ATTEMPTS_MAX {
            let message = "too many codes were tried; wait a quarter of an hour";
            return Err(Problem::new(ErrorCode::RateLimited, message));
        }
        self.count += 1;
        Ok(())
    }

    /// When it begins anew.
    pub fn ends_at(&self) -> UnixMillis {
        self.since + BROWSER_SESSION_MS
    }
}
