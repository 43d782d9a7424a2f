use relay_schemas::Cursor;

use super::{ledger::Handled, message::Start};

/// In which order handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// One after another, as the stream has them. Nothing starts before its predecessor is done.
    Stream,
    /// Events of one agent session or issue one after another, others at the same time.
    Lanes,
    /// Handed over in the stream's order without waiting: the handler keeps them in order itself.
    HandedOver,
}

/// What follows when a handler has failed for the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The client ends; its cursor stays before the event.
    Stop,
    /// The event is passed over.
    Skip,
}

/// What a session needs to know.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Where reading starts when no cursor is stored.
    pub start: Start,
    /// In which order handlers run.
    pub ordering: Ordering,
    /// Handlers that may run at the same time.
    pub concurrency: usize,
    /// Events that the relay may give to this machine at once, where each is given to one; none
    /// when 0, and as many as the relay thinks right without it.
    pub capacity: Option<usize>,
    /// Attempts at an event; `None` for any number.
    pub attempts_max: Option<u32>,
    /// What follows the last one.
    pub on_failure: OnFailure,
    /// Whether the relay is told what becomes of events.
    pub reports: bool,
    /// Least time between two writes of progress.
    pub persist_interval_ms: u64,
    /// End when events are missing.
    pub fail_on_gap: bool,
    /// End when the newest event at the start is handled.
    pub exit_when_caught_up: bool,
    /// Whether what handlers tell of their progress goes to the relay.
    pub activities: bool,
    /// Whether a `stop` of the relay's ends handlers.
    pub stops: bool,
    /// Whether an expired credential is followed by another.
    pub is_renewed: bool,
    /// How long running handlers may go on when the client ends.
    pub grace_ms: u64,
}

/// What is known from earlier runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Everything up to here was handled.
    pub cursor: Option<Cursor>,
    /// Events handled lately, oldest first.
    pub handled: Vec<Handled>,
}
