//! Rate limits, as their headers tell.

use std::time::Duration;

use relay_tests::{linear::LinearOptions, now_ms};
use serde_json::{Value, json};

use crate::stage::Stage;

const VIEWER: &str = "{ viewer { id } }";

fn number(answer: &reqwest::Response, name: &str) -> u64 {
    answer.headers()[name].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn more_requests_than_allowed_are_refused_until_the_bucket_has_leaked() {
    let options = LinearOptions { requests_per_hour: 60, ..LinearOptions::default() };
    let stage = Stage::with(options).await;
    let token = stage.app_token();
    for left in (0..60).rev() {
        let answer = stage.query(&token, VIEWER, json!({})).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(number(&answer, "X-RateLimit-Requests-Limit"), 60);
        assert_eq!(number(&answer, "X-RateLimit-Requests-Remaining"), left);
    }
    let answer = stage.query(&stage.app_token(), VIEWER, json!({})).await;
    assert_eq!(answer.status(), 400, "another token is not another bucket");
    let wait_s = number(&answer, "Retry-After");
    assert!((50..=60).contains(&wait_s), "{wait_s}");
    let reset_ms = number(&answer, "X-RateLimit-Requests-Reset");
    let minutes = reset_ms.saturating_sub(now_ms()) / 60_000;
    assert!((58..=60).contains(&minutes), "{minutes}");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["errors"][0]["extensions"]["code"], "RATELIMITED");
    assert_eq!(body["errors"][0]["extensions"]["type"], "ratelimited");
    stage.linear.advance(Duration::from_secs(60));
    assert_eq!(stage.query(&token, VIEWER, json!({})).await.status(), 200);
    assert_eq!(stage.query(&token, VIEWER, json!({})).await.status(), 400);
}

#[tokio::test]
async fn documents_cost_points() {
    let stage = Stage::new().await;
    let token = stage.app_token();
    let organization = "{ organization { users(first: 20) { nodes { id name } } } }";
    for (query, points) in [(VIEWER, 2), (organization, 443 / 10 + 1)] {
        let answer = stage.query(&token, query, json!({})).await;
        assert_eq!(number(&answer, "X-Complexity"), points, "{query}");
    }
    let answer = stage.query(&token, VIEWER, json!({})).await;
    for name in ["X-RateLimit-Complexity-Limit", "X-RateLimit-Endpoint-Requests-Limit"] {
        assert!(number(&answer, name) >= 5_000);
    }
    assert_eq!(answer.headers()["X-RateLimit-Endpoint-Name"], "viewer");
    stage.linear.set_complexity_limit(1);
    let (status, error) = stage.error(&token, VIEWER, json!({})).await;
    assert_eq!((status, &error["extensions"]["code"]), (400, &json!("RATELIMITED")));
    stage.linear.set_complexity_limit(2_000_000);
    let dear =
        "{ organization { users(first: 500) { nodes { teams(first: 500) { nodes { id } } } } } }";
    let (status, error) = stage.error(&token, dear, json!({})).await;
    assert_eq!((status, &error["message"]), (400, &json!("Query too complex")));
}

#[tokio::test]
async fn a_field_may_have_a_limit_of_its_own() {
    let stage = Stage::new().await;
    let token = stage.app_token();
    stage.linear.set_endpoint_limit("viewer", 1);
    assert_eq!(stage.query(&token, VIEWER, json!({})).await.status(), 200);
    assert_eq!(stage.query(&token, VIEWER, json!({})).await.status(), 400);
    let other = "{ organization { id } }";
    assert_eq!(stage.query(&token, other, json!({})).await.status(), 200);
}
