use std::fmt;

use relay_schemas::{Cursor, EventId, Gap};

/// What people should know while a client runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The stream is open.
    Connected {
        /// Where reading goes on.
        cursor: Cursor,
        /// Events from there to the newest.
        lag_events: u64,
    },
    /// There is no connection; another dial follows.
    Disconnected {
        /// Why.
        message: String,
        /// When.
        retry_in_ms: u64,
    },
    /// The relay ends the connection as planned, and asks to come back.
    Bye {
        /// The relay's word.
        code: &'static str,
        /// When.
        retry_in_ms: u64,
    },
    /// Each event is given to one machine, and this one is given none, because it doesn't report.
    GivenNothing {
        /// The relay's word for how events are spread.
        mode: String,
    },
    /// Each event is given to one machine, and whoever reads them here must report on them.
    ReportsAwaited {
        /// The relay's word for how events are spread.
        mode: String,
    },
    /// Events are missing.
    Gap(Gap),
    /// The machine was asleep.
    Slept {
        /// How long.
        duration_ms: u64,
    },
    /// A handler failed and is tried again.
    HandlerFailed {
        /// Which event.
        event: EventId,
        /// Which attempt failed.
        attempt: u32,
        /// Why.
        message: String,
        /// When it is tried again.
        retry_in_ms: u64,
    },
    /// A handler gave up on an event, and the client goes on after it.
    Skipped {
        /// Which event.
        event: EventId,
        /// Why.
        message: String,
    },
    /// Somebody has stopped an agent session.
    Stopped {
        /// Handlers that are asked to end.
        running: usize,
        /// Events that are passed over.
        waiting: usize,
    },
    /// Handlers were stopped because the time to end was over.
    Abandoned {
        /// How many.
        running: usize,
    },
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Things go their way.
    Plain,
    /// Somebody may want to look.
    Warning,
    /// An event will not be handled.
    Severe,
}

impl Notice {
    /// How much it matters.
    pub fn weight(&self) -> Weight {
        match self {
            Self::Connected { .. }
            | Self::Bye { .. }
            | Self::Slept { .. }
            | Self::Stopped { .. } => Weight::Plain,
            Self::Disconnected { .. }
            | Self::GivenNothing { .. }
            | Self::ReportsAwaited { .. }
            | Self::Gap(_)
            | Self::HandlerFailed { .. }
            | Self::Abandoned { .. } => Weight::Warning,
            Self::Skipped { .. } => Weight::Severe,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { cursor, lag_events: 0 } => {
                write!(f, "connected at {cursor}, nothing missed")
            }
            Self::Connected { cursor, lag_events } => {
                write!(f, "connected at {cursor}, {lag_events} events to catch up")
            }
            Self::Disconnected { message, retry_in_ms } => {
                write!(f, "not connected: {message}; dialing again in {retry_in_ms} ms")
            }
            Self::Bye { code, retry_in_ms } => {
                write!(f, "the relay says bye ({code}); dialing again in {retry_in_ms} ms")
            }
            Self::GivenNothing { mode } => write!(
                f,
                "this machine is given no events: the relay gives each to one machine that reports \
                 on it ({mode}), and this one does not: it needs --report on and a credential with \
                 the scope write:status"
            ),
            Self::ReportsAwaited { mode } => write!(
                f,
                "the relay gives each event to one machine ({mode}) and waits for its report: run \
                 edgerelay status EVENT completed for each, or use --exec or --forward, which do"
            ),
            Self::Gap(gap) => write!(
                f,
                "events are missing: the relay can't go on after {} ({}), it goes on after {}",
                gap.requested,
                serde_json::to_string(&gap.reason).unwrap_or_default().trim_matches('"'),
                gap.resumed_from
            ),
            Self::Slept { duration_ms } => {
                write!(f, "the machine was asleep for {} s; dialing again", duration_ms / 1_000)
            }
            Self::HandlerFailed { event, attempt, message, retry_in_ms } => write!(
                f,
                "attempt {attempt} at {event} failed: {message}; again in {retry_in_ms} ms"
            ),
            Self::Skipped { event, message } => {
                write!(f, "gave up on {event}: {message}; going on after it")
            }
            Self::Stopped { running, waiting } => write!(
                f,
                "an agent session was stopped: {running} handlers are asked to end, {waiting} \
                 events are passed over"
            ),
            Self::Abandoned { running } => {
                write!(f, "{running} handlers still ran and were stopped; their events come again")
            }
        }
    }
}
