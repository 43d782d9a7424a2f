//! Goal: each route does what it does for whom the table names, and for nobody else.
//! Method: the table of routes times everybody who could ask, on workerd: first all who must be
//! refused or see nothing, side by side, then a look whether anything has changed, then who may.

#![allow(clippy::unwrap_used)]

use std::{env, fs};

use futures::{StreamExt, stream};
use relay_durable::samples::sized_body;
use relay_schemas::{
    Access, BrowserClaims, Claims, RefreshClaims, Route, Scope, SigningKeys, Token,
};
use relay_tests::{
    ADMIN_TOKEN, Answer, Asked, Caller, EnrolledEdge, HttpReader, Mine, Outcome, Own, ReaderLine,
    Relay, RelayOptions, SIGNING_KEYS, SignedWebhook, authorization_page, expected_outcome, now_ms,
    root, until,
};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-matrix";
const OTHER_ORGANIZATION: &str = "org-matrix-other";
const USER: &str = "user-matrix";
/// Stands in all that the person has.
const MARK: &str = "markofmatrix";
const SIDE_BY_SIDE: usize = 16;
const OTHER_KEY: &str = "k2:another-signing-key-0123";

/// A relay with something of everything, and those who ask for it.
struct Scene {
    relay: Relay,
    mine: Mine,
    machine: EnrolledEdge,
    revoked: EnrolledEdge,
    other_person: EnrolledEdge,
    other_organization: EnrolledEdge,
}

impl Scene {
    async fn new() -> Self {
        let mut relay = Relay::start_with(RelayOptions::sealed_at(2_000)).await;
        let machine = relay.enrol(ORGANIZATION, USER).await;
        let revoked = relay.enrol(ORGANIZATION, USER).await;
        relay.revoke(&revoked).await;
        let mine = prepare(&mut relay, &machine).await;
        Self {
            other_person: relay.enrol(ORGANIZATION, "user-matrix-other").await,
            // The same id: people are told apart by their organization, too.
            other_organization: relay.enrol(OTHER_ORGANIZATION, USER).await,
            relay,
            mine,
            machine,
            revoked,
        }
    }

    /// What a machine of the person's would hold, with some scopes.
    fn claims(&self, scopes: Vec<Scope>) -> Claims {
        let now_s = now_ms() / 1000;
        Claims {
            sub: self.machine.id.parse().unwrap(),
            org: ORGANIZATION.parse().unwrap(),
            user: USER.parse().unwrap(),
            name: None,
            scopes,
            channels: Vec::new(),
            generation: None,
            iat: now_s - 60,
            exp: now_s + 600,
        }
    }

    fn issue(&self, scopes: Vec<Scope>) -> String {
        keys(SIGNING_KEYS).issue(&self.claims(scopes))
    }

    /// What a caller sends as a credential.
    fn credential(&self, route: Route, caller: Caller) -> Option<String> {
        let needed = match route.access() {
            Access::Edge(scopes) => scopes,
            Access::Open
            | Access::Anyone
            | Access::Signature
            | Access::Operator
            | Access::OperatorOrBrowser
            | Access::Browser => &[],
        };
        let others = Scope::ALL.iter().filter(|scope| !needed.contains(scope)).copied();
        let claims = self.claims(Scope::ALL.to_vec());
        Some(match caller {
            Caller::Nobody | Caller::ForgedSignature | Caller::LateSignature | Caller::Linear => {
                return None;
            }
            Caller::Forged => keys(OTHER_KEY).issue(&claims),
            Caller::Expired => keys(SIGNING_KEYS).issue(&Claims { exp: claims.iat + 59, ..claims }),
            Caller::Revoked => self.revoked.credential.clone(),
            Caller::OtherOrganization => self.other_organization.credential.clone(),
            Caller::OtherPerson | Caller::ForeignChannel => self.other_person.credential.clone(),
            Caller::WithoutScope => self.issue(others.collect()),
            Caller::Machine => self.machine.credential.clone(),
            Caller::RefreshToken => keys(SIGNING_KEYS).issue(&RefreshToken(claims)),
            Caller::BrowserToken => keys(SIGNING_KEYS).issue(&BrowserToken(claims)),
            Caller::Operator => ADMIN_TOKEN.to_owned(),
        })
    }

