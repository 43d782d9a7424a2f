//! Goal: a credential opens its own stream for as long as it is valid, and nothing else ever.
//! Method: a table of credentials against a table of routes, on workerd; open streams of every
//! dialect while their credential is revoked or expires.

#![allow(clippy::unwrap_used)]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use relay_durable::samples::sized_body;
use relay_schemas::{ByeCode, Claims, Dialect, ErrorCode, EventId, Scope, SigningKeys};
use relay_tests::{ADMIN_TOKEN, Answer, EnrolledEdge, FrameReader, Relay, SIGNING_KEYS, now_ms};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const USER: &str = "user-credentials";

/// What an edge may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Ndjson,
    Sse,
    WebSocket,
    Page,
    Event,
    Status,
}

const ROUTES: [Route; 6] =
    [Route::Ndjson, Route::Sse, Route::WebSocket, Route::Page, Route::Event, Route::Status];

fn request(relay: &Relay, route: Route, event: EventId) -> RequestBuilder {
    let get = |path: &str| relay.http.get(format!("{}{path}", relay.url));
    match route {
        Route::Ndjson => get("/events/stream"),
        Route::Sse => get("/events/stream").header("Accept", "text/event-stream"),
        Route::WebSocket => get("/events/stream")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        Route::Page => get("/events"),
        Route::Event => get(&format!("/events/{event}")),
        Route::Status => relay
            .http
            .post(format!("{}/events/status", relay.url))
            .json(&json!({ "eventId": event, "status": "completed" })),
    }
}

/// Asks every route with this `Authorization`, and asserts the refusal.
async fn check(relay: &Relay, name: &str, authorization: Option<&str>, code: ErrorCode) {
    for route in ROUTES {
        check_route(relay, route, name, authorization, code).await;
    }
}

async fn check_route(
    relay: &Relay,
    route: Route,
    name: &str,
    authorization: Option<&str>,
    code: ErrorCode,
) {
    let mut request = request(relay, route, EventId::from_bytes([1; 16]));
    if let Some(value) = authorization {
        request = request.header("Authorization", value);
    }
    let answer = Answer::to(request).await;
    answer.refused(&format!("{name} {route:?}"), code);
    let asks = (code.status() == 401).then_some("Bearer");
    assert_eq!(answer.header("WWW-Authenticate"), asks, "{name} {route:?}");
}

fn claims(organization: &str) -> Claims {
    let now_s = now_ms() / 1000;
    Claims {
        sub: "edge_forged".parse().unwrap(),
        org: organization.parse().unwrap(),
        user: USER.parse().unwrap(),
        name: None,
        scopes: Scope::DEFAULT.to_vec(),
        channels: Vec::new(),
        generation: None,
        iat: now_s - 60,
        exp: now_s + 3_600,
    }
}

fn issue(keys: &str, claims: &Claims) -> String {
    SigningKeys::parse(keys).unwrap().issue(claims)
}

/// Replaces a token's header and keeps the rest.
fn with_header(token: &str, header: Value) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

fn forgeries() -> Vec<(&'static str, String)> {
    let good = issue(SIGNING_KEYS, &claims("org-forged"));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let other = serde_json::to_vec(&claims("org-other")).unwrap();
    let none = with_header(&good, json!({ "alg": "none", "kid": "k2", "typ": "JWT" }));
    let (none_signed, _) = none.rsplit_once('.').unwrap();
    vec![
        ("garbled", "garbled".into()),
        ("three words", "a.b.c".into()),
        ("dots", "..".into()),
        ("very long", "x".repeat(5_000)),
        ("alg none", none.clone()),
        ("alg none, unsigned", format!("{none_signed}.")),
        ("alg RS256", with_header(&good, json!({ "alg": "RS256", "kid": "k2" }))),
        ("no alg", with_header(&good, json!({ "kid": "k2" }))),
        ("other kid", with_header(&good, json!({ "alg": "HS256", "kid": "k1" }))),
        ("unknown kid", issue("k3:new-signing-key-0123456789", &claims("org-forged"))),
        ("no kid", with_header(&good, json!({ "alg": "HS256" }))),
        ("other secret", issue("k2:another-signing-key-0123", &claims("org-forged"))),
        ("unsigned", signed.into()),
        ("empty signature", format!("{signed}.")),
        ("truncated signature", format!("{signed}.{}", &signature[..40])),
        ("claims changed", format!("{}.{}.{signature}", parts[0], URL_SAFE_NO_PAD.encode(other))),
        ("the operator's token", ADMIN_TOKEN.into()),
    ]
}

