//! Answers that Linear refuses for good, and what a person who waits sees instead.

use relay_schemas::ReportStatus;
use serde_json::json;

use crate::desk::{Desk, activity, created, event, mention, report};

const REPLACEMENT: &str = "The answer could not be shown: INPUT_ERROR.";

/// A session whose Linear doesn't take some texts.
fn refusing(unwanted: &[&str]) -> Desk {
    let mut desk = Desk::new();
    desk.linear.unwanted = unwanted.iter().map(|text| (*text).to_owned()).collect();
    desk.announce(created(1, "s", &["laptop"]));
    desk
}

#[test]
fn an_answer_that_linear_refuses_is_not_missed_in_silence() {
    for kind in ["response", "error", "elicitation"] {
        let mut desk = refusing(&["bad"]);
        desk.activity(&activity(1, "", json!({"type": kind, "body": "bad"})));
        desk.drain();
        desk.report(&report(1, ReportStatus::Completed, None));
        desk.drain();
        desk.check(&[REPLACEMENT]);
        let given_up = desk.core.given_up(desk.now).unwrap().calls;
        assert_eq!((given_up.len(), given_up[0].purpose.as_str()), (1, kind));
        assert_eq!(given_up[0].event, event(1));
    }
    let mut desk = refusing(&["bad"]);
    desk.report(&report(1, ReportStatus::Completed, Some("bad")));
    desk.drain();
    desk.check(&[REPLACEMENT]);
}

#[test]
fn a_refusal_that_is_noted_twice_is_told_once() {
    for after in 0..4 {
        for lands in [false, true] {
            let mut desk = refusing(&["bad"]);
            desk.report(&report(1, ReportStatus::Completed, Some("bad")));
            let call = desk.effect();
            let answer = desk.ask(&call);
            let relay_durable::Effect::Call { request, .. } = &call else { panic!("{call:?}") };
            desk.storage.fail_after(after, lands);
            let noted = desk.core.called(*request, Some(&answer), desk.now, &mut || [7; 16]);
            assert_eq!(noted.is_err(), !desk.storage.awaits_fault());
            desk.reload();
            desk.drain();
            desk.check(&[REPLACEMENT]);
            assert_eq!(desk.status().outbox.given_up, 1);
        }
    }
}

#[test]
fn nothing_takes_the_place_of_what_nobody_waits_for_or_nobody_would_see() {
    let mut desk = refusing(&["bad"]);
    desk.activity(&activity(1, "", json!({"type": "thought", "body": "bad"})));
    desk.announce(mention(2));
    desk.report(&report(2, ReportStatus::Completed, Some("bad")));
    desk.drain();
    assert_eq!((desk.linear.made.len(), desk.linear.tries.len()), (0, 2));
    // The session is gone.
    let mut desk = refusing(&[]);
    desk.linear.gone.insert("s".into());
    desk.report(&report(1, ReportStatus::Completed, None));
    desk.drain();
    assert_eq!(desk.linear.tries.len(), 1);
    // What was said instead is refused, too, also after a crash.
    let mut desk = refusing(&["bad", REPLACEMENT]);
    desk.report(&report(1, ReportStatus::Completed, Some("bad")));
    let call = desk.effect();
    desk.perform(&call);
    desk.reload();
    desk.drain();
    assert_eq!((desk.linear.made.len(), desk.linear.tries.len()), (0, 2));
    assert_eq!((desk.status().outbox.waiting, desk.status().outbox.given_up), (0, 2));
}
