//! Goal: what was sealed is read as if it had never left the object: in every dialect, from every
//! start, in pages of both orders, one by one, and in bulk.
//! Method: a relay that seals every few events, on real R2 and KV.

#![allow(clippy::unwrap_used)]

use base64::{Engine, engine::general_purpose::STANDARD};
use relay_durable::{SegmentReader, samples::sized_body};
use relay_schemas::{Cursor, Frame, SegmentEntry, Seq};
use relay_tests::{EnrolledEdge, HttpReader, Relay, RelayOptions, SocketReader, now_ms, until};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-history";
const EVENTS: u64 = 60;
const BODY_BYTES: usize = 2_000;

/// A stream whose events are nearly all sealed, about five a segment.
async fn sealed_stream(user: &str) -> (Relay, EnrolledEdge, Vec<String>) {
    let relay = Relay::start_with(RelayOptions::sealed_at(10_000)).await;
    let edge = relay.enrol(ORGANIZATION, user).await;
    let mut bodies = Vec::new();
    for index in 0..EVENTS {
        let body = sized_body(ORGANIZATION, user, index, now_ms(), BODY_BYTES);
        relay.deliver(&body, &format!("d-{index}")).await;
        bodies.push(body);
        relay.wait_for_length(&edge.stream(), index + 1).await;
    }
    until("enough segments", async || {
        let state = relay.stream_state(&edge.stream()).await;
        (state["segments"].as_u64()? >= 8).then_some(())
    })
    .await;
    (relay, edge, bodies)
}

fn body_of(line: &str) -> String {
    let Ok(Frame::Webhook(webhook)) = Frame::parse(line) else { panic!("{line}") };
    String::from_utf8(webhook.body_bytes().unwrap().to_vec()).unwrap()
}

