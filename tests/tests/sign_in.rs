//! Goal: an administrator installs the app, people sign in their machines, and nobody else gets
//! anything out of the ways that lead there.
//!
//! Method: a browser that follows no redirect by itself, the real Worker on workerd, and a Linear
//! of one's own.

#![allow(clippy::unwrap_used)]

use relay_schemas::{ErrorCode, read_form};
use relay_tests::{
    Answer, Browser, Relay, RelayOptions, Scene, csrf_of,
    linear::{FaultKind, GRAPHQL, LinearOptions, TOKEN},
    until,
};
use reqwest::{Method, Url};
use serde_json::{Value, json};

/// A page that says why something did not work.
fn refused(page: &Answer, code: ErrorCode) {
    let text = page.text();
    assert_eq!(page.status, code.status(), "{text}");
    assert!(text.contains(&format!("<code>{}</code>", code.as_str())), "{text}");
    plain(page);
}

fn plain(page: &Answer) {
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(!page.text().contains("<script"));
}

#[tokio::test]
async fn an_administrator_installs_the_app() {
    let scene = Scene::start().await;
    let mut browser = Browser::new();
    let back = browser.at_linear(&scene, "/oauth/authorize", &scene.ada, "allow").await;

    // Another browser can do nothing with the address, and takes nothing away with it.
    let mut other = Browser::new();
    let stolen = other.send(other.http.get(&back)).await;
    refused(&stolen, ErrorCode::OauthStateInvalid);
    let installed = browser.send(browser.http.get(&back)).await;
    assert_eq!(installed.status, 200, "{}", installed.text());
    assert!(installed.text().contains("Acme &amp; Sons"));
    plain(&installed);
    assert!(browser.cookies.is_empty(), "the cookie has done its work");
    let again = browser.send(browser.http.get(&back)).await;
    refused(&again, ErrorCode::OauthStateInvalid);
    let as_json = Answer::to(scene.relay.http.get(&back)).await;
    as_json.refused("a callback without a browser", ErrorCode::OauthStateInvalid);

    let status = |organization: &str| {
        let path = format!("/oauth/status?organization={organization}");
        Answer::to(scene.relay.as_operator(Method::GET, &path))
    };
    let shown = status(&scene.acme).await;
    assert_eq!(shown.ok()["apps"][0]["state"], "ready");
    let tokens = scene.linear.app_tokens(&scene.acme).unwrap();
    assert!(!shown.text().contains(&tokens.access_token));
    let log = scene.relay.log();
    assert!(!log.contains(&tokens.access_token) && !log.contains("fake-client-secret"));

    let asked = scene.relay.http.get(scene.url("/oauth/status"));
    Answer::to(asked).await.refused("nobody", ErrorCode::SignInRequired);
    let unknown = scene.relay.http.get(scene.url("/oauth/authorize?app=other"));
    Answer::to(unknown).await.refused("app", ErrorCode::AppUnknown);
}

#[tokio::test]
async fn a_sign_in_that_fails_says_so_on_a_page() {
    let scene = Scene::installed().await;
    let mut browser = Browser::new();
    let denied = browser.at_linear(&scene, "/oauth/sign-in", &scene.bob, "deny").await;
    let denied = browser.send(browser.http.get(denied)).await;
    refused(&denied, ErrorCode::OauthDenied);

    let stranger = browser.through_linear(&scene, "/oauth/sign-in", &scene.eve).await;
    refused(&stranger, ErrorCode::OrganizationNotInstalled);

    for target in [TOKEN, GRAPHQL] {
        scene.linear.fail_next(target, FaultKind::ServerError, 1);
        let failed = browser.through_linear(&scene, "/oauth/sign-in", &scene.bob).await;
        refused(&failed, ErrorCode::OauthFailed);
    }
    // Of the tokens that nobody was named for, none is left: only the installation's.
    scene.linear.fail_next(GRAPHQL, FaultKind::ServerError, 1);
    let failed = browser.through_linear(&scene, "/oauth/authorize", &scene.ada).await;
    refused(&failed, ErrorCode::OauthFailed);
    assert_eq!(scene.linear.good_tokens(), 1);

    let elsewhere = browser.get(&scene, "/oauth/sign-in?return=https://evil.example").await;
    refused(&elsewhere, ErrorCode::ParameterInvalid);
    let page = browser.get(&scene, "/device").await;
    assert_eq!(page.status, 401, "nobody has signed in yet");
    assert!(page.text().contains("href=\"/oauth/sign-in?return=device\""));
}

