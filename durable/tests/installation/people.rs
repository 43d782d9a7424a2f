//! Who somebody is, as Linear says.

use relay_durable::{Effect, PersonStep};
use relay_schemas::{ErrorCode, UserId, linear_api::LinearAnswer};

use crate::desk::Desk;

const ANSWER: &str = r#"{"data":{"user":{"id":"u","name":"N","active":true,"admin":true,"teams":{"nodes":[{"id":"t","key":"K","name":"T","private":false}]}}}}"#;

fn user() -> UserId {
    "u".parse().unwrap()
}

fn ask(desk: &mut Desk) -> (String, u64) {
    match desk.core.person(&user(), desk.now) {
        PersonStep::Ask { app, generation, body, .. } => {
            assert!(body.contains(r#""variables":{"id":"u"}"#), "{body}");
            (app, generation)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_person_is_asked_for_once_a_minute() {
    let mut desk = Desk::new();
    let (app, generation) = ask(&mut desk);
    let answer = LinearAnswer::new(200, ANSWER);
    let known = desk.core.person_answered(&user(), (&app, generation), Some(&answer), desk.now);
    let known = known.unwrap().unwrap().unwrap();
    assert!(known.active && known.admin && known.teams.len() == 1);
    desk.wait(59_999);
    assert_eq!(desk.core.person(&user(), desk.now), PersonStep::Known(known));
    desk.wait(1);
    ask(&mut desk);
}

#[test]
fn a_refused_token_is_refreshed_first() {
    let mut desk = Desk::new();
    let (app, generation) = ask(&mut desk);
    let refused = LinearAnswer::new(401, "");
    let step = desk.core.person_answered(&user(), (&app, generation), Some(&refused), desk.now);
    assert_eq!(step.unwrap(), None);
    assert_eq!(desk.core.person(&user(), desk.now), PersonStep::Wait);
    let refresh = desk.effect();
    assert!(matches!(refresh, Effect::Refresh { .. }));
    desk.perform(&refresh);
    ask(&mut desk);
}

#[test]
fn it_is_told_why_nobody_can_be_known() {
    let code = |desk: &mut Desk| match desk.core.person(&user(), desk.now) {
        PersonStep::Refused(problem) => problem.code,
        other => panic!("{other:?}"),
    };
    let mut desk = Desk::empty();
    assert_eq!(code(&mut desk), ErrorCode::OrganizationNotInstalled);
    desk.install();
    let (app, generation) = ask(&mut desk);
    let step = desk.core.person_answered(&user(), (&app, generation), None, desk.now);
    assert_eq!(step.unwrap().unwrap().unwrap_err().code, ErrorCode::Unavailable);
    desk.linear.revoke_refresh();
    desk.wait(20 * 3_600_000);
    desk.drain();
    // The token that it has is still good.
    let (app, generation) = ask(&mut desk);
    let step = desk.core.person_answered(&user(), (&app, generation), None, desk.now);
    assert_eq!(step.unwrap().unwrap().unwrap_err().code, ErrorCode::Unavailable);
    desk.wait(4 * 3_600_000);
    assert_eq!(code(&mut desk), ErrorCode::NeedsSignIn);
    desk.revoked("client-id");
    assert_eq!(code(&mut desk), ErrorCode::OrganizationNotInstalled);
}

#[test]
fn a_crowd_asks_once() {
    let mut desk = Desk::new();
    let (app, generation) = ask(&mut desk);
    assert_eq!(desk.core.person(&user(), desk.now), PersonStep::Wait);
    let other: UserId = "other".parse().unwrap();
    assert!(matches!(desk.core.person(&other, desk.now), PersonStep::Ask { .. }));
    let answer = LinearAnswer::new(200, ANSWER);
    let known = desk.core.person_answered(&user(), (&app, generation), Some(&answer), desk.now);
    assert!(known.unwrap().unwrap().is_ok());
    assert!(matches!(desk.core.person(&user(), desk.now), PersonStep::Known(_)));
    // Whoever asked and is gone holds up nobody for long.
    desk.wait(60_000);
    ask(&mut desk);
    desk.wait(5_999);
    assert_eq!(desk.core.person(&user(), desk.now), PersonStep::Wait);
    desk.wait(1);
    ask(&mut desk);
}

#[test]
fn nobody_is_asked_for_while_linear_takes_nothing() {
    let mut desk = Desk::new();
    let (app, generation) = ask(&mut desk);
    let body = r#"{"errors":[{"message":"m","extensions":{"code":"RATELIMITED"}}]}"#;
    let limited = LinearAnswer::new(400, body).with("retry-after", 30);
    let from = (app.as_str(), generation);
    let refused = desk.core.person_answered(&user(), from, Some(&limited), desk.now);
    assert_eq!(refused.unwrap().unwrap().unwrap_err().code, ErrorCode::Unavailable);
    desk.wait(29_999);
    let refused = desk.core.person(&user(), desk.now);
    assert!(matches!(refused, PersonStep::Refused(problem) if problem.code.is_retryable()));
    desk.wait(1);
    ask(&mut desk);
}
