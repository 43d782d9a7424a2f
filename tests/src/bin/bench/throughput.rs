use std::time::{Duration, Instant};

use relay_tests::{Relay, RelayOptions};

use crate::{
    figures::{median, processor_us},
    load::{PostTimes, Target},
    readers::{AnyReader, floor_reader, relay_reader},
};

const SENDERS: usize = 64;
const DURATION: Duration = Duration::from_secs(4);
const ROUNDS: usize = 5;

#[derive(Default)]
struct Rounds {
    per_second: Vec<f64>,
    processor_us: Vec<f64>,
}

/// Webhooks per second from the first post until the last is at the reader, in turn with the
/// floor, and with the floor behind a queue.
pub(crate) async fn run() {
    println!("\n## Throughput: {SENDERS} senders, bodies of {} bytes", crate::load::BODY_BYTES);
    let relay = Relay::start_with(RelayOptions {
        floor: true,
        // As many secrets as the floor checks.
        vars: vec![("LINEAR_WEBHOOK_SECRET", relay_tests::SECRET_CURRENT.into())],
        ..RelayOptions::default()
    })
    .await;
    let (mut ours, mut floor, mut queued) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        let (target, reader) = floor_reader(&relay).await;
        measure(&relay, target, reader, &mut floor).await;
        let (target, reader) = floor_reader(&relay).await;
        let target = Target { path: "/webhook-queued", ..target };
        measure(&relay, target, reader, &mut queued).await;
        let (target, reader) = relay_reader(&relay, &format!("throughput-{round}")).await;
        measure(&relay, target, reader, &mut ours).await;
    }
    floor.print("floor", &ours);
    queued.print("floor + queue", &ours);
    ours.print("whole path", &ours);
}

impl Rounds {
    /// A line about these rounds, and how the relay's compare with them.
    fn print(&self, name: &str, ours: &Self) {
        let ratios = |ours: &[f64], theirs: &[f64]| {
            let ratios: Vec<f64> =
                ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            median(&ratios)
        };
        println!(
            "{name:<15} {:.0} webhooks/s, {:.0} µs of processor time each; whole path is {:.2} of \
             the rate at {:.2} of the processor time",
            median(&self.per_second),
            median(&self.processor_us),
            ratios(&ours.per_second, &self.per_second),
            ratios(&ours.processor_us, &self.processor_us)
        );
    }
}

async fn measure(relay: &Relay, target: Target, mut reader: AnyReader, rounds: &mut Rounds) {
    let processor_before = processor_us(relay.workerd_pid);
    let started = Instant::now();
    let sending = tokio::spawn(async move { target.flood(SENDERS, DURATION).await });
    let mut sending = std::pin::pin!(sending);
    let (mut received, mut sent) = (0, None);
    while sent.is_none_or(|sent| received < sent) {
        tokio::select! {
            total = &mut sending, if sent.is_none() => sent = Some(total.expect("sending ends well")),
            _ = reader.next_webhook() => received += 1,
        }
    }
    rounds.per_second.push(received as f64 / started.elapsed().as_secs_f64());
    let processor = processor_us(relay.workerd_pid) - processor_before;
    rounds.processor_us.push(processor / received as f64);
}

/// A target without post times.
pub(crate) fn target(relay: &Relay, url: &str, organization: &str, user: &str) -> Target {
    Target {
        http: relay.http.clone(),
        url: url.to_owned(),
        path: "/webhook",
        organization: organization.to_owned(),
        user: user.to_owned(),
        posted_at: PostTimes::default(),
    }
}
