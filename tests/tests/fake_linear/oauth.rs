//! From the consent page to a pair of tokens.

use std::{collections::BTreeMap, time::Duration};

use relay_tests::linear::{LinearOptions, pkce_challenge};
use reqwest::{Response, StatusCode, Url};
use serde_json::{Value, json};

use crate::stage::{ADA, BEN, REDIRECT_URI, Stage};

const VERIFIER: &str = "a-verifier-of-forty-three-characters-or-more-0123";

type Fields<'a> = BTreeMap<&'a str, &'a str>;

fn asked<'a>(changes: &[(&'a str, &'a str)]) -> Fields<'a> {
    let usual = [
        ("client_id", "fake-client-id"),
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("scope", "read,write,app:assignable"),
        ("state", "a state & more"),
        ("actor", "app"),
    ];
    usual.into_iter().chain(changes.iter().copied()).collect()
}

async fn show(stage: &Stage, fields: &Fields<'_>) -> Response {
    let url = format!("{}/oauth/authorize", stage.linear.url());
    stage.http.get(url).query(fields).send().await.unwrap()
}

async fn decide(stage: &Stage, fields: &Fields<'_>, user: &str, decision: &str) -> Response {
    let mut fields = fields.clone();
    fields.extend([("user", user), ("decision", decision)]);
    let url = format!("{}/oauth/authorize", stage.linear.url());
    stage.http.post(url).form(&fields).send().await.unwrap()
}

/// The parameters that a redirect gives back.
fn redirected(answer: &Response) -> BTreeMap<String, String> {
    assert_eq!(answer.status(), StatusCode::FOUND);
    let location = answer.headers()["Location"].to_str().unwrap();
    assert!(location.starts_with(REDIRECT_URI), "{location}");
    Url::parse(location).unwrap().query_pairs().into_owned().collect()
}

async fn code(stage: &Stage, fields: &Fields<'_>, user: &str) -> String {
    let parameters = redirected(&decide(stage, fields, user, "allow").await);
    assert_eq!(parameters["state"], "a state & more");
    parameters["code"].clone()
}

async fn exchange(stage: &Stage, code: &str, changes: &[(&str, &str)]) -> (u16, Value) {
    let mut fields = Fields::from([
        ("grant_type", "authorization_code"),
        ("client_id", "fake-client-id"),
        ("client_secret", "fake-client-secret"),
        ("redirect_uri", REDIRECT_URI),
        ("code", code),
    ]);
    fields.extend(changes.iter().copied());
    fields.retain(|_, value| !value.is_empty());
    stage.token_request(&fields.into_iter().collect::<Vec<_>>()).await
}

#[tokio::test]
async fn a_round_trip_with_pkce_and_no_secret() {
    let stage = Stage::new().await;
    let challenge = pkce_challenge(VERIFIER);
    let fields = asked(&[("code_challenge", &challenge), ("code_challenge_method", "S256")]);
    let page = show(&stage, &fields).await.text().await.unwrap();
    assert!(page.contains("Ada (admin of Acme)") && page.contains("a state &amp; more"), "{page}");
    let first = code(&stage, &fields, ADA).await;
    let wrong = [("client_secret", ""), ("code_verifier", "another")];
    let (status, body) = exchange(&stage, &first, &wrong).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
    let right = [("client_secret", ""), ("code_verifier", VERIFIER)];
    let (status, pair) = exchange(&stage, &first, &right).await;
    assert_eq!((status, pair["expires_in"].as_u64()), (200, Some(86_399)));
    assert_eq!(pair["scope"], "app:assignable read write");
    let refresh = pair["refresh_token"].as_str().unwrap();
    let renewed = [
        ("grant_type", "refresh_token"),
        ("client_id", "fake-client-id"),
        ("refresh_token", refresh),
    ];
    assert_eq!(stage.token_request(&renewed).await.0, 200);
}

#[tokio::test]
async fn the_app_has_a_user_of_its_own_or_acts_as_the_person() {
    let stage = Stage::new().await;
    let viewer = "{ viewer { id name app admin isMe organization { id urlKey } } }";
    for (actor, name, app) in [("app", "Relay", true), ("user", "Ada", false)] {
        let code = code(&stage, &asked(&[("actor", actor)]), ADA).await;
        let (_, pair) = exchange(&stage, &code, &[]).await;
        let token = pair["access_token"].as_str().unwrap();
        let viewer = stage.data(token, viewer, json!({})).await["viewer"].clone();
        assert_eq!((viewer["name"].as_str(), viewer["app"].as_bool()), (Some(name), Some(app)));
        assert_eq!(viewer["admin"], !app);
        assert_eq!(viewer["isMe"], true);
        assert_eq!(viewer["organization"], json!({"id": stage.organization, "urlKey": "acme"}));
    }
}

