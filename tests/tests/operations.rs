//! Goal: an operator sees what happened, and nobody sees what it was about.
//! Method: a known scenario on workerd, then its numbers; marked secrets, credentials and bodies,
//! then a search for the marks in the log.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::{sized_body, unrouted_samples};
use relay_schemas::{Dialect, sign};
use relay_tests::{
    ADMIN_TOKEN, Answer, EnrolledEdge, FrameReader, Relay, RelayOptions, SignedWebhook, now_ms,
    until,
};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-operations";
const USER: &str = "user-operations";

async fn get(relay: &Relay, path: &str) -> Answer {
    Answer::to(relay.as_operator(Method::GET, path)).await
}

async fn report(relay: &Relay, edge: &EnrolledEdge, id: &Value, status: &str) {
    let body = json!({ "eventId": id, "status": status });
    Answer::to(relay.as_edge(edge, Method::POST, "/events/status").json(&body)).await.ok();
}

/// Waits until a series has reached its value, then asserts that it has not passed it.
async fn check_metric(relay: &Relay, series: &str, expected: f64) {
    until(series, async || (relay.metric(series).await >= expected - 0.1).then_some(())).await;
    let found = relay.metric(series).await;
    assert!((found - expected).abs() < 0.1, "{series} is {found}, not {expected}");
}

/// Two readers a dialect, three events (one of them twice, one too large for the queue), one that
/// finds nobody, three refusals, a message that can't be read, three reports.
async fn play(relay: &mut Relay, edge: &EnrolledEdge) {
    let mut readers = Vec::new();
    for dialect in [Dialect::ALL, Dialect::ALL].concat() {
        readers.push(FrameReader::open(relay, edge, dialect, "heartbeat=5").await.0);
    }
    for dialect in Dialect::ALL {
        let series = format!("edgerelay_connections{{dialect=\"{}\"}}", dialect.as_str());
        check_metric(relay, &series, 2.0).await;
    }
    let events = [(1, 0), (2, 0), (3, 200_000)];
    let events =
        events.map(|(index, bytes)| sized_body(ORGANIZATION, USER, index, now_ms(), bytes));
    for body in [&events[0], &events[0], &events[1], &events[2]] {
        relay.deliver(body, "d").await;
    }
    relay.deliver(&unrouted_samples(ORGANIZATION, USER, now_ms())[2].body, "d").await;
    let unsigned = SignedWebhook::new(&*events[0], "d").with_header("Linear-Signature", None);
    for webhook in [&unsigned, &unsigned, &SignedWebhook::new("[]", "d")] {
        assert!(relay.post(webhook).await.status().is_client_error());
    }
    relay
        .ask(json!({ "op": "queue_send", "queue": "EVENTS", "contentType": "text", "body": "x" }))
        .await;
    let mut id = Value::Null;
    for reader in &mut readers {
        id = reader.webhooks(3).await[0].json()["id"].clone();
    }
    for status in ["processing", "completed", "completed"] {
        report(relay, edge, &id, status).await;
    }
}

#[tokio::test]
async fn numbers_tell_what_happened() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol(ORGANIZATION, USER).await;
    play(&mut relay, &edge).await;
    for (series, expected) in [
        ("webhooks_total{result=\"accepted\"}", 5.0),
        ("webhooks_total{result=\"signature_missing\"}", 2.0),
        ("webhooks_total{result=\"body_not_object\"}", 1.0),
        ("events_routed_total{rule=\"assignee\"}", 3.0),
        ("events_unroutable_total", 1.0),
        ("events_appended_total", 4.0),
        ("events_duplicate_total", 1.0),
        ("events_delivered_total", 18.0),
        ("dead_letters_total", 1.0),
        ("reports_total{status=\"processing\"}", 1.0),
        ("reports_total{status=\"completed\"}", 2.0),
        ("streams", 2.0),
        ("queue_latency_seconds_count", 5.0),
        ("queue_latency_seconds_bucket{le=\"+Inf\"}", 5.0),
        ("webhook_to_append_seconds_count", 4.0),
        ("webhook_to_append_seconds_bucket{le=\"600.000\"}", 4.0),
    ] {
        check_metric(&relay, &format!("edgerelay_{series}"), expected).await;
    }
    // The readers are gone: each dialect counts down to nothing.
    for dialect in Dialect::ALL {
        let series = format!("edgerelay_connections{{dialect=\"{}\"}}", dialect.as_str());
        until(&series, async || (relay.metric(&series).await < 0.1).then_some(())).await;
    }
    let connections = relay.stream_state(&edge.stream()).await["connections"].clone();
    assert_eq!(connections, json!([]));
}

