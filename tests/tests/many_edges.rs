//! Goal: where events are given to single machines, each is with one, goes on to another when that
//! one is gone or silent, and only the one that has it is heard; a stop passes ahead of everything.
//! Method: machines of one person on workerd, with a short `EDGE_TIMEOUT_MS`.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_schemas::{Dialect, ErrorCode};
use relay_tests::{Answer, EnrolledEdge, FrameReader, Relay, RelayOptions, now_ms, until};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-edges";
const USER: &str = "user-edges";
const TIMEOUT_MS: u64 = 1_500;

async fn start(mode: &str) -> Relay {
    let vars = vec![
        ("MULTI_EDGE_MODE", mode.to_owned()),
        ("EDGE_TIMEOUT_MS", TIMEOUT_MS.to_string()),
        ("SEAL_BYTES", "1".to_owned()),
    ];
    Relay::start_with(RelayOptions { vars, ..RelayOptions::default() }).await
}

async fn enrol(relay: &Relay, name: &str) -> EnrolledEdge {
    let request = json!({ "organization": ORGANIZATION, "user": USER, "name": name });
    relay.enrol_with(request).await
}

async fn deliver(relay: &Relay, index: u64) {
    let body = sized_body(ORGANIZATION, USER, index, now_ms(), 0);
    relay.deliver(&body, "d").await;
}

async fn report(relay: &Relay, edge: &EnrolledEdge, id: &Value, status: &str) -> Answer {
    let body = json!({ "eventId": id, "status": status });
    Answer::to(relay.as_edge(edge, Method::POST, "/events/status").json(&body)).await
}

/// What an agent session's event is, as Linear sends it.
fn session_body(action: &str, activity: &Value) -> String {
    json!({
        "type": "AgentSessionEvent", "action": action, "organizationId": ORGANIZATION,
        "oauthClientId": "app-1", "appUserId": "app-user", "webhookTimestamp": now_ms(),
        "agentSession": { "id": "session-1", "creatorId": USER, "issue": { "id": "issue-1" } },
        "agentActivity": activity,
    })
    .to_string()
}

fn stop_body(number: u64) -> String {
    let activity = json!({
        "id": format!("activity-{number}"), "userId": USER, "signal": "stop",
        "content": { "type": "prompt", "body": "stop" },
    });
    session_body("prompted", &activity)
}

