//! Linear's limits: what waits for them, and for how long at most.

use relay_schemas::{ReportStatus, linear_api::LinearAnswer};
use serde_json::json;

use crate::desk::{Desk, NOW, activity, created, mention, report};

fn thought(number: u8, body: &str) -> relay_schemas::ActivityCommand {
    activity(number, "", json!({"type": "thought", "body": body}))
}

#[test]
fn a_rate_limit_is_waited_for() {
    let limited = LinearAnswer::new(
        400,
        r#"{"errors":[{"message":"m","extensions":{"code":"RATELIMITED","statusCode":429}}]}"#,
    )
    .with("x-ratelimit-requests-remaining", 0)
    .with("x-ratelimit-requests-limit", 5_000)
    .with("x-ratelimit-requests-reset", (NOW + 900_000).get());
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    let call = desk.effect();
    desk.answer(&call, Some(&limited));
    desk.announce(created(2, "t", &[]));
    assert!(desk.effects().is_empty());
    assert_eq!(desk.core.next_alarm(desk.now), Some(NOW + 900_000));
    assert_eq!(desk.status().budget.map(|budget| budget.remaining), Some(0));
    desk.wait(899_999);
    assert!(desk.effects().is_empty());
    desk.wait(1);
    desk.drain();
    assert_eq!(desk.linear.made.len(), 2);
}

#[test]
fn a_rate_limit_is_believed_without_a_budget() {
    let body = r#"{"errors":[{"message":"m","extensions":{"code":"RATELIMITED"}}]}"#;
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    let call = desk.effect();
    desk.answer(&call, Some(&LinearAnswer::new(400, body).with("retry-after", 7)));
    assert_eq!(desk.core.next_alarm(desk.now), Some(NOW + 7_000));
    desk.wait(6_999);
    assert!(desk.effects().is_empty());
    desk.wait(1);
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);
}

#[test]
fn what_is_left_of_a_budget_is_kept_for_what_is_urgent() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &["laptop"]));
    desk.activity(&thought(1, "one"));
    let call = desk.effect();
    let answer = desk
        .ask(&call)
        .with("x-ratelimit-requests-limit", 5_000)
        .with("x-ratelimit-requests-remaining", 250)
        .with("x-ratelimit-requests-reset", (NOW + 900_000).get());
    desk.answer(&call, Some(&answer));
    desk.activity(&thought(1, "two"));
    assert!(desk.effects().is_empty());
    desk.announce(created(2, "t", &[]));
    desk.drain();
    assert_eq!(desk.linear.made.len(), 2);
    // An answer takes the thought before it along.
    desk.report(&report(1, ReportStatus::Completed, None));
    desk.drain();
    assert_eq!(desk.linear.texts()[2..], ["two", "Done."]);
    // A machine's first word is as urgent as the relay's would be.
    desk.announce(created(3, "u", &["laptop"]));
    desk.activity(&thought(3, "three"));
    desk.activity(&thought(3, "four"));
    desk.drain();
    assert_eq!(desk.linear.texts()[4..], ["three"]);
}

#[test]
fn an_operation_s_own_limit_holds_up_no_other() {
    let body = r#"{"errors":[{"message":"m","extensions":{"code":"RATELIMITED"}}]}"#;
    for is_alone in [true, false] {
        let mut desk = Desk::new();
        desk.announce(mention(1));
        desk.report(&report(1, ReportStatus::Processing, None));
        let reaction = desk.effect();
        let limited = LinearAnswer::new(400, body)
            .with("x-ratelimit-requests-remaining", u8::from(is_alone))
            .with("x-ratelimit-requests-reset", (NOW + 300_000).get())
            .with("x-ratelimit-endpoint-requests-remaining", 0)
            .with("x-ratelimit-endpoint-requests-reset", (NOW + 900_000).get());
        desk.answer(&reaction, Some(&limited));
        desk.announce(created(2, "s", &[]));
        desk.drain();
        assert_eq!(desk.linear.made.len(), usize::from(is_alone));
        desk.wait(899_999);
        desk.drain();
        assert_eq!(desk.linear.made.len(), 1);
        desk.wait(1);
        desk.drain();
        assert_eq!(desk.linear.texts()[1..], ["eyes"]);
    }
}

#[test]
fn linear_is_not_believed_that_it_comes_back_in_a_year() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s", &[]));
    let call = desk.effect();
    let away = LinearAnswer::new(503, "").with("retry-after", 31_536_000);
    desk.answer(&call, Some(&away));
    assert_eq!(desk.core.next_alarm(desk.now), Some(NOW + 600_000));
}