#[tokio::test]
async fn forged_and_spent_credentials_open_nothing() {
    let mut relay = Relay::start().await;
    for (name, token) in forgeries() {
        let bearer = format!("Bearer {token}");
        check(&relay, name, Some(&bearer), ErrorCode::CredentialInvalid).await;
    }
    for authorization in [None, Some("Bearer"), Some("Basic dXNlcjpwYXNz"), Some("Token x")] {
        check(&relay, "missing", authorization, ErrorCode::CredentialMissing).await;
    }
    let mut expired = claims("org-forged");
    expired.exp = now_ms() / 1000 - 1;
    let bearer = format!("Bearer {}", issue(SIGNING_KEYS, &expired));
    check(&relay, "expired", Some(&bearer), ErrorCode::CredentialExpired).await;
    let objects = relay.ask(json!({ "op": "objects", "class": "StreamObject" })).await;
    assert_eq!(objects["ids"], json!([]), "a refused credential wakes no object that stores");

    let revoked = relay.enrol("org-revoked", USER).await;
    relay.revoke(&revoked).await;
    let bearer = format!("Bearer {}", revoked.credential);
    check(&relay, "revoked", Some(&bearer), ErrorCode::CredentialRevoked).await;
}

#[tokio::test]
async fn scopes_and_named_identity_are_held_to() {
    let relay = Relay::start().await;
    let enrol = |scopes: Value| {
        relay.enrol_with(
            json!({ "organization": "org-scopes", "user": USER, "name": "laptop", "scopes": scopes }),
        )
    };
    let reads = enrol(json!(["read:events"])).await;
    let writes = enrol(json!(["write:status"])).await;
    for route in ROUTES {
        let wrong = if route == Route::Status { &reads } else { &writes };
        let bearer = format!("Bearer {}", wrong.credential);
        check_route(&relay, route, "scope", Some(&bearer), ErrorCode::ScopeMissing).await;
    }
    for (header, value, is_right) in [
        ("X-Edge-User-Id", USER, true),
        ("X-Edge-User-Id", "somebody-else", false),
        ("X-Edge-Name", "laptop", true),
        ("X-Edge-Name", "desktop", false),
    ] {
        let request = relay.as_edge(&reads, Method::GET, "/events").header(header, value);
        let answer = Answer::to(request).await;
        if is_right {
            answer.ok();
        } else {
            answer.refused(header, ErrorCode::IdentityMismatch);
        }
    }
    let old = issue("k1:old-signing-key-0123456789", &claims("org-scopes"));
    let request = relay.http.get(format!("{}/events", relay.url)).bearer_auth(old);
    Answer::to(request).await.ok();
}

async fn deliver(relay: &Relay, organization: &str, user: &str, index: u64) -> Vec<u8> {
    let body = sized_body(organization, user, index, now_ms(), 0);
    relay.deliver(&body, "d").await;
    body.into_bytes()
}

