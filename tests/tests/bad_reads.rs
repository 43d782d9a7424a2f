//! Goal: a reader that asks for what can't be had is told exactly that, in every dialect, and
//! nothing is silently bent.
//! Method: tables of requests to the Worker on workerd; old cursors come from a relay whose
//! retention is shorter than the test.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_schemas::{Cursor, Dialect, ErrorCode, EventId, Seq};
use relay_tests::{Answer, EnrolledEdge, FrameReader, Relay, RelayOptions, now_ms, until};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

const USER: &str = "user-bad-reads";
/// 1.7 seconds.
const RETENTION_DAYS: &str = "0.00002";

/// A cursor that can't be followed.
struct Fault {
    name: &'static str,
    /// `cursor` or `since`.
    parameter: &'static str,
    value: String,
    reason: &'static str,
    code: ErrorCode,
}

fn fault(name: &'static str, value: impl ToString, reason: &'static str, code: ErrorCode) -> Fault {
    Fault { name, parameter: "cursor", value: value.to_string(), reason, code }
}

fn at(cursor: Cursor, seq: Seq) -> Cursor {
    Cursor { seq, ..cursor }
}

fn faults(tail: Cursor, foreign: Cursor) -> Vec<Fault> {
    use ErrorCode::{CursorEpochChanged, CursorFuture, CursorInvalid, CursorTrimmed};
    let gone = EventId::from_bytes([9; EventId::LENGTH]);
    let unknown = fault("unknown event", gone, "invalid", CursorInvalid);
    vec![
        fault("from the start", at(tail, Seq::ZERO), "trimmed", CursorTrimmed),
        fault("one before the oldest", at(tail, Seq::new(2)), "trimmed", CursorTrimmed),
        fault("of another stream", foreign, "epoch_changed", CursorEpochChanged),
        fault("one after the newest", at(tail, tail.seq.next()), "future", CursorFuture),
        fault("far after the newest", at(tail, Seq::MAX), "future", CursorFuture),
        fault("a number", 17, "invalid", CursorInvalid),
        fault("empty", "", "invalid", CursorInvalid),
        fault("upper case", tail.to_string().to_uppercase(), "invalid", CursorInvalid),
        fault("too short", &tail.to_string()[1..], "invalid", CursorInvalid),
        fault("too long", format!("{tail}0"), "invalid", CursorInvalid),
        fault("beyond 2^53", format!("{}vvvvvvvvvvv", tail.epoch), "invalid", CursorInvalid),
        fault("of no alphabet", "gäp \u{1f6a7}\0\n\"{}\\", "invalid", CursorInvalid),
        Fault { parameter: "since", ..unknown },
    ]
}