#[tokio::test]
async fn metrics_are_what_prometheus_reads() {
    let relay = Relay::start().await;
    let answer = get(&relay, "/metrics").await;
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.len() > 20, "{text}");
    for line in samples {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(series.starts_with("edgerelay_") && value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_typed = |name: &str| text.contains(&format!("# TYPE {name} "));
        assert!(is_typed(name) || base.is_some_and(is_typed), "{line}");
    }
}

#[tokio::test]
async fn states_say_where_each_stream_stands() {
    let relay = Relay::start().await;
    let health = Answer::to(relay.http.get(format!("{}/health", relay.url))).await.ok();
    assert_eq!((&health["status"], &health["environment"]), (&json!("ok"), &json!("local")));
    let info = Answer::to(relay.http.get(format!("{}/", relay.url))).await.ok();
    assert_eq!((&info["service"], &info["version"]), (&json!("edgerelay"), &health["version"]));

    let missing = format!("/state/{ORGANIZATION}/user:{USER}");
    get(&relay, &missing).await.refused("unused", relay_schemas::ErrorCode::NotFound);
    for path in ["/state/a/b", "/state/a/user:", "/state/a%2fb/org", "/state/a/b/c"] {
        get(&relay, path).await.refused(path, relay_schemas::ErrorCode::NotFound);
    }
    let edge = relay.enrol(ORGANIZATION, USER).await;
    let (mut reader, _) = FrameReader::open(&relay, &edge, Dialect::Sse, "").await;
    for (organization, index) in [(ORGANIZATION, 1), (ORGANIZATION, 2), ("org-operations-2", 3)] {
        relay.deliver(&sized_body(organization, USER, index, now_ms(), 0), "d").await;
    }
    relay.wait_for_length(&format!("org-operations-2/user:{USER}"), 1).await;
    let cursor = reader.webhooks(2).await[1].json()["cursor"].clone();
    let state = relay.stream_state(&edge.stream().replace(':', "%3A")).await;
    assert_eq!((&state["tail"], &state["events"]), (&cursor, &json!(2)));
    let connection = &state["connections"][0];
    assert_eq!((&connection["edge"], &connection["dialect"]), (&json!(edge.id), &json!("sse")));
    assert_eq!((&connection["cursor"], &connection["lag_events"]), (&cursor, &json!(0)));
    assert!(state["alarm_at"].as_u64() > Some(now_ms()));

    let all = get(&relay, "/state").await.ok();
    assert_eq!(all["streams_total"], 2);
    assert_eq!(all["counters"]["events_appended_total"], 3);
    let one = get(&relay, &format!("/state?organization={ORGANIZATION}")).await.ok();
    let expected = json!([{
        "stream": edge.stream(), "tail": cursor, "appended_at": one["streams"][0]["appended_at"],
    }]);
    assert_eq!(one["streams"], expected);
}

#[tokio::test]
async fn a_request_id_is_taken_or_made() {
    let relay = Relay::start().await;
    let ask = async |given: Option<&str>| {
        let request = relay.http.get(format!("{}/nothing", relay.url));
        let request = given.into_iter().fold(request, |r, id| r.header("X-Request-Id", id));
        Answer::to(request).await.header("X-Request-Id").unwrap().to_owned()
    };
    let longest = "x".repeat(64);
    for id in ["req-1", "A.b_c-9", &longest] {
        assert_eq!(ask(Some(id)).await, id);
    }
    let mut made = vec![ask(None).await, ask(None).await];
    for id in ["", "two words", "quote\"", "new,line", &"x".repeat(65)] {
        made.push(ask(Some(id)).await);
    }
    assert!(made.iter().all(|id| id.len() == 32), "{made:?}");
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 7);
    let logged = |id: &String| relay.log().contains(&format!("\"request_id\":\"{id}\""));
    until("the log", async || made.iter().all(logged).then_some(())).await;
}

/// Marks that must stay out of the log, by where they are put.
const MARKS: [&str; 5] = ["MARKBODY", "MARKSECRET", "MARKKEY", "MARKADMIN", "MARKMESSAGE"];

