//! Goal: kill -9 of workerd at any moment of sealing and of reading history loses no event, shows
//! none twice and none elsewhere, and leaves each event in exactly one segment.
//! Method: writers repeat each webhook until it is answered 200, a relay that seals every two or
//! three events is killed a hundred times, and readers go on after their last cursor. In the end
//! each reader's file, the log and what R2 and KV hold are compared.
//!
//! What this can't show stands in `crash.rs`: the local queue dies with workerd, so in the end
//! every webhook is sent again, as Linear would.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use relay_durable::samples::sized_body;
use relay_schemas::{ByeCode, Frame, Open};
use relay_tests::{
    EnrolledEdge, HttpReader, ReaderLine, Relay, RelayOptions, SentEvent, SignedWebhook,
    StoredHistory, WAIT_LIMIT, now_ms, page_through, until,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

const ORGANIZATION: &str = "org-kill";
const USERS: [&str; 2] = ["ada", "grace"];
const KILLS: u64 = 100;
const SEAL_BYTES: u64 = 4_000;
/// Webhooks that each writer may send between two kills.
const QUOTA: usize = 12;
/// Webhooks that each writer sends in all.
const EVENTS: usize = KILLS as usize * QUOTA;
/// What travels through R2 on its way into the queue.
const LARGE_BODY_BYTES: usize = 120_000;
/// How long a kill waits for its moment.
const MOMENT_LIMIT: Duration = Duration::from_secs(2);
/// A relay that is busy with itself answers nobody.
const LIMIT: Duration = Duration::from_secs(900);
const SEED: u64 = 0x6b69_6c6c;

/// What all tasks of one stream share.
struct Shared {
    url: String,
    http: reqwest::Client,
    edge: EnrolledEdge,
    /// What any reader was ever sent, by position.
    seen: Mutex<BTreeMap<u64, String>>,
    quota: Semaphore,
    /// Webhooks answered 200, and events read.
    progress: Arc<AtomicU64>,
    /// Connections that broke before they had read what lay before them when they were opened.
    broken_in_history: AtomicU64,
}

impl Shared {
    /// Posts until the answer is 200, whatever becomes of the relay meanwhile.
    async fn post(&self, body: &str, delivery: &str) {
        until("a webhook to be taken", async || {
            let webhook = SignedWebhook::new(body, delivery);
            let mut request = self.http.post(format!("{}/webhook", self.url)).body(webhook.body);
            for (name, value) in &webhook.headers {
                request = request.header(name, value);
            }
            let answer = request.send().await.ok()?;
            let status = answer.status().as_u16();
            assert!(status == 200 || status >= 500, "{status}: {}", answer.text().await.unwrap());
            (status == 200).then_some(())
        })
        .await;
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Opens a stream after an event, or at the beginning.
    async fn open(&self, last: Option<&SentEvent>) -> (HttpReader, Open) {
        let cursor = last.map_or("earliest".to_owned(), |event| event.cursor.to_string());
        let url = format!("{}/events/stream?heartbeat=5&cursor={cursor}", self.url);
        until("a connection", async || {
            let request = self.http.get(&url).bearer_auth(&self.edge.credential);
            let answer = request.send().await.ok()?;
            let status = answer.status().as_u16();
            if status >= 500 {
                return None;
            }
            assert_eq!(status, 200, "{}", answer.text().await.unwrap());
            assert_eq!(answer.headers().get("Relay-Resumed-From"), None, "from {cursor}");
            let mut reader = HttpReader::from_answer(answer);
            let ReaderLine::Line(line) = reader.next().await else { return None };
            let Ok(Frame::Open(open)) = Frame::parse(&line) else { panic!("{line}") };
            assert_eq!(open.cursor.seq.get(), last.map_or(0, SentEvent::seq));
            Some((reader, open))
        })
        .await
    }

    fn note(&self, event: &SentEvent) {
        self.progress.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap();
        let known = seen.entry(event.seq()).or_insert_with(|| event.record.clone());
        assert_eq!(*known, event.record, "two events at one position");
    }

    /// Reads into a file until `is_done` or the connection ends. The file may only grow by the next
    /// position, and nothing but events, heartbeats and planned ends may come.
    async fn read(
        &self,
        mut reader: HttpReader,
        file: &mut Vec<SentEvent>,
        is_done: impl Fn(&[SentEvent]) -> bool,
    ) -> bool {
        let mut n = 0;
        while !is_done(file) {
            let ReaderLine::Line(line) = reader.next().await else { return false };
            match Frame::parse(&line).unwrap() {
                Frame::Webhook(webhook) => {
                    n += 1;
                    assert_eq!(webhook.n, n, "{line}");
                    let event = SentEvent::of_line(&line);
                    assert_eq!(event.seq(), file.len() as u64 + 1, "a hole or a repetition");
                    self.note(&event);
                    file.push(event);
                }
                Frame::Heartbeat(beat) => assert_eq!(beat.cursor.seq.get(), file.len() as u64),
                Frame::Bye(bye) => {
                    assert!(matches!(bye.code, ByeCode::Reconnect | ByeCode::Error), "{line}");
                    return false;
                }
                Frame::Open(_) | Frame::Gap(_) | Frame::Signal(_) | Frame::Unknown => {
                    panic!("{line}")
                }
            }
        }
        true
    }
}

/// Sends one webhook after another, as the quota allows; answers what it sent.
async fn write(shared: Arc<Shared>) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < EVENTS {
        shared.quota.acquire().await.unwrap().forget();
        let index = bodies.len() as u64;
        let bytes = match index % 60 {
            59 => LARGE_BODY_BYTES,
            rest => 900 + 20 * rest as usize,
        };
        let body = sized_body(ORGANIZATION, &shared.edge.user, index, now_ms(), bytes);
        shared.post(&body, &format!("kill-{index}")).await;
        bodies.push(body);
    }
    bodies
}

/// A live reader: one file from the first event to the last, whose number comes in the end.
async fn follow(shared: Arc<Shared>, length: watch::Receiver<Option<usize>>) -> Vec<SentEvent> {
    let mut file = Vec::new();
    loop {
        let (reader, _) = shared.open(file.last()).await;
        let is_done = |file: &[SentEvent]| *length.borrow() == Some(file.len());
        if shared.read(reader, &mut file, is_done).await {
            return file;
        }
    }
}

/// Reads everything from the beginning, once for each kill and wherever that finds it.
async fn read_history(shared: Arc<Shared>, mut round: watch::Receiver<u64>) {
    while round.changed().await.is_ok() {
        let mut file = Vec::new();
        loop {
            let (reader, open) = shared.open(file.last()).await;
            let is_done = |file: &[SentEvent]| file.len() as u64 >= open.tail.seq.get();
            let read = timeout(WAIT_LIMIT, shared.read(reader, &mut file, is_done)).await;
            if read.expect("a reader waits in vain for what the log had") {
                break;
            }
            if !is_done(&file) {
                shared.broken_in_history.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Kills and restarts workerd, and remembers what it died of.
struct Killer<'a> {
    relay: &'a mut Relay,
    streams: &'a [Arc<Shared>],
    object_ids: Vec<String>,
    rng: Rng,
    /// Kills while a seal was under way.
    in_seals: u64,
}

impl<'a> Killer<'a> {
    async fn new(relay: &'a mut Relay, streams: &'a [Arc<Shared>]) -> Self {
        let mut object_ids = Vec::new();
        for shared in streams {
            let stream = shared.edge.stream();
            let request = json!({ "op": "storage_file", "class": "StreamObject", "name": stream });
            let file = relay.ask(request).await["file"].as_str().unwrap().to_owned();
            let object_id = Path::new(&file).file_stem().unwrap();
            object_ids.push(object_id.to_str().unwrap().to_owned());
        }
        Self { relay, streams, object_ids, rng: Rng::with_seed(SEED), in_seals: 0 }
    }

    /// A hundred times.
    async fn run(&mut self) {
        let (round, _) = watch::channel(0);
        let readers: Vec<JoinHandle<()>> = self
            .streams
            .iter()
            .map(|shared| tokio::spawn(read_history(Arc::clone(shared), round.subscribe())))
            .collect();
        for kill in 1..=KILLS {
            round.send_replace(kill);
            self.streams.iter().for_each(|shared| shared.quota.add_permits(QUOTA));
            self.wait_for_moment().await;
            self.relay.kill_workerd();
            self.in_seals += u64::from(self.is_sealing().await);
            self.relay.restarted().await;
        }
        drop(round);
        for reader in readers {
            reader.await.unwrap();
        }
    }

    /// The moment is random in time, or after so many webhooks and events, or within a seal.
    async fn wait_for_moment(&mut self) {
        let pause = Duration::from_micros(self.rng.u64(..400_000));
        let progress = Arc::clone(&self.streams[0].progress);
        let goal = progress.load(Ordering::Relaxed) + self.rng.u64(1..200);
        let limit = Instant::now() + MOMENT_LIMIT;
        match self.rng.u8(..3) {
            0 => sleep(pause).await,
            1 => {
                while progress.load(Ordering::Relaxed) < goal && Instant::now() < limit {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            _ => {
                while !self.is_sealing().await && Instant::now() < limit {}
                sleep(pause / 40).await;
            }
        }
    }

    /// Whether a seal is under way, or was when workerd died. Reads the objects' files, past them.
    async fn is_sealing(&mut self) -> bool {
        let mut is_sealing = false;
        for object_id in &self.object_ids {
            let query = "SELECT first FROM segment WHERE entry IS NULL";
            let request = json!({
                "op": "sql", "class": "StreamObject", "object_id": object_id, "query": query,
            });
            let rows = self.relay.ask(request).await["rows"].clone();
            is_sealing |= rows.as_array().is_some_and(|rows| !rows.is_empty());
        }
        is_sealing
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_leave_every_reader_with_the_whole_log() {
    timeout(LIMIT, kill_a_hundred_times()).await.expect("the relay hangs");
}

async fn kill_a_hundred_times() {
    let started = Instant::now();
    println!("seed {SEED:#x}");
    let mut relay = Relay::start_with(RelayOptions::sealed_at(SEAL_BYTES)).await;
    let mut streams = Vec::new();
    let progress = Arc::new(AtomicU64::new(0));
    for user in USERS {
        streams.push(Arc::new(Shared {
            url: relay.url.clone(),
            http: relay.http.clone(),
            edge: relay.enrol(ORGANIZATION, user).await,
            seen: Mutex::default(),
            quota: Semaphore::new(0),
            progress: Arc::clone(&progress),
            broken_in_history: AtomicU64::new(0),
        }));
    }
    let writers: Vec<_> =
        streams.iter().map(|shared| tokio::spawn(write(Arc::clone(shared)))).collect();
    let (length, _) = watch::channel(None);
    let followers: Vec<_> = streams
        .iter()
        .map(|shared| tokio::spawn(follow(Arc::clone(shared), length.subscribe())))
        .collect();
    let mut killer = Killer::new(&mut relay, &streams).await;
    killer.run().await;
    let in_seals = killer.in_seals;
    let mut sent = Vec::new();
    for writer in writers {
        sent.push(writer.await.unwrap());
    }
    println!("{KILLS} kills after {:?}, {in_seals} of them in a seal", started.elapsed());

    send_again(&relay, &streams, &sent).await;
    length.send_replace(Some(EVENTS));
    let mut files = Vec::new();
    for follower in followers {
        let file = timeout(WAIT_LIMIT, follower).await;
        files.push(file.expect("a reader waits in vain for the rest of the log").unwrap());
    }
    let mut segments = 0;
    for ((shared, file), bodies) in streams.iter().zip(&files).zip(&sent) {
        segments += check(&mut relay, shared, file, bodies).await;
    }
    let sweep = relay.as_operator(Method::POST, "/admin/sweep").send().await.unwrap();
    let sweep: Value = sweep.json().await.unwrap();
    assert_eq!(sweep["streams"], USERS.len(), "{sweep}");
    for field in [
        "objects_deleted",
        "index_entries_put",
        "index_entries_deleted",
        "segments_lost",
        "orphans",
    ] {
        assert_eq!(sweep[field], 0, "{sweep}");
    }
    let broken: u64 =
        streams.iter().map(|shared| shared.broken_in_history.load(Ordering::Relaxed)).sum();
    println!(
        "{EVENTS} events for each of {}, {segments} segments, {broken} readers cut off in history, \
         {:?}",
        USERS.len(),
        started.elapsed()
    );
    assert!(in_seals >= KILLS / 20, "only {in_seals} kills hit a seal");
    assert!(broken >= KILLS / 20, "only {broken} kills hit a reader in history");
}

/// Sends everything again, as Linear would what the queue has lost, and waits until all of it has
/// reached its stream.
async fn send_again(relay: &Relay, streams: &[Arc<Shared>], sent: &[Vec<String>]) {
    let counted = async || {
        relay.metric("edgerelay_events_appended_total").await
            + relay.metric("edgerelay_events_duplicate_total").await
    };
    let before = counted().await;
    let senders = streams.iter().zip(sent).map(async |(shared, bodies)| {
        for (index, body) in bodies.iter().enumerate() {
            shared.post(body, &format!("kill-again-{index}")).await;
        }
    });
    futures::future::join_all(senders).await;
    let total: usize = sent.iter().map(Vec::len).sum();
    until("the queue to be empty", async || {
        (counted().await >= before + total as f64).then_some(())
    })
    .await;
    for (shared, bodies) in streams.iter().zip(sent) {
        relay.wait_for_length(&shared.edge.stream(), bodies.len() as u64).await;
        until("the hot tail to be sealed", async || {
            let state = relay.stream_state(&shared.edge.stream()).await;
            (state["hot_bytes"].as_u64()? < SEAL_BYTES).then_some(())
        })
        .await;
    }
}

/// Compares the log with what was sent, what was read and what is stored; answers how many
/// segments there are.
async fn check(relay: &mut Relay, shared: &Shared, file: &[SentEvent], sent: &[String]) -> usize {
    let log = page_through(relay, &shared.edge, "limit=1000").await;
    assert!(log.iter().map(SentEvent::seq).eq(1..=sent.len() as u64), "no holes, none twice");
    let in_log: BTreeSet<String> = log.iter().map(SentEvent::body).collect();
    assert!(in_log.iter().eq(&sent.iter().cloned().collect::<BTreeSet<_>>()), "what was sent");
    assert_eq!(in_log.len(), log.len());
    assert!(file == log, "the reader's file");
    let seen = shared.seen.lock().unwrap().clone();
    assert!(seen.into_values().eq(log.iter().map(|event| event.record.clone())), "what was seen");
    let (reader, _) = shared.open(None).await;
    let mut read = Vec::new();
    assert!(shared.read(reader, &mut read, |file| file.len() == log.len()).await);
    assert!(read == log, "a new reader");
    StoredHistory::of(relay, &shared.edge).await.agreed().len()
}
