use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use relay_durable::StreamSettings;
use relay_schemas::UnixMillis;
use relay_tests::{EnrolledEdge, Relay, SignedWebhook, now_ms};
use serde_json::Value;

use super::{SEAL_BYTES_LOCAL, model::Model};
use crate::{figures::processor_us, fill::wait_for, traffic::Traffic};

const SINGLES: u64 = 150;
/// Far longer than an event takes to its stream.
const SINGLE_PAUSE: Duration = Duration::from_millis(60);
const BURSTS: u64 = 15;
const BURST_EVENTS: u64 = 20;
const BURST_PAUSE: Duration = Duration::from_millis(500);
const FLOOD_EVENTS: u64 = 3_000;
const FLOOD_PER_SECOND: u64 = 500;

/// What the consumer and the object logged, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many events in one append.
    Append(u64),
    /// A segment.
    Seal,
}

/// What happened on workerd.
pub(crate) struct Observed {
    pub(crate) events: u64,
    pub(crate) rows: u64,
    pub(crate) directory_rows: u64,
    pub(crate) steps: Vec<Step>,
    processor_us: f64,
}

impl Observed {
    /// How many events each append had.
    pub(crate) fn appends(&self) -> impl Iterator<Item = u64> {
        self.steps.iter().filter_map(|step| match step {
            Step::Append(events) => Some(*events),
            Step::Seal => None,
        })
    }

    pub(crate) fn segments(&self) -> usize {
        self.steps.iter().filter(|step| **step == Step::Seal).count()
    }

    pub(crate) fn processor_us_per_event(&self) -> f64 {
        self.processor_us / self.events as f64
    }

    /// The same events, each in an append of its own.
    pub(crate) fn one_by_one(&self) -> Self {
        let steps = vec![Step::Append(1); usize::try_from(self.events).expect("few")];
        Self { steps, ..*self }
    }

    /// Rows that the model writes for the same steps: in the log, and in the directory.
    pub(crate) fn modelled_rows(&self) -> (u64, u64) {
        let now = UnixMillis::new(1_790_000_000_000);
        // When to seal was decided on workerd.
        let settings = StreamSettings { seal_bytes: 1, ..StreamSettings::default() };
        let mut model = Model::new(settings, now);
        let mut traffic = Traffic::of("cost", "reader");
        for step in &self.steps {
            match step {
                Step::Append(events) => {
                    model.append_now((0..*events).map(|_| traffic.next_event(now)).collect());
                }
                Step::Seal => drop(model.seal_one()),
            }
        }
        (model.log_rows(), model.directory_rows())
    }
}

/// One event after the other.
pub(crate) async fn singles(relay: &mut Relay) -> Observed {
    observe(relay, "singles", SINGLES, async |relay, edge, webhooks| {
        for webhook in webhooks {
            post(relay, webhook).await;
            // Asking whether it has come would be charged to it.
            tokio::time::sleep(SINGLE_PAUSE).await;
        }
        relay.wait_for_length(&edge.stream(), SINGLES).await;
    })
    .await
}

/// Twenty at once, again and again.
pub(crate) async fn bursts(relay: &mut Relay) -> Observed {
    observe(relay, "bursts", BURSTS * BURST_EVENTS, async |relay, edge, webhooks| {
        for burst in webhooks.chunks(usize::try_from(BURST_EVENTS).expect("few")) {
            join_all(burst.iter().map(|webhook| post(relay, webhook))).await;
            tokio::time::sleep(BURST_PAUSE).await;
        }
        relay.wait_for_length(&edge.stream(), BURSTS * BURST_EVENTS).await;
    })
    .await
}

/// So many a second, or as many as this machine can.
pub(crate) async fn flood(relay: &mut Relay) -> Observed {
    observe(relay, "flood", FLOOD_EVENTS, async |relay, edge, webhooks| {
        let next = Arc::new(AtomicUsize::new(0));
        let started = tokio::time::Instant::now();
        let senders = (0..48).map(|_| async {
            while let Some(webhook) = webhooks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let place = next.load(Ordering::Relaxed) as u64;
                let due = Duration::from_micros(place * 1_000_000 / FLOOD_PER_SECOND);
                tokio::time::sleep_until(started + due).await;
                post(relay, webhook).await;
            }
        });
        join_all(senders).await;
        wait_for(relay, edge, "events", |state| state["events"] == webhooks.len()).await;
    })
    .await
}

async fn post(relay: &Relay, webhook: &SignedWebhook) {
    assert_eq!(relay.post(webhook).await.status(), 200);
}

async fn observe(
    relay: &mut Relay,
    user: &str,
    events: u64,
    send: impl AsyncFnOnce(&Relay, &EnrolledEdge, &[SignedWebhook]),
) -> Observed {
    // An organization of its own: the same issues are nobody else's.
    let organization = format!("cost-{user}");
    let edge = relay.enrol(&organization, user).await;
    let mut traffic = Traffic::of(&organization, user);
    let webhooks: Vec<SignedWebhook> = (0..events).map(|_| traffic.next(now_ms())).collect();
    let log_before = relay.log().len();
    let processor_before = processor_us(relay.workerd_pid);
    send(relay, &edge, &webhooks).await;
    let is_sealed = |state: &Value| state["hot_bytes"].as_u64() < Some(SEAL_BYTES_LOCAL);
    let state = wait_for(relay, &edge, "segments", is_sealed).await;
    let processor_us = processor_us(relay.workerd_pid) - processor_before;
    let steps = wait_for_steps(relay, log_before, events).await;
    let rows = state["rows_written"].as_u64().expect("a number");
    let directory_rows = directory_rows(relay, &organization).await;
    Observed { events, rows, directory_rows, steps, processor_us }
}

async fn directory_rows(relay: &Relay, organization: &str) -> u64 {
    let path = format!("/admin/routing?organization={organization}");
    let request = relay.as_operator(reqwest::Method::GET, &path);
    let answer: Value = request.send().await.expect("sent").json().await.expect("JSON");
    answer["rows_written"].as_u64().expect("a number")
}

/// The log is written by another process, a little later.
async fn wait_for_steps(relay: &Relay, from: usize, events: u64) -> Vec<Step> {
    relay_tests::until("the log's lines", async || {
        let steps = steps_in(&relay.log()[from..]);
        let appended: u64 = steps
            .iter()
            .map(|step| if let Step::Append(events) = step { *events } else { 0 })
            .sum();
        (appended == events).then_some(steps)
    })
    .await
}

fn steps_in(log: &str) -> Vec<Step> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter_map(|line| match line["event"].as_str()? {
            "events_appended" => Some(Step::Append(line["events"].as_u64()?)),
            "segment_sealed" => Some(Step::Seal),
            _ => None,
        })
        .collect()
}