    fn request(&self, route: Route, asked: &Asked, caller: Caller) -> RequestBuilder {
        let url = format!("{}{}{}", self.relay.url, asked.path, asked.query);
        let request = self.relay.http.request(asked.method.clone(), url);
        let request = match (route, &asked.body) {
            (Route::Webhook, _) => with_webhook(request, caller),
            (_, Some(body)) => request.json(body),
            (_, None) => request,
        };
        match self.credential(route, caller) {
            Some(credential) => request.bearer_auth(credential),
            None => request,
        }
    }

    async fn ask(&self, route: Route, caller: Caller) -> Answer {
        let asked = Asked::of(route, &self.mine);
        let asked = match caller {
            Caller::ForeignChannel => asked.naming_channel_of(USER),
            _ => asked,
        };
        send(route, self.request(route, &asked, caller)).await
    }

    /// What a request that is refused must not change.
    async fn state(&self) -> Vec<Value> {
        let event = format!("/events/{}", self.mine.event);
        let edges = |organization: &str| format!("/admin/edges?organization={organization}");
        let mut state = vec![
            Answer::to(self.relay.as_edge(&self.machine, Method::GET, &event)).await.ok(),
            self.relay.stream_state(&self.machine.stream()).await["tail"].clone(),
        ];
        for path in [&edges(ORGANIZATION), &edges(OTHER_ORGANIZATION), "/admin/dead-letters"] {
            state.push(Answer::to(self.relay.as_operator(Method::GET, path)).await.ok());
        }
        state
    }
}

/// The members of a credential under another type: nothing else tells the tokens apart.
macro_rules! disguised {
    ($token:ident, $like:ident) => {
        #[derive(Serialize, Deserialize)]
        struct $token(Claims);

        impl Token for $token {
            const TYPE: &'static str = $like::TYPE;

            fn expires_at_s(&self) -> u64 {
                self.0.exp
            }
        }
    };
}

disguised!(RefreshToken, RefreshClaims);
disguised!(BrowserToken, BrowserClaims);

fn keys(text: &str) -> SigningKeys {
    SigningKeys::parse(text).unwrap()
}

