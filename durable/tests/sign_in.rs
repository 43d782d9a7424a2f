//! Goal: nobody signs in but in the browser where they began; a machine gets its tokens once, from
//! the person who approved it, and only while it asks politely.
//!
//! Method: scripts. Secrets are given, time is moved by argument.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

use relay_durable::{
    ApproveMachine, Approver, DeviceDecision, DeviceGrant, Edge, Guesses, SignIn, approve,
    check_viewer, denied, oauth_failed,
};
use relay_schemas::{
    DeviceRequest, ErrorCode, ReturnTo, Scope, SecretDigest, SignInPurpose, TokenError, UnixMillis,
    Viewer,
    limits::{BROWSER_SESSION_MS, DEVICE_CODE_MS, SIGN_IN_MS, USER_CODE_ATTEMPTS_MAX},
};

const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);

fn sign_in() -> Option<SignIn> {
    Some(SignIn {
        purpose: SignInPurpose::Install,
        app: "client".into(),
        redirect_uri: "https://relay.example/oauth/callback".into(),
        verifier: "verifier".into(),
        browser: SecretDigest::of("cookie"),
        expires_at: SignIn::expiry(NOW),
    })
}

fn take(place: &mut Option<SignIn>, browser: &str, now: UnixMillis) -> Result<String, ErrorCode> {
    let taken = SignIn::take(place, browser, now);
    taken.map(|sign_in| sign_in.verifier).map_err(|problem| problem.code)
}

#[test]
fn a_state_is_good_once_in_its_own_browser() {
    let refused = Err(ErrorCode::OauthStateInvalid);
    let mut place = sign_in();
    assert_eq!(take(&mut place, "another browser", NOW), refused);
    assert_eq!(take(&mut place, "", NOW), refused);
    assert_eq!(take(&mut place, "cookie", NOW), Ok("verifier".into()), "nobody else used it up");
    assert_eq!(take(&mut place, "cookie", NOW), refused, "a second callback");
    assert_eq!(take(&mut None, "cookie", NOW), refused);

    let mut place = sign_in();
    assert_eq!(take(&mut place, "cookie", NOW + SIGN_IN_MS), refused);
    assert_eq!(take(&mut place, "cookie", NOW + SIGN_IN_MS - 1), Ok("verifier".into()));
}

#[test]
fn nothing_that_is_stored_opens_the_browsers_cookie() {
    let stored = serde_json::to_string(&sign_in().unwrap()).unwrap();
    assert!(!stored.contains("cookie"), "{stored}");
}

#[test]
fn linear_must_answer_for_whom_the_browser_was_sent() {
    let person = SignInPurpose::Person { return_to: ReturnTo::Machines };
    let viewer = |app: bool, active: bool| -> Viewer {
        serde_json::from_value(serde_json::json!({
            "id": "u", "name": "Ada", "active": active, "app": app,
            "organization": { "id": "o", "name": "Acme", "urlKey": "acme" },
        }))
        .unwrap()
    };
    let check = |purpose: &SignInPurpose, app: bool, active: bool, expected: Option<ErrorCode>| {
        let found = check_viewer(purpose, &viewer(app, active)).err().map(|problem| problem.code);
        assert_eq!(found, expected, "{purpose:?} app {app} active {active}");
    };
    check(&SignInPurpose::Install, true, true, None);
    check(&SignInPurpose::Install, false, true, Some(ErrorCode::OauthFailed));
    check(&person, false, true, None);
    check(&person, true, true, Some(ErrorCode::OauthFailed));
    check(&person, false, false, Some(ErrorCode::PersonInactive));
}

#[test]
fn what_linear_refuses_is_told_in_known_words_only() {
    assert_eq!(denied("access_denied").code, ErrorCode::OauthDenied);
    assert_eq!(denied("server_error").code, ErrorCode::OauthFailed);
    assert_eq!(oauth_failed("invalid_grant").details, [("reason", "invalid_grant".to_owned())]);
    let strange = oauth_failed("<script>lin_oauth_secret");
    assert!(strange.details.is_empty() && !strange.message.contains("lin_oauth"));
}

fn grant() -> DeviceGrant {
    let request = DeviceRequest {
        name: "laptop".into(),
        scopes: Scope::DEFAULT.to_vec(),
        channels: Vec::new(),
    };
    let (code, edge) = ("BCDF-GHJK".parse().unwrap(), "edge_1".parse().unwrap());
    DeviceGrant::new(code, SecretDigest::of("known-to-it"), edge, request, NOW)
}

fn person(user: &str) -> Approver {
    Approver { organization: "org".parse().unwrap(), user: user.parse().unwrap() }
}

fn approved() -> DeviceDecision {
    DeviceDecision::Approved(Box::new(edge()))
}

fn edge() -> Edge {
    let request = ApproveMachine {
        edge: "edge_1".parse().unwrap(),
        organization: "org".parse().unwrap(),
        user: "ada".parse().unwrap(),
        name: "laptop".into(),
        scopes: Scope::DEFAULT.to_vec(),
        channels: Vec::new(),
        location: None,
    };
    approve(request, &[], NOW).unwrap()
}

