use relay_schemas::Cursor;
use serde::Serialize;

/// How a session stands.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// The connection.
    pub link: LinkState,
    /// Since when nothing was heard.
    pub silent_ms: Option<u64>,
    /// When the next dial comes.
    pub dial_in_ms: Option<u64>,
    /// Failed dials since the last success.
    pub dial_failures: u32,
    /// Everything up to here is handled.
    pub cursor: Option<Cursor>,
    /// The newest position that the relay told.
    pub tail: Option<Cursor>,
    /// Events between the two.
    pub lag_events: u64,
    /// Events received and not handled.
    pub events_held: usize,
    /// Bytes of their lines.
    pub bytes_held: usize,
    /// Handlers that run.
    pub handlers_running: usize,
    /// What was counted since the start.
    #[serde(flatten)]
    pub counters: Counters,
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Not started, or ending.
    Ended,
    /// Waits to dial.
    Waiting,
    /// Dials.
    Dialing,
    /// Connected, without the first frame.
    Opening,
    /// Events come.
    Open,
}

/// What is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Webhook frames.
    pub events_received: u64,
    /// Events whose handler succeeded.
    pub events_handled: u64,
    /// Events that were known already.
    pub duplicates: u64,
    /// Events that were given up.
    pub events_skipped: u64,
    /// Events that were passed over or ended because their session was stopped.
    pub events_stopped: u64,
    /// Signal frames.
    pub signals: u64,
    /// Activities of handlers, on their way to the relay.
    pub activities: u64,
    /// Attempts of handlers that failed.
    pub attempts_failed: u64,
    /// Streams opened.
    pub connects: u64,
    /// Connections and dials that failed.
    pub disconnects: u64,
    /// Of these, found by silence.
    pub silences: u64,
    /// Of these, found by a hole in the counting.
    pub losses_detected: u64,
    /// Gap frames.
    pub gaps: u64,
    /// Lines that are no frames.
    pub lines_bad: u64,
    /// Frames of types that this version does not know.
    pub frames_unknown: u64,
}
