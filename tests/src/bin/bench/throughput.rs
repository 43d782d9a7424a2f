use std::time::{Duration, Instant};

use futures::StreamExt;
use relay_tests::{Relay, RelayOptions, SocketReader};
use tokio_tungstenite::connect_async;

use crate::load::Target;

const SENDERS: usize = 16;
const DURATION: Duration = Duration::from_secs(8);
const ROUNDS: usize = 3;

/// Webhooks per second, from the first post until the last is at the reader.
pub(crate) async fn run() -> (f64, f64) {
    let relay = Relay::start_with(RelayOptions { floor: true, ..RelayOptions::default() }).await;
    let mut ours = Vec::new();
    let mut floors = Vec::new();
    for round in 0..ROUNDS {
        floors.push(floor(&relay, round).await);
        ours.push(whole_path(&relay, round).await);
        println!(
            "  round {}: whole path {:.0}/s, floor {:.0}/s",
            round + 1,
            ours[round],
            floors[round]
        );
    }
    (median(&mut ours), median(&mut floors))
}

async fn whole_path(relay: &Relay, round: usize) -> f64 {
    let organization = format!("bench-{round}");
    let edge = relay.enrol(&organization, "reader").await;
    let mut reader = SocketReader::open(relay, &edge, "").await;
    reader.frame("open").await;
    let target = Target {
        http: relay.http.clone(),
        url: relay.url.clone(),
        organization,
        user: "reader".into(),
    };
    let started = Instant::now();
    let sending = tokio::spawn(async move { target.flood(SENDERS, DURATION).await });
    let mut received = 0;
    let mut sent = None;
    let mut sending = std::pin::pin!(sending);
    while sent.is_none_or(|sent| received < sent) {
        tokio::select! {
            total = &mut sending, if sent.is_none() => sent = Some(total.expect("sending ends well")),
            message = reader.next() => {
                let text = message.expect("the stream stays open");
                received += u64::from(text.starts_with(r#"{"type":"webhook""#));
            }
        }
    }
    received as f64 / started.elapsed().as_secs_f64()
}

async fn floor(relay: &Relay, round: usize) -> f64 {
    let url = relay.floor_url.clone().expect("started with the floor");
    let address = format!("{}/events/stream", url.replacen("http", "ws", 1));
    let (mut socket, _) = connect_async(address).await.expect("the floor answers");
    let target = Target {
        http: relay.http.clone(),
        url,
        organization: format!("floor-{round}"),
        user: "reader".into(),
    };
    let started = Instant::now();
    let sending = tokio::spawn(async move { target.flood(SENDERS, DURATION).await });
    let mut sending = std::pin::pin!(sending);
    let mut received = 0;
    let mut sent = None;
    while sent.is_none_or(|sent| received < sent) {
        tokio::select! {
            total = &mut sending, if sent.is_none() => sent = Some(total.expect("sending ends well")),
            message = socket.next() => {
                received += u64::from(message.expect("the stream stays open").expect("readable").is_text());
            }
        }
    }
    received as f64 / started.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