/// Asks for a dialect without being able to speak it: enough to be refused.
fn stream_request(
    relay: &Relay,
    edge: &EnrolledEdge,
    dialect: Dialect,
    query: &str,
) -> RequestBuilder {
    let request = relay.as_edge(edge, Method::GET, &format!("/events/stream?{query}"));
    match dialect {
        Dialect::Ndjson => request,
        Dialect::Sse => request.header("Accept", "text/event-stream"),
        Dialect::WebSocket => request
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// A gap in band, and in the headers. Gives the readers, which read on from where it says.
async fn check_resumed(relay: &Relay, edge: &EnrolledEdge, fault: &Fault) -> Vec<FrameReader> {
    let Fault { name, parameter, value, reason, .. } = fault;
    let query = format!("{parameter}={}", encoded(value));
    let mut readers = Vec::new();
    for dialect in Dialect::ALL {
        let (mut reader, open) = FrameReader::open(relay, edge, dialect, &query).await;
        let gap = reader.frame("gap").await.json();
        assert_eq!((&gap["requested"], &gap["reason"]), (&json(value), &json(reason)), "{name}");
        let from = gap["resumed_from"].as_str().unwrap();
        assert_eq!([&gap["oldest"], &open["oldest"], &open["cursor"]], [from; 3], "{name}");
        let header = reader.headers.get("Relay-Resumed-From").unwrap();
        assert_eq!(header, from, "{name} {dialect:?}");
        readers.push(reader);
    }
    let page = page(relay, edge, &query).await;
    let gap = &page.json()["gap"];
    assert_eq!((&gap["requested"], &gap["reason"]), (&json(value), &json(reason)), "{name}");
    assert_eq!(page.header("Relay-Resumed-From"), gap["resumed_from"].as_str(), "{name}");
    readers
}

fn json(text: &str) -> Value {
    text.into()
}

async fn page(relay: &Relay, edge: &EnrolledEdge, query: &str) -> Answer {
    let path = format!("/events?{query}");
    Answer::to(relay.as_edge(edge, Method::GET, &path)).await
}

/// With `on_gap=error` nothing is opened; the refusal names what there is.
async fn check_refused(relay: &Relay, edge: &EnrolledEdge, fault: &Fault) {
    let query = format!("{}={}&on_gap=error", fault.parameter, encoded(&fault.value));
    let mut answers = Vec::new();
    for dialect in Dialect::ALL {
        answers.push(Answer::to(stream_request(relay, edge, dialect, &query)).await);
    }
    answers.push(page(relay, edge, &query).await);
    let state = relay.stream_state(&edge.stream()).await;
    for answer in answers {
        let error = answer.refused(fault.name, fault.code);
        assert_eq!((&error["oldest"], &error["tail"]), (&state["oldest"], &state["tail"]));
    }
}

async fn tail_of(relay: &Relay, edge: &EnrolledEdge) -> Cursor {
    let state = relay.stream_state(&edge.stream()).await;
    state["tail"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_cursor_fault_is_named_in_every_dialect() {
    let options = RelayOptions {
        vars: vec![("RETENTION_DAYS", RETENTION_DAYS.into())],
        ..RelayOptions::default()
    };
    let relay = Relay::start_with(options).await;
    let edge = relay.enrol("org-faults", USER).await;
    let other = relay.enrol("org-faults-elsewhere", USER).await;
    page(&relay, &other, "").await.ok();
    for index in 0..3 {
        relay.deliver(&sized_body("org-faults", USER, index, now_ms(), 0), "d").await;
    }
    let foreign = tail_of(&relay, &other).await;
    until("three events", async || (tail_of(&relay, &edge).await.seq.get() == 3).then_some(()))
        .await;
    until("the sweep of retention", async || {
        (relay.stream_length(&edge.stream()).await == 0).then_some(())
    })
    .await;
    let tail = tail_of(&relay, &edge).await;
    for fault in faults(tail, foreign) {
        check_refused(&relay, &edge, &fault).await;
    }
    let exact = format!("cursor={tail}&on_gap=error");
    assert!(page(&relay, &edge, &exact).await.ok()["gap"].is_null(), "the floor itself is no gap");
    let mut readers = Vec::new();
    for fault in faults(tail, foreign) {
        let theirs = check_resumed(&relay, &edge, &fault).await;
        readers.extend(theirs.into_iter().map(|reader| (fault.name, reader)));
    }
    let body = sized_body("org-faults", USER, 10, now_ms(), 0);
    relay.deliver(&body, "d").await;
    for (name, reader) in &mut readers {
        let frame = reader.frame("webhook").await;
        assert_eq!(frame.body(), body.as_bytes(), "{name} {:?}", reader.dialect);
        assert_eq!(frame.json()["n"], 1, "{name}");
    }
}

#[tokio::test]
async fn the_header_of_a_browser_is_judged_like_the_parameter() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-header", USER).await;
    let query = "on_gap=error&cursor=earliest";
    let request = stream_request(&relay, &edge, Dialect::Sse, query);
    let answer = Answer::to(request.header("Last-Event-ID", "nonsense")).await;
    answer.refused("header", ErrorCode::CursorInvalid);
}

/// Route, query, code, and the parameter that the answer names.
type ParameterRow = (&'static str, String, ErrorCode, &'static str);

fn parameters() -> Vec<ParameterRow> {
    use ErrorCode::{ParameterInvalid, ParameterUnknown};
    let kinds = |count: usize| vec!["Issue"; count].join(",");
    let row = |route, query: &str, code, parameter| (route, query.to_owned(), code, parameter);
    let both = [
        ("team=x", ParameterUnknown, "team"),
        ("Cursor=x", ParameterUnknown, "Cursor"),
        ("kind=Issue&priority=1", ParameterUnknown, "priority"),
        ("tail=-1", ParameterInvalid, "tail"),
        ("tail=1.5", ParameterInvalid, "tail"),
        ("tail=", ParameterInvalid, "tail"),
        ("body=xml", ParameterInvalid, "body"),
        ("on_gap=ignore", ParameterInvalid, "on_gap"),
        ("since=yesterday", ParameterInvalid, "since"),
        ("since=2026-13-01T00:00:00Z", ParameterInvalid, "since"),
        ("since=evt_1", ParameterInvalid, "since"),
        ("kind=*", ParameterInvalid, "kind"),
        ("kind=Issue%20*", ParameterInvalid, "kind"),
        ("kind=Issue,,Comment", ParameterInvalid, "kind"),
    ];
    let mut rows = Vec::new();
    for route in ["/events/stream", "/events"] {
        rows.extend(both.map(|(query, code, parameter)| row(route, query, code, parameter)));
        let many = format!("kind={}&kind={}", kinds(20), kinds(1));
        rows.push(row(route, &many, ParameterInvalid, "kind"));
        let long = format!("kind={}", "x".repeat(101));
        rows.push(row(route, &long, ParameterInvalid, "kind"));
    }
    for heartbeat in ["4", "61", "0", "15s", "-5"] {
        let query = format!("heartbeat={heartbeat}");
        rows.push(row("/events/stream", &query, ParameterInvalid, "heartbeat"));
    }
    for limit in ["0", "1001", "many", "1e2"] {
        rows.push(row("/events", &format!("limit={limit}"), ParameterInvalid, "limit"));
    }
    rows.push(row("/events", "order=random", ParameterInvalid, "order"));
    rows.push(row("/events", "heartbeat=15", ParameterUnknown, "heartbeat"));
    rows.push(row("/events", "last_event_id=x", ParameterUnknown, "last_event_id"));
    rows.push(row("/events/stream", "limit=5", ParameterUnknown, "limit"));
    rows.push(row("/events/stream", "order=asc", ParameterUnknown, "order"));
    rows
}

#[tokio::test]
async fn what_a_parameter_may_not_be_is_named() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-parameters", USER).await;
    for (route, query, code, parameter) in parameters() {
        let path = format!("{route}?{query}");
        let error = Answer::to(relay.as_edge(&edge, Method::GET, &path)).await.refused(&path, code);
        assert_eq!(error["parameter"], parameter, "{path}");
    }
    // The greatest that is allowed.
    page(&relay, &edge, &format!("limit=1000&kind={}", vec!["Issue"; 20].join(","))).await.ok();
    let unknown = EventId::from_bytes([9; EventId::LENGTH]).to_string();
    for (method, path, code) in [
        (Method::GET, format!("/events/{unknown}"), ErrorCode::EventUnknown),
        (Method::GET, "/events/evt_1".into(), ErrorCode::EventUnknown),
        (Method::GET, "/events/..%2f..".into(), ErrorCode::EventUnknown),
        (Method::GET, "/events/a/b".into(), ErrorCode::NotFound),
        (Method::GET, "/nothing".into(), ErrorCode::NotFound),
        (Method::DELETE, format!("/events/{unknown}"), ErrorCode::MethodNotAllowed),
        (Method::POST, "/events".into(), ErrorCode::MethodNotAllowed),
        (Method::POST, "/events/stream".into(), ErrorCode::MethodNotAllowed),
        (Method::GET, "/events/status".into(), ErrorCode::MethodNotAllowed),
    ] {
        let name = format!("{method} {path}");
        Answer::to(relay.as_edge(&edge, method, &path)).await.refused(&name, code);
    }
    let state = relay.stream_state(&edge.stream()).await;
    assert_eq!((&state["events"], &state["connections"]), (&0.into(), &Value::Array(vec![])));
}