async fn events(relay: &Relay, edge: &EnrolledEdge) -> Vec<Value> {
    let page = Answer::to(relay.as_edge(edge, Method::GET, "/events")).await.ok();
    page["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_credential_sees_and_addresses_only_its_own_stream() {
    let relay = Relay::start().await;
    let own = relay.enrol("org-own", USER).await;
    let others =
        [relay.enrol("org-foreign", USER).await, relay.enrol("org-own", "colleague").await];
    let mut readers = Vec::new();
    for other in &others {
        for dialect in Dialect::ALL {
            readers.push((other, FrameReader::open(&relay, other, dialect, "").await.0));
        }
    }
    deliver(&relay, "org-own", USER, 1).await;
    relay.wait_for_length(&own.stream(), 1).await;
    let id = events(&relay, &own).await[0]["id"].as_str().unwrap().to_owned();
    for other in &others {
        assert_eq!(events(&relay, other).await, [] as [Value; 0]);
        for route in [Route::Event, Route::Status] {
            let request =
                request(&relay, route, id.parse().unwrap()).bearer_auth(&other.credential);
            Answer::to(request).await.refused("foreign", ErrorCode::EventUnknown);
        }
        // The first that their live readers see is their own.
        let body = deliver(&relay, &other.organization, &other.user, 2).await;
        for (_, reader) in readers.iter_mut().filter(|(edge, _)| edge.id == other.id) {
            let frame = reader.frame("webhook").await;
            assert_eq!((frame.body(), frame.json()["n"].as_u64()), (body.clone(), Some(1)));
        }
    }
    let path = format!("/events/{id}");
    let event = Answer::to(relay.as_edge(&own, Method::GET, &path)).await.ok();
    assert_eq!(event["reports"], json!([]));
}

#[tokio::test]
async fn operators_and_edges_are_told_apart() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-operators", USER).await;
    let edges = "/admin/edges?organization=org-operators";
    let one = format!("/admin/edges/{}?organization=org-operators", edge.id);
    for (method, path) in [
        (Method::GET, "/state"),
        (Method::GET, "/state/org-operators/unrouted"),
        (Method::GET, "/metrics"),
        (Method::GET, edges),
        (Method::POST, "/admin/edges"),
        (Method::DELETE, one.as_str()),
    ] {
        let bare = || {
            let body = json!({ "organization": "org-operators", "user": "forged" });
            relay.http.request(method.clone(), format!("{}{path}", relay.url)).json(&body)
        };
        let name = format!("{method} {path}");
        Answer::to(bare()).await.refused(&name, ErrorCode::CredentialMissing);
        for token in [&*edge.credential, "operator-token-012345678", &ADMIN_TOKEN.to_uppercase()] {
            let answer = Answer::to(bare().bearer_auth(token)).await;
            answer.refused(&name, ErrorCode::CredentialInvalid);
        }
    }
    let listed = Answer::to(relay.as_operator(Method::GET, edges)).await.ok();
    assert_eq!(listed["edges"].as_array().unwrap().len(), 1);
    assert_eq!(listed["edges"][0]["revoked_at"], Value::Null);
}

#[tokio::test]
async fn a_revocation_ends_open_streams_and_no_others() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-ended", USER).await;
    let neighbour = relay.enrol("org-ended", USER).await;
    let (mut readers, mut neighbours) = (Vec::new(), Vec::new());
    for dialect in Dialect::ALL {
        readers.push(FrameReader::open(&relay, &edge, dialect, "").await.0);
        neighbours.push(FrameReader::open(&relay, &neighbour, dialect, "").await.0);
    }
    relay.revoke(&edge).await;
    for reader in &mut readers {
        reader.bye(ByeCode::Revoked).await;
    }
    let body = deliver(&relay, "org-ended", USER, 1).await;
    for reader in &mut neighbours {
        assert_eq!(reader.frame("webhook").await.body(), body);
    }
}

/// Each on a stream of its own: a socket's expiry wakes the object, which ends all that expired,
/// while HTTP readers are ended by the Worker that holds them.
#[tokio::test]
async fn an_expiry_ends_open_streams() {
    let relay = Relay::start().await;
    let mut readers = Vec::new();
    for dialect in Dialect::ALL {
        let user = dialect.as_str();
        let edge = json!({ "organization": "org-expiring", "user": user, "expires_in_s": 4 });
        let edge = relay.enrol_with(edge).await;
        let (reader, _) = FrameReader::open(&relay, &edge, dialect, "").await;
        readers.push((edge, reader));
    }
    for (edge, reader) in &mut readers {
        reader.bye(ByeCode::Expired).await;
        let bearer = format!("Bearer {}", edge.credential);
        check(&relay, "expired", Some(&bearer), ErrorCode::CredentialExpired).await;
    }
}

#[tokio::test]
async fn a_browser_may_resume_from_any_origin() {
    let relay = Relay::start().await;
    let preflight = relay
        .http
        .request(Method::OPTIONS, format!("{}/events/stream", relay.url))
        .header("Origin", "https://dashboard.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization,last-event-id");
    let answer = Answer::to(preflight).await;
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (204, Some("*")));
    let allowed = answer.header("Access-Control-Allow-Headers").unwrap().to_ascii_lowercase();
    let allowed: Vec<&str> = allowed.split(", ").collect();
    assert!(["authorization", "last-event-id"].iter().all(|name| allowed.contains(name)));
    let refused = Answer::to(request(&relay, Route::Sse, EventId::from_bytes([1; 16]))).await;
    assert_eq!(refused.header("Access-Control-Allow-Origin"), Some("*"));
    let exposed = refused.header("Access-Control-Expose-Headers").unwrap();
    assert!(exposed.contains("Relay-Resumed-From") && exposed.contains("Retry-After"));
}
