//! Goal: operators enrol, list and revoke machines; what can't be enrolled is refused and leaves
//! nothing behind.
//! Method: tables of requests to the Worker on workerd.

#![allow(clippy::unwrap_used)]

use futures::{StreamExt, stream};
use relay_schemas::{ErrorCode, limits::EDGES_PER_ORGANIZATION_MAX};
use relay_tests::{Answer, Relay};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-enrolment";
const ENROL: &str = "/admin/edges";

async fn list(relay: &Relay, organization: &str) -> Vec<Value> {
    let path = format!("{ENROL}?organization={organization}");
    let answer = Answer::to(relay.as_operator(Method::GET, &path)).await;
    assert!(!answer.text().contains("credential"), "a credential is shown once");
    answer.ok()["edges"].as_array().unwrap().clone()
}

/// An enrolment with one thing changed.
fn with(name: &str, value: Value) -> String {
    let mut request = json!({ "organization": ORGANIZATION, "user": "user" });
    request[name] = value;
    request.to_string()
}

fn bad_enrolments() -> Vec<(String, ErrorCode)> {
    use ErrorCode::{BodyTooLarge, ParameterInvalid};
    let bad = |text: &str| (text.to_owned(), ParameterInvalid);
    vec![
        bad(""),
        bad("{"),
        bad("[]"),
        bad(&format!(r#"{{"organization":"{ORGANIZATION}"}}"#)),
        bad(r#"{"user":"user"}"#),
        bad(&with("organization", json!("a/b"))),
        bad(&with("organization", json!(""))),
        bad(&with("user", json!("a:b"))),
        bad(&with("user", json!("u".repeat(65)))),
        bad(&with("user", json!(7))),
        bad(&with("name", json!(""))),
        bad(&with("name", json!("n".repeat(101)))),
        bad(&with("name", json!("two\nlines"))),
        bad(&with("scopes", json!([]))),
        bad(&with("scopes", json!(["read:everything"]))),
        bad(&with("scopes", json!("read:events"))),
        bad(&with("expires_in_s", json!(0))),
        bad(&with("expires_in_s", json!(-1))),
        bad(&with("expires_in_s", json!(367 * 24 * 3600))),
        bad(&with("role", json!("operator"))),
        (with("name", json!("n".repeat(65 * 1024))), BodyTooLarge),
    ]
}

#[tokio::test]
async fn a_bad_enrolment_leaves_nothing() {
    let relay = Relay::start().await;
    for (body, code) in bad_enrolments() {
        let request = relay.as_operator(Method::POST, ENROL);
        let request = request.header("Content-Type", "application/json").body(body.clone());
        Answer::to(request).await.refused(&body[..body.len().min(80)], code);
    }
    let untyped = relay.as_operator(Method::POST, ENROL).body(with("name", json!("laptop")));
    Answer::to(untyped).await.refused("no content type", ErrorCode::ContentTypeUnsupported);
    for path in [ENROL, "/admin/edges?organization=a%2fb", "/admin/edges?organization="] {
        let answer = Answer::to(relay.as_operator(Method::GET, path)).await;
        assert_eq!(answer.refused(path, ErrorCode::ParameterInvalid)["parameter"], "organization");
    }
    assert_eq!(list(&relay, ORGANIZATION).await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_machine_is_enrolled_listed_and_revoked() {
    let relay = Relay::start().await;
    let request = json!({
        "organization": ORGANIZATION, "user": "user", "name": "Großer Läptop 💻",
        "scopes": ["read:events"], "expires_in_s": 60,
    });
    let enrolled = relay.as_operator(Method::POST, ENROL).json(&request);
    let enrolled = Answer::to(enrolled).await;
    assert_eq!(enrolled.status, 201);
    let mut enrolled = enrolled.json();
    let credential = enrolled.as_object_mut().unwrap().remove("credential").unwrap();
    assert_eq!(list(&relay, ORGANIZATION).await, [enrolled.clone()]);
    for name in ["organization", "user", "name", "scopes"] {
        assert_eq!(enrolled[name], request[name]);
    }
    assert_eq!(list(&relay, "org-elsewhere").await, [] as [Value; 0]);

    let id = enrolled["id"].as_str().unwrap();
    let revoke = |path: String| Answer::to(relay.as_operator(Method::DELETE, &path));
    for (path, code) in [
        (format!("{ENROL}/{id}?organization=org-elsewhere"), ErrorCode::EdgeUnknown),
        (format!("{ENROL}/edge_0?organization={ORGANIZATION}"), ErrorCode::EdgeUnknown),
        (format!("{ENROL}/a%2fb?organization={ORGANIZATION}"), ErrorCode::EdgeUnknown),
        (format!("{ENROL}/{id}"), ErrorCode::ParameterInvalid),
    ] {
        revoke(path.clone()).await.refused(&path, code);
    }
    let read = || {
        let request = relay.http.get(format!("{}/events", relay.url));
        Answer::to(request.bearer_auth(credential.as_str().unwrap()))
    };
    read().await.ok();
    let path = format!("{ENROL}/{id}?organization={ORGANIZATION}");
    let first = revoke(path.clone()).await.ok();
    assert!(first["revoked_at"].is_string());
    assert_eq!(revoke(path).await.ok(), first, "revoking again changes nothing");
    assert_eq!(list(&relay, ORGANIZATION).await, [first]);
    read().await.refused("revoked", ErrorCode::CredentialRevoked);
}

#[tokio::test]
async fn an_organization_has_so_many_machines() {
    let relay = Relay::start().await;
    let ids: Vec<String> = stream::iter(0..EDGES_PER_ORGANIZATION_MAX)
        .map(|index| {
            let relay = &relay;
            async move { relay.enrol("org-full", &format!("user-{index}")).await.id }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    let enrol = || {
        let request = json!({ "organization": "org-full", "user": "one-more" });
        Answer::to(relay.as_operator(Method::POST, ENROL).json(&request))
    };
    enrol().await.refused("full", ErrorCode::EdgesTooMany);
    let path = format!("{ENROL}/{}?organization=org-full", ids[0]);
    Answer::to(relay.as_operator(Method::DELETE, &path)).await.ok();
    enrol().await.ok();
    enrol().await.refused("full again", ErrorCode::EdgesTooMany);
}
