//! Goal: what users of the earlier system met does not happen here. The table "What the earlier
//! system got wrong" in `docs/architecture.md` names every bug with its tests; here are those that
//! need Linear, the relay and the client together.
//!
//! Method: real workerd, a Linear of one's own, and the real client.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use relay_durable::samples::sized_body;
use relay_schemas::{SigningKeys, UnixMillis};
use relay_tests::{
    Answer, ClientProcess, HttpReader, Relay, RelayOptions, SECRET_CURRENT, SIGNING_KEYS, Scene,
    SignedWebhook,
    linear::{LinearOptions, Outcome, RETRY_PAUSES_MS, RetryStamp, SessionStatus},
    now_ms, until,
};
use reqwest::Method;
use serde_json::Value;

/// HMAC over re-serialised JSON: a body whose bytes another writer of JSON would choose otherwise
/// was refused now and then.
#[tokio::test]
async fn the_signature_is_that_of_the_bytes_however_the_json_is_written() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-bytes", "user").await;
    let oddities = [
        r#"{ "odd" : 1.0 , "#,
        r#"{"odd":[1e3,-0.0,1E+2],"#,
        r#"{"odd":"\u00e9\/\ud83d\ude80é","zz":0,"aa":12345678901234567890.10,"#,
        "{\n\t\"odd\": [ ],\r\n",
        "{\u{20}\u{20}\"odd\":\"\u{2028}\u{7f}\",",
    ];
    let mut bodies = Vec::new();
    for (index, odd) in (0..).zip(oddities) {
        let body = sized_body("org-bytes", "user", index, now_ms(), 900).replacen('{', odd, 1);
        let parsed: Value = serde_json::from_str(&body).unwrap();
        let rewritten = parsed.to_string();
        assert_ne!(rewritten, body);
        let of_rewritten = SignedWebhook::signed_with(SECRET_CURRENT, rewritten, "odd");
        let forged = SignedWebhook { body: body.clone().into(), ..of_rewritten };
        assert_eq!(relay.post(&forged).await.status(), 401, "{odd:?}");
        relay.deliver(&body, &format!("odd-{index}")).await;
        relay.wait_for_length(&edge.stream(), index + 1).await;
        bodies.push(body);
    }
    let request = relay.as_edge(&edge, Method::GET, "/events?body=text");
    let page = Answer::to(request).await.ok();
    let stored = page["events"].as_array().unwrap().iter().map(|event| event["body"].clone());
    assert_eq!(stored.collect::<Vec<_>>(), bodies);
}

/// Registrations were entries with a life of an hour, and gone after a restart. Here there are
/// none: a credential says itself whose it is and until when.
#[tokio::test]
async fn a_machine_needs_no_registration_that_an_hour_or_a_restart_could_take() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-hour", "user").await;
    let keys = SigningKeys::parse(SIGNING_KEYS).unwrap();
    for hours in (0..30 * 24).step_by(7) {
        let later = UnixMillis::new(now_ms() + hours * 3_600_000);
        let claims: relay_schemas::Claims = keys.read(&edge.credential, later).unwrap();
        assert_eq!(claims.sub.as_str(), edge.id);
    }
    for index in 0..2 {
        relay = relay.kill_and_restart().await;
        let mut reader = HttpReader::ndjson(&relay, &edge, "").await;
        reader.frame("open").await;
        relay.deliver(&sized_body("org-hour", "user", index, now_ms(), 900), "hour").await;
        reader.frame("webhook").await;
    }
}

/// What stands between Linear and the relay: it hands webhooks on, and loses the first answers to
/// each.
#[derive(Clone)]
struct Lossy {
    relay: String,
    http: reqwest::Client,
    losses: usize,
    /// By delivery: each body that came, and what the relay has answered.
    seen: Arc<Mutex<Seen>>,
}

type Seen = BTreeMap<String, Vec<(Bytes, u16)>>;