/// Sealed events of the person, dead letters, and what may be lost.
async fn prepare(relay: &mut Relay, machine: &EnrolledEdge) -> Mine {
    for index in 0..4 {
        let body = sized_body(ORGANIZATION, USER, index, now_ms(), 1_500);
        let body = body.replace("\"description\":\"", &format!("\"description\":\"{MARK} "));
        relay.deliver(&body, "d").await;
    }
    for _ in 0..3 {
        let send = json!({
            "op": "queue_send", "queue": "EVENTS", "contentType": "text", "body": MARK,
        });
        relay.ask(send).await;
    }
    let segment = until("a segment", async || {
        let plan = relay.as_edge(machine, Method::GET, "/events/segments");
        let plan = Answer::to(plan).await.ok();
        plan["segments"][0]["url"].as_str().map(str::to_owned)
    })
    .await;
    let mut segment = segment.rsplit('/').map(str::to_owned);
    let (name, epoch) = (segment.next().unwrap(), segment.next().unwrap());
    let letters = until("three dead letters", async || {
        let listed = relay.as_operator(Method::GET, "/admin/dead-letters");
        let listed = Answer::to(listed).await.ok()["dead_letters"].clone();
        let ids = listed.as_array()?.iter().map(|letter| letter["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<String>>().try_into().ok()
    })
    .await;
    let page = Answer::to(relay.as_edge(machine, Method::GET, "/events")).await.ok();
    Mine {
        organization: ORGANIZATION.into(),
        user: USER.into(),
        event: page["events"][0]["id"].as_str().unwrap().into(),
        segment: (epoch, name),
        spare: Some(relay.enrol(ORGANIZATION, "user-spare").await),
        own_spare: Some(relay.enrol(ORGANIZATION, USER).await),
        spare_channel: "user:user-spare".into(),
        letters,
    }
}

fn with_webhook(request: RequestBuilder, caller: Caller) -> RequestBuilder {
    let at = match caller {
        Caller::LateSignature => now_ms() - 7 * 24 * 3_600_000,
        _ => now_ms(),
    };
    let body = sized_body(ORGANIZATION, USER, 100, at, 1_000);
    let webhook = match caller {
        Caller::Linear | Caller::LateSignature => SignedWebhook::new(body, "d"),
        Caller::ForgedSignature => SignedWebhook::signed_with("lin_whs_other", body, "d"),
        _ => SignedWebhook::new(body, "d").with_header("Linear-Signature", None),
    };
    let headers = webhook.headers.iter();
    headers.fold(request, |request, (name, value)| request.header(name, value)).body(webhook.body)
}

/// Sends it. A stream has no end: it is read up to its first frame.
async fn send(route: Route, request: RequestBuilder) -> Answer {
    if route != Route::Stream {
        return Answer::to(request).await;
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut reader = HttpReader::from_answer(answer);
    let body = match reader.next().await {
        ReaderLine::Line(line) => line.into_bytes(),
        // An error's body has no line break.
        ReaderLine::End | ReaderLine::Broken => reader.unread().to_vec(),
    };
    Answer { status, headers, body }
}

/// Nothing of the person's stands in an answer; the epoch names the person's stream.
fn check_is_unmarked(case: &str, mine: &Mine, answer: &Answer) {
    let text = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
    for mark in [MARK, &mine.event, &mine.segment.0] {
        assert!(!text.contains(mark), "{case}: {mark} in {text}");
    }
}

async fn check_is_kept_out(scene: &Scene, route: Route, caller: Caller, outcome: Outcome) {
    let case = format!("{route:?}, asked by {}", caller.text());
    let answer = scene.ask(route, caller).await;
    check_is_unmarked(&case, &scene.mine, &answer);
    match (outcome, Asked::of(route, &scene.mine).own) {
        (Outcome::Refused(code), _) | (Outcome::Own, Own::Unknown(code)) => {
            answer.refused(&case, code);
            let asks = (code.status() == 401).then_some("Bearer");
            assert_eq!(answer.header("WWW-Authenticate"), asks, "{case}");
        }
        (Outcome::Own, Own::Nothing) => assert_eq!(answer.status, 200, "{case}: {}", answer.text()),
        (Outcome::Allowed, _) => unreachable!("{case} is let in"),
    }
}

async fn check_is_let_in(scene: &Scene, route: Route, caller: Caller) {
    let case = format!("{route:?}, asked by {}", caller.text());
    let answer = scene.ask(route, caller).await;
    let right = Asked::of(route, &scene.mine).right;
    assert_eq!(answer.status, right, "{case}: {}", answer.text());
}

/// Each of the route's scopes is enough.
async fn check_scopes(scene: &Scene, route: Route, scopes: &[Scope]) {
    for scope in scopes {
        let asked = Asked::of(route, &scene.mine);
        let url = format!("{}{}{}", scene.relay.url, asked.path, asked.query);
        let request = scene.relay.http.request(asked.method.clone(), url);
        let request = request.bearer_auth(scene.issue(vec![*scope]));
        let request = match &asked.body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = send(route, request).await;
        // The event is an issue's: to who reads other kinds there is no such event.
        let is_hidden =
            route == Route::Event && !matches!(scope, Scope::ReadEvents | Scope::ReadIssues);
        let right = if is_hidden { 404 } else { asked.right };
        assert_eq!(answer.status, right, "{route:?} with {scope:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_route_answers_everybody_as_the_table_says() {
    let scene = Scene::new().await;
    let all = Route::ALL.iter().flat_map(|route| Caller::ALL.iter().map(move |who| (*route, *who)));
    let cells: Vec<(Route, Caller, Outcome)> =
        all.filter_map(|(route, who)| Some((route, who, expected_outcome(route, who)?))).collect();
    let (let_in, kept_out): (Vec<_>, Vec<_>) =
        cells.into_iter().partition(|(_, _, outcome)| *outcome == Outcome::Allowed);
    println!("{} kept out, {} let in", kept_out.len(), let_in.len());

    let before = scene.state().await;
    stream::iter(kept_out)
        .for_each_concurrent(SIDE_BY_SIDE, |(route, caller, outcome)| {
            check_is_kept_out(&scene, route, caller, outcome)
        })
        .await;
    assert_eq!(scene.state().await, before, "who was refused has changed something");

    for (route, caller, _) in let_in {
        check_is_let_in(&scene, route, caller).await;
        if let Access::Edge(scopes) = route.access() {
            check_scopes(&scene, route, scopes).await;
        }
    }
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = root().join("docs/authorization.md");
    if env::var_os("EDGERELAY_WRITE_DOCS").is_some() {
        fs::write(&path, authorization_page()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == authorization_page(),
        "docs/authorization.md is not what the table says; write it anew with EDGERELAY_WRITE_DOCS=1"
    );
}
