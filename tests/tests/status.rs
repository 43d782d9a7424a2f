//! Goal: what an edge reports of an event is kept with it, once, and only of events that are its.
//! Method: a table of bad reports, and reports read back, on workerd.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_schemas::{
    ErrorCode, EventId,
    limits::{REPORT_TEXT_BYTES_MAX, REQUEST_BYTES_MAX},
};
use relay_tests::{Answer, EnrolledEdge, Relay, now_ms, until};
use reqwest::Method;
use serde_json::{Value, json};

const USER: &str = "user-status";

async fn report(relay: &Relay, edge: &EnrolledEdge, body: &Value) -> Answer {
    Answer::to(relay.as_edge(edge, Method::POST, "/events/status").json(body)).await
}

/// Appends an event and gives its id.
async fn append(relay: &Relay, edge: &EnrolledEdge, index: u64) -> String {
    let body = sized_body(&edge.organization, &edge.user, index, now_ms(), 0);
    relay.deliver(&body, "d").await;
    let newest = async || {
        let request = relay.as_edge(edge, Method::GET, "/events?order=desc&limit=1&body=text");
        let page = Answer::to(request).await.ok();
        let newest = &page["events"][0];
        (newest["body"] == body.as_str()).then(|| newest["id"].as_str().unwrap().to_owned())
    };
    until("the event", newest).await
}

async fn reports(relay: &Relay, edge: &EnrolledEdge, id: &str) -> Vec<Value> {
    let request = relay.as_edge(edge, Method::GET, &format!("/events/{id}"));
    let event = Answer::to(request).await.ok();
    assert_eq!(event["event"]["id"], id);
    event["reports"].as_array().unwrap().clone()
}

/// A report as it is read back, without the time.
fn timeless(mut report: Value) -> Value {
    assert!(
        report.as_object_mut().unwrap().remove("at").unwrap().as_u64() > Some(1_700_000_000_000)
    );
    assert!(report.as_object_mut().unwrap().remove("response_ms").unwrap().is_u64());
    report
}

#[tokio::test]
async fn reports_are_kept_with_their_event() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-status", USER).await;
    let second = relay.enrol("org-status", USER).await;
    let (id, other) = (append(&relay, &edge, 1).await, append(&relay, &edge, 2).await);
    assert_eq!(reports(&relay, &edge, &id).await, [] as [Value; 0]);

    let longest = "é".repeat(REPORT_TEXT_BYTES_MAX / 2);
    let processing = json!({ "eventId": id, "status": "processing", "message": "a\nb \u{1f680}" });
    let failed = json!({ "eventId": id, "status": "failed", "error": longest });
    let completed = json!({ "eventId": id, "status": "completed", "novel": 1 });
    for (edge, body) in [(&edge, &processing), (&edge, &failed), (&second, &completed)] {
        let answer = report(&relay, edge, body).await;
        assert_eq!(answer.ok(), json!({ "received": true }));
    }
    let kept: Vec<Value> = reports(&relay, &edge, &id).await.into_iter().map(timeless).collect();
    let expected = [
        json!({ "edge": edge.id, "status": "processing", "message": "a\nb \u{1f680}" }),
        json!({ "edge": edge.id, "status": "failed", "error": longest }),
        json!({ "edge": second.id, "status": "completed" }),
    ];
    assert_eq!(kept, expected, "in the order of their arrival");

    // At least once: a repeated report is the same report.
    for _ in 0..2 {
        report(&relay, &second, &completed).await.ok();
    }
    let again: Vec<Value> = reports(&relay, &second, &id).await.into_iter().map(timeless).collect();
    assert_eq!(again, expected);
    assert_eq!(reports(&relay, &edge, &other).await, [] as [Value; 0]);
}

#[tokio::test]
async fn reports_outlive_the_object() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-status-kept", USER).await;
    let id = append(&relay, &edge, 1).await;
    report(&relay, &edge, &json!({ "eventId": id, "status": "completed" })).await.ok();
    let before = reports(&relay, &edge, &id).await;
    relay.evict_stream(&edge.stream()).await;
    assert_eq!(reports(&relay, &edge, &id).await, before);
    let relay = relay.kill_and_restart().await;
    assert_eq!(reports(&relay, &edge, &id).await, before);
}

struct Row {
    name: &'static str,
    body: String,
    code: ErrorCode,
}

fn row(name: &'static str, body: impl ToString, code: ErrorCode) -> Row {
    Row { name, body: body.to_string(), code }
}

fn bad_reports(id: &str, foreign: &str) -> Vec<Row> {
    use ErrorCode::{
        BodyNotJson, BodyTooLarge, EventUnknown, FieldTooLong, ParameterInvalid, StatusUnknown,
    };
    let long = "x".repeat(REPORT_TEXT_BYTES_MAX + 1);
    let unknown = EventId::from_bytes([9; EventId::LENGTH]);
    let of = |id: &str| json!({ "eventId": id, "status": "completed" });
    let with = |name: &str, value: Value| {
        let mut body = of(id);
        body[name] = value;
        body
    };
    let padding = format!("{}{}", of(id), " ".repeat(REQUEST_BYTES_MAX));
    vec![
        row("of another user's event", of(foreign), EventUnknown),
        row("of an unknown event", of(&unknown.to_string()), EventUnknown),
        row("not an event id", of("evt_1"), ParameterInvalid),
        row("a path", of("../../etc"), ParameterInvalid),
        row("unknown status", with("status", json!("done")), StatusUnknown),
        row("status in upper case", with("status", json!("COMPLETED")), StatusUnknown),
        row("error too long", with("error", json!(long)), FieldTooLong),
        row("message too long", with("message", json!(long)), FieldTooLong),
        row("status missing", json!({ "eventId": id }), BodyNotJson),
        row("event missing", json!({ "status": "completed" }), BodyNotJson),
        row("status a number", with("status", json!(1)), BodyNotJson),
        row("error an object", with("error", json!({})), BodyNotJson),
        row("an array", "[]", BodyNotJson),
        row("cut off", "{\"eventId\":", BodyNotJson),
        row("empty", "", BodyNotJson),
        row("too large", padding, BodyTooLarge),
    ]
}

#[tokio::test]
async fn a_bad_report_is_refused_and_changes_nothing() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-status-bad", USER).await;
    let colleague = relay.enrol("org-status-bad", "colleague").await;
    let id = append(&relay, &edge, 1).await;
    let foreign = append(&relay, &colleague, 2).await;
    for Row { name, body, code } in bad_reports(&id, &foreign) {
        let request = relay.as_edge(&edge, Method::POST, "/events/status").body(body);
        let request = request.header("Content-Type", "application/json");
        Answer::to(request).await.refused(name, code);
    }
    let untyped = relay.as_edge(&edge, Method::POST, "/events/status");
    let untyped = untyped.body(json!({ "eventId": id, "status": "failed" }).to_string());
    Answer::to(untyped).await.refused("untyped", ErrorCode::ContentTypeUnsupported);
    assert_eq!(reports(&relay, &edge, &id).await, [] as [Value; 0]);
    assert_eq!(reports(&relay, &colleague, &foreign).await, [] as [Value; 0]);
}
