use std::sync::Arc;

use relay_schemas::{Activity, Cursor};

use super::{ledger::Batch, notice::Notice, progress::Ticket};
use crate::{
    event::Event,
    fault::{Exit, Fault, Refusal},
};

/// What happens to a session.
#[derive(Debug)]
pub enum Input {
    /// The client starts.
    Start,
    /// A dial succeeded.
    Connected {
        /// Whether the reader can speak: a WebSocket wants pings and credit.
        is_duplex: bool,
    },
    /// A line came.
    Line(Arc<str>),
    /// Something came that is no line, such as `pong`: the connection lives.
    Alive,
    /// A dial failed, or the connection ended.
    Disconnected(Fault),
    /// A handler is done.
    Finished {
        /// Which run.
        ticket: Ticket,
        /// How it went.
        outcome: Outcome,
        /// What there is to tell about it.
        summary: RunSummary,
    },
    /// A handler tells how it gets on.
    Progress {
        /// Which run.
        ticket: Ticket,
        /// What is to be shown. It has an id, so that it may be sent twice; what ends the turn gets
        /// one here.
        activity: Activity,
    },
    /// The last batch is durable.
    Persisted,
    /// A batch can't be made durable.
    StateFailed(String),
    /// The relay refused something beside the stream, such as a report.
    Refused(Refusal),
    /// The machine was asleep: the connection is surely gone.
    Slept {
        /// How long.
        duration_ms: u64,
    },
    /// Somebody wants a new connection now.
    ReconnectRequested,
    /// Somebody wants the client to end; a second time, at once.
    Shutdown,
    /// Time has passed.
    Tick,
}

/// How a handler ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The event is handled.
    Succeeded,
    /// It is not; another attempt may help. With a message for people.
    Failed(String),
    /// Nobody takes events any more.
    Closed,
}

/// What there is to tell about a run, for its report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// What the command said last.
    pub message: Option<String>,
    /// What it ended with.
    pub exit_code: Option<i32>,
    /// How long it ran.
    pub duration_ms: Option<u64>,
    /// Whether it has told the relay by itself how it ended, so that nothing is to be added.
    pub is_told: bool,
}

/// Where a first dial starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event kept.
    Earliest,
    /// As the relay reads it: a duration, an instant, an event id, `now`.
    Since(String),
    /// So many events before the newest.
    Tail(u64),
}

/// Where a dial is to start reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFrom {
    /// Nothing was ever read.
    Start(Start),
    /// After this.
    Cursor(Cursor),
}

/// What a session wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Connect; answered by `Connected` or `Disconnected`.
    Dial(DialFrom),
    /// Forget the connection, or the dial that runs; nothing more may come from it.
    Hangup,
    /// Ask whether the relay is there.
    Ping,
    /// Allow the relay so many more bytes.
    Grant {
        /// How many.
        bytes: i64,
    },
    /// Give an event to the handler; answered by `Finished`.
    Run {
        /// To be named in the answer.
        ticket: Ticket,
        /// The event.
        event: Event,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// End a run before its time; answered by `Finished`.
    Stop {
        /// Which run.
        ticket: Ticket,
    },
    /// Make this durable; answered by `Persisted` or `StateFailed`.
    Persist(Batch),
    /// Stop the handlers that still run.
    AbandonHandlers,
    /// Tell people.
    Tell(Notice),
    /// All is done.
    Exit(Exit),
}
