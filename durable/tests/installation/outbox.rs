//! Calls: stored first, in order, once, and not for ever.

use std::ops::RangeInclusive;

use relay_durable::InstallationRow;
use relay_schemas::{ReportStatus, linear_api::LinearAnswer};
use serde_json::json;

use crate::desk::{DAY_MS, Desk, NOW, activity, created, report, variables};

fn thought(number: u8, body: &str) -> relay_schemas::ActivityCommand {
    activity(number, "", json!({"type": "thought", "body": body}))
}

/// An error as Linear words it, with HTTP status 200.
fn error(kind: &str, code: &str, is_user_error: bool) -> LinearAnswer {
    let extensions = json!({"type": kind, "code": code, "userError": is_user_error});
    let errors = json!({"errors": [{"message": "m", "extensions": extensions}], "data": null});
    LinearAnswer::new(200, errors.to_string())
}

#[test]
fn a_permanent_graphql_error_is_not_retried_for_ever() {
    let mut desk = Desk::new();
    desk.linear.gone.insert("s".into());
    desk.announce(created(1, "s", &["laptop"]));
    for body in ["one", "two"] {
        desk.activity(&thought(1, body));
    }
    for _ in 0..100 {
        desk.drain();
        desk.wait(60_000);
        desk.reload();
    }
    assert_eq!(desk.linear.tries.values().copied().collect::<Vec<_>>(), [1, 1]);
    assert_eq!((desk.status().outbox.waiting, desk.status().outbox.given_up), (0, 2));
    let given_up = desk.core.given_up(desk.now).unwrap().calls;
    assert_eq!((given_up[0].code.as_str(), given_up[0].attempts), ("INPUT_ERROR", 1));
    assert_eq!(
        (given_up[0].purpose.as_str(), given_up[0].session.as_deref()),
        ("thought", Some("s"))
    );
    assert_eq!(given_up[0].message, "Entity not found: AgentSession");
    desk.wait(7 * DAY_MS);
    desk.drain();
    assert_eq!(desk.status().outbox.given_up, 0);
    assert_eq!(desk.storage.count(InstallationRow::GivenUp), 0);
}

#[test]
fn what_was_given_up_is_not_tried_because_it_is_reported_again() {
    let mut desk = Desk::new();
    desk.linear.gone.insert("s".into());
    desk.announce(created(1, "s", &["laptop"]));
    for _ in 0..2 {
        desk.report(&report(1, ReportStatus::Completed, None));
        desk.drain();
    }
    assert_eq!(desk.linear.tries.values().sum::<u32>(), 1);
}

#[test]
fn a_passing_error_is_tried_again_with_the_same_id_and_a_longer_pause() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(&report(1, ReportStatus::Completed, None));
    let mut ids = Vec::new();
    for (answer, least_ms, most_ms) in [
        (None, 250, 500),
        (Some(error("internal error", "INTERNAL_SERVER_ERROR", false)), 500, 1_000),
        (Some(error("lock timeout", "LOCK_TIMEOUT", true)), 1_000, 2_000),
        (Some(LinearAnswer::new(502, "<html>")), 2_000, 4_000),
        (Some(LinearAnswer::new(503, "").with("retry-after", 20)), 20_000, 20_000),
    ] {
        let call = desk.effect();
        ids.push(variables(&call)["input"]["id"].clone());
        desk.answer(&call, answer.as_ref());
        desk.reload();
        let pause_ms = desk.core.next_alarm(desk.now).unwrap().since_ms(desk.now);
        assert!((least_ms..=most_ms).contains(&pause_ms), "{pause_ms}");
        desk.wait(pause_ms - 1);
        assert!(desk.effects().is_empty());
        desk.wait(1);
    }
    desk.drain();
    ids.dedup();
    assert_eq!((ids.len(), desk.linear.made.len()), (1, 1));
}

#[test]
fn a_call_that_was_taken_but_not_noted_is_taken_once() {
    for refuses_repeated in [false, true] {
        for crashes in [false, true] {
            let mut desk = Desk::new();
            desk.linear.refuses_repeated = refuses_repeated;
            desk.announce(created(1, "s", &["laptop"]));
            desk.report(&report(1, ReportStatus::Completed, None));
            let call = desk.effect();
            desk.ask(&call);
            if crashes {
                desk.reload();
            } else {
                desk.answer(&call, None);
                desk.wait(1_000);
            }
            desk.drain();
            desk.check(&["Done."]);
            assert_eq!((desk.status().outbox.waiting, desk.status().outbox.given_up), (0, 0));
            assert_eq!(desk.linear.tries.values().max(), Some(&2));
        }
    }
}

