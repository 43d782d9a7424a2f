//! Goal: the session decides right, whatever happens in whatever order. Method: feed inputs, assert
//! the exact commands, move the time, assert again. No sockets, no clock.

use std::sync::Arc;

use edgerelay::{
    Batch, Command, DialFrom, Event, Exit, Fault, Input, LinkState, Notice, OnFailure, Ordering,
    Outcome, Refusal, RefusalKind, Restored, Session, SessionSettings, Start, Ticket,
    limits::{BYTES_HELD_MAX, DIAL_TIMEOUT_MS, EVENTS_HELD_MAX, WINDOW_EVENTS_MAX},
};
use proptest::prelude::*;
use relay_schemas::{
    Bye, ByeCode, Cursor, EventId, Gap, GapReason, Heartbeat, Open, Report, ReportStatus,
    UnixMillis, write_webhook_frame,
};

use crate::fake_relay::{cursor, event_id, record};

const HEARTBEAT_S: u32 = 10;

fn settings() -> SessionSettings {
    SessionSettings {
        start: Start::Earliest,
        ordering: Ordering::Stream,
        concurrency: 1,
        attempts_max: Some(2),
        on_failure: OnFailure::Stop,
        reports: false,
        persist_interval_ms: 0,
        fail_on_gap: false,
        exit_when_caught_up: false,
        grace_ms: 5_000,
    }
}

struct Script {
    session: Session,
    now: UnixMillis,
    /// Webhooks fed on this connection.
    n: u64,
}

impl Script {
    fn new(settings: SessionSettings, restored: Restored) -> Self {
        Self { session: Session::new(settings, restored, 7), now: UnixMillis::new(1_000_000), n: 0 }
    }

    fn feed(&mut self, input: Input) -> Vec<Command> {
        self.session.handle(input, self.now);
        std::iter::from_fn(|| self.session.next_command()).collect()
    }

    fn line(&mut self, line: &str) -> Vec<Command> {
        self.feed(Input::Line(Arc::from(line)))
    }

    fn pass(&mut self, milliseconds: u64) -> Vec<Command> {
        self.now = self.now + milliseconds;
        self.feed(Input::Tick)
    }

    /// Moves the time to where the session asked to be woken.
    fn wake(&mut self) -> Vec<Command> {
        self.now = self.session.poll_timeout().expect("the session waits for something");
        self.feed(Input::Tick)
    }

    /// Starts, connects and opens at `from`.
    fn open(settings: SessionSettings, restored: Restored, is_duplex: bool) -> Self {
        let from = restored.cursor.unwrap_or(cursor(0));
        let mut script = Self::new(settings, restored);
        script.feed(Input::Start);
        script.reopen(from, is_duplex);
        script
    }

    fn reopen(&mut self, from: Cursor, is_duplex: bool) -> Vec<Command> {
        self.n = 0;
        assert_eq!(self.feed(Input::Connected { is_duplex }), []);
        self.line(&open_line(from, is_duplex.then_some(1_000)))
    }

    fn webhook(&mut self, seq: u64) -> Vec<Command> {
        self.n += 1;
        let line = webhook_line(seq, self.n);
        self.line(&line)
    }

    fn finish(&mut self, ticket: Ticket, outcome: Outcome) -> Vec<Command> {
        self.feed(Input::Finished { ticket, outcome })
    }

    fn handled(&self) -> Option<Cursor> {
        self.session.status(self.now).cursor
    }
}

fn open_line(from: Cursor, credit: Option<i64>) -> String {
    Open {
        cursor: from,
        epoch: from.epoch,
        oldest: cursor(0),
        tail: cursor(100),
        heartbeat_s: HEARTBEAT_S,
        credit,
    }
    .to_line()
}

