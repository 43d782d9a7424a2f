//! What is bounded: what waits, and what is remembered.

use relay_durable::InstallationRow;
use relay_schemas::{
    ErrorCode, ReportStatus,
    limits::{CALL_REMEMBERED_MS, OUTBOX_CALLS_MAX, PARKED_REPORTS_MAX},
};
use serde_json::json;

use crate::desk::{DAY_MS, Desk, Refusal, activity, created, report};

#[test]
fn what_waits_is_bounded() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    desk.drain();
    let thought = activity(1, "", json!({"type": "thought", "body": "b"}));
    for _ in 0..OUTBOX_CALLS_MAX {
        desk.activity(&thought);
    }
    for refused in [
        desk.try_activity(&thought).map(|_| ()),
        desk.core.report(&report(1, ReportStatus::Failed, None), desk.now),
    ] {
        let Err(Refusal::Refused(problem)) = refused else { panic!("{refused:?}") };
        assert_eq!(problem.code, ErrorCode::Unavailable);
        assert!(problem.code.is_retryable());
    }
    // An event is still known, though nobody speaks for its machine.
    desk.announce(created(2, "t", &[]));
    assert_eq!(desk.status().outbox.waiting, OUTBOX_CALLS_MAX);
    assert_eq!(desk.storage.count(InstallationRow::Event), 2);
}

#[test]
fn what_waits_for_an_announcement_is_bounded_and_the_oldest_gives_way() {
    let mut desk = Desk::new();
    desk.report(&report(1, ReportStatus::Failed, Some("oldest")));
    desk.report(&report(2, ReportStatus::Failed, Some("second")));
    for _ in 0..PARKED_REPORTS_MAX - 2 {
        desk.report(&report(3, ReportStatus::Processing, None));
    }
    for is_reloaded in [true, false] {
        if is_reloaded {
            desk.reload();
        }
        desk.report(&report(1, ReportStatus::Failed, Some("newest")));
        assert_eq!(desk.storage.count(InstallationRow::Parked), PARKED_REPORTS_MAX);
    }
    desk.reload();
    for number in 1..=2 {
        desk.announce(created(number, &format!("s{number}"), &[]));
    }
    desk.drain();
    // Both of the two oldest are gone, and nobody was refused.
    assert!(!desk.linear.texts().contains(&"oldest"));
    assert!(!desk.linear.texts().contains(&"second"));
    assert!(desk.linear.texts().contains(&"newest"));
}

#[test]
fn what_is_remembered_is_forgotten() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    desk.drain();
    assert_eq!(desk.storage.count(InstallationRow::Done), 1);
    desk.wait(CALL_REMEMBERED_MS);
    desk.reload();
    assert!(desk.core.next_alarm(desk.now).unwrap() <= desk.now);
    desk.drain();
    assert_eq!(desk.storage.count(InstallationRow::Done), 0);
    for _ in 0..63 {
        desk.wait(DAY_MS);
        desk.drain();
    }
    assert_eq!(desk.storage.count(InstallationRow::Event), 0);
}

#[test]
fn an_installation_with_nothing_to_do_sleeps() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    desk.drain();
    let mut wakes = 0;
    let end = desk.now + 10 * DAY_MS;
    while let Some(at) = desk.core.next_alarm(desk.now).filter(|at| *at < end) {
        assert!(at > desk.now, "an alarm that has nothing to do");
        desk.now = at;
        desk.reload();
        desk.drain();
        wakes += 1;
    }
    // A refresh every 19 hours, and one sweep.
    assert!((12..=15).contains(&wakes), "{wakes}");
}
