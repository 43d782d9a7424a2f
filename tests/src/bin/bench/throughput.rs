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
/// floor.
pub(crate) async fn run() {
    println!("\n## Throughput: {SENDERS} senders, bodies of {} bytes", crate::load::BODY_BYTES);
    let relay = Relay::start_with(RelayOptions {
        floor: true,
        // As many secrets as the floor checks.
        vars: vec![("LINEAR_WEBHOOK_SECRET", relay_tests::SECRET_CURRENT.into())],
        ..RelayOptions::default()
    })
    .await;
    let (mut ours, mut floor) = (Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        let (target, reader) = floor_reader(&relay).await;
        measure(&relay, target, reader, &mut floor).await;
        let (target, reader) = relay_reader(&relay, &format!("throughput-{round}")).await;
        measure(&relay, target, reader, &mut ours).await;
    }
    let ratio = |ours: &[f64], floor: &[f64]| {
        let ratios: Vec<f64> = ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect();
        median(&ratios)
    };
    println!(
        "webhooks/s      whole path {:.0}, floor {:.0}, ratio {:.2}",
        median(&ours.per_second),
        median(&floor.per_second),
        ratio(&ours.per_second, &floor.per_second)
    );
    println!(
        "processor time  whole path {:.0} µs, floor {:.0} µs a webhook, ratio {:.2}",
        median(&ours.processor_us),
        median(&floor.processor_us),
        1.0 / ratio(&ours.processor_us, &floor.processor_us)
    );
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
        organization: organization.to_owned(),
        user: user.to_owned(),
        posted_at: PostTimes::default(),
    }
}