fn webhook_line(seq: u64, n: u64) -> String {
    webhook_line_with(seq, n, r#"{"agentSession":{"id":"s"}}"#)
}

fn webhook_line_with(seq: u64, n: u64, body: &str) -> String {
    let mut line = String::new();
    write_webhook_frame(cursor(seq), n, &record(seq, body), &mut line);
    line
}

fn heartbeat_line(seq: u64, n: u64) -> String {
    Heartbeat::new(cursor(seq), cursor(100), n, UnixMillis::new(1)).to_line()
}

fn bye_line(code: ByeCode, retry_after_ms: u64) -> String {
    Bye { code, retry_after_ms, cursor: cursor(0) }.to_line()
}

/// The one run among the commands.
fn run(commands: &[Command]) -> (Ticket, Event, u32) {
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

fn persisted(seq: u64, handled: &[u64], reports: &[(u64, ReportStatus)]) -> Command {
    Command::Persist(Batch {
        cursor: Some(cursor(seq)),
        handled: handled.iter().map(|seq| event_id(*seq)).collect(),
        reports: reports.iter().map(|(seq, status)| report(*seq, *status)).collect(),
    })
}

fn report(seq: u64, status: ReportStatus) -> Report {
    Report { event_id: event_id(seq), status, error: None, message: None }
}

fn at(seq: u64) -> Restored {
    Restored { cursor: Some(cursor(seq)), handled: Vec::new() }
}

fn passing() -> Fault {
    Fault::passing("gone")
}

#[test]
fn an_event_goes_from_the_line_to_the_handler_to_the_store() {
    let mut script = Script::new(SessionSettings { reports: true, ..settings() }, at(1));
    assert_eq!(script.feed(Input::Start), [Command::Dial(DialFrom::Cursor(cursor(1)))]);
    let connected = Notice::Connected { cursor: cursor(1), lag_events: 99 };
    assert_eq!(script.reopen(cursor(1), false), [Command::Tell(connected)]);
    let commands = script.webhook(2);
    let (ticket, event, attempt) = run(&commands);
    assert_eq!((event.id(), event.cursor(), attempt), (event_id(2), cursor(2), 1));
    assert_eq!(event.line(), webhook_line(2, 1));
    assert_eq!(commands[1..], [persisted(1, &[], &[(2, ReportStatus::Processing)])]);
    // A batch is under way: the next waits for it.
    assert_eq!(script.finish(ticket, Outcome::Succeeded), []);
    assert_eq!(
        script.feed(Input::Persisted),
        [persisted(2, &[2], &[(2, ReportStatus::Completed)])]
    );
    assert_eq!(script.feed(Input::Persisted), []);
}

#[test]
fn a_first_start_stores_where_it_is() {
    let mut script =
        Script::new(SessionSettings { start: Start::Tail(3), ..settings() }, Restored::default());
    assert_eq!(script.feed(Input::Start), [Command::Dial(DialFrom::Start(Start::Tail(3)))]);
    script.feed(Input::Connected { is_duplex: false });
    let commands = script.line(&open_line(cursor(97), None));
    assert_eq!(commands[1..], [persisted(97, &[], &[])]);
    script.feed(Input::Persisted);
    script.feed(Input::Disconnected(passing()));
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(97)))]);
}

#[test]
fn silence_ends_a_connection_after_two_and_a_half_heartbeats() {
    let mut script = Script::open(settings(), at(0), false);
    assert_eq!(script.pass(24_000), []);
    script.line(&heartbeat_line(0, 0));
    assert_eq!(script.pass(24_999), []);
    let commands = script.pass(1);
    assert_eq!(commands[0], Command::Hangup);
    assert!(matches!(commands[1], Command::Tell(Notice::Disconnected { .. })), "{commands:?}");
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(0)))]);
}

#[test]
fn a_websocket_is_pinged_and_a_pong_keeps_it() {
    let mut script = Script::open(settings(), at(0), true);
    for _ in 0..5 {
        assert_eq!(script.wake(), [Command::Ping]);
        assert_eq!(script.feed(Input::Alive), []);
    }
    assert_eq!(script.wake(), [Command::Ping]);
    assert_eq!(script.wake(), [Command::Ping]);
    assert_eq!(script.wake()[0], Command::Hangup);
}

#[test]
fn dials_and_first_frames_have_their_time() {
    let mut script = Script::new(settings(), at(0));
    script.feed(Input::Start);
    assert_eq!(script.pass(DIAL_TIMEOUT_MS - 1), []);
    assert_eq!(script.pass(1)[0], Command::Hangup);
    script.wake();
    script.feed(Input::Connected { is_duplex: false });
    assert_eq!(script.pass(DIAL_TIMEOUT_MS - 1), []);
    assert_eq!(script.pass(1)[0], Command::Hangup);
}

