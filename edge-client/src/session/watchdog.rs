use relay_schemas::UnixMillis;

/// Finds a connection dead when nothing was heard for 2.5 heartbeats. While the client itself does
/// not read, silence means nothing.
#[derive(Debug)]
pub(crate) struct Watchdog {
    allowance_ms: u64,
    heard_at: UnixMillis,
    is_paused: bool,
}

impl Watchdog {
    /// Watches from `now`.
    pub(crate) fn new(heartbeat_s: u32, now: UnixMillis) -> Self {
        Self { allowance_ms: u64::from(heartbeat_s) * 2_500, heard_at: now, is_paused: false }
    }

    /// Bytes came.
    pub(crate) fn heard(&mut self, now: UnixMillis) {
        self.heard_at = now;
    }

    /// Reading stops or goes on.
    pub(crate) fn set_paused(&mut self, is_paused: bool, now: UnixMillis) {
        if self.is_paused && !is_paused {
            self.heard_at = now;
        }
        self.is_paused = is_paused;
    }

    /// When the connection is to be given up.
    pub(crate) fn deadline(&self) -> Option<UnixMillis> {
        (!self.is_paused).then(|| self.heard_at + self.allowance_ms)
    }

    /// How long nothing was heard.
    pub(crate) fn silent_ms(&self, now: UnixMillis) -> u64 {
        now.since_ms(self.heard_at)
    }
}
