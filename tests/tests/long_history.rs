//! Goal: a history of more segments than an object names in one answer is read on with the help of
//! KV, which is never believed; and the client exports it whole.
//! Method: a segment for each event, on real R2 and KV; the index is spoilt by hand; `edgerelay
//! export` as a process.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_schemas::limits::SEGMENTS_OFFERED_MAX;
use relay_tests::{EnrolledEdge, HttpReader, Relay, RelayOptions, client_binary, now_ms, until};
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-long-history";
const EVENTS: usize = SEGMENTS_OFFERED_MAX + 30;
const SEGMENTS: f64 = EVENTS as f64;

async fn long_stream(user: &str) -> (Relay, EnrolledEdge, Vec<String>) {
    let relay = Relay::start_with(RelayOptions::sealed_at(500)).await;
    let edge = relay.enrol(ORGANIZATION, user).await;
    let mut ids = Vec::new();
    for index in 0..EVENTS {
        let body = sized_body(ORGANIZATION, user, index as u64, now_ms(), 600);
        relay.deliver(&body, &format!("d-{index}")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        ids.push(body["data"]["id"].as_str().unwrap().to_owned());
        until("a segment for each event", async || {
            let state = relay.stream_state(&edge.stream()).await;
            (state["segments"].as_u64()? > index as u64).then_some(())
        })
        .await;
    }
    (relay, edge, ids)
}

async fn read_all(relay: &Relay, edge: &EnrolledEdge, ids: &[String]) -> f64 {
    let before = relay.metric("edgerelay_segments_read_total").await;
    let mut reader = HttpReader::ndjson(relay, edge, "cursor=earliest").await;
    reader.frame("open").await;
    for (index, webhook) in reader.webhooks(ids.len()).await.iter().enumerate() {
        assert_eq!(webhook["n"], index + 1);
        assert_eq!(webhook["data"]["data"]["id"], ids[index]);
    }
    // Counted in the isolate until it is asked.
    relay.metric("edgerelay_segments_read_total").await - before
}

#[tokio::test]
async fn kv_helps_and_is_never_believed() {
    let (mut relay, edge, ids) = long_stream("index").await;
    assert_eq!(read_all(&relay, &edge, &ids).await, SEGMENTS, "each segment once");

    // The first entry that a reader comes to in KV names other bytes: they are looked at, refused,
    // and the object is asked.
    let index = relay.ask(json!({ "op": "kv_list", "prefix": "seg/" })).await;
    let entry = index["keys"][SEGMENTS_OFFERED_MAX].clone();
    let mut wrong = entry["metadata"].clone();
    wrong["sha256"] = "0".repeat(64).into();
    let key = entry["name"].clone();
    relay.ask(json!({ "op": "kv_put", "key": key, "metadata": wrong })).await;
    assert_eq!(read_all(&relay, &edge, &ids).await, SEGMENTS + 1.0);

    // A hole in KV, and then nothing at all: the object names the rest.
    relay.ask(json!({ "op": "kv_delete", "key": key })).await;
    assert_eq!(read_all(&relay, &edge, &ids).await, SEGMENTS);
    for key in index["keys"].as_array().unwrap() {
        relay.ask(json!({ "op": "kv_delete", "key": key["name"] })).await;
    }
    assert_eq!(read_all(&relay, &edge, &ids).await, SEGMENTS);
    assert_eq!(relay.metric("edgerelay_segments_lost_total").await, 0.0);
}

#[tokio::test]
async fn the_client_exports_it_whole() {
    let (relay, edge, ids) = long_stream("export").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events.ndjson");
    export(&relay, &edge, &["--output", file.to_str().unwrap()]).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let read: Vec<&str> =
        lines.iter().map(|line| line["data"]["data"]["id"].as_str().unwrap()).collect();
    assert_eq!(read, ids);

    // What it writes is what a reader is sent, from any start.
    let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest").await;
    reader.frame("open").await;
    assert_eq!(reader.webhooks(ids.len()).await, lines);
    let middle = EVENTS / 2;
    let at = lines[middle]["timestamp"].as_str().unwrap();
    let since = export(&relay, &edge, &["--since", at]).await;
    let first: Value = serde_json::from_str(since.lines().next().unwrap()).unwrap();
    assert_eq!(first["id"], lines[middle]["id"]);
    assert_eq!(since.lines().count(), EVENTS - middle);
    let cursor = lines[middle]["cursor"].as_str().unwrap();
    let from = export(&relay, &edge, &["--from", cursor]).await;
    assert_eq!(from.lines().count(), EVENTS - middle - 1);
}

async fn export(relay: &Relay, edge: &EnrolledEdge, arguments: &[&str]) -> String {
    let output = tokio::process::Command::new(client_binary())
        .arg("export")
        .args(arguments)
        .env("PROXY_URL", &relay.url)
        .env("EDGE_API_KEY", &edge.credential)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
