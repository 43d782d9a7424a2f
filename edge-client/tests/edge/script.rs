//! A session under a hand-moved clock, fed with lines as the relay writes them.

use std::sync::Arc;

use edgerelay::{
    Batch, Command, Dispatch, Event, Fault, Handled, Input, OnFailure, Ordering, Outcome, Restored,
    RunSummary, Session, SessionSettings, Start, Ticket,
};
use relay_schemas::{
    Bye, ByeCode, Cursor, Heartbeat, Open, ReportStatus, UnixMillis, write_attempt_frame,
    write_webhook_frame,
};

use crate::events::{cursor, event_id, record};

pub(crate) const HEARTBEAT_S: u32 = 10;

pub(crate) fn settings() -> SessionSettings {
    SessionSettings {
        start: Start::Earliest,
        ordering: Ordering::Stream,
        concurrency: 1,
        capacity: None,
        attempts_max: Some(2),
        on_failure: OnFailure::Stop,
        reports: false,
        persist_interval_ms: 0,
        fail_on_gap: false,
        exit_when_caught_up: false,
        activities: true,
        stops: true,
        is_renewed: false,
        grace_ms: 5_000,
    }
}

pub(crate) struct Script {
    pub(crate) session: Session,
    pub(crate) now: UnixMillis,
    /// Webhooks fed on this connection.
    pub(crate) n: u64,
}

impl Script {
    pub(crate) fn new(settings: SessionSettings, restored: Restored) -> Self {
        Self { session: Session::new(settings, restored, 7), now: UnixMillis::new(1_000_000), n: 0 }
    }

    pub(crate) fn feed(&mut self, input: Input) -> Vec<Command> {
        self.session.handle(input, self.now);
        std::iter::from_fn(|| self.session.next_command()).collect()
    }

    pub(crate) fn line(&mut self, line: &str) -> Vec<Command> {
        self.feed(Input::Line(Arc::from(line)))
    }

    pub(crate) fn pass(&mut self, milliseconds: u64) -> Vec<Command> {
        self.now = self.now + milliseconds;
        self.feed(Input::Tick)
    }

    /// Moves the time to where the session asked to be woken.
    pub(crate) fn wake(&mut self) -> Vec<Command> {
        self.now = self.session.poll_timeout().expect("the session waits for something");
        self.feed(Input::Tick)
    }

    /// Starts, connects and opens at `from`.
    pub(crate) fn open(settings: SessionSettings, restored: Restored, is_duplex: bool) -> Self {
        let from = restored.cursor.unwrap_or(cursor(0));
        let mut script = Self::new(settings, restored);
        script.feed(Input::Start);
        script.reopen(from, is_duplex);
        script
    }

    pub(crate) fn reopen(&mut self, from: Cursor, is_duplex: bool) -> Vec<Command> {
        self.n = 0;
        assert_eq!(self.feed(Input::Connected { is_duplex }), []);
        self.line(&open_line(from, is_duplex.then_some(1_000)))
    }

    pub(crate) fn webhook(&mut self, seq: u64) -> Vec<Command> {
        self.n += 1;
        let line = webhook_line(seq, self.n);
        self.line(&line)
    }

    pub(crate) fn finish(&mut self, ticket: Ticket, outcome: Outcome) -> Vec<Command> {
        self.feed(Input::Finished { ticket, outcome, summary: RunSummary::default() })
    }

    pub(crate) fn handled(&self) -> Option<Cursor> {
        self.session.status(self.now).cursor
    }
}

pub(crate) fn open_line(from: Cursor, credit: Option<i64>) -> String {
    Open {
        cursor: from,
        epoch: from.epoch,
        oldest: cursor(0),
        tail: cursor(100),
        heartbeat_s: HEARTBEAT_S,
        credit,
        mode: None,
        capacity: None,
    }
    .to_line()
}

/// The first line where each event is given to one machine.
pub(crate) fn open_line_of(mode: &str, from: Cursor) -> String {
    let mode = format!(r#"{{"type":"open","mode":"{mode}","#);
    open_line(from, None).replacen(r#"{"type":"open","#, &mode, 1)
}

/// An event that so many machines have been given.
pub(crate) fn given_line(at: u64, n: u64, attempt: u32, seq: u64) -> String {
    let mut line = String::new();
    write_attempt_frame(cursor(at), n, attempt, &record(seq, "{}"), &mut line);
    line
}

pub(crate) fn webhook_line(seq: u64, n: u64) -> String {
    webhook_line_with(seq, n, r#"{"agentSession":{"id":"s"}}"#)
}

pub(crate) fn webhook_line_with(seq: u64, n: u64, body: &str) -> String {
    let mut line = String::new();
    write_webhook_frame(cursor(seq), n, &record(seq, body), &mut line);
    line
}

pub(crate) fn heartbeat_line(seq: u64, n: u64) -> String {
    Heartbeat::new(cursor(seq), cursor(100), n, UnixMillis::new(1)).to_line()
}

pub(crate) fn bye_line(code: ByeCode, retry_after_ms: u64) -> String {
    Bye { code, retry_after_ms, cursor: cursor(0) }.to_line()
}

pub(crate) fn at(seq: u64) -> Restored {
    Restored { cursor: Some(cursor(seq)), handled: Vec::new() }
}

pub(crate) fn passing() -> Fault {
    Fault::passing("gone")
}

/// The one run among the commands.
pub(crate) fn run(commands: &[Command]) -> (Ticket, Event, u32) {
    let runs: Vec<_> = commands
        .iter()
        .filter_map(|command| match command {
            Command::Run { ticket, event, attempt } => Some((*ticket, event.clone(), *attempt)),
            _ => None,
        })
        .collect();
    assert_eq!(runs.len(), 1, "{commands:?}");
    runs[0].clone()
}

pub(crate) fn persisted(seq: u64, handled: &[u64], reports: &[(u64, ReportStatus)]) -> Command {
    Command::Persist(Batch {
        cursor: Some(cursor(seq)),
        handled: handled.iter().map(|seq| Handled::well(event_id(*seq))).collect(),
        dispatches: reports.iter().map(|(seq, status)| report(*seq, *status)).collect(),
    })
}

pub(crate) fn report(seq: u64, status: ReportStatus) -> Dispatch {
    Dispatch::Status(relay_schemas::Report::new(event_id(seq), status))
}
