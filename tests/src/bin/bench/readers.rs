use std::time::Duration;

use futures::{StreamExt, future::join_all};
use relay_tests::{Relay, SocketReader};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{
    figures::{megabytes, milliseconds, quantile},
    load::Target,
    throughput::target,
};

const READERS: usize = 1_000;
const PEOPLE: usize = 100;
const EVENTS: u64 = 10;
const OBJECTS: usize = 300;

/// A reader of the relay or of the floor.
pub(crate) enum AnyReader {
    Relay(Box<SocketReader>),
    Floor(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
}

impl AnyReader {
    /// The next webhook's message.
    pub(crate) async fn next_webhook(&mut self) -> String {
        match self {
            Self::Relay(reader) => loop {
                let text = reader.next().await.expect("the stream stays open");
                if text.starts_with(r#"{"type":"webhook""#) {
                    return text;
                }
            },
            Self::Floor(socket) => {
                let message = socket.next().await.expect("the stream stays open");
                message.expect("readable").to_text().expect("text").to_owned()
            }
        }
    }
}

/// A person on the relay, and a reader of that person's stream.
pub(crate) async fn relay_reader(relay: &Relay, organization: &str) -> (Target, AnyReader) {
    let edge = relay.enrol(organization, "reader").await;
    let mut reader = SocketReader::open(relay, &edge, "").await;
    reader.frame("open").await;
    (target(relay, &relay.url, organization, "reader"), AnyReader::Relay(Box::new(reader)))
}

/// The floor, and a reader of what it pushes.
pub(crate) async fn floor_reader(relay: &Relay) -> (Target, AnyReader) {
    let url = relay.floor_url.clone().expect("started with the floor");
    let address = format!("{}/events/stream", url.replacen("http", "ws", 1));
    let (socket, _) = connect_async(address).await.expect("the floor answers");
    (target(relay, &url, "floor", "reader"), AnyReader::Floor(Box::new(socket)))
}

/// A thousand readers of one organization's streams on one relay.
pub(crate) async fn run() {
    println!("\n## Readers: {READERS} over WebSocket, {PEOPLE} people of one organization");
    let mut relay = Relay::start().await;
    let object_bytes = object_bytes(&mut relay).await;
    let idle = relay.memory_bytes().await;
    let people: Vec<Target> = (0..PEOPLE)
        .map(|person| target(&relay, &relay.url, "readers", &format!("person-{person}")))
        .collect();
    let mut reading = Vec::new();
    for person in &people {
        let edge = relay.enrol("readers", &person.user).await;
        for _ in 0..READERS / PEOPLE {
            let mut reader = SocketReader::open(&relay, &edge, "").await;
            reader.frame("open").await;
            let reader = AnyReader::Relay(Box::new(reader));
            reading.push(tokio::spawn(read(reader, person.clone())));
        }
    }
    let connected = relay.memory_bytes().await;
    for index in 1..=EVENTS {
        join_all(people.iter().map(|person| person.post_timed(index))).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let mut latencies = Vec::new();
    for reading in reading {
        latencies.extend(reading.await.expect("a reader ends well"));
    }
    println!("received        {} of {} frames", latencies.len(), READERS as u64 * EVENTS);
    println!(
        "webhook to reader, bursts of {PEOPLE} webhooks: p50 {:.1} ms, p99 {:.1} ms",
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99)
    );
    let per_reader = connected.saturating_sub(idle) as f64 / READERS as f64 / 1e3;
    println!(
        "memory          workerd {:.0} MB with no reader, {:.0} MB with all, {per_reader:.0} kB a reader",
        megabytes(idle),
        megabytes(connected)
    );
    println!("                one object {:.0} kB", object_bytes as f64 / 1e3);
}

async fn read(mut reader: AnyReader, person: Target) -> Vec<f64> {
    let mut latencies = Vec::new();
    for _ in 0..EVENTS {
        let text = reader.next_webhook().await;
        latencies.extend(person.posted_at.latency(&text).map(milliseconds));
    }
    latencies
}

/// What one more object costs: resident memory before and after many of them were woken.
async fn object_bytes(relay: &mut Relay) -> u64 {
    let wake = async |relay: &Relay, prefix: &str| {
        for object in 0..OBJECTS {
            let person = format!("{prefix}-{object}");
            target(relay, &relay.url, "objects", &person).post(1).await;
            relay.wait_for_length(&format!("objects/user:{person}"), 1).await;
        }
    };
    wake(relay, "warm").await;
    let before = relay.memory_bytes().await;
    wake(relay, "measured").await;
    relay.memory_bytes().await.saturating_sub(before) / OBJECTS as u64
}
