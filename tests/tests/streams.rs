//! Goal: a stream starts where it was asked to, says where it stands, and ends with a word; in
//! every dialect the same frames.
//! Method: plain readers of every dialect on workerd; each start is asked for at once, then one
//! more event shows that nothing else was sent.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::{agent_session_created, sized_body};
use relay_schemas::{ByeCode, Dialect};
use relay_tests::{
    Ended, EnrolledEdge, FrameReader, HttpReader, ReadFrame, Relay, RelayOptions, now_ms,
};
use reqwest::Method;
use serde_json::{Value, json};

const USER: &str = "user-streams";
const BRIDGED: [Dialect; 2] = [Dialect::Ndjson, Dialect::Sse];

/// Appends an event and waits until it is there, so that each has a millisecond of its own.
async fn append(relay: &Relay, edge: &EnrolledEdge, body: &str, length: u64) {
    relay.deliver(body, "d").await;
    relay.wait_for_length(&edge.stream(), length).await;
}

fn issue(edge: &EnrolledEdge, index: u64) -> String {
    sized_body(&edge.organization, &edge.user, index, now_ms(), 0)
}

fn positions(frames: &[ReadFrame]) -> Vec<String> {
    frames.iter().map(|frame| frame.json()["cursor"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn headers_and_frames_have_their_form() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-form", USER).await;
    for (accept, content_type) in [
        ("*/*", "application/x-ndjson"),
        ("application/json", "application/x-ndjson"),
        ("text/html, text/event-stream;q=0.9", "text/event-stream"),
    ] {
        let reader = HttpReader::open(&relay, &edge, "", accept).await;
        let header = |name: &str| reader.headers[name].to_str().unwrap();
        assert_eq!(header("Content-Type"), content_type);
        assert_eq!(header("Cache-Control"), "no-cache, no-transform");
        assert_eq!(header("X-Accel-Buffering"), "no");
        assert!(!reader.headers.contains_key("Relay-Resumed-From"));
        assert!(!header("X-Request-Id").is_empty());
    }
    for dialect in Dialect::ALL {
        let (_reader, open) = FrameReader::open(&relay, &edge, dialect, "heartbeat=60").await;
        let cursor = &open["cursor"];
        assert_eq!([&open["oldest"], &open["tail"]], [cursor; 2]);
        assert!(cursor.as_str().unwrap().starts_with(open["epoch"].as_str().unwrap()));
        assert_eq!(open["heartbeat_s"], 60);
        assert_eq!(open["credit"].is_u64(), dialect == Dialect::WebSocket);
    }
}

#[tokio::test]
async fn server_sent_events_are_as_a_browser_wants_them() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-sse", USER).await;
    let mut reader = HttpReader::open(&relay, &edge, "heartbeat=5", "text/event-stream").await;
    assert_eq!(reader.line().await, "retry: 1000");
    assert_eq!(reader.line().await, "");
    assert_eq!(reader.line().await, "event: open");
    let open_id = reader.line().await;
    let open: Value = serde_json::from_str(&reader.line().await["data: ".len()..]).unwrap();
    assert_eq!(open_id, format!("id: {}", open["cursor"].as_str().unwrap()));
    assert_eq!(reader.line().await, "");
    append(&relay, &edge, &issue(&edge, 1), 1).await;
    // No name, so that `onmessage` sees it.
    let id = reader.line().await;
    let webhook: Value = serde_json::from_str(&reader.line().await["data: ".len()..]).unwrap();
    assert_eq!(id, format!("id: {}", webhook["cursor"].as_str().unwrap()));
    assert_eq!((webhook["type"].as_str(), webhook["n"].as_u64()), (Some("webhook"), Some(1)));
    assert_eq!(reader.line().await, "");
    assert_eq!(reader.line().await, "event: heartbeat");
    assert_eq!(reader.line().await, id, "a heartbeat is a place to resume from");
    let heartbeat: Value = serde_json::from_str(&reader.line().await["data: ".len()..]).unwrap();
    let expected = (&webhook["cursor"], &webhook["cursor"], &json!(1));
    assert_eq!((&heartbeat["cursor"], &heartbeat["tail"], &heartbeat["n"]), expected);
    assert!(heartbeat["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(heartbeat["id"].as_str().unwrap().starts_with("hb_"));
}

/// A query, the `Last-Event-ID` header, and which of three events come before a fourth.
struct Start {
    query: String,
    header: Option<String>,
    expected: std::ops::Range<usize>,
}

fn start(query: impl ToString, expected: std::ops::Range<usize>) -> Start {
    Start { query: query.to_string(), header: None, expected }
}

fn starts(frames: &[Value]) -> Vec<Start> {
    let text = |index: usize, name: &str| frames[index][name].as_str().unwrap();
    let cursor = |index| text(index, "cursor");
    let header = |query: String, header: &str, expected| Start {
        header: Some(header.to_owned()),
        ..start(query, expected)
    };
    vec![
        start("", 3..3),
        start("cursor=now", 3..3),
        start("cursor=earliest", 0..3),
        start("since=now", 3..3),
        start("since=earliest", 0..3),
        start("since=1h", 0..3),
        start("since=2h%2030m", 0..3),
        start("since=9999-01-01T00:00:00Z", 3..3),
        start("since=1971-01-01T00:00:00%2B02:00", 0..3),
        start(format!("since={}", text(1, "timestamp")), 1..3),
        start(format!("since={}", text(1, "id")), 2..3),
        start("tail=0", 3..3),
        start("tail=2", 1..3),
        start("tail=18446744073709551615", 0..3),
        start("tail=1&since=1h", 0..3),
        start(format!("cursor={}", cursor(2)), 3..3),
        start(format!("tail=1&since=1h&cursor={}", cursor(0)), 1..3),
        start(format!("cursor=earliest&last_event_id={}", cursor(1)), 2..3),
        start(format!("cursor=earliest&lastEventId={}", cursor(1)), 2..3),
        header(format!("cursor=earliest&last_event_id={}", cursor(0)), cursor(1), 2..3),
        header(format!("cursor={}", cursor(0)), "", 1..3),
        header("cursor=now".into(), "earliest", 0..3),
    ]
}

#[tokio::test]
async fn reading_starts_where_it_was_asked_to() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-starts", USER).await;
    for index in 1..=3 {
        append(&relay, &edge, &issue(&edge, index), index).await;
    }
    let (mut all, _) = FrameReader::open(&relay, &edge, Dialect::Ndjson, "cursor=earliest").await;
    let mut frames: Vec<Value> = all.webhooks(3).await.iter().map(ReadFrame::json).collect();
    let mut readers = Vec::new();
    for Start { query, header, expected } in starts(&frames) {
        if let Some(value) = &header {
            let path = format!("/events/stream?{query}");
            let request = relay.as_edge(&edge, Method::GET, &path).header("Last-Event-ID", value);
            let reader = HttpReader::from_answer(request.send().await.unwrap());
            readers.push((query, expected, FrameReader::of_ndjson(reader)));
            continue;
        }
        for dialect in Dialect::ALL {
            let reader = FrameReader::dial(&relay, &edge, dialect, &query).await;
            readers.push((query.clone(), expected.clone(), reader));
        }
    }
    append(&relay, &edge, &issue(&edge, 4), 4).await;
    frames.push(all.frame("webhook").await.json());
    let cursors: Vec<&str> = frames.iter().map(|frame| frame["cursor"].as_str().unwrap()).collect();
    for (query, expected, mut reader) in readers {
        let open = reader.frame("open").await.json();
        let before =
            expected.start.checked_sub(1).map_or(&open["oldest"], |i| &frames[i]["cursor"]);
        assert_eq!(&open["cursor"], before, "{query}");
        let read = reader.webhooks(4 - expected.start).await;
        assert_eq!(positions(&read), cursors[expected.start..], "{query} {:?}", reader.dialect);
        let counted = read.iter().zip(1..).all(|(frame, n)| frame.json()["n"] == n);
        assert!(counted, "{query}");
    }
}

#[tokio::test]
async fn a_filter_leaves_no_hole_in_n_and_the_cursor_moves_on() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-filter", USER).await;
    let session = |id| agent_session_created("org-filter", USER, id, now_ms());
    append(&relay, &edge, &issue(&edge, 1), 1).await;
    append(&relay, &edge, &session("a"), 2).await;
    let query = "cursor=earliest&heartbeat=5&kind=Comment,AgentSessionEvent.*";
    let mut readers = Vec::new();
    for dialect in Dialect::ALL {
        readers.push(FrameReader::open(&relay, &edge, dialect, query).await.0);
    }
    append(&relay, &edge, &issue(&edge, 2), 3).await;
    append(&relay, &edge, &session("b"), 4).await;
    append(&relay, &edge, &issue(&edge, 3), 5).await;
    let state = relay.stream_state(&edge.stream()).await;
    let positions = state["connections"].as_array().unwrap().iter().map(|one| &one["cursor"]);
    assert!(positions.eq([&state["tail"]; 3]), "what was passed over need not be read again");
    for reader in &mut readers {
        for n in 1..=2 {
            let frame = reader.frame("webhook").await.json();
            let expected = (&json!("AgentSessionEvent.created"), &json!(n));
            assert_eq!((&frame["kind"], &frame["n"]), expected, "{:?}", reader.dialect);
        }
        // A socket is told its position with the next event, and not more often than this.
        if reader.dialect != Dialect::WebSocket {
            let mut heartbeat = reader.frame("heartbeat").await.json();
            if heartbeat["cursor"] != state["tail"] {
                // The last event came just after it.
                heartbeat = reader.frame("heartbeat").await.json();
            }
            let told = (&heartbeat["n"], &heartbeat["cursor"]);
            assert_eq!(told, (&json!(2), &state["tail"]), "{:?}", reader.dialect);
        }
    }
}

#[tokio::test]
async fn a_planned_end_says_where_to_come_back_to() {
    let vars = vec![("STREAM_AGE_MAX_S", "2".into())];
    let relay = Relay::start_with(RelayOptions { vars, ..RelayOptions::default() }).await;
    let edge = relay.enrol("org-planned", USER).await;
    let mut cursors = BRIDGED.map(|_| "earliest".to_owned());
    for round in 1..=2 {
        append(&relay, &edge, &issue(&edge, round), round).await;
        let mut readers = Vec::new();
        for (dialect, cursor) in BRIDGED.into_iter().zip(&mut cursors) {
            let query = format!("cursor={cursor}");
            readers.push((FrameReader::open(&relay, &edge, dialect, &query).await.0, cursor));
        }
        for (mut reader, cursor) in readers {
            let webhook = reader.frame("webhook").await.json();
            assert_eq!(webhook["data"]["data"]["number"], round, "{:?}", reader.dialect);
            let bye = reader.bye(ByeCode::Reconnect).await;
            assert_eq!(bye["cursor"], webhook["cursor"]);
            assert!(bye["retry_after_ms"].as_u64() <= Some(1_000));
            *cursor = bye["cursor"].as_str().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_socket_is_answered() {
    let relay = Relay::start().await;
    let edge = relay.enrol("org-socket", USER).await;
    let (mut reader, _) = FrameReader::open(&relay, &edge, Dialect::WebSocket, "").await;
    reader.socket().send("ping").await;
    assert_eq!(reader.next().await.unwrap().line, "pong");
    // A message of a newer client is passed over.
    reader.socket().send(r#"{"type":"novel","x":1}"#).await;
    append(&relay, &edge, &issue(&edge, 1), 1).await;
    reader.frame("webhook").await;
    for nonsense in ["PING", "{}", "[]", r#"{"type":"credit","bytes":0}"#, r#"{"type":"credit"}"#] {
        let (mut reader, _) = FrameReader::open(&relay, &edge, Dialect::WebSocket, "").await;
        reader.socket().send(nonsense).await;
        let bye = reader.frame("bye").await.json();
        assert_eq!(bye["code"], "protocol", "{nonsense}");
        assert_eq!(reader.end().await, Ended::Closed(4508), "{nonsense}");
    }
}
