//! Goal: Linear shows an agent as unresponsive that says nothing within ten seconds of `created`.
//! The relay keeps to that under load, whoever's machine is on.
//!
//! Method: 20 people delegate 10 issues each at the same moment, three times. Half of them have a
//! machine that is connected: it reports after a random time, or not at all. Every request to
//! Linear takes 100 ms longer. The clock is that of the fake Linear, which begins when it sends
//! the webhook, as Linear's does. The fake sends one webhook after another; something between the
//! two takes each at once and hands all of them to the relay at the same time.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use fastrand::Rng;
use relay_tests::{
    EnrolledEdge, HttpReader, ReaderLine, Relay, RelayOptions, Scene,
    linear::{ANSWER_LIMIT_MS, LinearOptions, SessionView},
    until,
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

const PEOPLE: usize = 20;
const ISSUES_EACH: usize = 10;
const ROUNDS: u64 = 3;
const LATENCY: Duration = Duration::from_millis(100);
/// A machine reports within this time, if it does.
const REPORT_MS_MAX: u64 = 6_000;
/// One event in so many is never reported on.
const SILENT_IN: u64 = 3;

/// A connected machine: takes what comes, and reports on some of it.
fn machine(relay: &Relay, edge: EnrolledEdge, mut reader: HttpReader, seed: u64) -> JoinHandle<()> {
    let http = relay.http.clone();
    let url = format!("{}/events/status", relay.url);
    let mut rng = Rng::with_seed(seed);
    tokio::spawn(async move {
        while let ReaderLine::Line(line) = reader.next().await {
            let frame: Value = serde_json::from_str(&line).unwrap();
            if frame["kind"] != "AgentSessionEvent.created" || rng.u64(..SILENT_IN) == 0 {
                continue;
            }
            let body = json!({ "eventId": frame["id"], "status": "processing" });
            let request: RequestBuilder = http.request(Method::POST, &url);
            let request = request.bearer_auth(&edge.credential).json(&body);
            let pause = Duration::from_millis(rng.u64(..REPORT_MS_MAX));
            tokio::spawn(async move {
                sleep(pause).await;
                assert_eq!(request.send().await.unwrap().status(), 200);
            });
        }
    })
}

/// Takes webhooks, and hands each on without waiting for the one before. Gives back its address.
async fn crowd(relay: &Relay) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhook", listener.local_addr().unwrap());
    let state = (relay.http.clone(), format!("{}/webhook", relay.url));
    let router = Router::new().route("/webhook", post(hand_on)).with_state(state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn hand_on(
    State((http, url)): State<(Client, String)>,
    mut headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    headers.remove("host");
    headers.remove("content-length");
    tokio::spawn(async move {
        let answer = http.post(url).headers(headers).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    });
    StatusCode::OK
}

/// Everybody's issues, all delegated at once; gives back the sessions.
fn delegate_all(scene: &Scene, issues: &[(String, String)]) -> Vec<String> {
    issues.iter().map(|(issue, person)| scene.linear.delegate(issue, person).unwrap()).collect()
}

fn file_issues(scene: &Scene, people: &[String]) -> Vec<(String, String)> {
    let each = |person: &String| {
        let issue = scene.linear.add_issue("ENG", person, ("It stops", "After a restart."));
        (issue.unwrap(), person.clone())
    };
    (0..ISSUES_EACH).flat_map(|_| people.iter().map(each)).collect()
}

/// Waits until each session was answered, however late, and tells how long it took.
async fn answered(scene: &Scene, sessions: &[String]) -> Vec<SessionView> {
    let view = |id: &String| scene.linear.session(id).unwrap();
    until("an answer in every session", async || {
        let views: Vec<SessionView> = sessions.iter().map(view).collect();
        views.iter().all(|view| view.first_response_ms.is_some()).then_some(views)
    })
    .await
}

fn check(round: u64, views: &[SessionView]) {
    let mut times: Vec<u64> = views.iter().map(|view| view.first_response_ms.unwrap()).collect();
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let said = |text: &str| {
        let first = views.iter().filter_map(|view| view.activities.first());
        first.filter(|one| one.text.contains(text)).count()
    };
    let (alone, waiting, working) =
        (said("No machine is connected"), said("Waiting for"), said("Working on it"));
    println!(
        "round {round}: median {median} ms, worst {worst} ms of {ANSWER_LIMIT_MS}; {alone} \
         without a machine, {waiting} with a silent one, {working} answered by theirs"
    );
    let late: Vec<&SessionView> = views
        .iter()
        .filter(|view| view.unresponsive || view.first_response_ms.unwrap() >= ANSWER_LIMIT_MS)
        .collect();
    assert!(late.is_empty(), "{} of {} sessions are late", late.len(), views.len());
    assert_eq!(alone, PEOPLE / 2 * ISSUES_EACH, "half of the machines are off");
    assert!(working > 0 && waiting > 0, "the machines that are on are heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sessions_at_once_are_each_answered_within_ten_seconds() {
    let scene = Scene::installed_with(RelayOptions::default(), LinearOptions::default()).await;
    let people: Vec<String> = (0..PEOPLE)
        .map(|index| {
            let (name, email) = (format!("Person {index}"), format!("p{index}@acme.example"));
            scene.linear.add_user(&scene.acme, &name, &email, false).unwrap()
        })
        .collect();
    let members: Vec<&str> = people.iter().map(String::as_str).collect();
    scene.linear.add_team(&scene.acme, ("ENG", "Engineering"), &members, false).unwrap();
    let mut machines = Vec::new();
    for (seed, person) in (0..).zip(people.iter().step_by(2)) {
        let edge = scene.relay.enrol(&scene.acme, person).await;
        let mut reader = HttpReader::ndjson(&scene.relay, &edge, "").await;
        reader.frame("open").await;
        machines.push(machine(&scene.relay, edge, reader, seed));
    }
    let url = crowd(&scene.relay).await;
    scene.linear.set_webhook(|options| options.url = Some(url));
    scene.linear.set_latency(LATENCY);
    for round in 1..=ROUNDS {
        let issues = file_issues(&scene, &people);
        until("the issues", async || {
            let appended = scene.relay.metric("edgerelay_events_appended_total").await as usize;
            (appended >= scene.linear.deliveries().len()).then_some(())
        })
        .await;
        let sessions = delegate_all(&scene, &issues);
        assert_eq!(sessions.len(), PEOPLE * ISSUES_EACH);
        let views = answered(&scene, &sessions).await;
        check(round, &views);
    }
    for machine in machines {
        assert!(!machine.is_finished(), "a machine has lost its stream");
        machine.abort();
    }
}