impl Lossy {
    /// Gives back its address as well.
    async fn start(relay: &Relay, losses: usize) -> (Self, String) {
        let lossy = Self {
            relay: format!("{}/webhook", relay.url),
            http: relay.http.clone(),
            losses,
            seen: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let router = Router::new().route("/webhook", post(hand_on)).with_state(lossy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (lossy, url)
    }

    fn seen(&self) -> BTreeMap<String, Vec<(Bytes, u16)>> {
        self.seen.lock().unwrap().clone()
    }
}

async fn hand_on(State(lossy): State<Lossy>, mut headers: HeaderMap, body: Bytes) -> StatusCode {
    headers.remove("host");
    headers.remove("content-length");
    let delivery = headers["linear-delivery"].to_str().unwrap().to_owned();
    let request = lossy.http.post(&lossy.relay).headers(headers).body(body.clone());
    let status = request.send().await.unwrap().status();
    let mut seen = lossy.seen.lock().unwrap();
    let attempts = seen.entry(delivery).or_default();
    attempts.push((body, status.as_u16()));
    if attempts.len() <= lossy.losses { StatusCode::GATEWAY_TIMEOUT } else { status }
}

/// A run for each event, by what the handler has written.
fn runs(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn client(
    scene: &Scene,
    edge: &relay_tests::EnrolledEdge,
    directory: &Path,
) -> (ClientProcess, PathBuf) {
    let file = directory.join("runs");
    let handler = format!("echo $EDGERELAY_EVENT_ID >> {}; echo Done.", file.display());
    let arguments = ["--exec", &handler, "--kind", "AgentSessionEvent", "--local", "off"];
    (ClientProcess::listen(&scene.relay, edge, &directory.join("client.db"), &arguments), file)
}

/// Linear's retries, a minute and an hour after an answer that was lost, each started a run. A
/// retry may be the first body byte for byte, or stamped and signed anew; Linear doesn't say.
async fn retries_start_no_run(stamp: RetryStamp) {
    let scene = Scene::installed_with(RelayOptions::default(), LinearOptions::default()).await;
    let members = [scene.ada.as_str(), &scene.bob];
    scene.linear.add_team(&scene.acme, ("ENG", "Engineering"), &members, false).unwrap();
    let (lossy, url) = Lossy::start(&scene.relay, 2).await;
    scene.linear.set_webhook(|options| {
        options.url = Some(url);
        options.retry_stamp = stamp;
        options.resource_types = vec!["AgentSessionEvent".to_owned()];
    });
    let directory = tempfile::tempdir().unwrap();
    let edge = scene.relay.enrol(&scene.acme, &scene.bob).await;
    let (client, file) = client(&scene, &edge, directory.path());
    let issue = scene.linear.add_issue("ENG", &scene.bob, ("It stops", "Often.")).unwrap();
    let session = scene.linear.delegate(&issue, &scene.bob).unwrap();
    let ended = async || {
        let view = scene.linear.session(&session).unwrap();
        (view.status == SessionStatus::Complete).then_some(())
    };
    until("the first run's end", ended).await;
    scene.linear.prompt(&session, &scene.bob, "Once more.").unwrap();
    until("the second run", async || (runs(&file).len() == 2).then_some(())).await;
    until("the second run's end", ended).await;

    for (attempts, pause_ms) in [(2, RETRY_PAUSES_MS[0]), (3, RETRY_PAUSES_MS[1])] {
        // A run can end before Linear has the answer that makes it retry: its pause begins then.
        scene.linear.settled().await;
        scene.linear.advance(Duration::from_millis(pause_ms));
        until("the retries", async || {
            let seen = lossy.seen();
            (seen.len() == 2 && seen.values().all(|all| all.len() == attempts)).then_some(())
        })
        .await;
    }
    let deliveries = scene.linear.deliveries();
    assert!(deliveries.iter().all(|row| row.outcome == Outcome::Delivered));
    for attempts in lossy.seen().values() {
        let is_same = attempts.iter().all(|(body, _)| *body == attempts[0].0);
        assert_eq!(is_same, stamp == RetryStamp::Kept);
        assert!(attempts.iter().all(|(_, status)| *status == 200), "the relay takes each");
    }
    let duplicates = "edgerelay_events_duplicate_total";
    until("four duplicates", async || (scene.relay.metric(duplicates).await >= 4.0).then_some(()))
        .await;
    assert_eq!(scene.relay.stream_length(&edge.stream()).await, 2);
    // A client that is new to the stream finds each event once, too.
    client.kill().await;
    let arguments = ["--exit-when-caught-up", "--local", "off"];
    let state = directory.path().join("other.db");
    let mut other = ClientProcess::listen(&scene.relay, &edge, &state, &arguments);
    let mut events = Vec::new();
    while let Some(line) = other.try_next_line().await {
        let event: Value = serde_json::from_str(&line).unwrap();
        events.push(event["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(runs(&file), events);
    assert_eq!(events.len(), 2);
    let said = scene.linear.session(&session).unwrap().activities;
    let responses = said.iter().filter(|one| one.kind == "response").count();
    assert_eq!(responses, 2, "{said:?}");
}

#[tokio::test]
async fn a_retry_of_the_same_bytes_starts_no_second_run() {
    retries_start_no_run(RetryStamp::Kept).await;
}

#[tokio::test]
async fn a_retry_that_is_stamped_anew_starts_no_second_run() {
    retries_start_no_run(RetryStamp::Renewed).await;
}
