use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relay_schemas::UnixMillis;
use tokio::time::Instant;

use crate::limits::SLEEP_DIVERGENCE_MS;

/// The wall's time at the start, moved on by the monotonic clock, so that deadlines do not jump.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: UnixMillis,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), started_at: wall() }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        let elapsed = self.started.elapsed().as_millis();
        self.started_at + u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    pub(crate) fn instant(&self, at: UnixMillis) -> Instant {
        self.started + Duration::from_millis(at.since_ms(self.started_at))
    }

    /// How far the wall's clock went ahead since the last look: while a machine sleeps, the
    /// monotonic clock of Linux and macOS stands still. Starts anew from the wall's time.
    pub(crate) fn slept_ms(&mut self) -> Option<u64> {
        let slept_ms = wall().since_ms(self.now());
        if slept_ms < SLEEP_DIVERGENCE_MS {
            return None;
        }
        *self = Self::start();
        Some(slept_ms)
    }
}

/// The wall's time.
pub(crate) fn wall() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis::new(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