/// A neighbour below the same domain could otherwise put a cookie of its own in the place of ours.
#[tokio::test]
async fn where_the_relay_has_a_certificate_its_cookies_are_for_its_host_alone() {
    let vars = vec![("PUBLIC_URL", "https://relay.example".to_owned())];
    let options = RelayOptions { vars, ..RelayOptions::default() };
    let scene = Scene::start_with(options, LinearOptions::default()).await;
    let mut browser = Browser::new();
    let left = browser.get(&scene, "/oauth/authorize").await;
    let cookie = left.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-edgerelay_sign_in_"), "{cookie}");
    assert!(cookie.contains("; Path=/;") && cookie.ends_with("; Secure"), "{cookie}");
    let address: Url = left.header("location").unwrap().parse().unwrap();
    let pairs = read_form(address.query().unwrap());
    let (_, state) = pairs.iter().find(|(name, _)| name == "state").unwrap();
    let back = format!("/oauth/callback?state={state}&error=access_denied");
    let stranger = Browser::new().get(&scene, &back).await;
    refused(&stranger, ErrorCode::OauthStateInvalid);
    let denied = browser.get(&scene, &back).await;
    refused(&denied, ErrorCode::OauthDenied);
}

#[tokio::test]
async fn a_person_signs_in_a_machine() {
    let scene = Scene::installed().await;
    let request = json!({ "client_name": "Bob's <laptop>", "channels": ["team:t1", "org"] });
    let code = scene.ask_for_machine(request).await;
    assert_eq!((&code["expires_in"], &code["interval"]), (&json!(600), &json!(5)));
    let pending = scene.poll(&code).await;
    assert_eq!(
        (pending.status, pending.json()),
        (400, json!({ "error": "authorization_pending" }))
    );
    assert_eq!(scene.poll(&code).await.json(), json!({ "error": "slow_down" }));

    let user_code = code["user_code"].as_str().unwrap();
    let path = format!("/oauth/sign-in?return=device&user_code={user_code}");
    let mut browser = Browser::new();
    let back = browser.through_linear(&scene, &path, &scene.bob).await;
    let page_path = format!("/device?user_code={user_code}");
    assert_eq!(back.header("location"), Some(page_path.as_str()));
    let page = browser.get(&scene, &page_path).await;
    for shown in ["Bob&#39;s &lt;laptop&gt;", user_code, "Acme &amp; Sons", "team:t1"] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    plain(&page);

    // A page of another site can send the form, but neither with our origin nor with the token.
    let (csrf, own) = (csrf_of(&page), scene.relay.url.clone());
    for (origin, csrf) in [("https://evil.example", csrf.as_str()), (&own, "guess"), (&own, "")] {
        let form = [("user_code", user_code), ("csrf", csrf), ("decision", "approve")];
        let request = browser.http.post(scene.url("/device")).form(&form);
        let answer = browser.send(request.header("Origin", origin)).await;
        refused(&answer, ErrorCode::OauthStateInvalid);
    }
    let decided = browser.decide(&scene, &code, "approve").await;
    assert_eq!(decided.status, 200, "{}", decided.text());

    let tokens = scene.poll(&code).await.ok();
    assert_eq!(tokens["edge"]["user"], scene.bob.as_str());
    assert_eq!(tokens["edge"]["channels"], json!(["org"]), "Bob belongs to no such team");
    // The answer was lost: the same again, until they are used.
    let again = scene.poll(&code).await.ok();
    assert_eq!(again["refresh_token"], tokens["refresh_token"]);
    scene.as_machine(Method::GET, "/events", &tokens).await.ok();
    until("the tokens are known to have arrived", async || {
        let again = scene.poll(&code).await;
        (again.status == 400).then(|| {
            assert_eq!(again.json(), json!({ "error": "invalid_grant" }));
        })
    })
    .await;
    let who = scene.as_machine(Method::GET, "/machines/self", &tokens).await.ok();
    assert_eq!((&who["name"], &who["user"]), (&json!("Bob's <laptop>"), &json!(scene.bob)));
    for secret in ["access_token", "refresh_token"] {
        assert!(!scene.relay.log().contains(tokens[secret].as_str().unwrap()));
    }

    let second = scene.ask_for_machine(json!({ "client_name": "other" })).await;
    browser.decide(&scene, &second, "deny").await;
    assert_eq!(scene.poll(&second).await.json(), json!({ "error": "access_denied" }));
}

