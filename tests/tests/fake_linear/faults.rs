//! Each fault does what it says, as often as it was asked for, and is logged.

use std::time::{Duration, Instant};

use relay_tests::linear::{FaultKind, GRAPHQL, TOKEN};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::stage::{CREATE_ACTIVITY, Stage};

fn thought(session: &str) -> Value {
    let content = json!({"type": "thought", "body": "Looking."});
    json!({"input": {"agentSessionId": session, "content": content}})
}

fn activities(stage: &Stage, session: &str) -> usize {
    stage.linear.session(session).unwrap().activities.len()
}

#[tokio::test]
async fn a_connection_is_dropped_before_or_after_the_work() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    for (kind, done) in [(FaultKind::DropBefore, 0), (FaultKind::DropAfter, 1)] {
        stage.linear.fail_next("agentActivityCreate", kind, 1);
        stage.try_query(&token, CREATE_ACTIVITY, thought(&session)).await.unwrap_err();
        assert_eq!(activities(&stage, &session), done, "{kind:?}");
        let record = stage.linear.requests().pop().unwrap();
        assert_eq!((record.status, record.fault), (None, Some(kind)));
        assert_eq!(record.variables, thought(&session));
    }
    stage.data(&token, CREATE_ACTIVITY, thought(&session)).await;
    assert_eq!(activities(&stage, &session), 2);
}

#[tokio::test]
async fn an_answer_that_never_comes_was_for_work_that_is_done() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    stage.linear.fail_next("agentActivityCreate", FaultKind::HangAfter, 2);
    let asked = stage.try_query(&token, CREATE_ACTIVITY, thought(&session));
    // It is given up, not refused: whoever asks sees nothing but an open connection.
    timeout(Duration::from_millis(300), asked).await.unwrap_err();
    assert_eq!(activities(&stage, &session), 1);
    let record = stage.linear.requests().pop().unwrap();
    assert_eq!((record.status, record.fault), (None, Some(FaultKind::HangAfter)));
    stage.linear.stop_failing();
    stage.data(&token, CREATE_ACTIVITY, thought(&session)).await;
    assert_eq!(activities(&stage, &session), 2);
}

#[tokio::test]
async fn other_faults_answer_and_do_nothing() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    let cases = [
        (FaultKind::ServerError, 500, "INTERNAL_SERVER_ERROR"),
        (FaultKind::RateLimited, 400, "RATELIMITED"),
        (FaultKind::InputError, 200, "INPUT_ERROR"),
        (FaultKind::InternalError, 200, "INTERNAL_SERVER_ERROR"),
        (FaultKind::Unauthorized, 401, "AUTHENTICATION_ERROR"),
    ];
    for (kind, status, code) in cases {
        stage.linear.fail_next(GRAPHQL, kind, 1);
        let answer = stage.query(&token, CREATE_ACTIVITY, thought(&session)).await;
        assert_eq!(answer.status(), status, "{kind:?}");
        let waits = answer.headers().contains_key("Retry-After");
        assert_eq!(waits, kind == FaultKind::RateLimited);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["errors"][0]["extensions"]["code"], code);
        let record = stage.linear.requests().pop().unwrap();
        assert_eq!((record.status, record.error.as_deref()), (Some(status), Some(code)));
    }
    assert_eq!(activities(&stage, &session), 0);
}

#[tokio::test]
async fn faults_meet_what_they_are_aimed_at() {
    let stage = Stage::new().await;
    let token = stage.app_token();
    stage.linear.fail_next("agentActivityCreate", FaultKind::ServerError, 1);
    stage.linear.fail_next(TOKEN, FaultKind::ServerError, 2);
    stage.data(&token, "{ viewer { id } }", json!({})).await;
    let statuses = async || {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", "fake-client-id"),
            ("client_secret", "fake-client-secret"),
        ];
        stage.token_request(&fields).await.0
    };
    assert_eq!([statuses().await, statuses().await, statuses().await], [500, 500, 200]);
}

#[tokio::test]
async fn a_lost_answer_of_a_renewal_is_given_again() {
    let stage = Stage::new().await;
    let old = stage.linear.app_tokens("acme").unwrap().refresh_token.unwrap();
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "fake-client-id"),
        ("client_secret", "fake-client-secret"),
        ("refresh_token", old.as_str()),
    ];
    stage.linear.fail_next(TOKEN, FaultKind::DropAfter, 1);
    let url = format!("{}/oauth/token", stage.linear.url());
    stage.http.post(url).form(&fields).send().await.unwrap_err();
    let (status, pair) = stage.token_request(&fields).await;
    assert_eq!(status, 200);
    let token = pair["access_token"].as_str().unwrap();
    stage.data(token, "{ viewer { id } }", json!({})).await;
}

#[tokio::test]
async fn answers_are_late_on_request() {
    let stage = Stage::new().await;
    stage.linear.set_latency(Duration::from_millis(80));
    let began = Instant::now();
    stage.data(&stage.app_token(), "{ viewer { id } }", json!({})).await;
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert!(stage.linear.requests()[0].took_ms >= 80);
}
