//! Goal: where the relay gives each event to one machine and waits for its word, every event gets
//! one, and none is handled again that was. Method: scripts, as in `session_script`.

use edgerelay::{
    Command, DialFrom, Dispatch, Handled, Input, Notice, OnFailure, Outcome, Restored,
    SessionSettings, Weight,
};
use relay_schemas::ReportStatus;

use crate::{
    events::{cursor, event_id},
    script::{
        Script, at, given_line, open_line, open_line_of, passing, persisted, report, run, settings,
    },
};

fn skipping() -> SessionSettings {
    SessionSettings {
        on_failure: OnFailure::Skip,
        attempts_max: Some(1),
        reports: true,
        capacity: Some(1),
        ..settings()
    }
}

/// A session of a process that starts, at a relay of this mode.
fn started(mode: &str, handled: &[Handled]) -> Script {
    let restored = Restored { handled: handled.to_vec(), ..at(9) };
    let mut script = Script::new(skipping(), restored);
    script.feed(Input::Start);
    script.feed(Input::Connected { is_duplex: false });
    script.line(&open_line_of(mode, cursor(9)));
    script.feed(Input::Persisted);
    script
}

/// What is stored for the relay.
fn told(commands: &[Command]) -> Vec<Dispatch> {
    let batches = commands.iter().filter_map(|command| match command {
        Command::Persist(batch) => Some(batch),
        _ => None,
    });
    batches.flat_map(|batch| batch.dispatches.clone()).collect()
}

fn statuses(commands: &[Command]) -> Vec<ReportStatus> {
    told(commands)
        .iter()
        .map(|dispatch| match dispatch {
            Dispatch::Status(report) => report.status,
            Dispatch::Activity(_) => panic!("nothing is shown"),
        })
        .collect()
}

/// The relay hands out an event again with the furthest position, or with its own.
#[test]
fn an_older_event_that_comes_again_moves_no_cursor_back() {
    let mut script = Script::open(settings(), at(9), false);
    let (ticket, ..) = run(&script.webhook(10));
    assert_eq!(script.finish(ticket, Outcome::Succeeded), [persisted(10, &[10], &[])]);
    script.feed(Input::Persisted);
    for (n, seq, at) in [(2, 4, 10), (3, 5, 5)] {
        let (ticket, event, _) = run(&script.line(&given_line(at, n, 2, seq)));
        assert_eq!(event.id(), event_id(seq));
        assert_eq!(script.finish(ticket, Outcome::Succeeded), [persisted(10, &[seq], &[])]);
        script.feed(Input::Persisted);
    }
    script.feed(Input::Disconnected(passing()));
    assert_eq!(script.wake(), [Command::Dial(DialFrom::Cursor(cursor(10)))]);
}

#[test]
fn an_event_that_was_given_up_here_is_tried_again_when_this_machine_is_given_it_again() {
    let mut script = started("sticky", &[]);
    let (ticket, ..) = run(&script.line(&given_line(9, 1, 3, 1)));
    script.feed(Input::Persisted);
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    let Some(Command::Persist(batch)) = commands.last() else { panic!("{commands:?}") };
    assert_eq!(batch.handled, [Handled::given_up(event_id(1), 3)]);
    script.feed(Input::Persisted);
    // The machine came back before its report was taken: nothing has changed.
    assert_eq!(statuses(&script.line(&given_line(9, 2, 3, 1))), [ReportStatus::Failed]);
    script.feed(Input::Persisted);
    let (ticket, event, attempt) = run(&script.line(&given_line(9, 3, 4, 1)));
    assert_eq!((event.id(), attempt), (event_id(1), 1));
    script.feed(Input::Persisted);
    let commands = script.finish(ticket, Outcome::Succeeded);
    let Some(Command::Persist(batch)) = commands.last() else { panic!("{commands:?}") };
    assert_eq!(batch.handled, [Handled::well(event_id(1))]);
    script.feed(Input::Persisted);
    // Handled is handled, and the relay is told so.
    assert_eq!(statuses(&script.line(&given_line(9, 4, 5, 1))), [ReportStatus::Completed]);
    assert_eq!(script.session.status(script.now).counters.duplicates, 2);
}