#[test]
fn what_the_relay_asks_to_wait_is_waited() {
    let mut script = Script::new(settings(), at(0));
    script.feed(Input::Start);
    let fault = Fault::Passing { message: "busy".into(), retry_after_ms: Some(90_000) };
    script.feed(Input::Disconnected(fault));
    assert_eq!(script.pass(89_999), []);
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(0)))]);
}

#[test]
fn waits_grow_without_an_end_and_start_anew_after_progress() {
    let mut script = Script::new(settings(), at(0));
    script.feed(Input::Start);
    for _ in 0..1_000 {
        script.feed(Input::Disconnected(passing()));
        let wait_ms = script.session.poll_timeout().unwrap().since_ms(script.now);
        assert!(wait_ms <= 60_000);
        assert_eq!(script.wake().len(), 1);
    }
    assert_eq!(script.session.status(script.now).dial_failures, 1_000);
    script.reopen(cursor(0), false);
    assert_eq!(script.session.status(script.now).dial_failures, 1_000, "open alone is no progress");
    script.line(&heartbeat_line(0, 0));
    assert_eq!(script.session.status(script.now).dial_failures, 0);
}

#[test]
fn a_planned_bye_is_followed_at_once_but_not_for_ever() {
    let mut script = Script::open(settings(), at(0), false);
    let commands = script.line(&bye_line(ByeCode::Reconnect, 1_200));
    let bye = Notice::Bye { code: "reconnect", retry_in_ms: 1_200 };
    assert_eq!(commands, [Command::Hangup, Command::Tell(bye)]);
    assert_eq!(script.pass(1_199), []);
    assert_eq!(script.pass(1), [Command::Dial(DialFrom::Cursor(cursor(0)))]);
    // A relay that says nothing else must not be hammered.
    let mut waited_ms = 0;
    for _ in 0..20 {
        script.reopen(cursor(0), false);
        script.line(&bye_line(ByeCode::Reconnect, 0));
        waited_ms += script.session.poll_timeout().unwrap().since_ms(script.now);
        script.wake();
    }
    assert!(waited_ms > 100_000, "{waited_ms}");
}

#[test]
fn terminal_ends_are_not_dialed_again() {
    for (line, kind) in [
        (bye_line(ByeCode::Revoked, 0), RefusalKind::Credential),
        (bye_line(ByeCode::Expired, 0), RefusalKind::Credential),
        (bye_line(ByeCode::Protocol, 0), RefusalKind::Request),
    ] {
        let mut script = Script::open(settings(), at(0), false);
        let commands = script.line(&line);
        assert_eq!(commands[0], Command::Hangup);
        let Some(Command::Exit(Exit::Refused(refusal))) = commands.last() else {
            panic!("{commands:?}")
        };
        assert_eq!(refusal.kind, kind);
        assert_eq!(script.session.poll_timeout(), None);
    }
}

#[test]
fn sleep_and_requests_redial_at_once() {
    for input in [Input::Slept { duration_ms: 60_000 }, Input::ReconnectRequested] {
        let mut script = Script::open(settings(), at(4), false);
        let commands = script.feed(input);
        assert!(commands.contains(&Command::Hangup), "{commands:?}");
        assert_eq!(commands.last(), Some(&Command::Dial(DialFrom::Cursor(cursor(4)))));
    }
}

#[test]
fn a_lost_event_ends_the_connection() {
    for second in [webhook_line(3, 3), heartbeat_line(3, 2), "{\"type\":\"webhook\",".into()] {
        let mut script = Script::open(settings(), at(0), false);
        script.webhook(1);
        let commands = script.line(&second);
        assert_eq!(commands[0], Command::Hangup, "{second}");
        assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(1)))]);
    }
}