#[test]
fn a_session_s_calls_follow_one_another_and_sessions_do_not_wait() {
    let mut desk = Desk::new();
    begin(&mut desk, 1..=2);
    for body in ["s1", "s2"] {
        desk.activity(&thought(1, body));
    }
    desk.activity(&thought(2, "t1"));
    let effects = desk.effects();
    assert_eq!(effects.len(), 2);
    desk.answer(&effects[0], None);
    desk.perform(&effects[1]);
    // The second waits behind the first, which waits for its next attempt.
    assert!(desk.effects().is_empty());
    desk.wait(1_000);
    desk.drain();
    assert_eq!(desk.linear.texts()[2..], ["t1", "s1", "s2"]);
}

/// Sessions in which a machine has said a first word: what it says there now is not as urgent.
fn begin(desk: &mut Desk, numbers: RangeInclusive<u8>) {
    for number in numbers {
        desk.announce(created(number, &format!("s{number}"), &["laptop"]));
        desk.report(&report(number, ReportStatus::Processing, None));
    }
    desk.drain();
}

/// Fails what is to be done first, for so long.
fn fail(desk: &mut Desk, until: relay_schemas::UnixMillis) {
    while let Some(at) = desk.core.next_alarm(desk.now).filter(|at| *at < until) {
        desk.now = at.max(desk.now);
        for effect in desk.effects() {
            desk.answer(&effect, Some(&LinearAnswer::new(503, "")));
        }
    }
}

#[test]
fn an_answer_waits_a_minute_for_a_thought_that_fails() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.activity(&thought(1, "one"));
    desk.activity(&thought(1, "two"));
    // Nothing waits behind it but another thought: it is tried on.
    fail(&mut desk, NOW + 600_000);
    desk.now = NOW + 600_000;
    assert_eq!(desk.status().outbox.waiting, 2);
    desk.report(&report(1, ReportStatus::Completed, None));
    desk.reload();
    fail(&mut desk, NOW + 660_000);
    assert_eq!((desk.status().outbox.waiting, desk.linear.made.len()), (3, 0));
    assert_eq!(desk.core.next_alarm(desk.now), Some(NOW + 660_000));
    desk.now = NOW + 660_000;
    desk.drain();
    // The second has not failed yet, and comes before the answer.
    desk.check(&["two", "Done."]);
    let given_up = desk.core.given_up(desk.now).unwrap().calls;
    let given_up: Vec<_> = given_up.iter().map(|call| call.code.as_str()).collect();
    assert_eq!(given_up, ["overtaken"]);
}

#[test]
fn what_somebody_waits_for_goes_first() {
    let mut desk = Desk::new();
    begin(&mut desk, 1..=20);
    for number in 1..=20 {
        desk.activity(&thought(number, &format!("thought {number}")));
    }
    desk.activity(&activity(20, "", json!({"type": "response", "body": "answer"})));
    desk.announce(created(30, "new", &[]));
    let effects = desk.effects();
    // Four thoughts, one first word; and the thought that the answer waits behind.
    assert_eq!(effects.len(), 6);
    let bodies: Vec<String> = effects
        .iter()
        .map(|effect| variables(effect)["input"]["content"]["body"].as_str().unwrap().into())
        .collect();
    assert!(bodies[0].starts_with("No machine"), "{bodies:?}");
    assert_eq!(bodies[1..], ["thought 20", "thought 1", "thought 2", "thought 3", "thought 4"]);
}

#[test]
fn thoughts_leave_room_for_what_is_urgent() {
    let mut desk = Desk::new();
    begin(&mut desk, 1..=20);
    for number in 1..=20 {
        desk.activity(&thought(number, "thought"));
    }
    assert_eq!(desk.effects().len(), 4);
    desk.announce(created(30, "new", &[]));
    assert_eq!(desk.effects().len(), 1);
}