#[test]
fn a_restart_forgets_nothing_of_it() {
    // Given to this machine once more, and put back from the dead letters: there it begins anew.
    for attempt in [5, 1] {
        let mut script = started("roundrobin", &[Handled::given_up(event_id(1), 4)]);
        let (_, event, _) = run(&script.line(&given_line(9, 1, attempt, 1)));
        assert_eq!(event.id(), event_id(1));
    }
    let mut script = started("roundrobin", &[Handled::well(event_id(1))]);
    let commands = script.line(&given_line(9, 1, 2, 1));
    assert_eq!(commands, [persisted(9, &[], &[(1, ReportStatus::Completed)])]);
    // A connection that begins anew brings what this machine has, at its first attempt too.
    script.feed(Input::Persisted);
    let commands = script.line(&given_line(9, 2, 1, 1));
    assert_eq!(told(&commands), [report(1, ReportStatus::Completed)]);
}

#[test]
fn an_event_that_runs_is_answered_when_it_ends() {
    let mut script = started("sticky", &[]);
    let (ticket, ..) = run(&script.line(&given_line(9, 1, 1, 1)));
    script.feed(Input::Persisted);
    // The relay has taken it away for a while, and counts the machine as idle.
    assert_eq!(statuses(&script.line(&given_line(9, 2, 2, 1))), [ReportStatus::Processing]);
    // One that waits behind it has nothing to say yet, then or again.
    for n in [3, 4] {
        script.feed(Input::Persisted);
        assert_eq!(statuses(&script.line(&given_line(10, n, 1, 2))), []);
    }
    let commands = script.finish(ticket, Outcome::Failed("no".into()));
    let handled = commands.iter().find_map(|command| match command {
        Command::Persist(batch) => Some(batch.handled.clone()),
        _ => None,
    });
    assert_eq!(handled, Some(vec![Handled::given_up(event_id(1), 2)]), "as it was given last");
    assert_eq!(statuses(&commands), [ReportStatus::Failed, ReportStatus::Processing]);
}

#[test]
fn where_every_machine_gets_every_event_a_second_delivery_says_nothing() {
    let handled = [Handled::well(event_id(10)), Handled::given_up(event_id(11), 2)];
    let mut script = started("broadcast", &handled);
    for (n, seq) in [(1, 10), (2, 11)] {
        let commands = script.line(&given_line(seq, n, 1, seq));
        assert_eq!(commands, [persisted(seq, &[], &[])]);
        script.feed(Input::Persisted);
    }
}

/// The notices of a first and a second connection.
fn notices(mode: &str, capacity: Option<usize>, reports: bool, told: Option<u32>) -> Vec<Notice> {
    let settings = SessionSettings { capacity, reports, ..settings() };
    let mut script = Script::new(settings, at(0));
    let mut notices = Vec::new();
    script.feed(Input::Start);
    for _ in 0..2 {
        script.feed(Input::Connected { is_duplex: false });
        let line = match mode {
            "" => open_line(cursor(0), None),
            mode => open_line_of(mode, cursor(0)),
        };
        let told = format!(r#""capacity":{},"#, told.unwrap_or(1));
        let line = line.replacen(r#""cursor""#, &format!(r#"{told}"cursor""#), 1);
        notices.extend(script.line(&line).into_iter().filter_map(|command| match command {
            Command::Tell(Notice::Connected { .. }) => None,
            Command::Tell(notice) => Some(notice),
            _ => None,
        }));
        script.feed(Input::Disconnected(passing()));
        script.wake();
    }
    notices
}

#[test]
fn who_is_given_nothing_is_told_why_and_once() {
    let mode = || "sticky".to_owned();
    let nothing = notices("sticky", Some(0), false, None);
    assert_eq!(nothing, [Notice::GivenNothing { mode: mode() }]);
    assert_eq!(nothing[0].weight(), Weight::Warning);
    assert!(nothing[0].to_string().contains("--report on"), "{}", nothing[0]);
    // The relay knows better: the credential's scopes were taken away, for one.
    assert_eq!(notices("sticky", Some(4), true, Some(0)), [Notice::GivenNothing { mode: mode() }]);
    assert_eq!(notices("sticky", None, false, None), [Notice::ReportsAwaited { mode: mode() }]);
    for (mode, capacity, reports) in [
        ("sticky", Some(4), true),
        ("sticky", None, true),
        ("broadcast", Some(0), false),
        ("broadcast", None, false),
        ("", Some(0), false),
    ] {
        assert_eq!(notices(mode, capacity, reports, None), [], "{mode} {capacity:?}");
    }
}
