//! Goal: a stop ends what runs for its agent session, and what waits for it; nothing else, and
//! nothing that comes after it. Method: the session as a value, as in `session_script`.

use edgerelay::{
    Command, Dispatch, Input, Notice, Ordering, Outcome, Restored, SessionSettings, Ticket,
};
use relay_schemas::{EventId, Signal, UnixMillis};

use crate::{
    events::{cursor, event_id},
    script::{Script, at, settings, webhook_line_with},
};

/// When the relay received an event: see `events::record`.
fn received(seq: u64) -> String {
    UnixMillis::new(1_790_000_000_000 + seq).to_string()
}

fn stop(session: &str, seq: u64) -> Signal {
    Signal {
        signal: "stop".into(),
        session: session.into(),
        id: event_id(seq),
        cursor: cursor(0),
        timestamp: received(seq),
    }
}

fn open() -> Script {
    let settings = SessionSettings {
        ordering: Ordering::Lanes,
        concurrency: 4,
        reports: true,
        persist_interval_ms: 1_000_000,
        ..settings()
    };
    let mut script = Script::open(settings, Restored::default(), false);
    // The first write is the start's; from now on they wait to be looked at.
    script.feed(Input::Persisted);
    script
}

fn webhook(script: &mut Script, seq: u64, session: &str) -> Vec<Command> {
    script.n += 1;
    let body = format!(r#"{{"agentSession":{{"id":"{session}"}}}}"#);
    let line = webhook_line_with(seq, script.n, &body);
    script.line(&line)
}

fn runs(commands: &[Command]) -> Vec<(Ticket, EventId)> {
    let run = |command: &Command| match command {
        Command::Run { ticket, event, .. } => Some((*ticket, event.id())),
        _ => None,
    };
    commands.iter().filter_map(run).collect()
}

fn stopped(running: usize, waiting: usize) -> Command {
    Command::Tell(Notice::Stopped { running, waiting })
}

/// Everything that was stored up to now, as `seq status message`.
fn told(script: &mut Script) -> Vec<String> {
    let commands = script.pass(1_000_000);
    let batches = commands.iter().filter_map(|command| match command {
        Command::Persist(batch) => Some(batch),
        _ => None,
    });
    batches
        .flat_map(|batch| &batch.dispatches)
        .map(|dispatch| match dispatch {
            Dispatch::Status(report) => {
                let seq = u128::from_be_bytes(*report.event_id.as_bytes());
                let message = report.message.as_deref().unwrap_or("-");
                format!("{seq} {} {message}", report.status.as_str())
            }
            Dispatch::Activity(_) => panic!("nobody told any"),
        })
        .collect()
}

#[test]
fn what_runs_is_asked_to_end_and_what_waits_is_passed_over() {
    let mut script = open();
    let first = runs(&webhook(&mut script, 1, "a"))[0].0;
    webhook(&mut script, 2, "b");
    assert_eq!(runs(&webhook(&mut script, 3, "a")), []);
    let commands = script.line(&stop("a", 9).to_line());
    assert_eq!(commands, [stopped(1, 1), Command::Stop { ticket: first }]);
    assert_eq!(script.handled(), Some(cursor(0)), "what runs still holds the cursor");
    script.finish(first, Outcome::Succeeded);
    let told = told(&mut script);
    assert!(told.contains(&"3 completed stopped".to_owned()), "{told:?}");
    assert!(!told.iter().any(|line| line.starts_with("2 completed")), "{told:?}");
    assert_eq!(script.session.status(script.now).counters.events_stopped, 1);
}

#[test]
fn events_before_the_stop_are_passed_over_and_the_stop_itself_runs() {
    let mut script = open();
    assert_eq!(script.line(&stop("a", 3).to_line()), [stopped(0, 0)]);
    assert_eq!(runs(&webhook(&mut script, 1, "a")), []);
    assert_eq!(runs(&webhook(&mut script, 2, "b")).len(), 1, "another session goes on");
    assert_eq!(runs(&webhook(&mut script, 3, "a"))[0].1, event_id(3));
    // What the person says after the stop is wanted again.
    assert_eq!(runs(&webhook(&mut script, 4, "a")), [], "it waits for its predecessor");
    assert_eq!(script.session.status(script.now).counters.events_stopped, 1);
    let told = told(&mut script);
    assert!(told.contains(&"1 completed stopped".to_owned()), "{told:?}");
}

#[test]
fn a_stop_that_never_comes_does_not_silence_its_session() {
    let mut script = open();
    script.line(&stop("a", 3).to_line());
    assert_eq!(runs(&webhook(&mut script, 5, "a")).len(), 1, "received after the stop");
    assert_eq!(script.session.status(script.now).counters.events_stopped, 0);
}

#[test]
fn a_stop_that_is_held_or_handled_ends_only_what_came_before_it() {
    let mut script = open();
    let first = runs(&webhook(&mut script, 1, "a"))[0].0;
    webhook(&mut script, 2, "a");
    webhook(&mut script, 3, "a");
    webhook(&mut script, 4, "a");
    let commands = script.line(&stop("a", 3).to_line());
    assert_eq!(commands, [stopped(1, 1), Command::Stop { ticket: first }]);
    let (third, id) = runs(&script.finish(first, Outcome::Succeeded))[0];
    assert_eq!(id, event_id(3), "the stop itself is handled");
    // Its own handler is not ended by its own signal, however often that comes.
    assert_eq!(script.line(&stop("a", 3).to_line()), [stopped(0, 0)]);
    let (_, id) = runs(&script.finish(third, Outcome::Succeeded))[0];
    assert_eq!(id, event_id(4));
    assert_eq!(script.line(&stop("a", 3).to_line()), []);
}

#[test]
fn an_event_that_rests_between_attempts_is_passed_over() {
    let mut script = open();
    let (ticket, _) = runs(&webhook(&mut script, 1, "a"))[0];
    script.finish(ticket, Outcome::Failed("no".into()));
    assert_eq!(script.line(&stop("a", 9).to_line()), [stopped(0, 1)]);
    script.pass(600_000);
    assert_eq!(script.session.status(script.now).handlers_running, 0);
    assert_eq!(script.handled(), Some(cursor(1)));
}

#[test]
fn unknown_signals_and_handlers_that_cannot_be_stopped_change_nothing() {
    let mut script = open();
    webhook(&mut script, 1, "a");
    let novel = Signal { signal: "dance".into(), ..stop("a", 9) };
    assert_eq!(script.line(&novel.to_line()), []);
    let mut script = Script::open(SessionSettings { stops: false, ..settings() }, at(0), false);
    webhook(&mut script, 1, "a");
    assert_eq!(script.line(&stop("a", 9).to_line()), []);
    assert_eq!(script.session.status(script.now).counters.signals, 1);
}

/// It failed before, waited at the relay, and comes after the stop that was handled meanwhile.
#[test]
fn what_comes_again_after_its_stop_was_handled_is_passed_over() {
    let mut script = open();
    let (stop_itself, _) = runs(&webhook(&mut script, 3, "a"))[0];
    script.finish(stop_itself, Outcome::Succeeded);
    assert_eq!(script.line(&stop("a", 3).to_line()), []);
    assert_eq!(runs(&webhook(&mut script, 1, "a")), []);
    assert_eq!(runs(&webhook(&mut script, 5, "a")).len(), 1, "said after the stop");
    assert_eq!(script.session.status(script.now).counters.events_stopped, 1);
}