async fn get(relay: &Relay, edge: &EnrolledEdge, path: &str) -> Value {
    let answer = relay.as_edge(edge, Method::GET, path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

async fn check_ndjson(relay: &Relay, edge: &EnrolledEdge, query: &str, bodies: &[String]) {
    let mut reader = HttpReader::ndjson(relay, edge, query).await;
    reader.frame("open").await;
    let webhooks = reader.webhooks(bodies.len()).await;
    for (index, (webhook, body)) in webhooks.iter().zip(bodies).enumerate() {
        assert_eq!(webhook["n"], index + 1, "{query}");
        assert_eq!(webhook["data"].to_string().len(), body.len(), "{query}");
        let id = serde_json::from_str::<Value>(body).unwrap()["data"]["id"].clone();
        assert_eq!(webhook["data"]["data"]["id"], id, "{query}");
    }
}

#[tokio::test]
async fn every_start_reaches_into_history_and_goes_on_live() {
    let (mut relay, edge, mut bodies) = sealed_stream("starts").await;
    let cursors = cursors(&relay, &edge).await;
    let from = |seq: usize| format!("cursor={}", cursors[seq - 1]);
    let count = EVENTS as usize;
    check_ndjson(&relay, &edge, "cursor=earliest", &bodies).await;
    check_ndjson(&relay, &edge, &from(1), &bodies[1..]).await;
    check_ndjson(&relay, &edge, &from(17), &bodies[17..]).await;
    check_ndjson(&relay, &edge, "tail=50", &bodies[count - 50..]).await;
    check_ndjson(&relay, &edge, "since=1h", &bodies).await;
    let events = get(&relay, &edge, "/events?limit=20").await;
    let id = events["events"][19]["id"].as_str().unwrap();
    check_ndjson(&relay, &edge, &format!("since={id}"), &bodies[20..]).await;
    let at = events["events"][12]["timestamp"].as_str().unwrap();
    check_ndjson(&relay, &edge, &format!("since={at}"), &bodies[12..]).await;

    // History, then live, on one connection, while the object is loaded anew and seals on.
    let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest").await;
    reader.frame("open").await;
    assert_eq!(reader.webhooks(count).await.len(), count);
    relay.evict_stream(&edge.stream()).await;
    for index in EVENTS..EVENTS + 10 {
        let body = sized_body(ORGANIZATION, &edge.user, index, now_ms(), BODY_BYTES);
        relay.deliver(&body, "later").await;
        assert_eq!(reader.frame("webhook").await["n"], index + 1);
        bodies.push(body);
    }
    check_ndjson(&relay, &edge, "cursor=earliest", &bodies).await;
}

async fn cursors(relay: &Relay, edge: &EnrolledEdge) -> Vec<String> {
    let page = get(relay, edge, "/events?limit=1000").await;
    let events = page["events"].as_array().unwrap();
    events.iter().map(|event| event["cursor"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn browsers_and_sockets_read_history_too() {
    let (relay, edge, bodies) = sealed_stream("dialects").await;
    let mut reader = HttpReader::open(&relay, &edge, "cursor=earliest", "text/event-stream").await;
    let mut read = Vec::new();
    while read.len() < bodies.len() {
        let line = reader.line().await;
        if let Some(data) = line.strip_prefix("data: ").filter(|data| data.contains("webhook")) {
            read.push(body_of(data));
        }
    }
    assert_eq!(read, bodies);

    // A socket is sent history by the Worker, and then comes back to the object.
    let mut read = Vec::new();
    let mut cursor = "earliest".to_owned();
    let mut connections = 0;
    while read.len() < bodies.len() {
        let mut socket = SocketReader::open(&relay, &edge, &format!("cursor={cursor}")).await;
        connections += 1;
        socket.frame("open").await;
        while let Ok(text) = socket.next().await {
            let frame: Value = serde_json::from_str(&text).unwrap();
            cursor = frame["cursor"].as_str().unwrap().to_owned();
            match frame["type"].as_str().unwrap() {
                "webhook" => read.push(body_of(&text)),
                "bye" => assert_eq!(frame["code"], "reconnect"),
                other => panic!("{other}"),
            }
            if read.len() == bodies.len() {
                break;
            }
        }
    }
    assert_eq!(read, bodies);
    assert!(connections <= 2, "{connections} connections");
}

#[tokio::test]
async fn pages_and_single_events_cross_the_tiers() {
    let (relay, edge, bodies) = sealed_stream("pages").await;
    for limit in [1, 7, 25, 1000] {
        for order in ["asc", "desc"] {
            let read = walk(&relay, &edge, limit, order).await;
            let mut expected: Vec<&str> = bodies.iter().map(String::as_str).collect();
            if order == "desc" {
                expected.reverse();
            }
            assert!(read.iter().eq(&expected), "{order} by {limit}: {} events", read.len());
        }
    }
    let page = get(&relay, &edge, "/events?limit=3").await;
    for event in page["events"].as_array().unwrap() {
        let path = format!("/events/{}", event["id"].as_str().unwrap());
        let one = get(&relay, &edge, &path).await;
        assert_eq!(one["event"]["data"], event["data"]);
        assert_eq!(one["event"]["cursor"], event["cursor"]);
    }
}

async fn walk(relay: &Relay, edge: &EnrolledEdge, limit: u64, order: &str) -> Vec<String> {
    let mut read = Vec::new();
    let mut query = String::new();
    loop {
        let path = format!("/events?limit={limit}&order={order}{query}");
        let answer = relay.as_edge(edge, Method::GET, &path).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let page: relay_durable::Page = serde_json::from_str(&text).unwrap();
        assert!(page.events.len() as u64 <= limit);
        read.extend(page.events.iter().map(|event| body_of(event.get())));
        query = format!("&cursor={}", page.cursor);
        if !page.has_more {
            return read;
        }
    }
}

#[tokio::test]
async fn segments_are_downloaded_as_they_lie() {
    let (mut relay, edge, bodies) = sealed_stream("bulk").await;
    let plan = get(&relay, &edge, "/events/segments").await;
    assert_eq!(plan["has_more"], false);
    let mut read = Vec::new();
    for segment in plan["segments"].as_array().unwrap() {
        let url = segment["url"].as_str().unwrap();
        let answer = relay.as_edge(&edge, Method::GET, url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let headers = answer.headers().clone();
        assert_eq!(headers["content-encoding"], "br");
        assert_eq!(headers["etag"], format!("\"{}\"", segment["sha256"].as_str().unwrap()));
        assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
        let bytes = answer.bytes().await.unwrap().to_vec();
        check_range(&relay, &edge, url, &bytes).await;
        let mut reader = SegmentReader::new(bytes, &entry_of(segment)).unwrap();
        while let Some((seq, record)) = reader.next().unwrap() {
            assert_eq!(seq.get(), read.len() as u64 + 1);
            read.push(body_of(&format!(
                "{{\"type\":\"webhook\",\"cursor\":\"{}\",{}",
                plan["from"].as_str().unwrap(),
                &record[1..]
            )));
        }
    }
    let rest: Cursor = plan["rest"].as_str().unwrap().parse().unwrap();
    assert_eq!(rest.seq, Seq::new(read.len() as u64));
    assert_eq!(read, bodies[..read.len()]);

    let stored = relay.ask(json!({ "op": "r2_list", "prefix": "segments/" })).await;
    let stored = stored["objects"].as_array().unwrap();
    assert_eq!(stored.len(), plan["segments"].as_array().unwrap().len());
    assert_eq!(stored[0]["metadata"]["version"], "1");
    let index = relay.ask(json!({ "op": "kv_list", "prefix": "seg/" })).await;
    let index = index["keys"].as_array().unwrap();
    assert_eq!(index.len(), stored.len());
    assert!(index[0]["expiration"].as_u64().unwrap() > now_ms() / 1000 + 61 * 86_400);
    let key = stored[0]["key"].as_str().unwrap();
    let object = relay.ask(json!({ "op": "r2_get", "key": key })).await;
    let bytes = STANDARD.decode(object["body"].as_str().unwrap()).unwrap();
    assert_eq!(bytes.len() as u64, plan["segments"][0]["bytes"].as_u64().unwrap());
}

fn entry_of(segment: &Value) -> SegmentEntry {
    let number = |name: &str| segment[name].as_u64().unwrap();
    SegmentEntry {
        first: Seq::new(number("first")),
        last: Seq::new(number("last")),
        received_at_min: Default::default(),
        received_at_max: Default::default(),
        bytes: number("bytes"),
        raw_bytes: number("uncompressed_bytes"),
        sha256: serde_json::from_value(segment["sha256"].clone()).unwrap(),
        origin: None,
    }
}

async fn check_range(relay: &Relay, edge: &EnrolledEdge, url: &str, bytes: &[u8]) {
    let ask = |range: &str| relay.as_edge(edge, Method::GET, url).header("Range", range).send();
    let answer = ask("bytes=10-19").await.unwrap();
    assert_eq!(answer.status(), 206);
    let expected = format!("bytes 10-19/{}", bytes.len());
    assert_eq!(answer.headers()["content-range"], expected);
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(answer.bytes().await.unwrap(), bytes[10..20]);
    let answer = ask("bytes=-5").await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), bytes[bytes.len() - 5..]);
    let answer = ask(&format!("bytes={}-", bytes.len())).await.unwrap();
    assert_eq!(answer.status(), 416);
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["code"], "range_unsatisfiable");
    let request = relay.as_edge(edge, Method::GET, url).header("If-None-Match", etag);
    assert_eq!(request.send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn another_stream_has_no_such_segment() {
    let (relay, edge, _) = sealed_stream("owner").await;
    let plan = get(&relay, &edge, "/events/segments").await;
    let url = plan["segments"][0]["url"].as_str().unwrap();
    let stranger = relay.enrol(ORGANIZATION, "stranger").await;
    let foreigner = relay.enrol("org-foreign", "owner").await;
    let last = url.rsplit('/').next().unwrap();
    for (edge, url) in [
        (&stranger, url.to_owned()),
        (&foreigner, url.to_owned()),
        (&edge, url.replace(last, "0000000000000001-0000000000000099")),
        (&edge, url.replace(last, "1-5")),
        (&edge, url.replace(last, "nonsense")),
        (&edge, format!("/events/segments/nonsense/{last}")),
    ] {
        let answer = relay.as_edge(edge, Method::GET, &url).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{url}");
        let error: Value = answer.json().await.unwrap();
        assert_eq!(error["error"]["code"], "segment_unknown");
    }
    relay.revoke(&edge).await;
    for path in ["/events/segments", url] {
        let answer = relay.as_edge(&edge, Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn a_lost_or_damaged_segment_is_told_and_never_wrong() {
    let (mut relay, edge, bodies) = sealed_stream("damage").await;
    let plan = get(&relay, &edge, "/events/segments").await;
    let segments = plan["segments"].as_array().unwrap().clone();
    let stored = relay.ask(json!({ "op": "r2_list", "prefix": "segments/" })).await;
    let key = |index: usize| stored["objects"][index]["key"].as_str().unwrap().to_owned();
    relay.ask(json!({ "op": "r2_delete", "key": key(1) })).await;
    let object = relay.ask(json!({ "op": "r2_get", "key": key(3) })).await;
    let mut bytes = STANDARD.decode(object["body"].as_str().unwrap()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let body = STANDARD.encode(&bytes);
    relay.ask(json!({ "op": "r2_put", "key": key(3), "body": body, "metadata": {} })).await;

    let range = |index: usize| {
        let number = |name: &str| segments[index][name].as_u64().unwrap() as usize;
        number("first")..=number("last")
    };
    let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest").await;
    reader.frame("open").await;
    let mut expected = 1;
    for lost in [1, 3] {
        while !range(lost).contains(&expected) {
            let webhook = reader.frame("webhook").await;
            let id = serde_json::from_str::<Value>(&bodies[expected - 1]).unwrap();
            assert_eq!(webhook["data"]["data"]["id"], id["data"]["id"]);
            expected += 1;
        }
        let gap = reader.frame("gap").await;
        assert_eq!(gap["reason"], "lost");
        let resumed: Cursor = gap["resumed_from"].as_str().unwrap().parse().unwrap();
        assert_eq!(resumed.seq.get() as usize, *range(lost).end());
        expected = range(lost).end() + 1;
    }
    assert_eq!(
        reader.webhooks(bodies.len() + 1 - expected).await.len(),
        bodies.len() + 1 - expected
    );

    // One event, a page, and the segment itself say so too.
    let page = get(&relay, &edge, "/events?limit=1000").await;
    assert_eq!(page["gap"]["reason"], "lost");
    let url = segments[1]["url"].as_str().unwrap();
    let answer = relay.as_edge(&edge, Method::GET, url).send().await.unwrap();
    assert_eq!(answer.status(), 410);
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["error"]["code"], "segment_lost");
    let lost = relay.metric("edgerelay_segments_lost_total").await;
    assert!(lost >= 2.0, "{lost}");
}
