//! Goal: what R2, KV and the object know of a stream agrees again after any of them lost
//! something, and no event is lost that R2 has.
//! Method: things are taken away or put there by hand on real R2 and KV; storage is lost by naming
//! another place for it.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::sized_body;
use relay_tests::{EnrolledEdge, HttpReader, Relay, RelayOptions, now_ms, until};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-repair";
const EVENTS: u64 = 40;

async fn sealed_stream(user: &str) -> (Relay, EnrolledEdge, Vec<String>) {
    let relay = Relay::start_with(RelayOptions::sealed_at(8_000)).await;
    let edge = relay.enrol(ORGANIZATION, user).await;
    let ids = deliver(&relay, &edge, 0..EVENTS).await;
    until("segments", async || {
        let state = relay.stream_state(&edge.stream()).await;
        (state["segments"].as_u64()? >= 6 && state["hot_bytes"].as_u64()? < 8_000).then_some(())
    })
    .await;
    (relay, edge, ids)
}

async fn deliver(relay: &Relay, edge: &EnrolledEdge, indexes: std::ops::Range<u64>) -> Vec<String> {
    let mut ids = Vec::new();
    for index in indexes {
        let body = sized_body(ORGANIZATION, &edge.user, index, now_ms(), 1_500);
        relay.deliver(&body, &format!("d-{index}")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        ids.push(body["data"]["id"].as_str().unwrap().to_owned());
        relay.wait_for_length(&edge.stream(), index + 1).await;
    }
    ids
}

async fn sweep(relay: &Relay) -> Value {
    let answer = relay.as_operator(Method::POST, "/admin/sweep").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

async fn rebuild(relay: &Relay, stream: &str) -> Value {
    let path = format!("/admin/streams/{stream}/rebuild");
    let answer = relay.as_operator(Method::POST, &path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

async fn read_ids(reader: &mut HttpReader, count: usize) -> Vec<String> {
    let webhooks = reader.webhooks(count).await;
    webhooks.iter().map(|one| one["data"]["data"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_sweep_repairs_the_index_and_finds_what_is_missing() {
    let (mut relay, edge, _) = sealed_stream("sweep").await;
    let clean = sweep(&relay).await;
    assert_eq!(clean["streams"], 1, "{clean}");
    for field in ["objects_deleted", "index_entries_put", "index_entries_deleted", "failures"] {
        assert_eq!(clean[field], 0, "{clean}");
    }
    assert_eq!((&clean["segments_lost"], &clean["orphans"]), (&json!(0), &json!(0)));

    let index = relay.ask(json!({ "op": "kv_list", "prefix": "seg/" })).await;
    let key = index["keys"][2]["name"].clone();
    relay.ask(json!({ "op": "kv_delete", "key": key })).await;
    let strange = format!("seg/{}/000000000000/0000000000000009", edge.stream());
    relay.ask(json!({ "op": "kv_put", "key": strange })).await;
    let objects = relay.ask(json!({ "op": "r2_list", "prefix": "segments/" })).await;
    relay.ask(json!({ "op": "r2_delete", "key": objects["objects"][0]["key"] })).await;
    let found = sweep(&relay).await;
    assert_eq!(found["index_entries_put"], 1, "{found}");
    // The entry of the lost segment goes with the strange one.
    assert_eq!(found["index_entries_deleted"], 2, "{found}");
    assert_eq!(found["segments_lost"], 1, "{found}");
    let again = relay.ask(json!({ "op": "kv_list", "prefix": "seg/" })).await;
    assert_eq!(
        again["keys"].as_array().unwrap().len(),
        index["keys"].as_array().unwrap().len() - 1
    );
    assert_eq!(sweep(&relay).await["index_entries_put"], 0);
    assert!(!relay.log().contains("sized"), "no payload in the log");
}

#[tokio::test]
async fn a_stream_whose_storage_was_lost_comes_back_from_r2() {
    let (mut relay, edge, ids) = sealed_stream("rebuild").await;
    let state = relay.stream_state(&edge.stream()).await;
    let cursor = state["sealed"].as_str().unwrap().to_owned();
    let sealed = EVENTS as usize - hot_events(&relay, &edge).await;
    relay.lose_storage("StreamObject", &edge.stream()).await;
    let mut relay = relay.kill_and_restart().await;

    // Events of the time between the loss and the rebuild stay, after what R2 has.
    let later = deliver(&relay, &edge, 0..0).await;
    assert!(later.is_empty());
    let body = sized_body(ORGANIZATION, &edge.user, 1_000, now_ms(), 1_500);
    relay.deliver(&body, "after the loss").await;
    relay.wait_for_length(&edge.stream(), 1).await;
    let mut live = HttpReader::ndjson(&relay, &edge, "cursor=now").await;
    live.frame("open").await;

    let report = rebuild(&relay, &edge.stream()).await;
    assert_eq!(report["events"], sealed, "{report}");
    assert_eq!(report["damaged"], 0);
    assert_eq!(live.frame("bye").await["code"], "reconnect");

    let mut reader = HttpReader::ndjson(&relay, &edge, &format!("cursor={cursor}")).await;
    reader.frame("open").await;
    let gap = reader.frame("gap").await;
    assert_eq!(gap["reason"], "epoch_changed");
    let read = read_ids(&mut reader, sealed + 1).await;
    assert_eq!(read[..sealed], ids[..sealed]);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(read[sealed], body["data"]["id"]);

    // It goes on, and is found again after the object was loaded anew.
    relay.evict_stream(&edge.stream()).await;
    let body = sized_body(ORGANIZATION, &edge.user, 2_000, now_ms(), 1_500);
    relay.deliver(&body, "after the rebuild").await;
    assert_eq!(reader.frame("webhook").await["n"], sealed + 2);

    // What R2 has is a duplicate when it comes again, and a second rebuild changes no event.
    let again = rebuild(&relay, &edge.stream()).await;
    assert_eq!(again["events"], sealed, "{again}");
    let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest").await;
    reader.frame("open").await;
    assert_eq!(read_ids(&mut reader, sealed + 2).await[..sealed], ids[..sealed]);
}

async fn hot_events(relay: &Relay, edge: &EnrolledEdge) -> usize {
    let request = relay.as_edge(edge, Method::GET, "/events/segments");
    let plan: Value = request.send().await.unwrap().json().await.unwrap();
    let cursor = plan["rest"].as_str().unwrap();
    let path = format!("/events?limit=1000&cursor={cursor}");
    let page: Value =
        relay.as_edge(edge, Method::GET, &path).send().await.unwrap().json().await.unwrap();
    page["events"].as_array().unwrap().len()
}

#[tokio::test]
async fn while_a_store_is_down_the_hot_tail_grows_and_serves() {
    for store in ["BUCKET", "INDEX"] {
        let options = RelayOptions { unbound: vec![store], ..RelayOptions::sealed_at(8_000) };
        let relay = Relay::start_with(options).await;
        let edge = relay.enrol(ORGANIZATION, "down").await;
        let mut live = HttpReader::ndjson(&relay, &edge, "cursor=now").await;
        live.frame("open").await;
        let ids = deliver(&relay, &edge, 0..EVENTS).await;
        assert_eq!(read_ids(&mut live, EVENTS as usize).await, ids);
        let state = until("a failed attempt", async || {
            let state = relay.stream_state(&edge.stream()).await;
            (state["sealing"]["failures"].as_u64()? > 0).then_some(state)
        })
        .await;
        assert_eq!(state["segments"], 0, "{state}");
        assert!(state["hot_bytes"].as_u64().unwrap() > 50_000, "{state}");
        let label = if store == "BUCKET" { "r2" } else { "kv" };
        let series = format!("edgerelay_seal_failures_total{{store=\"{label}\"}}");
        until("the failure among the counts", async || {
            (relay.metric(&series).await > 0.0).then_some(())
        })
        .await;
        let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest").await;
        reader.frame("open").await;
        assert_eq!(read_ids(&mut reader, EVENTS as usize).await, ids);

        // The store is back: what was kept is sealed, and nothing is missing.
        let relay = relay.kill_and_restart_with(RelayOptions::sealed_at(8_000)).await;
        deliver(&relay, &edge, EVENTS..EVENTS + 1).await;
        until("the hot tail sealed", async || {
            let state = relay.stream_state(&edge.stream()).await;
            (state["hot_bytes"].as_u64()? < 8_000).then_some(())
        })
        .await;
        let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest").await;
        reader.frame("open").await;
        assert_eq!(read_ids(&mut reader, EVENTS as usize).await, ids);
    }
}

#[tokio::test]
async fn retention_removes_segments_everywhere() {
    let mut options = RelayOptions::sealed_at(4_000);
    // 62 days for all, and about six seconds for one.
    options.vars.push(("RETENTION_DAYS_BY_ORGANIZATION", format!("{ORGANIZATION}=0.00007")));
    let mut relay = Relay::start_with(options).await;
    let edge = relay.enrol(ORGANIZATION, "retention").await;
    let kept = relay.enrol("org-other", "retention").await;
    for index in 0..10 {
        for edge in [&edge, &kept] {
            let body = sized_body(&edge.organization, &edge.user, index, now_ms(), 1_500);
            relay.deliver(&body, &format!("d-{index}")).await;
        }
    }
    relay.wait_for_length(&kept.stream(), 10).await;
    until("the shorter retention to pass", async || {
        let state = relay.stream_state(&edge.stream()).await;
        (state["events"] == 0 && state["segments"] == 0).then_some(())
    })
    .await;
    let prefix = format!("segments/{}/", edge.stream());
    let objects = relay.ask(json!({ "op": "r2_list", "prefix": prefix })).await;
    assert_eq!(objects["objects"].as_array().unwrap().len(), 0, "{objects}");
    let state = relay.stream_state(&kept.stream()).await;
    assert_eq!(state["events"], 10);
    assert!(state["segments"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_full_hot_tail_refuses_and_the_queue_keeps() {
    let mut options = RelayOptions { unbound: vec!["BUCKET"], ..RelayOptions::sealed_at(8_000) };
    options.vars.push(("HOT_TAIL_BYTES_MAX", "30000".into()));
    let relay = Relay::start_with(options).await;
    let edge = relay.enrol(ORGANIZATION, "full").await;
    for index in 0..EVENTS {
        let body = sized_body(ORGANIZATION, &edge.user, index, now_ms(), 1_500);
        relay.deliver(&body, &format!("d-{index}")).await;
    }
    until("every message taken or given back", async || {
        let retried = relay.metric("edgerelay_queue_retries_total").await;
        let appended = relay.metric("edgerelay_events_appended_total").await;
        (retried > 0.0 && retried + appended >= EVENTS as f64).then_some(())
    })
    .await;
    let state = relay.stream_state(&edge.stream()).await;
    let (events, bytes) = (state["events"].as_u64().unwrap(), state["hot_bytes"].as_u64().unwrap());
    assert!((10..EVENTS).contains(&events), "{state}");
    assert!(bytes <= 30_000, "{state}");
    assert_eq!(relay.metric("edgerelay_dead_letters_total").await, 0.0);
    let mut reader = HttpReader::ndjson(&relay, &edge, "cursor=earliest").await;
    reader.frame("open").await;
    assert_eq!(read_ids(&mut reader, events as usize).await.len() as u64, events);
}
