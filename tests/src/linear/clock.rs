use relay_schemas::UnixMillis;

use crate::now_ms;

/// The fake's time: this machine's, or later.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    ahead_ms: u64,
}

impl Clock {
    pub(super) fn now_ms(self) -> u64 {
        now_ms() + self.ahead_ms
    }

    pub(super) fn advance(&mut self, milliseconds: u64) {
        self.ahead_ms += milliseconds;
    }
}

/// A moment as Linear writes it.
pub(super) fn text(at_ms: u64) -> String {
    UnixMillis::new(at_ms).to_string()
}
