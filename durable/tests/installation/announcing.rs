//! The first word in a session, when no machine speaks.

use relay_schemas::{Announcement, ReportStatus};
use serde_json::json;

use crate::desk::{Desk, NOW, activity, created, mention, report, stop, variables};

const QUEUED: &str =
    "No machine is connected. Your request is queued and is taken up as soon as one connects.";
const STOPPED: &str = "Stopped. The machine that has this session isn't connected; it is told as \
                       soon as it comes back.";

#[test]
fn without_a_machine_the_relay_speaks_at_once() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    assert_eq!(desk.status().sessions.waiting_first_activity, 1);
    let call = desk.effect();
    let input = json!({
        "agentSessionId": "s", "content": {"type": "thought", "body": QUEUED},
        "id": variables(&call)["input"]["id"],
    });
    assert_eq!(variables(&call), json!({ "input": input }));
    desk.perform(&call);
    assert_eq!(desk.status().sessions.waiting_first_activity, 0);
    assert_eq!(desk.core.next_alarm(desk.now).map(|at| at > NOW + 3_600_000), Some(true));
}

#[test]
fn a_connected_machine_has_a_few_seconds() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["one", "two", "a`b", "four"]));
    assert_eq!(desk.effects(), []);
    assert_eq!(desk.core.next_alarm(desk.now), Some(NOW + 4_000));
    desk.wait(3_999);
    assert_eq!(desk.effects(), []);
    desk.wait(1);
    let call = desk.effect();
    assert_eq!(variables(&call)["input"]["ephemeral"], true);
    desk.perform(&call);
    desk.check(&["Waiting for `one`, `two`, `ab` and 1 more."]);
}

#[test]
fn the_clock_began_when_linear_sent_the_event() {
    for (late_ms, speak_after_ms) in [(3_000, 4_000), (4_500, 3_500), (9_000, 0), (60_000, 0)] {
        let mut desk = Desk::new();
        desk.wait(late_ms);
        desk.announce(created(1, "s", &["laptop"]));
        let expected = NOW + late_ms + speak_after_ms;
        assert_eq!(desk.core.next_alarm(desk.now).map(|at| at.max(desk.now)), Some(expected));
    }
}

#[test]
fn a_machine_that_speaks_first_is_not_spoken_for() {
    let thought = json!({"type": "thought", "body": "mine"});
    for is_before in [true, false] {
        let mut desk = Desk::new();
        if !is_before {
            desk.announce(created(1, "s", &["laptop"]));
        }
        desk.wait(500);
        desk.report(&report(1, ReportStatus::Processing, None));
        if is_before {
            assert_eq!(desk.effects(), []);
            desk.announce(created(1, "s", &["laptop"]));
        }
        desk.drain();
        desk.wait(20_000);
        desk.drain();
        desk.check(&["Working on it on `laptop`."]);
    }
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.activity(&activity(1, "", thought));
    desk.wait(20_000);
    desk.drain();
    desk.check(&["mine"]);
}

#[test]
fn a_plan_is_no_first_word() {
    let plan = json!({"type": "plan", "steps": [{"content": "Read", "status": "pending"}]});
    for is_before in [true, false] {
        let mut desk = Desk::new();
        if !is_before {
            desk.announce(created(1, "s", &["laptop"]));
        }
        desk.activity(&activity(1, "", plan.clone()));
        if is_before {
            desk.announce(created(1, "s", &["laptop"]));
        }
        desk.drain();
        assert_eq!(desk.linear.texts().len(), 1, "the plan");
        desk.wait(20_000);
        desk.drain();
        assert_eq!(desk.linear.texts()[1..], ["Waiting for `laptop`."], "{is_before}");
    }
}

#[test]
fn an_event_is_announced_once() {
    let mut desk = Desk::new();
    for _ in 0..2 {
        desk.announce(created(1, "s", &[]));
        desk.drain();
        desk.reload();
    }
    desk.announce(created(2, "t", &["laptop"]));
    desk.report(&report(2, ReportStatus::Processing, None));
    desk.announce(created(2, "t", &["laptop"]));
    desk.wait(20_000);
    desk.drain();
    desk.check(&[QUEUED, "Working on it on `laptop`."]);
}

