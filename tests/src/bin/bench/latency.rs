use relay_tests::{Relay, RelayOptions};

use crate::{
    figures::{median, milliseconds, quantile},
    load::Target,
    readers::{AnyReader, floor_reader, relay_reader},
};

const PER_SECOND: u64 = 50;
const COUNT: u64 = 500;
const ROUNDS: usize = 3;

/// Webhook to handler at a steady pace, in turn with the floor.
pub(crate) async fn run() {
    println!("\n## Latency at {PER_SECOND} webhooks/s, max_batch_timeout = 0");
    let relay = Relay::start_with(RelayOptions { floor: true, ..RelayOptions::default() }).await;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (target, reader) = floor_reader(&relay).await;
        floor.push(measure(target, reader).await);
        let (target, reader) = relay_reader(&relay, &format!("latency-{round}")).await;
        ours.push(measure(target, reader).await);
    }
    let middle = |rounds: &[Vec<f64>], share: f64| {
        median(&rounds.iter().map(|round| quantile(round, share)).collect::<Vec<_>>())
    };
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (ours, floor) = (middle(&ours, share), middle(&floor, share));
        println!(
            "{name}             whole path {ours:.1} ms, floor {floor:.1} ms, difference {:.1} ms",
            ours - floor
        );
    }
}

async fn measure(target: Target, mut reader: AnyReader) -> Vec<f64> {
    let times = target.posted_at.clone();
    let sending = tokio::spawn(async move { target.pace(PER_SECOND, COUNT).await });
    let mut latencies = Vec::new();
    for _ in 0..COUNT {
        let text = reader.next_webhook().await;
        latencies.extend(times.latency(&text).map(milliseconds));
    }
    sending.await.expect("sending ends well");
    latencies
}
