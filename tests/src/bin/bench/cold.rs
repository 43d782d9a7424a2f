use std::time::Instant;

use relay_durable::samples::sized_body;
use relay_tests::{EnrolledEdge, Relay, RelayOptions, now_ms};
use reqwest::Method;

use crate::{
    figures::{median, milliseconds},
    fill::{fill, wait_for, wait_until_sealed},
    options::Options,
};

const SEGMENTS: u64 = 1_000;
/// About what a segment has of its default size.
const FIRST_SEGMENT_EVENTS: u64 = 450;
const RUNS: usize = 30;
const RESTARTS: usize = 5;

/// A stream, and what its readers wait for.
struct Subject {
    name: &'static str,
    edge: EnrolledEdge,
    /// The beginning of the line that ends the wait.
    awaited: &'static str,
    /// Whether the object is dropped from memory before.
    is_cold: bool,
    times_ms: Vec<f64>,
}

/// How long a reader waits whose stream's object is not in memory.
pub(crate) async fn run(options: &Options) {
    let segments = options.value("segments", SEGMENTS);
    println!("\n## Cold: request to first event, the object not in memory, cursor=earliest");
    let (mut relay, mut subjects) = prepare(segments).await;
    for _ in 0..RUNS {
        for subject in &mut subjects {
            if subject.is_cold {
                relay.evict_stream(&subject.edge.stream()).await;
            }
            subject.measure(&relay).await;
        }
    }
    print(&subjects, segments, &format!("the object evicted, p50 of {RUNS}"));
    subjects.iter_mut().for_each(|subject| subject.times_ms.clear());
    subjects.retain(|subject| subject.is_cold);
    for _ in 0..RESTARTS {
        for subject in &mut subjects {
            relay = relay.kill_and_restart().await;
            subject.measure(&relay).await;
        }
    }
    print(&subjects, segments, &format!("workerd started anew, p50 of {RESTARTS}"));
}

impl Subject {
    fn new(name: &'static str, edge: EnrolledEdge, awaited: &'static str) -> Self {
        Self { name, edge, awaited, is_cold: true, times_ms: Vec::new() }
    }

    /// One reader, up to the end of the line that it waits for.
    async fn measure(&mut self, relay: &Relay) {
        let path = "/events/stream?cursor=earliest";
        let request = relay.as_edge(&self.edge, Method::GET, path);
        let started = Instant::now();
        let mut answer = request.send().await.expect("the relay answers");
        assert_eq!(answer.status(), 200);
        let mut text = Vec::new();
        while !self.is_in(&text) {
            text.extend(answer.chunk().await.expect("readable").expect("it goes on"));
        }
        self.times_ms.push(milliseconds(started.elapsed()));
    }

    fn is_in(&self, text: &[u8]) -> bool {
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        lines.any(|line| line.ends_with(b"\n") && line.starts_with(self.awaited.as_bytes()))
    }
}

fn print(subjects: &[Subject], segments: u64, how: &str) {
    println!("{how}:");
    let sealed = median(&subjects[0].times_ms);
    for subject in subjects {
        let time = median(&subject.times_ms);
        println!("{:<15} {time:.1} ms", subject.name);
    }
    let ratio = |index: usize| sealed / median(&subjects[index].times_ms);
    println!(
        "{segments} segments are {:.1} of an empty stream, {:.1} of one with a hot event",
        ratio(1),
        ratio(2)
    );
}

/// A stream with one segment of the usual size and then many of one event, an empty one, and one
/// with an event that is not sealed.
async fn prepare(segments: u64) -> (Relay, Vec<Subject>) {
    let webhook = r#"{"type":"webhook""#;
    let age = |seconds: &str| vec![("SEAL_AGE_S", seconds.to_owned())];
    let mut relay =
        Relay::start_with(RelayOptions { vars: age("3"), ..RelayOptions::default() }).await;
    let sealed = relay.enrol("cold", "sealed").await;
    fill(&mut relay, &sealed, FIRST_SEGMENT_EVENTS).await;
    wait_until_sealed(&relay, &sealed).await;
    relay = relay.kill_and_restart_with(RelayOptions::sealed_at(1)).await;
    let mut found = segments_of(&relay, &sealed).await;
    while found < segments {
        deliver(&relay, &sealed, found).await;
        let next = |state: &serde_json::Value| state["segments"].as_u64() > Some(found);
        found = wait_for(&relay, &sealed, "segments", next).await["segments"].as_u64().unwrap_or(0);
    }
    relay = relay.kill_and_restart_with(RelayOptions::unsealed()).await;
    let (empty, hot) = (relay.enrol("cold", "empty").await, relay.enrol("cold", "hot").await);
    deliver(&relay, &hot, 1).await;
    relay.wait_for_length(&hot.stream(), 1).await;
    let awake =
        Subject { is_cold: false, ..Subject::new("sealed, awake", sealed.clone(), webhook) };
    let subjects = vec![
        Subject::new("sealed", sealed, webhook),
        Subject::new("empty, to open", empty, r#"{"type":"open""#),
        Subject::new("one hot event", hot, webhook),
        // After itself, so that its object is in memory: what R2 and decoding take.
        awake,
    ];
    (relay, subjects)
}

async fn segments_of(relay: &Relay, edge: &EnrolledEdge) -> u64 {
    relay.stream_state(&edge.stream()).await["segments"].as_u64().expect("a number")
}

async fn deliver(relay: &Relay, edge: &EnrolledEdge, index: u64) {
    let body = sized_body(&edge.organization, &edge.user, index, now_ms(), 2_000);
    relay.deliver(&body, &format!("delivery-{index}")).await;
}