#[test]
fn a_stop_without_its_machine_is_answered_at_once() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.announce(stop(2, "s", false));
    let call = desk.effect();
    assert_eq!(variables(&call)["input"]["content"]["type"], "response");
    desk.perform(&call);
    desk.wait(20_000);
    desk.drain();
    desk.check(&[STOPPED]);
}

#[test]
fn a_stop_is_left_to_the_machine_for_a_while() {
    let unconfirmed = "Stop was passed on to `laptop`, which has not confirmed it yet.";
    // Still at work on the event before: that is no answer to a stop.
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.announce(stop(2, "s", true));
    desk.report(&report(1, ReportStatus::Processing, None));
    desk.drain();
    desk.wait(4_000);
    desk.drain();
    desk.check(&["Working on it on `laptop`.", unconfirmed]);

    let mut desk = Desk::new();
    desk.announce(stop(2, "s", true));
    desk.report(&report(2, ReportStatus::Completed, None));
    desk.wait(4_000);
    desk.drain();
    desk.check(&["Stopped."]);

    // What was stopped has said so: the stop needs no answer of its own, unless it has words; in
    // whatever order they come.
    for is_late in [false, true] {
        for (message, expected) in [(None, &["halfway"][..]), (Some("all"), &["halfway", "all"])] {
            let mut desk = Desk::new();
            desk.announce(created(1, "s", &["laptop"]));
            desk.report(&report(1, ReportStatus::Processing, None));
            desk.drain();
            if !is_late {
                desk.announce(stop(2, "s", true));
            }
            desk.report(&report(1, ReportStatus::Completed, Some("halfway")));
            desk.wait(5_000);
            if is_late {
                desk.announce(stop(2, "s", false));
            }
            desk.report(&report(2, ReportStatus::Completed, message));
            desk.drain();
            assert_eq!(desk.linear.texts()[1..], *expected, "{is_late}");
        }
    }
    // An end from before the stop is not its effect.
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(&report(1, ReportStatus::Completed, Some("finished")));
    desk.wait(5_000);
    desk.announce(Announcement { sent_at: desk.now, ..stop(2, "s", true) });
    desk.report(&report(2, ReportStatus::Completed, None));
    desk.drain();
    desk.check(&["finished", "Stopped."]);
}

#[test]
fn a_prompt_is_not_answered_for_a_machine_that_speaks_in_its_session() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.announce(created(2, "s", &["laptop"]));
    desk.announce(created(3, "t", &["laptop"]));
    desk.activity(&activity(1, "", json!({"type": "thought", "body": "still here"})));
    desk.drain();
    desk.wait(4_000);
    desk.drain();
    desk.check(&["still here", "Waiting for `laptop`."]);
}

#[test]
fn a_notification_is_not_answered_before_a_machine_reports() {
    let mut desk = Desk::new();
    desk.announce(mention(1));
    desk.wait(60_000);
    assert_eq!(desk.effects(), []);
}

#[test]
fn without_an_installation_nothing_is_kept() {
    let mut desk = Desk::empty();
    desk.announce(created(1, "s", &[]));
    desk.report(&report(1, ReportStatus::Completed, None));
    assert_eq!(desk.storage.dump(), "{}");
    assert_eq!(desk.core.next_alarm(desk.now), None);
}

#[test]
fn two_hundred_at_once_are_answered_in_two_rounds() {
    let mut desk = Desk::new();
    for number in 0..200 {
        desk.announce(created(number, &format!("s{number}"), &[]));
    }
    let mut rounds = 0;
    loop {
        let effects = desk.effects();
        if effects.is_empty() {
            break;
        }
        rounds += 1;
        assert!(effects.len() <= 6);
        effects.iter().for_each(|effect| desk.perform(effect));
    }
    assert_eq!((rounds, desk.linear.made.len()), (2, 200));
}
