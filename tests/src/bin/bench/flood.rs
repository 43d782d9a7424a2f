use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use relay_tests::{EnrolledEdge, HttpReader, Relay, RelayOptions};
use serde_json::Value;

use crate::{
    figures::{megabytes, resident_bytes},
    fill::wait_for,
    load::Target,
    options::Options,
    throughput::target,
};

const EVENTS: u64 = 60_000;
const SENDERS: usize = 48;

/// R2 is down while events pour in: how much memory, what still works, and what comes after.
pub(crate) async fn run(options: &Options) {
    let events = options.value("events", EVENTS);
    let minutes = options.value("minutes", 0.0);
    println!("\n## Flood with R2 down: {events} webhooks of {} bytes", crate::load::BODY_BYTES);
    match minutes > 0.0 {
        true => println!("spread over {minutes} minutes"),
        false => println!("as fast as {SENDERS} senders go; `minutes=10` spreads them"),
    }
    println!(
        "{:<15} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "events", "RSS MB", "hot MB", "SQLite MB", "failures"
    );
    let unbound = RelayOptions { unbound: vec!["BUCKET"], ..RelayOptions::default() };
    let (relay, edge) = flood(unbound, events, minutes, &[1, 2, 3, 4]).await;
    recover(relay, &edge).await;
    println!("for comparison, the same with R2 there all the time:");
    flood(RelayOptions::default(), events, minutes, &[4]).await;
}

/// Posts in quarters, with a live reader, and prints a row after those that are asked for.
async fn flood(
    options: RelayOptions,
    events: u64,
    minutes: f64,
    rows: &[u64],
) -> (Relay, EnrolledEdge) {
    let relay = Relay::start_with(options).await;
    let edge = relay.enrol("flood", "reader").await;
    let mut reader = HttpReader::ndjson(&relay, &edge, "").await;
    reader.frame("open").await;
    print_row(&relay, &edge, "before").await;
    let started = Instant::now();
    let sending = async {
        post_all(&relay, &edge, events, minutes, rows).await;
        started.elapsed().as_secs_f64()
    };
    let (received, seconds) = tokio::join!(read_all(reader, events), sending);
    let rate = events as f64 / seconds;
    println!("meanwhile       {rate:.0} events/s; the live reader got {received} of {events}");
    (relay, edge)
}

async fn post_all(relay: &Relay, edge: &EnrolledEdge, events: u64, minutes: f64, rows: &[u64]) {
    let person = target(relay, &relay.url, "flood", "reader");
    for quarter in 1..=4 {
        let pause = Duration::from_secs_f64(minutes * 60.0 / 4.0);
        post_quarter(&person, events * (quarter - 1) / 4..events * quarter / 4, pause).await;
        let is_there = |state: &Value| state["events"].as_u64() >= Some(events * quarter / 4);
        wait_for(relay, edge, "events", is_there).await;
        if rows.contains(&quarter) {
            print_row(relay, edge, &format!("after {quarter}/4")).await;
        }
    }
}

async fn print_row(relay: &Relay, edge: &EnrolledEdge, when: &str) {
    let memory = resident_bytes(relay.workerd_pid);
    let state = relay.stream_state(&edge.stream()).await;
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    println!(
        "{when:<15} {:>9} {:>9.0} {:>9.1} {:>9.1} {:>9}",
        number(&state["events"]),
        megabytes(memory),
        megabytes(number(&state["hot_bytes"])),
        megabytes(number(&state["bytes"])),
        number(&state["sealing"]["failures"]),
    );
}

/// Posts from many senders, and takes no less than the time given.
async fn post_quarter(person: &Target, range: std::ops::Range<u64>, least: Duration) {
    let next = Arc::new(AtomicU64::new(range.start));
    let started = Instant::now();
    let pace = least.as_secs_f64() / (range.end - range.start) as f64;
    let senders = (0..SENDERS).map(|_| {
        let (person, next, range) = (person.clone(), Arc::clone(&next), range.clone());
        tokio::spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= range.end {
                    break;
                }
                let due = Duration::from_secs_f64(pace * (index - range.start) as f64);
                tokio::time::sleep_until((started + due).into()).await;
                person.post(index + 1).await;
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("a sender ends well");
    }
}

/// How many webhooks a live reader gets, each the next one.
async fn read_all(mut reader: HttpReader, events: u64) -> u64 {
    let mut received = 0;
    while received < events {
        let line = reader.line().await;
        if line.starts_with(r#"{"type":"webhook""#) {
            received += 1;
            assert!(line.contains(&format!(r#","n":{received},"#)), "a webhook is missing: {line}");
        }
    }
    received
}

/// R2 is there again. The alarm that a failure has set comes at once, if it is overdue; else the
/// next event wakes the object, which seals all that has gathered.
async fn recover(relay: Relay, edge: &EnrolledEdge) {
    let started = Instant::now();
    let mut relay = relay.kill_and_restart_with(RelayOptions::default()).await;
    let until_answer = started.elapsed().as_secs_f64();
    target(&relay, &relay.url, "flood", "reader").post(0).await;
    let seal_bytes = relay_schemas::limits::SEAL_BYTES_DEFAULT;
    let is_sealed = |state: &Value| state["hot_bytes"].as_u64() < Some(seal_bytes);
    let state = wait_for(&relay, edge, "hot_bytes", is_sealed).await;
    let elapsed = started.elapsed().as_secs_f64();
    print_row(&relay, edge, "R2 back, sealed").await;
    println!(
        "recovery        {elapsed:.1} s from the restart, {until_answer:.1} s of which until workerd answered: \
         {} segments of together {:.1} MB; RSS was {:.0} MB at most",
        state["segments"],
        megabytes(state["segment_bytes"].as_u64().unwrap_or(0)),
        megabytes(peak(&mut relay).await)
    );
}

async fn peak(relay: &mut Relay) -> u64 {
    let answer = relay.ask(serde_json::json!({ "op": "memory" })).await;
    answer["rss_peak_bytes"].as_u64().unwrap_or(0)
}