fn marked_settings() -> RelayOptions {
    let vars = vec![
        ("LINEAR_WEBHOOK_SECRET", "MARKSECRET-one, MARKSECRET-two".into()),
        ("EDGE_SECRET", "k1:MARKKEY-0123456789".into()),
        ("ADMIN_TOKEN", "MARKADMIN-0123456789".into()),
    ];
    RelayOptions { vars, ..RelayOptions::default() }
}

/// Does everything that is logged, well and badly, with marked words. Gives what else must not be
/// in the log.
async fn play_marked(relay: &mut Relay) -> Vec<String> {
    let enrol = json!({ "organization": "org-log", "user": USER, "name": "MARKMESSAGE" });
    let admin = |request: reqwest::RequestBuilder| request.bearer_auth("MARKADMIN-0123456789");
    let enrol = admin(relay.http.post(format!("{}/admin/edges", relay.url))).json(&enrol);
    let enrolled = Answer::to(enrol).await.json();
    let credential = enrolled["credential"].as_str().unwrap().to_owned();
    let body = sized_body("org-log", USER, 1, now_ms(), 0);
    let body = body.replace("\"description\":\"", "\"description\":\"MARKBODY");
    let good = SignedWebhook::signed_with("MARKSECRET-two", &*body, "MARKMESSAGE");
    let large = format!("{body}{}", " ".repeat(200_000));
    let large = SignedWebhook::signed_with("MARKSECRET-one", large, "d");
    let forged = SignedWebhook::signed_with("MARKSECRET-three", &*body, "d");
    let wrong = SignedWebhook::signed_with("MARKSECRET-one", "{\"type\":\"MARKBODY\"", "d");
    for webhook in [&good, &large, &forged, &wrong] {
        relay.post(webhook).await;
    }
    // A text in a place of a number, and the other way round: such errors quote what they find.
    for text in ["{\"version\":\"MARKMESSAGE\"}\n{}", "MARKMESSAGE", "\"MARKMESSAGE\"\n"] {
        let send =
            json!({ "op": "queue_send", "queue": "EVENTS", "contentType": "text", "body": text });
        relay.ask(send).await;
    }
    let get = |path: &str, token: &str| {
        Answer::to(relay.http.get(format!("{}{path}", relay.url)).bearer_auth(token))
    };
    let page = async || {
        let page = get("/events", &credential).await.ok();
        page["events"].as_array().unwrap().first().map(|event| event["id"].clone())
    };
    let id = until("the event", page).await;
    let status = |body: Value| {
        let request = relay.http.post(format!("{}/events/status", relay.url)).json(&body);
        Answer::to(request.bearer_auth(&credential))
    };
    status(json!({ "eventId": id, "status": "failed", "error": "MARKMESSAGE" })).await.ok();
    status(json!({ "eventId": id, "status": "MARKMESSAGE" })).await;
    status(json!({ "eventId": 7, "status": ["MARKMESSAGE"] })).await;
    for path in ["/events?kind=MARKMESSAGE!", "/events?cursor=MARKMESSAGE&on_gap=error", "/metrics"]
    {
        get(path, &credential).await;
    }
    get("/events", &format!("{credential}MARKKEY")).await;
    get("/state", "MARKADMIN").await;
    let signature = sign(b"MARKSECRET-two", body.as_bytes());
    vec![credential, signature]
}

#[tokio::test]
async fn the_log_is_json_and_holds_no_secret_and_no_payload() {
    let mut relay = Relay::start_with(marked_settings()).await;
    let secrets = play_marked(&mut relay).await;
    // What the consumers write comes last.
    let lines = |event: &str| relay.log().matches(&format!("\"event\":\"{event}\"")).count();
    let complete = || lines("dead_letter_kept") >= 3 && lines("events_appended") >= 1;
    until("the log", async || complete().then_some(())).await;
    let log = relay.log();
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log:\n{log}");
    }
    for mark in MARKS {
        assert!(!log.contains(mark), "{mark} is in the log:\n{log}");
    }
    assert!(!log.contains(ADMIN_TOKEN));
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(["info", "warn", "error"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert!(line["event"].is_string() && line["request_id"].is_string(), "{line}");
    }
    for event in ["edge_enrolled", "webhook_accepted", "request_refused", "status_reported"] {
        assert!(lines(event) > 0, "{event}");
    }
}
