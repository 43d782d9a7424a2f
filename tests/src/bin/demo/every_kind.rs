//! Every type of webhook that goes to a person, once: half of them live, half while the machine is
//! off, with a client that is killed in between.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use relay_durable::samples::{Sample, samples};
use relay_schemas::{Envelope, SecretList, verify};
use relay_tests::{ClientProcess, EnrolledEdge, Relay, SECRET_CURRENT, now_ms, until};

use crate::verdict::Verdict;

const ORGANIZATION: &str = "0d4c1f3a-9f2e-4a57-8f64-0e7a52c1b001";
const USER: &str = "7b1e6c58-3c1d-4e0b-9d57-66a1f0c2d002";

/// What the handler was given: the event's id, and when.
type Handled = Arc<Mutex<Vec<(String, Instant)>>>;

/// A webhook that the relay has answered with 200.
struct Posted {
    kind: String,
    id: String,
    at: Instant,
}

/// Holds if each event was handled exactly once, in the stream's order, byte for byte.
pub(crate) async fn play(relay: &Relay, verdict: &mut Verdict) {
    let edge = relay.enrol(ORGANIZATION, USER).await;
    println!("enrolled    {} by the operator, for a person of another organization", edge.id);
    let (handler, handled) = start_handler().await;
    println!("handler     {handler} checks Linear's signature on what it gets");

    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("edge.db");
    let arguments = ["--forward", &handler, "--local", "off"];
    let samples = samples(ORGANIZATION, USER, now_ms());
    let (first_half, second_half) = samples.split_at(samples.len() / 2);

    let client = ClientProcess::listen(relay, &edge, &state, &arguments);
    let mut posted = post_all(relay, first_half).await;
    wait_until_reported(relay, &edge, &posted).await;
    let handled_before = handled.lock().unwrap().len();
    client.kill().await;
    println!("killed      its client, after {handled_before} events");

    posted.extend(post_all(relay, second_half).await);
    println!("posted      {} more webhooks while it was off", second_half.len());
    let restarted_at = Instant::now();
    let client = ClientProcess::listen(relay, &edge, &state, &arguments);
    wait_until_reported(relay, &edge, &posted).await;
    client.kill().await;

    let handled = handled.lock().unwrap().clone();
    print_arrivals(&posted, &handled, handled_before, restarted_at);
    let expected: Vec<&str> = posted.iter().map(|event| event.id.as_str()).collect();
    let actual: Vec<&str> = handled.iter().map(|(id, _)| id.as_str()).collect();
    let what = format!(
        "{} kinds of webhook, each handled exactly once, in order, byte for byte, across a kill",
        posted.len()
    );
    verdict.check(&what, expected == actual);
}

/// The handler: takes an event only with a signature that Linear's secret made of these bytes.
async fn start_handler() -> (String, Handled) {
    let handled = Handled::default();
    let router = Router::new().route("/linear", post(handle)).with_state(Arc::clone(&handled));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/linear"), handled)
}

async fn handle(State(handled): State<Handled>, headers: HeaderMap, body: Bytes) -> &'static str {
    let signature = headers.get("Linear-Signature").and_then(|value| value.to_str().ok());
    verify(&SecretList::parse(SECRET_CURRENT).unwrap(), &body, signature).unwrap();
    let id = Envelope::parse(&body).unwrap().event_id().to_string();
    handled.lock().unwrap().push((id, Instant::now()));
    "handled"
}

async fn post_all(relay: &Relay, samples: &[Sample]) -> Vec<Posted> {
    let mut posted = Vec::with_capacity(samples.len());
    for sample in samples {
        let envelope = Envelope::parse(sample.body.as_bytes()).unwrap();
        let at = Instant::now();
        relay.deliver(&sample.body, &format!("demo-{}", sample.name)).await;
        let (kind, id) = (envelope.kind.to_string(), envelope.event_id().to_string());
        posted.push(Posted { kind, id, at });
    }
    posted
}

/// A report is written together with the client's cursor: once the relay has it, a kill loses
/// nothing and repeats nothing.
async fn wait_until_reported(relay: &Relay, edge: &EnrolledEdge, posted: &[Posted]) {
    for event in posted {
        let path = format!("/events/{}", event.id);
        until(&format!("the report on {}", event.kind), async || {
            let answer = relay.as_edge(edge, reqwest::Method::GET, &path).send().await.unwrap();
            let event: serde_json::Value = answer.json().await.unwrap();
            let reports = event["reports"].as_array()?;
            reports.iter().any(|report| report["status"] == "completed").then_some(())
        })
        .await;
    }
}

fn print_arrivals(
    posted: &[Posted],
    handled: &[(String, Instant)],
    handled_before: usize,
    restarted_at: Instant,
) {
    let mut live: Vec<Duration> = posted
        .iter()
        .take(handled_before)
        .zip(handled)
        .map(|(event, (_, at))| *at - event.at)
        .collect();
    live.sort();
    if let (Some(median), Some((_, last))) = (live.get(live.len() / 2), handled.last()) {
        println!("live        median {} from webhook to handler", milliseconds(*median));
        println!(
            "caught up   {} after the restart",
            milliseconds(last.duration_since(restarted_at))
        );
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