#[test]
fn a_machine_gets_its_tokens_as_long_as_its_code_is_good() {
    let (mut grant, ada) = (grant(), person("ada"));
    let at = |seconds: u64| NOW + seconds * 1000;
    assert_eq!(grant.poll("known-to-it", at(5)), Err(TokenError::AuthorizationPending));
    grant.claim(&ada, at(6)).unwrap();
    assert_eq!(grant.poll("known-to-it", at(10)), Err(TokenError::AuthorizationPending));
    grant.decide(&ada, approved(), at(11)).unwrap();
    assert_eq!(grant.poll("known-to-iT", at(15)), Err(TokenError::InvalidGrant(None)));
    assert_eq!(grant.poll("known-to-it", at(15)), Ok(edge()));
    // The answer was lost.
    assert_eq!(grant.poll("known-to-it", at(20)), Ok(edge()));
    let over = NOW + DEVICE_CODE_MS;
    assert_eq!(grant.poll("known-to-it", over - 1), Ok(edge()));
    assert_eq!(grant.poll("known-to-it", over), Err(TokenError::ExpiredToken));
    let stored = serde_json::to_string(&grant).unwrap();
    assert!(!stored.contains("known-to-it"), "{stored}");
}

#[test]
fn what_an_earlier_relay_has_given_out_stays_given_out() {
    let stored = serde_json::to_string(&grant()).unwrap();
    let stored = stored.replace("\"pending\"", "\"redeemed\"");
    let mut grant: DeviceGrant = serde_json::from_str(&stored).unwrap();
    assert_eq!(grant.poll("known-to-it", NOW), Err(TokenError::InvalidGrant(None)));
}

#[test]
fn who_asks_too_often_is_slowed_down_for_good() {
    let mut grant = grant();
    let mut check = |at_ms: u64, expected: TokenError| {
        assert_eq!(grant.poll("known-to-it", NOW + at_ms), Err(expected), "{at_ms}");
    };
    check(1_000, TokenError::AuthorizationPending);
    check(5_499, TokenError::SlowDown);
    check(14_998, TokenError::SlowDown);
    check(29_498, TokenError::AuthorizationPending);
    check(43_997, TokenError::SlowDown);
    check(63_497, TokenError::AuthorizationPending);
    // A stranger without the secret slows nobody down.
    assert_eq!(grant.poll("x", NOW + 63_498), Err(TokenError::InvalidGrant(None)));
    assert_eq!(grant.poll("known-to-it", NOW + 83_000), Err(TokenError::AuthorizationPending));
}

#[test]
fn a_denied_machine_is_told_so() {
    let (mut grant, ada) = (grant(), person("ada"));
    grant.claim(&ada, NOW).unwrap();
    grant.decide(&ada, DeviceDecision::Denied, NOW).unwrap();
    assert_eq!(grant.poll("known-to-it", NOW), Err(TokenError::AccessDenied));
    assert!(grant.claim(&ada, NOW).is_err() && grant.decide(&ada, approved(), NOW).is_err());
    assert_eq!(grant.poll("known-to-it", NOW + 5_000), Err(TokenError::AccessDenied));
}

#[test]
fn a_code_is_decided_in_time_by_one_person() {
    let (mut grant, ada, eve) = (grant(), person("ada"), person("eve"));
    let elsewhere = Approver { organization: "other".parse().unwrap(), ..person("ada") };
    assert!(grant.decide(&ada, approved(), NOW).is_err(), "not reserved");
    grant.look(&eve, NOW).unwrap();
    grant.claim(&ada, NOW).unwrap();
    grant.claim(&ada, NOW).unwrap();
    for other in [&eve, &elsewhere] {
        assert!(grant.look(other, NOW).is_err() && grant.claim(other, NOW).is_err());
        assert!(grant.decide(other, approved(), NOW).is_err());
    }
    let over = NOW + DEVICE_CODE_MS;
    assert!(grant.decide(&ada, approved(), over).is_err() && grant.look(&ada, over).is_err());
    assert!(!grant.is_over(over - 1) && grant.is_over(over));
    assert_eq!(grant.poll("known-to-it", over), Err(TokenError::ExpiredToken));
    grant.decide(&ada, approved(), over - 1).unwrap();
    assert_eq!(grant.poll("known-to-it", over), Err(TokenError::ExpiredToken), "nor fetched later");
}

#[test]
fn codes_can_be_guessed_only_so_often() {
    let mut guesses = Guesses::default();
    for _ in 0..USER_CODE_ATTEMPTS_MAX {
        guesses.spend(NOW).unwrap();
    }
    let last = NOW + BROWSER_SESSION_MS - 1;
    assert_eq!(guesses.spend(last).unwrap_err().code, ErrorCode::RateLimited);
    assert_eq!(guesses.ends_at(), NOW + BROWSER_SESSION_MS);
    guesses.spend(last + 1).unwrap();
}