#[test]
fn unknown_frames_and_unknown_fields_change_nothing() {
    let mut script = Script::open(settings(), at(0), false);
    assert_eq!(script.line(r#"{"type":"later","cursor":7}"#), []);
    assert_eq!(script.session.status(script.now).link, LinkState::Open);
}

#[test]
fn a_dial_in_the_same_process_goes_on_after_what_is_held() {
    let mut script = Script::open(settings(), at(0), false);
    let (first, ..) = run(&script.webhook(1));
    script.webhook(2);
    script.feed(Input::Disconnected(passing()));
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(2)))]);
    assert_eq!(script.handled(), Some(cursor(0)));
    // Held events are handled meanwhile.
    let (second, event, _) = run(&script.finish(first, Outcome::Succeeded));
    assert_eq!(event.id(), event_id(2));
    script.finish(second, Outcome::Succeeded);
    assert_eq!(script.handled(), Some(cursor(2)));
}

#[test]
fn an_event_that_was_handled_is_not_handled_again() {
    let restored = Restored { cursor: Some(cursor(1)), handled: vec![event_id(2)] };
    let mut script = Script::open(settings(), restored, false);
    assert_eq!(script.webhook(2), [persisted(2, &[], &[])]);
    assert_eq!(script.handled(), Some(cursor(2)));
    assert_eq!(script.session.status(script.now).counters.duplicates, 1);
}

