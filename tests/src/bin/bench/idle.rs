use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use relay_tests::{EnrolledEdge, HttpReader, Relay};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{figures::processor_us, throughput::target};

/// Shorter than the 10 s for which workerd keeps an object that has nothing to do: one that woke
/// within a window would still be there at its end.
const WINDOW: Duration = Duration::from_secs(8);
const WINDOWS: u32 = 5;
const HEARTBEAT_S: u32 = 5;
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// What it costs to be connected while nothing happens.
pub(crate) async fn run() {
    let seconds = WINDOW.as_secs() * u64::from(WINDOWS);
    println!("\n## Idle: one NDJSON and one WebSocket reader, {seconds} s without an event");
    let mut relay = Relay::start().await;
    let edge = relay.enrol("idle", "reader").await;
    let heartbeats = tokio::spawn(count_heartbeats(open_http(&relay, &edge).await));
    let pongs = tokio::spawn(ping(open_socket(&relay, &edge).await));
    relay.wait_for_connections(&edge.stream(), 2).await;
    let rows_before = stored_rows(&mut relay, &edge).await;
    assert!(relay.evict_stream(&edge.stream()).await, "it has two readers");
    HEARD.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    let (mut wakes, processor_before) = (0, processor_us(relay.workerd_pid));
    for _ in 0..WINDOWS {
        tokio::time::sleep(WINDOW).await;
        wakes += u32::from(relay.evict_stream(&edge.stream()).await);
    }
    let processor = processor_us(relay.workerd_pid) - processor_before;
    let is_unchanged = stored_rows(&mut relay, &edge).await == rows_before;
    target(&relay, &relay.url, "idle", "reader").post(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(relay.evict_stream(&edge.stream()).await, "an event wakes it, or nothing is proved");
    let connections = relay.stream_state(&edge.stream()).await["connections"].clone();
    assert_eq!(connections.as_array().map(Vec::len), Some(2), "{connections}");
    heartbeats.abort();
    pongs.abort();
    let absent = WINDOWS - wakes;
    println!("object          not in memory after {absent} of {WINDOWS} windows of {WINDOW:?}");
    print_traffic(processor, seconds);
    assert!(wakes == 0 && is_unchanged, "an idle reader costs object time");
}

/// What readers have heard meanwhile: heartbeats and pongs.
static HEARD: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

fn hear(which: usize) {
    HEARD[which].fetch_add(1, Ordering::Relaxed);
}

fn print_traffic(processor_us: f64, seconds: u64) {
    let [heartbeats, pongs] = HEARD.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert!(heartbeats > 0 && pongs > 0, "the readers are not connected");
    println!("meanwhile       {heartbeats} heartbeats and {pongs} pongs came");
    println!("object time     $0: no request, no wake, no row");
    let ms_a_month = processor_us / 1e3 / seconds as f64 * 30.0 * 86_400.0;
    println!(
        "Worker          {:.2} ms of workerd's processor time a second, heartbeats every {HEARTBEAT_S} s: \
         at most ${:.3} a month for both",
        processor_us / 1e3 / seconds as f64,
        ms_a_month / 1e6 * crate::cost::WORKER_CPU_MS
    );
}

async fn open_http(relay: &Relay, edge: &EnrolledEdge) -> HttpReader {
    let mut reader = HttpReader::ndjson(relay, edge, &format!("heartbeat={HEARTBEAT_S}")).await;
    reader.frame("open").await;
    reader
}

async fn count_heartbeats(mut reader: HttpReader) {
    loop {
        if reader.line().await.starts_with(r#"{"type":"heartbeat""#) {
            hear(0);
        }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open_socket(relay: &Relay, edge: &EnrolledEdge) -> Socket {
    let url = relay.url.replacen("http", "ws", 1);
    let mut request = format!("{url}/events/stream").into_client_request().expect("a request");
    let credential = format!("Bearer {}", edge.credential).parse().expect("a header");
    request.headers_mut().insert("Authorization", credential);
    connect_async(request).await.expect("the relay answers").0
}

/// Pings and waits for the answer, again and again.
async fn ping(mut socket: Socket) {
    loop {
        socket.send(Message::text("ping")).await.expect("writable");
        while let Some(Ok(message)) = socket.next().await {
            if message.to_text().is_ok_and(|text| text == "pong") {
                hear(1);
                break;
            }
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}

/// What lies in the object's storage, read past it.
async fn stored_rows(relay: &mut Relay, edge: &EnrolledEdge) -> Vec<serde_json::Value> {
    let mut rows = Vec::new();
    for table in ["head", "log", "segment"] {
        let query = format!("SELECT count(*) AS count FROM {table}");
        let request = json!({
            "op": "sql", "class": "StreamObject", "name": edge.stream(), "query": query,
        });
        rows.push(relay.ask(request).await["rows"].clone());
    }
    rows
}
