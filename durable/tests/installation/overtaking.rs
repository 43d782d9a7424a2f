//! What fails, and what goes ahead of it in the same session or thread.

use relay_schemas::{ActivityCommand, ReportStatus, linear_api::LinearAnswer};
use serde_json::json;

use crate::desk::{Desk, NOW, activity, created, mention, report, stop, variables};

fn thought(number: u8, body: &str) -> ActivityCommand {
    activity(number, "", json!({"type": "thought", "body": body}))
}

fn plan(content: &str) -> ActivityCommand {
    let steps = [json!({"content": content, "status": "pending"})];
    activity(1, "", json!({"type": "plan", "steps": steps}))
}

fn links() -> ActivityCommand {
    activity(1, "", json!({"type": "urls", "urls": [{"label": "l", "url": "https://e.com"}]}))
}

/// A session in which a machine has said a first word.
fn begun() -> Desk {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.report(&report(1, ReportStatus::Processing, None));
    desk.drain();
    desk.linear.made.clear();
    desk
}

/// The one call that is to be made now fails so often, one attempt after the other.
fn fail(desk: &mut Desk, times: u32) {
    for time in 0..times {
        if time > 0 {
            desk.now = desk.core.next_alarm(desk.now).unwrap();
        }
        let call = desk.effect();
        desk.answer(&call, Some(&LinearAnswer::new(503, "")));
    }
}

#[test]
fn nothing_waits_for_a_plan_that_fails() {
    let mut desk = begun();
    desk.activity(&plan("one"));
    fail(&mut desk, 5);
    desk.reload();
    desk.activity(&thought(1, "thought"));
    desk.report(&report(1, ReportStatus::Completed, Some("answer")));
    let again = desk.core.next_alarm(desk.now).unwrap();
    desk.drain();
    desk.check(&["thought", "answer"]);
    // Its own time has not been forgotten.
    let again = again.max(desk.core.next_alarm(desk.now).unwrap());
    assert!(again > desk.now && again.since_ms(desk.now) <= 8_000);
    desk.now = again;
    desk.drain();
    assert_eq!(desk.linear.made.len(), 3);
    assert_eq!((desk.status().outbox.waiting, desk.status().outbox.given_up), (0, 0));
}

#[test]
fn nothing_waits_for_a_reaction_that_fails() {
    let mut desk = Desk::new();
    desk.announce(mention(1));
    desk.report(&report(1, ReportStatus::Processing, None));
    fail(&mut desk, 5);
    desk.report(&report(1, ReportStatus::Completed, Some("I looked.")));
    let comment = desk.effect();
    desk.reload();
    desk.perform(&comment);
    desk.drain();
    desk.check(&["I looked."]);
    desk.wait(300_000);
    desk.drain();
    desk.check(&["I looked.", "eyes"]);
    assert_eq!(desk.status().outbox.given_up, 0);
}

#[test]
fn an_older_plan_never_takes_the_place_of_a_newer_one() {
    let mut desk = begun();
    desk.activity(&plan("one"));
    fail(&mut desk, 5);
    desk.activity(&plan("two"));
    desk.activity(&links());
    desk.activity(&thought(1, "thought"));
    desk.drain();
    // Links are no plan.
    let texts = desk.linear.texts();
    assert!(texts[0].contains("externalUrls") && texts[1] == "thought", "{texts:?}");
    desk.now = desk.core.next_alarm(desk.now).unwrap();
    desk.drain();
    let texts = desk.linear.texts();
    assert!(texts[2].contains("one") && texts[3].contains("two"), "{texts:?}");
}

#[test]
fn nothing_waits_for_a_plan_whose_own_limit_is_reached() {
    let body = r#"{"errors":[{"message":"m","extensions":{"code":"RATELIMITED"}}]}"#;
    let limited = LinearAnswer::new(400, body)
        .with("x-ratelimit-requests-remaining", 1_000)
        .with("x-ratelimit-requests-reset", (NOW + 900_000).get())
        .with("x-ratelimit-endpoint-requests-remaining", 0)
        .with("x-ratelimit-endpoint-requests-reset", (NOW + 900_000).get());
    let mut desk = begun();
    desk.activity(&plan("one"));
    let call = desk.effect();
    desk.answer(&call, Some(&limited));
    desk.activity(&thought(1, "thought"));
    desk.announce(created(2, "s", &[]));
    desk.drain();
    assert_eq!(desk.linear.texts().len(), 2);
    assert_eq!(desk.core.next_alarm(desk.now), Some(NOW + 900_000));
    desk.now = NOW + 900_000;
    desk.drain();
    assert!(desk.linear.texts()[2].contains("one"));
}

#[test]
fn a_first_word_hardly_waits_for_a_thought_that_fails() {
    let mut desk = begun();
    desk.activity(&thought(1, "old"));
    fail(&mut desk, 5);
    desk.announce(stop(2, "s", false));
    let stopped_at = desk.now;
    assert_eq!(desk.core.next_alarm(desk.now), Some(stopped_at + 1_000));
    desk.wait(999);
    assert!(desk.effects().is_empty());
    desk.wait(1);
    let call = desk.effect();
    assert_eq!(variables(&call)["input"]["content"]["type"], "response");
    desk.perform(&call);
    let given_up = desk.core.given_up(desk.now).unwrap().calls;
    assert_eq!((given_up.len(), given_up[0].code.as_str()), (1, "overtaken"));
}

#[test]
fn a_thought_that_fails_has_until_the_relay_would_speak() {
    let mut desk = begun();
    desk.activity(&thought(1, "old"));
    fail(&mut desk, 5);
    let mut prompted = created(2, "s", &["laptop"]);
    prompted.sent_at = desk.now;
    let told_at = desk.now;
    desk.announce(prompted);
    // The relay would speak in 4 s, and wait for a second then.
    desk.wait(4_000);
    assert_eq!(desk.core.next_alarm(desk.now), Some(told_at + 5_000));
    assert!(desk.effects().is_empty());
    desk.wait(1_000);
    desk.drain();
    desk.check(&["Waiting for `laptop`."]);
}