#[tokio::test]
async fn people_see_and_end_their_own_machines() {
    let scene = Scene::installed().await;
    let (mut ada, mut bob) = (scene.signed_in(&scene.ada).await, scene.signed_in(&scene.bob).await);
    let adas = scene.machine(&mut ada, "ada-1").await;
    let first = scene.machine(&mut bob, "bob-1").await;
    let second = scene.machine(&mut bob, "bob-2").await;
    let ids = |answer: Value| -> Vec<String> {
        let machines = answer["machines"].as_array().unwrap().clone();
        let mut names: Vec<String> =
            machines.iter().map(|machine| machine["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let listed = scene.as_machine(Method::GET, "/machines", &first).await.ok();
    assert_eq!(ids(listed), ["bob-1", "bob-2"]);
    let page = bob.get(&scene, "/device/machines").await;
    assert!(page.text().contains("bob-2") && !page.text().contains("ada-1"));

    let path = |tokens: &Value| format!("/machines/{}", tokens["edge"]["id"].as_str().unwrap());
    let foreign = scene.as_machine(Method::DELETE, &path(&adas), &first).await;
    foreign.refused("another person's machine", ErrorCode::EdgeUnknown);
    let ended = scene.as_machine(Method::DELETE, &path(&second), &first).await.ok();
    assert_eq!(ended["ended_by"], "owner");
    let read = scene.as_machine(Method::GET, "/events", &second).await;
    read.refused("revoked", ErrorCode::CredentialRevoked);
    for route in ["/machines/self", "/machines"] {
        let read = scene.as_machine(Method::GET, route, &second).await;
        read.refused(route, ErrorCode::CredentialRevoked);
    }

    let edge = path(&first).replace("/machines/", "/admin/edges/");
    let admin = format!("{edge}?organization={}", scene.acme);
    let rename = scene.relay.as_operator(Method::PATCH, &admin).json(&json!({ "name": "build" }));
    assert_eq!(Answer::to(rename).await.ok()["name"], "build");
    let who = scene.as_machine(Method::GET, "/machines/self", &first).await.ok();
    assert_eq!(who["name"], "build");
    let logout = [("token", first["refresh_token"].as_str().unwrap())];
    for _ in 0..2 {
        scene.post_form("/device/revoke", &logout).await.ok();
    }
    let read = scene.as_machine(Method::GET, "/events", &first).await;
    read.refused("logged out", ErrorCode::CredentialRevoked);
    scene.as_machine(Method::GET, "/events", &adas).await.ok();
}

#[tokio::test]
async fn a_copied_refresh_token_ends_the_machine_everywhere() {
    let mut scene = Scene::installed().await;
    let mut bob = scene.signed_in(&scene.bob).await;
    let first = scene.machine(&mut bob, "laptop").await;
    let second = scene.refresh(&first["refresh_token"]).await.ok();
    assert_eq!(second["edge"], first["edge"]);
    // The answer was lost, and the next one, too: another pair each time.
    for _ in 0..3 {
        let repeated = scene.refresh(&first["refresh_token"]).await.ok();
        assert_ne!(repeated["refresh_token"], second["refresh_token"]);
    }
    scene.as_machine(Method::GET, "/events", &second).await.ok();
    let third = scene.refresh(&second["refresh_token"]).await.ok();
    let reused = scene.refresh(&first["refresh_token"]).await;
    assert_eq!(reused.status, 400);
    assert_eq!(
        (&reused.json()["error"], &reused.json()["code"]),
        (&json!("invalid_grant"), &json!("refresh_reused")),
    );
    let read = scene.as_machine(Method::GET, "/events", &third).await;
    read.refused("the family is revoked", ErrorCode::CredentialRevoked);
    assert_eq!(scene.refresh(&third["refresh_token"]).await.json()["code"], "refresh_reused");

    // The object remembers a person for a minute, in memory.
    let other = scene.machine(&mut bob, "other").await;
    scene.linear.set_active(&scene.bob, false).unwrap();
    let installation = scene.acme.clone();
    scene.relay.evict("InstallationObject", &installation, "hibernate").await;
    let left = scene.refresh(&other["refresh_token"]).await;
    assert_eq!(left.json()["code"], "person_inactive", "{}", left.text());
    let read = scene.as_machine(Method::GET, "/events", &other).await;
    read.refused("the person has left", ErrorCode::CredentialRevoked);
}

#[tokio::test]
async fn what_is_no_token_request_is_refused_as_the_rfcs_say() {
    let scene = Scene::installed().await;
    let device = "urn:ietf:params:oauth:grant-type:device_code";
    let check = async |form: &[(&str, &str)], error: &str| {
        let answer = scene.post_form("/device/token", form).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(error)), "{form:?}");
    };
    check(&[], "invalid_request").await;
    check(&[("grant_type", "password")], "unsupported_grant_type").await;
    check(&[("grant_type", device)], "invalid_request").await;
    check(&[("grant_type", device), ("device_code", "x")], "invalid_grant").await;
    check(&[("grant_type", device), ("device_code", "BCDFGHJK.x")], "invalid_grant").await;
    check(&[("grant_type", "refresh_token"), ("refresh_token", "x")], "invalid_grant").await;
    let enrolled = scene.relay.enrol(&scene.acme, &scene.bob).await;
    let access = [("grant_type", "refresh_token"), ("refresh_token", enrolled.credential.as_str())];
    check(&access, "invalid_grant").await;
    let nameless = scene.relay.http.post(scene.url("/device/code")).json(&json!({}));
    Answer::to(nameless).await.refused("nameless", ErrorCode::ParameterInvalid);

    // A person who types codes at random is stopped.
    let mut bob = scene.signed_in(&scene.bob).await;
    for _ in 0..relay_schemas::limits::USER_CODE_ATTEMPTS_MAX {
        let page = bob.get(&scene, "/device?user_code=BCDF-GHJK").await;
        assert_eq!(page.status, 400, "{}", page.text());
    }
    let page = bob.get(&scene, "/device?user_code=BCDF-GHJK").await;
    refused(&page, ErrorCode::RateLimited);
}

#[tokio::test]
async fn without_an_app_of_linears_nobody_signs_in() {
    let relay = Relay::start().await;
    for path in ["/oauth/authorize", "/oauth/sign-in", "/oauth/callback"] {
        let answer = Answer::to(relay.http.get(format!("{}{path}", relay.url))).await;
        answer.refused(path, ErrorCode::OauthNotConfigured);
    }
    let asked = relay.http.post(format!("{}/device/code", relay.url));
    let asked = Answer::to(asked.json(&json!({ "client_name": "x" }))).await;
    asked.refused("/device/code", ErrorCode::OauthNotConfigured);
}