#[tokio::test]
async fn a_lease_moves_on_and_a_late_result_is_refused() {
    let mut relay = start("roundrobin").await;
    let (first, second) = (enrol(&relay, "first").await, enrol(&relay, "second").await);
    let (mut reader, open) = FrameReader::open(&relay, &first, Dialect::WebSocket, "").await;
    assert_eq!(open["cursor"], open["tail"]);
    deliver(&relay, 1).await;
    let given = reader.frame("webhook").await.json();
    assert_eq!(given.get("attempt"), None);
    report(&relay, &first, &given["id"], "processing").await.ok();
    let (mut other, _) = FrameReader::open(&relay, &second, Dialect::Ndjson, "").await;
    // Nobody else has it while its machine works, whatever becomes of the object.
    let early = report(&relay, &second, &given["id"], "completed").await;
    let problem = early.refused("early", ErrorCode::EventReassigned);
    assert_eq!(problem["assigned_to"], "first");
    relay.evict_stream(&first.stream()).await;
    // What must not happen within this time has no condition to wait for.
    tokio::time::sleep(std::time::Duration::from_millis(2 * TIMEOUT_MS)).await;
    report(&relay, &first, &given["id"], "processing").await.ok();
    // Its machine vanishes.
    drop(reader);
    let again = other.frame("webhook").await.json();
    assert_eq!((&again["id"], &again["attempt"]), (&given["id"], &json!(2)));
    let late = report(&relay, &first, &given["id"], "completed").await;
    assert_eq!(late.status, 409);
    let problem = late.refused("late", ErrorCode::EventReassigned);
    assert_eq!(problem["assigned_to"], "second");
    assert_eq!(
        report(&relay, &second, &given["id"], "completed").await.ok(),
        json!({ "received": true })
    );
    report(&relay, &first, &given["id"], "completed")
        .await
        .refused("too late", ErrorCode::EventReassigned);
    let state = relay.stream_state(&first.stream()).await;
    assert_eq!(state["assigned"]["held"], 0, "{state}");
    let edges = state["edges"].as_array().unwrap();
    let of = |name: &str| edges.iter().find(|edge| edge["name"] == name).unwrap().clone();
    assert!(of("first")["disconnected_at"].is_u64(), "{state}");
    assert_eq!(of("second")["connections"], 1);
    assert!(of("second")["response_ms_last"].is_u64());
    // Finished events are sealed, and not before.
    until("the seal", async || {
        let state = relay.stream_state(&first.stream()).await;
        (state["segments"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_machine_has_no_more_than_it_works_on_and_who_cant_report_only_watches() {
    let relay = start("roundrobin").await;
    let request = json!({
        "organization": ORGANIZATION, "user": USER, "name": "blind", "scopes": ["read:events"],
    });
    let blind = relay.enrol_with(request).await;
    let (mut watching, open) = FrameReader::open(&relay, &blind, Dialect::WebSocket, "").await;
    assert_eq!((&open["mode"], &open["capacity"]), (&json!("roundrobin"), &json!(0)));
    let edge = enrol(&relay, "small").await;
    let (mut reader, open) =
        FrameReader::open(&relay, &edge, Dialect::Sse, "capacity=1&heartbeat=5").await;
    assert_eq!(open["capacity"], 1);
    deliver(&relay, 1).await;
    deliver(&relay, 2).await;
    relay.wait_for_length(&edge.stream(), 2).await;
    for _ in 1..=2 {
        let given = reader.frame("webhook").await.json();
        assert_eq!(given.get("attempt"), None);
        let state = relay.stream_state(&edge.stream()).await;
        assert_eq!(state["assigned"]["held"], 1, "{state}");
        report(&relay, &edge, &given["id"], "completed").await.ok();
    }
    // Whatever comes to who watches, it is no webhook.
    watching.socket().send(r#"{"type":"nonsense","x":1}"#).await;
    watching.socket().send("nonsense").await;
    assert_eq!(watching.next().await.unwrap().kind(), "bye");
}

#[tokio::test]
async fn an_event_that_nobody_finishes_goes_to_the_dead_letters_and_back() {
    let mut relay = start("sticky").await;
    let edge = enrol(&relay, "only").await;
    let (mut reader, _) = FrameReader::open(&relay, &edge, Dialect::Ndjson, "").await;
    deliver(&relay, 1).await;
    let mut id = Value::Null;
    for attempt in 1..=5 {
        let given = reader.frame("webhook").await.json();
        assert_eq!(given["attempt"].as_u64().unwrap_or(1), attempt);
        id = given["id"].clone();
        report(&relay, &edge, &id, "failed").await.ok();
    }
    let letter = until("the dead letter", async || {
        let list = Answer::to(relay.as_operator(Method::GET, "/admin/dead-letters")).await.ok();
        let letter = list["dead_letters"][0].clone();
        letter.is_object().then_some(letter)
    })
    .await;
    assert!(letter["reason"].as_str().unwrap().starts_with("assignment: "), "{letter}");
    // It goes back there, also when it would be decided otherwise by then.
    relay.lose_storage("DirectoryObject", ORGANIZATION).await;
    let relay = relay.kill_and_restart().await;
    let rules = format!("/admin/routing?organization={ORGANIZATION}");
    let org = json!({ "strategy": "org" });
    Answer::to(relay.as_operator(Method::PUT, &rules).json(&org)).await.ok();
    let (mut reader, _) = FrameReader::open(&relay, &edge, Dialect::Ndjson, "").await;
    let path = format!("/admin/dead-letters/{}/put-back", letter["id"].as_str().unwrap());
    Answer::to(relay.as_operator(Method::POST, &path)).await.ok();
    let again = reader.frame("webhook").await.json();
    assert_eq!((&again["id"], again.get("attempt")), (&id, None));
    report(&relay, &edge, &id, "completed").await.ok();
}

#[tokio::test]
async fn a_stop_passes_ahead_of_a_reader_without_credit() {
    let mut relay = start("broadcast").await;
    let (holder, other) = (enrol(&relay, "holder").await, enrol(&relay, "other").await);
    let (mut working, _) = FrameReader::open(&relay, &holder, Dialect::WebSocket, "").await;
    let (mut bridged, _) = FrameReader::open(&relay, &holder, Dialect::Sse, "").await;
    let (mut idle, _) = FrameReader::open(&relay, &other, Dialect::Ndjson, "").await;
    relay.deliver(&session_body("created", &Value::Null), "d").await;
    let created = working.frame("webhook").await.json();
    assert_eq!(created["session"], "session-1", "{created}");
    report(&relay, &holder, &created["id"], "processing").await.ok();
    working.socket().grants = false;
    for index in 0..8 {
        let body = sized_body(ORGANIZATION, USER, index, now_ms(), 60_000);
        relay.deliver(&body, "d").await;
    }
    relay.wait_for_length(&holder.stream(), 9).await;
    relay.evict_stream(&holder.stream()).await;
    relay.deliver(&stop_body(1), "d").await;
    let mut webhooks = 1;
    let signal = loop {
        let frame = working.next().await.unwrap();
        match frame.kind() {
            "webhook" => webhooks += 1,
            "signal" => break frame.json(),
            other => panic!("{other}"),
        }
    };
    assert!(webhooks < 9, "it came before what credit is missing for: {webhooks}");
    assert_eq!((&signal["signal"], &signal["session"]), (&json!("stop"), &json!("session-1")));
    // It follows in its place.
    working.socket().grants = true;
    working.socket().send(r#"{"type":"credit","bytes":262144}"#).await;
    let rest = working.webhooks(10 - webhooks).await;
    assert_eq!(rest.last().unwrap().json()["id"], signal["id"]);
    // The other machine is told nothing, and every dialect is.
    let read = idle.webhooks(10).await;
    assert_eq!(read.last().unwrap().json()["id"], signal["id"]);
    let told = async {
        loop {
            let frame = bridged.next().await.unwrap();
            if frame.kind() == "signal" {
                return frame.json();
            }
        }
    };
    assert_eq!(told.await["id"], signal["id"]);
}

#[tokio::test]
async fn an_edge_has_so_many_connections_and_parameters_are_checked() {
    let relay = start("broadcast").await;
    let edge = enrol(&relay, "busy").await;
    let mut readers = Vec::new();
    for _ in 0..relay_schemas::limits::CONNECTIONS_PER_EDGE_MAX {
        readers.push(FrameReader::open(&relay, &edge, Dialect::WebSocket, "").await);
    }
    let request = || relay.as_edge(&edge, Method::GET, "/events/stream");
    Answer::to(request()).await.refused("one more", ErrorCode::ConnectionsTooMany);
    for (query, code) in
        [("own=maybe", ErrorCode::ParameterInvalid), ("app=", ErrorCode::ParameterInvalid)]
    {
        let request = relay.as_edge(&edge, Method::GET, &format!("/events?{query}"));
        Answer::to(request).await.refused(query, code);
    }
    deliver(&relay, 1).await;
    relay.wait_for_length(&edge.stream(), 1).await;
    for (query, expected) in [("own=include", 1), ("own=exclude", 1), ("app=app-2", 0)] {
        let request = relay.as_edge(&edge, Method::GET, &format!("/events?{query}"));
        let page = Answer::to(request).await.ok();
        assert_eq!(page["events"].as_array().unwrap().len(), expected, "{query}");
    }
}

/// Loops: what the app itself did is marked, and sent only to those who ask for it.
#[tokio::test]
async fn what_the_app_itself_did_is_hidden_unless_asked_for() {
    let relay = start("broadcast").await;
    let edge = enrol(&relay, "looped").await;
    let mut readers = Vec::new();
    for (query, expected) in [("", 1), ("own=include", 2)] {
        readers.push((FrameReader::open(&relay, &edge, Dialect::Ndjson, query).await.0, expected));
    }
    let by_app = json!({ "id": "activity-own", "userId": "app-user" });
    relay.deliver(&session_body("prompted", &by_app), "d").await;
    relay.wait_for_length(&edge.stream(), 1).await;
    relay.deliver(&session_body("created", &Value::Null), "d").await;
    for (reader, expected) in &mut readers {
        let frames = reader.webhooks(*expected).await;
        let last = frames.last().unwrap().json();
        assert_eq!((&last["kind"], last.get("own")), (&json!("AgentSessionEvent.created"), None));
        assert_eq!(last["n"], *expected, "what is held back is not counted");
        assert!(*expected == 1 || frames[0].json()["own"] == true);
    }
    // From the hot tail or, a moment later, from a segment.
    for (query, expected) in [("", 1), ("?own=exclude", 1), ("?own=include", 2)] {
        let request = relay.as_edge(&edge, Method::GET, &format!("/events{query}"));
        let page = Answer::to(request).await.ok();
        assert_eq!(page["events"].as_array().unwrap().len(), expected, "{query}");
    }
}