#[test]
fn nothing_is_tried_for_more_than_a_day() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(&report(1, ReportStatus::Completed, None));
    let mut attempts = 0;
    while let Some(at) = desk.core.next_alarm(desk.now).filter(|at| *at <= NOW + DAY_MS) {
        desk.now = at.max(desk.now);
        for effect in desk.effects() {
            match effect {
                relay_durable::Effect::Call { .. } => {
                    attempts += 1;
                    desk.answer(&effect, Some(&LinearAnswer::new(503, "")));
                }
                relay_durable::Effect::Refresh { .. } => desk.perform(&effect),
            }
        }
        if desk.status().outbox.waiting == 0 {
            break;
        }
    }
    assert!((250..600).contains(&attempts), "{attempts}");
    let given_up = desk.core.given_up(desk.now).unwrap().calls;
    assert_eq!((given_up.len(), given_up[0].code.as_str()), (1, "expired"));
}

#[test]
fn a_call_whose_tokens_are_all_refused_is_given_up_and_no_other() {
    let refused = error("authentication error", "AUTHENTICATION_ERROR", true);
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(&report(1, ReportStatus::Completed, Some("refused")));
    let mut attempts = 0;
    while desk.status().outbox.waiting > 0 && attempts < 1_000 {
        desk.now = desk.core.next_alarm(desk.now).unwrap().max(desk.now);
        for effect in desk.effects() {
            if matches!(effect, relay_durable::Effect::Refresh { .. }) {
                desk.perform(&effect);
                continue;
            }
            attempts += 1;
            desk.answer(&effect, Some(&refused));
            desk.reload();
        }
    }
    assert_eq!(attempts, 20);
    let tried_ms = desk.now.since_ms(NOW);
    assert!((15 * 60_000..60 * 60_000).contains(&tried_ms), "{tried_ms}");
    let given_up = desk.core.given_up(desk.now).unwrap().calls;
    assert_eq!((given_up[0].code.as_str(), given_up[0].attempts), ("unauthorized", 20));
    desk.announce(created(2, "t", &[]));
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);
}

#[test]
fn a_batch_that_linear_does_not_take_is_taken_apart() {
    let mut desk = Desk::new();
    desk.linear.refuses_batches = true;
    for number in 0..10 {
        desk.announce(created(number, &format!("s{number}"), &[]));
    }
    desk.drain();
    assert_eq!(desk.linear.made.len(), 10);
    // And isn't tried again soon.
    for number in 10..20 {
        desk.announce(created(number, &format!("s{number}"), &[]));
    }
    assert_eq!(desk.effects().len(), 6);
}

#[test]
fn one_bad_call_of_a_batch_harms_no_other() {
    for refuses_repeated in [false, true] {
        let mut desk = Desk::new();
        desk.linear.refuses_repeated = refuses_repeated;
        desk.linear.gone.insert("s3".into());
        for number in 0..10 {
            desk.announce(created(number, &format!("s{number}"), &[]));
        }
        assert_eq!(desk.effects().len(), 1);
        desk.reload();
        // Together, then six alone, then three: it isn't found out one by one.
        for requests in [1, 6, 3] {
            let effects = desk.effects();
            assert_eq!(effects.len(), requests);
            effects.iter().for_each(|effect| desk.perform(effect));
        }
        assert_eq!(desk.linear.made.len(), 9);
        let status = desk.status().outbox;
        assert_eq!((status.waiting, status.given_up), (0, 1));
        assert_eq!(desk.linear.tries.values().max(), Some(&2));
    }
}

#[test]
fn a_call_is_stored_before_it_is_made() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    for lands in [false, true] {
        desk.storage.fail_after(0, lands);
        assert!(desk.core.report(&report(1, ReportStatus::Completed, None), desk.now).is_err());
        desk.reload();
    }
    desk.report(&report(1, ReportStatus::Completed, None));
    desk.drain();
    desk.check(&["Done."]);
}

#[test]
fn a_finished_call_costs_few_writes() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.activity(&thought(1, "first"));
    desk.drain();
    let before = desk.storage.rows_written();
    desk.activity(&thought(1, "second"));
    desk.drain();
    // Stored, remembered, deleted; the memory of it goes later.
    assert_eq!(desk.storage.rows_written() - before, 3);
}