#[tokio::test]
async fn what_the_app_must_not_be_told_is_a_page() {
    let stage = Stage::new().await;
    let cases: [&[(&str, &str)]; 4] = [
        &[("client_id", "somebody-else")],
        &[("redirect_uri", "http://localhost:8787/oauth/callback/")],
        &[("redirect_uri", "http://evil.example/")],
        &[("client_id", ""), ("redirect_uri", "")],
    ];
    for changes in cases {
        for answer in [
            show(&stage, &asked(changes)).await,
            decide(&stage, &asked(changes), ADA, "allow").await,
        ] {
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{changes:?}");
            assert!(!answer.headers().contains_key("Location"), "{changes:?}");
        }
    }
}

#[tokio::test]
async fn what_the_app_did_wrong_it_is_told() {
    let stage = Stage::new().await;
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("response_type", "token")], "unsupported_response_type"),
        (&[("scope", "read,admin")], "invalid_scope"),
        (&[("scope", "everything")], "invalid_scope"),
        (&[("actor", "robot")], "invalid_request"),
        (&[("code_challenge", "x"), ("code_challenge_method", "plain")], "invalid_request"),
    ];
    for (changes, expected) in cases {
        assert_eq!(redirected(&show(&stage, &asked(changes)).await)["error"], expected);
    }
    let allowed = asked(&[("scope", "read,admin"), ("actor", "user")]);
    assert_eq!(show(&stage, &allowed).await.status(), StatusCode::OK);
    let denied = redirected(&decide(&stage, &asked(&[]), ADA, "deny").await);
    assert_eq!(
        (denied["error"].as_str(), denied["state"].as_str()),
        ("access_denied", "a state & more")
    );
}

#[tokio::test]
async fn only_an_admin_installs_an_app_and_only_active_people_sign_in() {
    let stage = Stage::new().await;
    let answer = decide(&stage, &asked(&[]), BEN, "allow").await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    redirected(&decide(&stage, &asked(&[("actor", "user")]), BEN, "allow").await);
    stage.linear.set_active(ADA, false).unwrap();
    let answer = decide(&stage, &asked(&[]), ADA, "allow").await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_code_is_good_once_for_ten_minutes_and_one_address() {
    let stage = Stage::new().await;
    let first = code(&stage, &asked(&[]), ADA).await;
    let elsewhere = [("redirect_uri", "http://localhost:8787/other")];
    assert_eq!(exchange(&stage, &first, &elsewhere).await.0, 400);
    let no_secret = [("client_secret", "")];
    assert_eq!(exchange(&stage, &first, &no_secret).await.0, 401);
    assert_eq!(exchange(&stage, &first, &[("client_secret", "wrong")]).await.0, 401);
    let (_, pair) = exchange(&stage, &first, &[]).await;
    let token = pair["access_token"].as_str().unwrap();
    stage.data(token, "{ viewer { id } }", json!({})).await;
    let (status, body) = exchange(&stage, &first, &[]).await;
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
    let revoked = stage.query(token, "{ viewer { id } }", json!({})).await;
    assert_eq!(revoked.status(), 401, "a code that comes twice takes its tokens with it");

    let late = code(&stage, &asked(&[]), ADA).await;
    stage.linear.advance(Duration::from_secs(600));
    assert_eq!(exchange(&stage, &late, &[]).await.0, 400);
    let soon = code(&stage, &asked(&[]), ADA).await;
    stage.linear.advance(Duration::from_secs(590));
    assert_eq!(exchange(&stage, &soon, &[]).await.0, 200);
}

#[tokio::test]
async fn the_client_may_use_basic_and_old_apps_get_a_list_of_scopes() {
    let options = LinearOptions { scope_as_array: true, ..LinearOptions::default() };
    let stage = Stage::with(options).await;
    let code = code(&stage, &asked(&[]), ADA).await;
    let fields =
        [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", REDIRECT_URI)];
    let request = stage.http.post(format!("{}/oauth/token", stage.linear.url()));
    let request = request.basic_auth("fake-client-id", Some("fake-client-secret")).form(&fields);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["scope"], json!(["app:assignable", "read", "write"]));
    assert_eq!(answer["token_type"], "Bearer");
}

#[tokio::test]
async fn the_metadata_says_where_everything_is() {
    let stage = Stage::new().await;
    let url = format!("{}/.well-known/oauth-authorization-server", stage.linear.url());
    let metadata: Value = stage.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["token_endpoint"], format!("{}/oauth/token", stage.linear.url()));
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
}
