//! How tokens are renewed, and how they end.

use std::time::Duration;

use relay_tests::linear::LinearOptions;
use serde_json::{Value, json};

use crate::stage::{ADA, Stage};

const VIEWER: &str = "{ viewer { id } }";
const DAY: Duration = Duration::from_secs(86_400);

async fn renew(stage: &Stage, refresh_token: &str) -> (u16, Value) {
    stage
        .token_request(&[
            ("grant_type", "refresh_token"),
            ("client_id", "fake-client-id"),
            ("client_secret", "fake-client-secret"),
            ("refresh_token", refresh_token),
        ])
        .await
}

async fn status_of(stage: &Stage, token: &str) -> u16 {
    stage.query(token, VIEWER, json!({})).await.status().as_u16()
}

async fn revoke(stage: &Stage, token: &str) -> u16 {
    let url = format!("{}/oauth/revoke", stage.linear.url());
    stage.http.post(url).form(&[("token", token)]).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn an_access_token_lives_a_day() {
    let stage = Stage::new().await;
    let token = stage.app_token();
    stage.linear.advance(DAY - Duration::from_secs(10));
    assert_eq!(status_of(&stage, &token).await, 200);
    stage.linear.advance(Duration::from_secs(10));
    let (status, error) = stage.error(&token, VIEWER, json!({})).await;
    assert_eq!((status, error["extensions"]["type"].as_str()), (401, Some("authentication error")));
    assert_eq!(status_of(&stage, "made-up").await, 401);
}

#[tokio::test]
async fn a_refresh_token_may_be_replayed_for_half_an_hour() {
    let stage = Stage::new().await;
    let old = stage.linear.app_tokens("acme").unwrap().refresh_token.unwrap();
    let (status, first) = renew(&stage, &old).await;
    assert_eq!(status, 200);
    assert_ne!(first["refresh_token"], old.as_str());
    stage.linear.advance(Duration::from_secs(29 * 60));
    assert_eq!(renew(&stage, &old).await, (200, first.clone()), "the same pair again");
    stage.linear.advance(Duration::from_secs(2 * 60));
    let (status, body) = renew(&stage, &old).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
    let newer = first["refresh_token"].as_str().unwrap();
    assert_eq!(renew(&stage, newer).await.0, 200, "the new one is not hurt by that");
}

#[tokio::test]
async fn a_refresh_token_of_a_secret_client_needs_the_secret() {
    let stage = Stage::new().await;
    let refresh = stage.linear.app_tokens("acme").unwrap().refresh_token.unwrap();
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "fake-client-id"),
        ("refresh_token", refresh.as_str()),
    ];
    assert_eq!(stage.token_request(&fields).await.0, 401);
}

#[tokio::test]
async fn what_is_revoked_stays_so() {
    let stage = Stage::new().await;
    let pair = stage.linear.app_tokens("acme").unwrap();
    let refresh = pair.refresh_token.unwrap();
    assert_eq!(revoke(&stage, &refresh).await, 200);
    assert_eq!(revoke(&stage, &refresh).await, 400);
    assert_eq!(revoke(&stage, "made-up").await, 401);
    assert_eq!(status_of(&stage, &pair.access_token).await, 401);
    assert_eq!(renew(&stage, &refresh).await.1["error"], "invalid_grant");

    let other = stage.linear.app_tokens("acme").unwrap();
    assert_eq!(revoke(&stage, &other.access_token).await, 200);
    assert_eq!(status_of(&stage, &other.access_token).await, 401);
    assert_eq!(renew(&stage, &other.refresh_token.unwrap()).await.0, 200);
}

#[tokio::test]
async fn removing_the_app_or_a_person_ends_their_tokens() {
    let stage = Stage::new().await;
    let pair = stage.linear.app_tokens("acme").unwrap();
    stage.linear.uninstall("acme").unwrap();
    assert_eq!(status_of(&stage, &pair.access_token).await, 401);
    assert_eq!(renew(&stage, &pair.refresh_token.unwrap()).await.0, 400);
    let again = stage.app_token();
    stage.linear.set_active(ADA, false).unwrap();
    assert_eq!(status_of(&stage, &again).await, 200, "the app's user is not the admin");
}

#[tokio::test]
async fn client_credentials_live_thirty_days_and_are_not_renewed() {
    let stage = Stage::new().await;
    let fields = |scope| {
        [
            ("grant_type", "client_credentials"),
            ("client_id", "fake-client-id"),
            ("client_secret", "fake-client-secret"),
            ("scope", scope),
        ]
    };
    let (status, answer) = stage.token_request(&fields("read,write")).await;
    assert_eq!((status, answer["expires_in"].as_u64()), (200, Some(2_591_999)));
    assert_eq!(answer.get("refresh_token"), None);
    let token = answer["access_token"].as_str().unwrap();
    stage.linear.advance(29 * DAY);
    assert_eq!(status_of(&stage, token).await, 200);
    stage.token_request(&fields("read,write")).await;
    assert_eq!(status_of(&stage, token).await, 200, "another token of the same scope");
    stage.token_request(&fields("read")).await;
    assert_eq!(status_of(&stage, token).await, 401, "another scope ends the others");

    let options = LinearOptions { client_credentials: false, ..LinearOptions::default() };
    let strict = Stage::with(options).await;
    let (status, answer) = strict.token_request(&fields("read")).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("unauthorized_client")));
}

#[tokio::test]
async fn no_token_is_printed_or_logged() {
    let stage = Stage::new().await;
    let pair = stage.linear.app_tokens("acme").unwrap();
    let refresh = pair.refresh_token.clone().unwrap();
    renew(&stage, &refresh).await;
    stage.query(&pair.access_token, VIEWER, json!({})).await;
    let requests = stage.linear.requests();
    let operations: Vec<&str> = requests.iter().map(|row| row.operation.as_str()).collect();
    assert_eq!(operations, ["refresh_token", "viewer"]);
    let printed = format!("{requests:?} {:?} {pair:?}", stage.linear);
    for secret in ["lin_oauth_", "lin_refresh_", "fake-client-secret", "lin_whs_"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
