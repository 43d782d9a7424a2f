use std::{process::Stdio, time::Instant};

use futures::future::join_all;
use relay_durable::SegmentReader;
use relay_schemas::SegmentEntry;
use relay_tests::{EnrolledEdge, Relay, RelayOptions, client_binary};
use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    figures::{megabytes, processor_us},
    fill::{fill, wait_until_sealed},
    history_reader::{read_again, read_lines},
    options::Options,
    peer::{self, CatchUp, PeerMode},
};

const EVENTS: u64 = 100_000;
const READERS: u64 = 50;
const RUNS: u64 = 3;

/// How fast sealed history comes back, in one run with the peer, on the same lines.
pub(crate) async fn run(options: &Options) {
    let events = options.value("events", EVENTS);
    let mut relay = Relay::start_with(RelayOptions {
        // What the last events don't fill is sealed as well, unless it is little.
        vars: vec![("SEAL_AGE_S", "10".into())],
        ..RelayOptions::default()
    })
    .await;
    let edge = relay.enrol("replay", "reader").await;
    fill(&mut relay, &edge, events).await;
    let state = wait_until_sealed(&relay, &edge).await;
    let lines = read_lines(&relay, &edge, "cursor=earliest", events).await;
    print_head(&state, &lines);
    let ours = one_reader(&relay, &edge, &lines, options.value("runs", RUNS)).await;
    many_readers(&relay, &edge, events / 10).await;
    export(&relay, &edge, &lines).await;
    segments(&relay, &edge).await;
    drop(relay);
    println!(
        "the peer, which keeps the same frames in files, on the same machine in the same run:"
    );
    for (name, mode) in [("peer, JSON", PeerMode::Json), ("peer, NDJSON", PeerMode::Ndjson)] {
        let theirs = peer::catch_up(&lines, mode).await;
        let ratio = ours.rate() / theirs.rate();
        print(name, &theirs, &format!("one reader of the relay gets {ratio:.2} of its events/s"));
    }
}

fn print_head(state: &Value, lines: &[String]) {
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let (segments, packed) = (&state["segments"], state["segment_bytes"].as_u64().unwrap_or(0));
    let hot = state["hot_bytes"].as_u64().unwrap_or(0);
    println!("\n## Replay of {} events over HTTP, NDJSON, every byte compared", lines.len());
    println!(
        "history         {:.1} MB of frames, {:.0} bytes each; {segments} segments, {:.1} MB in R2; \
         {:.2} MB not sealed",
        megabytes(bytes as u64),
        bytes as f64 / lines.len() as f64,
        megabytes(packed),
        megabytes(hot)
    );
}

fn print(name: &str, caught_up: &CatchUp, note: &str) {
    println!(
        "{name:<15} {:.1} MB/s, {:.0} events/s; {note}",
        megabytes(caught_up.bytes) / caught_up.seconds,
        caught_up.rate()
    );
}

async fn one_reader(relay: &Relay, edge: &EnrolledEdge, lines: &[String], runs: u64) -> CatchUp {
    let processor_before = processor_us(relay.workerd_pid);
    let mut best = read_again(relay, edge, "cursor=earliest", lines).await;
    for _ in 1..runs {
        let next = read_again(relay, edge, "cursor=earliest", lines).await;
        if next.seconds < best.seconds {
            best = next;
        }
    }
    let processor = processor_us(relay.workerd_pid) - processor_before;
    let per_second = megabytes(best.bytes * runs) / (processor / 1e6);
    let note =
        format!("best of {runs}; {per_second:.1} MB for each second of workerd's processor time");
    print("one reader", &best, &note);
    best
}

/// All at once, each over the newest events.
async fn many_readers(relay: &Relay, edge: &EnrolledEdge, events: u64) {
    let query = format!("tail={events}");
    let lines = read_lines(relay, edge, &query, events).await;
    let started = Instant::now();
    let readers = (0..READERS).map(|_| read_again(relay, edge, &query, &lines));
    let caught_up = join_all(readers).await;
    let sum = CatchUp {
        events: caught_up.iter().map(|reader| reader.events).sum(),
        bytes: caught_up.iter().map(|reader| reader.bytes).sum(),
        seconds: started.elapsed().as_secs_f64(),
    };
    let note = format!("together, each over the newest {events} events");
    print(&format!("{READERS} readers"), &sum, &note);
}

/// The real program, which fetches segments side by side and writes a file.
async fn export(relay: &Relay, edge: &EnrolledEdge, lines: &[String]) {
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("events.ndjson");
    let started = Instant::now();
    let outcome = Command::new(client_binary())
        .args(["export", "--output"])
        .arg(&output)
        .env("PROXY_URL", &relay.url)
        .env("EDGE_API_KEY", &edge.credential)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("starts");
    let seconds = started.elapsed().as_secs_f64();
    let complaint = String::from_utf8_lossy(&outcome.stderr);
    if complaint.contains("unrecognized subcommand") {
        println!("export          this edgerelay has none");
        return;
    }
    assert!(outcome.status.success(), "{complaint}");
    let text = std::fs::read_to_string(&output).expect("a file");
    assert_eq!(text.lines().count(), lines.len(), "the export is incomplete");
    let caught_up = CatchUp { events: lines.len() as u64, bytes: text.len() as u64, seconds };
    print("export", &caught_up, "edgerelay export --output FILE, process start included");
}

/// What reading the same segments takes without a Worker: digest, decoding, lines, UTF-8.
async fn segments(relay: &Relay, edge: &EnrolledEdge) {
    let objects = download(relay, edge).await;
    let started = Instant::now();
    let (mut events, mut bytes) = (0, 0);
    for (entry, object) in objects {
        let mut reader = SegmentReader::new(object, &entry).expect("as it was sealed");
        while let Some((_, record)) = reader.next().expect("as it was sealed") {
            events += 1;
            bytes += record.len() as u64 + 1;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let note = "the same segments decoded natively, one after the other";
    print("decoding alone", &CatchUp { events, bytes, seconds }, note);
}

async fn download(relay: &Relay, edge: &EnrolledEdge) -> Vec<(SegmentEntry, Vec<u8>)> {
    let mut objects = Vec::new();
    let mut from = "earliest".to_owned();
    loop {
        let path = format!("/events/segments?from={from}");
        let answer = relay.as_edge(edge, Method::GET, &path).send().await.expect("answers");
        let plan: Value = answer.json().await.expect("JSON");
        for planned in plan["segments"].as_array().expect("a list") {
            let url = planned["url"].as_str().expect("a text");
            let answer = relay.as_edge(edge, Method::GET, url).send().await.expect("answers");
            let bytes = answer.bytes().await.expect("readable").to_vec();
            objects.push((entry_of(planned), bytes));
        }
        plan["rest"].as_str().expect("a text").clone_into(&mut from);
        if plan["has_more"] == false {
            return objects;
        }
    }
}

fn entry_of(planned: &Value) -> SegmentEntry {
    serde_json::from_value(serde_json::json!({
        "first": planned["first"],
        "last": planned["last"],
        "received_at_min": 0,
        "received_at_max": 0,
        "bytes": planned["bytes"],
        "raw_bytes": planned["uncompressed_bytes"],
        "sha256": planned["sha256"],
    }))
    .expect("an entry")
}