#[test]
fn a_held_event_that_comes_again_still_holds_the_cursor() {
    let mut script = Script::open(settings(), at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.feed(Input::Disconnected(passing()));
    script.wake();
    script.reopen(cursor(0), false);
    script.webhook(1);
    assert_eq!(script.handled(), Some(cursor(0)));
    script.finish(ticket, Outcome::Succeeded);
    assert_eq!(script.handled(), Some(cursor(1)));
}

#[test]
fn a_failed_handler_is_tried_again_and_then_stops_the_client() {
    let mut script = Script::open(SessionSettings { reports: true, ..settings() }, at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.feed(Input::Persisted);
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    assert!(
        matches!(&commands[..], [Command::Tell(Notice::HandlerFailed { attempt: 1, .. })]),
        "{commands:?}"
    );
    let (again, event, attempt) = run(&script.wake());
    assert_eq!((again, event.id(), attempt), (ticket, event_id(1), 2));
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    let failed = Report { error: Some("no".into()), ..report(1, ReportStatus::Failed) };
    let batch = Batch { cursor: Some(cursor(0)), handled: vec![], reports: vec![failed] };
    assert_eq!(commands, [Command::Hangup, Command::Persist(batch)]);
    let exit = Exit::HandlerFailed { event: event_id(1), message: "no".into() };
    assert_eq!(script.feed(Input::Persisted), [Command::Exit(exit)]);
}

#[test]
fn a_failed_handler_can_be_passed_over() {
    let skip = SessionSettings {
        on_failure: OnFailure::Skip,
        attempts_max: Some(1),
        reports: true,
        ..settings()
    };
    let mut script = Script::open(skip, at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.feed(Input::Persisted);
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    let notice = Notice::Skipped { event: event_id(1), message: "no".into() };
    assert_eq!(commands[0], Command::Tell(notice));
    let Command::Persist(batch) = &commands[1] else { panic!("{commands:?}") };
    assert_eq!((batch.cursor, batch.handled.as_slice()), (Some(cursor(1)), &[event_id(1)][..]));
}

#[test]
fn a_gap_is_told_and_passed_or_ends_the_client() {
    let gap = Gap {
        requested: cursor(0).to_string(),
        resumed_from: cursor(5),
        oldest: cursor(5),
        reason: GapReason::Trimmed,
    };
    let mut script = Script::open(settings(), at(0), false);
    let commands = script.line(&gap.to_line());
    assert_eq!(commands, [Command::Tell(Notice::Gap(gap.clone())), persisted(5, &[], &[])]);
    let mut script =
        Script::open(SessionSettings { fail_on_gap: true, ..settings() }, at(0), false);
    let commands = script.line(&gap.to_line());
    assert_eq!(
        commands,
        [Command::Tell(Notice::Gap(gap)), Command::Hangup, Command::Exit(Exit::Gap)]
    );
    assert_eq!(script.handled(), Some(cursor(0)));
}

#[test]
fn writes_keep_their_distance() {
    let slow = SessionSettings { persist_interval_ms: 20, ..settings() };
    let mut script = Script::open(slow, at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    assert_eq!(script.finish(ticket, Outcome::Succeeded), [persisted(1, &[1], &[])]);
    script.feed(Input::Persisted);
    for seq in [2, 3] {
        let (ticket, ..) = run(&script.webhook(seq));
        assert_eq!(script.finish(ticket, Outcome::Succeeded), []);
    }
    assert_eq!(script.pass(19), []);
    assert_eq!(script.pass(1), [persisted(3, &[2, 3], &[])]);
}

#[test]
fn the_end_waits_for_handlers_and_for_the_store() {
    let mut script = Script::open(settings(), at(0), false);
    let (ticket, ..) = run(&script.webhook(1));
    script.webhook(2);
    assert_eq!(script.feed(Input::Shutdown), [Command::Hangup]);
    assert_eq!(script.finish(ticket, Outcome::Succeeded), [persisted(1, &[1], &[])]);
    assert_eq!(script.feed(Input::Persisted), [Command::Exit(Exit::Stopped)]);
}

#[test]
fn the_end_does_not_wait_beyond_the_grace() {
    let mut script = Script::open(settings(), at(0), false);
    script.webhook(1);
    script.feed(Input::Shutdown);
    assert_eq!(script.pass(4_999), []);
    let abandoned = Notice::Abandoned { running: 1 };
    let expected =
        [Command::AbandonHandlers, Command::Tell(abandoned), Command::Exit(Exit::Stopped)];
    assert_eq!(script.pass(1), expected);

    let mut script = Script::open(settings(), at(0), false);
    script.webhook(1);
    script.feed(Input::Shutdown);
    assert_eq!(script.feed(Input::Shutdown), expected);
}

#[test]
fn refused_reports_and_a_lost_state_end_the_client() {
    let mut script = Script::open(settings(), at(0), false);
    let refusal = Refusal {
        kind: RefusalKind::Credential,
        code: "credential_revoked".into(),
        message: "revoked".into(),
    };
    let commands = script.feed(Input::Refused(refusal.clone()));
    assert_eq!(commands, [Command::Hangup, Command::Exit(Exit::Refused(refusal))]);
    let mut script = Script::open(settings(), at(0), false);
    let commands = script.feed(Input::StateFailed("disk full".into()));
    assert_eq!(commands, [Command::Exit(Exit::StateFailed("disk full".into()))]);
}

#[test]
fn catching_up_means_the_end_at_the_start() {
    let caught_up = SessionSettings { exit_when_caught_up: true, ..settings() };
    let mut script = Script::open(caught_up.clone(), at(98), false);
    for seq in [99, 100] {
        let (ticket, ..) = run(&script.webhook(seq));
        assert!(
            !script.finish(ticket, Outcome::Succeeded).contains(&Command::Exit(Exit::CaughtUp))
        );
        let commands = script.feed(Input::Persisted);
        assert_eq!(commands.contains(&Command::Exit(Exit::CaughtUp)), seq == 100);
    }
    // Under a filter it is the heartbeat that says so.
    let mut script = Script::open(caught_up, at(98), false);
    script.line(&heartbeat_line(100, 0));
    assert_eq!(script.feed(Input::Persisted), [Command::Exit(Exit::CaughtUp)]);
}

#[test]
fn credit_follows_what_is_handled() {
    let mut script = Script::open(settings(), at(0), true);
    let mut granted = 0;
    let mut handled = 0;
    for seq in 1..=20 {
        let line = webhook_line(seq, seq);
        let (ticket, ..) = run(&script.line(&line));
        handled += line.len() as i64;
        let mut commands = script.finish(ticket, Outcome::Succeeded);
        commands.extend(script.feed(Input::Persisted));
        for command in commands {
            if let Command::Grant { bytes } = command {
                assert!(bytes >= 500, "half of the window of 1,000 at once");
                granted += bytes;
            }
        }
        assert!(granted <= handled && handled - granted < 500 + line.len() as i64);
    }
}

#[test]
fn reading_stops_at_each_bound_and_silence_then_means_nothing() {
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    for body in [r#"{"small":true}"#, &large] {
        let mut script = Script::open(settings(), at(0), false);
        let (mut seq, mut first) = (0, None);
        while script.session.has_room() {
            seq += 1;
            let commands = script.line(&webhook_line_with(seq, seq, body));
            first = first.or_else(|| Some(run(&commands).0));
        }
        let status = script.session.status(script.now);
        assert!(status.events_held <= EVENTS_HELD_MAX);
        assert!(status.bytes_held < BYTES_HELD_MAX + 101_000);
        assert_eq!(script.pass(10 * 60_000), [], "a reader that does not read hears nothing");
        script.finish(first.expect("an event runs"), Outcome::Succeeded);
        assert!(script.session.has_room());
        assert_eq!(script.pass(24_999), []);
        assert_eq!(script.pass(1)[0], Command::Hangup);
    }
}

#[test]
fn one_event_that_does_not_finish_holds_the_window() {
    let handed_over =
        SessionSettings { ordering: Ordering::HandedOver, concurrency: 100, ..settings() };
    let mut script = Script::open(handed_over, at(0), false);
    script.webhook(1);
    let mut seq = 1;
    while script.session.has_room() {
        seq += 1;
        let (ticket, ..) = run(&script.webhook(seq));
        script.finish(ticket, Outcome::Succeeded);
    }
    assert_eq!(seq, WINDOW_EVENTS_MAX as u64);
    assert_eq!(script.handled(), Some(cursor(0)));
}

#[derive(Clone, Debug)]
enum Step {
    Webhook(u8),
    Heartbeat,
    Succeed(prop::sample::Index),
    Fail(prop::sample::Index),
    Cut,
    Pass(u64),
    Persisted,
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4).prop_map(Step::Webhook),
        1 => Just(Step::Heartbeat),
        6 => any::<prop::sample::Index>().prop_map(Step::Succeed),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        1 => Just(Step::Cut),
        2 => (0u64..70_000).prop_map(Step::Pass),
        4 => Just(Step::Persisted),
        1 => Just(Step::Crash),
    ]
}

/// A stream, a disk and handlers around a session that may crash at any time.
struct World {
    script: Script,
    settings: SessionSettings,
    stored: Restored,
    writing: Option<Batch>,
    running: Vec<(Ticket, EventId)>,
    /// The session that each event of the stream belongs to.
    stream: Vec<u8>,
    sent: u64,
    is_open: bool,
    succeeded: Vec<EventId>,
}

impl World {
    fn new(settings: SessionSettings) -> Self {
        let stored = at(0);
        let mut world = Self {
            script: Script::new(settings.clone(), stored.clone()),
            settings,
            stored,
            writing: None,
            running: Vec::new(),
            stream: Vec::new(),
            sent: 0,
            is_open: false,
            succeeded: Vec::new(),
        };
        let commands = world.script.feed(Input::Start);
        world.perform(commands);
        world
    }

    fn feed(&mut self, input: Input) {
        let commands = self.script.feed(input);
        self.perform(commands);
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Dial(DialFrom::Cursor(from)) => {
                    self.sent = from.seq.get();
                    self.is_open = true;
                    self.script.n = 0;
                    self.feed(Input::Connected { is_duplex: false });
                    self.feed(Input::Line(Arc::from(open_line(from, None))));
                }
                Command::Hangup => self.is_open = false,
                Command::Run { ticket, event, .. } => {
                    let id = event.id();
                    let lane = |id: EventId| self.lane(id);
                    assert!(
                        self.running.iter().all(|(_, other)| lane(*other) != lane(id)),
                        "two of one session run together"
                    );
                    assert!(self.running.len() < self.settings.concurrency);
                    self.running.push((ticket, id));
                }
                Command::Persist(batch) => {
                    assert!(self.writing.replace(batch).is_none(), "one write at a time");
                }
                Command::Tell(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn lane(&self, id: EventId) -> u8 {
        let seq = u128::from_be_bytes(*id.as_bytes());
        self.stream[usize::try_from(seq).unwrap() - 1]
    }

    /// Sends what the connection has not sent.
    fn send(&mut self) {
        while self.is_open && self.sent < self.stream.len() as u64 && self.script.session.has_room()
        {
            self.sent += 1;
            self.script.n += 1;
            let lane = self.stream[usize::try_from(self.sent).unwrap() - 1];
            let body = format!(r#"{{"agentSession":{{"id":"{lane}"}}}}"#);
            let line = webhook_line_with(self.sent, self.script.n, &body);
            self.feed(Input::Line(Arc::from(line)));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Webhook(lane) => self.stream.push(lane),
            Step::Heartbeat if self.is_open => {
                let line = heartbeat_line(self.sent, self.script.n);
                self.feed(Input::Line(Arc::from(line)));
            }
            Step::Succeed(index) if !self.running.is_empty() => {
                let (ticket, id) = self.running.remove(index.index(self.running.len()));
                self.succeeded.push(id);
                self.feed(Input::Finished { ticket, outcome: Outcome::Succeeded });
            }
            Step::Fail(index) if !self.running.is_empty() => {
                let (ticket, _) = self.running.remove(index.index(self.running.len()));
                self.feed(Input::Finished { ticket, outcome: Outcome::Failed("no".into()) });
            }
            Step::Cut if self.is_open => {
                self.is_open = false;
                self.feed(Input::Disconnected(passing()));
            }
            Step::Pass(milliseconds) => {
                self.script.now = self.script.now + milliseconds;
                self.feed(Input::Tick);
            }
            Step::Persisted => self.written(),
            Step::Crash => {
                // The write under way is lost; handlers that ran are gone.
                let now = self.script.now;
                self.script = Script::new(self.settings.clone(), self.stored.clone());
                self.script.now = now;
                self.running.clear();
                self.writing = None;
                self.is_open = false;
                self.feed(Input::Start);
            }
            Step::Heartbeat | Step::Succeed(_) | Step::Fail(_) | Step::Cut => {}
        }
        self.send();
        self.check();
    }

    fn written(&mut self) {
        if let Some(batch) = self.writing.take() {
            self.stored.cursor = batch.cursor.or(self.stored.cursor);
            self.stored.handled.extend(batch.handled);
            self.feed(Input::Persisted);
        }
    }

    /// Nothing before the stored cursor is unhandled.
    fn check(&self) {
        let stored = self.stored.cursor.unwrap().seq.get();
        for seq in 1..=stored {
            assert!(self.succeeded.contains(&event_id(seq)), "{seq} was passed over");
        }
    }

    /// Lets everything come to its end.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.stored.cursor.unwrap().seq.get() == self.stream.len() as u64 {
                return;
            }
            self.step(Step::Pass(70_000));
            self.step(Step::Heartbeat);
            while !self.running.is_empty() {
                let (ticket, id) = self.running.remove(0);
                self.succeeded.push(id);
                self.feed(Input::Finished { ticket, outcome: Outcome::Succeeded });
            }
            self.send();
            self.written();
        }
        panic!("the session came to no end: {:?}", self.script.session.status(self.script.now));
    }
}

proptest! {
    /// With cuts, failures and crashes anywhere: every event is handled, none is passed over, and
    /// those of one agent session finish for the first time in their order.
    #[test]
    fn every_event_is_handled_in_its_order(
        concurrency in 1usize..4,
        steps in prop::collection::vec(any_step(), 0..150),
    ) {
        let settings = SessionSettings {
            ordering: if concurrency == 1 { Ordering::Stream } else { Ordering::Lanes },
            concurrency,
            attempts_max: None,
            ..settings()
        };
        let mut world = World::new(settings);
        for step in steps {
            world.step(step);
        }
        world.finish();
        let mut first = Vec::new();
        for id in &world.succeeded {
            if !first.contains(id) {
                first.push(*id);
            }
        }
        prop_assert_eq!(first.len(), world.stream.len());
        for lane in 0..4 {
            let order: Vec<_> = first.iter().filter(|id| world.lane(**id) == lane).collect();
            prop_assert!(order.is_sorted(), "session {} finished as {:?}", lane, order);
        }
    }

    #[test]
    fn arbitrary_lines_never_panic(lines in prop::collection::vec(".{0,80}", 0..20)) {
        let mut script = Script::open(settings(), at(0), true);
        for line in lines {
            script.line(&line);
            script.line(&format!(r#"{{"type":"webhook","{line}"#));
            script.pass(100);
        }
    }
}
