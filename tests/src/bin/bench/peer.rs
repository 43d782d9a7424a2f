use std::{path::Path, process::Stdio, time::Instant};

use relay_durable::samples::sized_body;
use relay_tests::{node_binary, now_ms, root};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::figures::megabytes;

const EVENTS: u64 = 100_000;
const RUNS: usize = 3;

/// What the peer takes events for. It reads its files alike, but answers differently.
#[derive(Clone, Copy)]
pub(crate) enum PeerMode {
    /// Messages: it parses each stored event for every reader and writes it anew.
    Json,
    /// Bytes, which it copies: that a line is an event is for its writers and readers to agree.
    Ndjson,
}

/// How a reader came from the start of a stream to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

impl PeerMode {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

impl CatchUp {
    /// Events per second.
    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

/// The reference server of Durable Streams catches one reader up.
pub(crate) async fn run() {
    let lines = events();
    println!("\n## Peer: Durable Streams' reference server catches one reader up");
    for (name, mode) in [("peer, JSON", PeerMode::Json), ("peer, NDJSON", PeerMode::Ndjson)] {
        let caught_up = catch_up(&lines, mode).await;
        println!(
            "{name:<15} {:.0} events/s, {:.0} MB/s: {} events of {:.0} bytes, best of {RUNS}",
            caught_up.rate(),
            megabytes(caught_up.bytes) / caught_up.seconds,
            caught_up.events,
            caught_up.bytes as f64 / caught_up.events as f64
        );
    }
}

/// Webhook bodies of 1 to 4 kB.
pub(crate) fn events() -> Vec<String> {
    let now = now_ms();
    let length = |index: u64| 1_000 + usize::try_from(index * 37 % 3_001).expect("small");
    (1..=EVENTS).map(|index| sized_body("peer", "reader", index, now, length(index))).collect()
}

/// Starts the peer with these events, each a line of compact JSON, and reads them all from it.
/// The best of several runs, as the first ones also warm its compiler up.
pub(crate) async fn catch_up(lines: &[String], mode: PeerMode) -> CatchUp {
    let directory = tempfile::tempdir().expect("a directory");
    let peer = Peer::start(directory.path(), lines, mode).await;
    // TLS is not used on loopback, but reqwest insists on a default for it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let mut best = read_all(&http, &peer.url, lines).await;
    for _ in 1..RUNS {
        let next = read_all(&http, &peer.url, lines).await;
        if next.seconds < best.seconds {
            best = next;
        }
    }
    best
}

/// The peer's process. It ends with its standard input.
struct Peer {
    url: String,
    _child: Child,
}

impl Peer {
    async fn start(directory: &Path, lines: &[String], mode: PeerMode) -> Self {
        let (events, state) = (directory.join("events.ndjson"), directory.join("state"));
        std::fs::write(&events, lines.join("\n")).expect("a file");
        std::fs::create_dir(&state).expect("a directory");
        let log = std::fs::File::create(directory.join("peer.log")).expect("a file");
        let mut child = Command::new(node_binary())
            .arg(root().join("tests/relay/durable-streams.mjs"))
            .args([&events, &state])
            .arg(mode.content_type())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = stdout.next_line().await.expect("readable");
        let ready: Value = serde_json::from_str(&ready.expect("ends not yet")).expect("JSON");
        assert_eq!(ready["ready"], true, "{ready}");
        Self { url: ready["url"].as_str().expect("a text").to_owned(), _child: child }
    }
}

/// Follows the protocol from the first event until the server says that there is no more.
async fn read_all(http: &reqwest::Client, url: &str, lines: &[String]) -> CatchUp {
    let mut unread = Unread { lines: lines.iter(), rest: &[], events: 0 };
    let (mut bytes, mut offset) = (0, "-1".to_owned());
    let started = Instant::now();
    loop {
        let answer = http.get(format!("{url}?offset={offset}")).send().await;
        let mut answer = answer.expect("the peer answers");
        assert_eq!(answer.status(), 200);
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let is_up_to_date = header("Stream-Up-To-Date") == Some("true");
        header("Stream-Next-Offset").expect("an offset").clone_into(&mut offset);
        while let Some(chunk) = answer.chunk().await.expect("readable") {
            bytes += chunk.len() as u64;
            unread.take(&chunk);
        }
        if is_up_to_date {
            break;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(unread.events, lines.len() as u64, "the peer has lost events");
    CatchUp { events: unread.events, bytes, seconds }
}

/// The events that must still come. Comparing them is much faster than parsing would be, and both
/// would be charged to the peer.
struct Unread<'a> {
    lines: std::slice::Iter<'a, String>,
    rest: &'a [u8],
    events: u64,
}

impl Unread<'_> {
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.rest.is_empty() {
                if b"[,]\n".contains(first) {
                    bytes = &bytes[1..];
                    continue;
                }
                self.rest = self.lines.next().expect("no event was added").as_bytes();
            }
            let length = bytes.len().min(self.rest.len());
            let (part, after) = bytes.split_at(length);
            assert!(self.rest.starts_with(part), "the peer changed event {}", self.events + 1);
            self.rest = &self.rest[length..];
            self.events += u64::from(self.rest.is_empty());
            bytes = after;
        }
    }
}
