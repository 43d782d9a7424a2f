//! Goal: a month of traffic of 50 people, sealed into thousands of segments, is read as it was
//! written, on every way, and by nobody else; what the store has lost is told exactly.
//! Method: each burst of each person's events is as large as a segment. One organization's events
//! are webhooks of now; the other's are put into the queue with receipts all over a month, as if
//! the clock had been shifted. Everybody's live reader is the source that all others must equal.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fastrand::Rng;
use futures::{StreamExt, stream};
use relay_durable::{
    SegmentEncoder, SegmentReader,
    samples::{samples, sized_body},
};
use relay_schemas::{
    Cursor, Dialect, Envelope, Frame, GapReason, QueueMessage, SegmentEntry, UnixMillis,
};
use relay_tests::{
    Answer, EnrolledEdge, FrameReader, Relay, RelayOptions, SentEvent, StoredHistory, bulk_plan,
    now_ms, page_through, planned_entry, until,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

/// Sends webhooks.
const SENDER: &str = "org-month-webhooks";
/// Its events are received all over a month.
const SHIFTED: &str = "org-month-shifted";
const PEOPLE: usize = 50;
/// Each person's; each is sealed into one segment or more.
const BURSTS: u64 = 40;
const SEAL_BYTES: usize = 4_000;
const MONTH_MS: u64 = 30 * 86_400_000;
/// How many send or read at once.
const SIDE_BY_SIDE: usize = 8;
/// Of a batch that goes into the queue.
const BATCH_BYTES_MAX: usize = 200_000;
/// A relay that is busy with itself answers nobody.
const LIMIT: Duration = Duration::from_secs(600);
const SEED: u64 = 0x6d_6f6e_7468;

/// A person with a stream.
struct Person {
    number: usize,
    edge: EnrolledEdge,
    live: FrameReader,
    /// Bodies that are still to be sent, the last one first.
    waiting: Vec<String>,
    sent: Vec<String>,
    /// What the live reader was sent.
    source: Vec<SentEvent>,
}

/// A body on its way to a person, and when the relay is to have received it.
struct Posted {
    body: String,
    received_at: UnixMillis,
}

impl Person {
    async fn new(relay: &Relay, number: usize) -> Self {
        let organization = if number < PEOPLE / 2 { SENDER } else { SHIFTED };
        let edge = relay.enrol(organization, &format!("person-{number}")).await;
        let (live, _) = FrameReader::open(relay, &edge, Dialect::Ndjson, "cursor=earliest").await;
        Self { number, edge, live, waiting: Vec::new(), sent: Vec::new(), source: Vec::new() }
    }

    fn is_shifted(&self) -> bool {
        self.edge.organization == SHIFTED
    }

    /// The next events, together as large as a segment, and now and then one that was sent before.
    fn burst(&mut self, burst: u64, rng: &mut Rng) -> Vec<Posted> {
        let at_ms = if self.is_shifted() { shifted_ms(burst) } else { now_ms() };
        let mut posted = Vec::new();
        if !self.sent.is_empty() && rng.u8(..4) == 0 {
            posted.push(self.sent[rng.usize(..self.sent.len())].clone());
        }
        let mut bytes = 0;
        while bytes < SEAL_BYTES {
            let body = self.next_body(at_ms, rng);
            bytes += body.len();
            posted.push(body.clone());
            self.sent.push(body);
        }
        let offset_ms = rng.u64(..3_600_000);
        let received_at = |place: u64| UnixMillis::new(at_ms + offset_ms + 7 * place);
        (0..)
            .map(received_at)
            .zip(posted)
            .map(|(at, body)| Posted { body, received_at: at })
            .collect()
    }

    /// One of a number that has no limit, or one of each kind that there is, in an order of its own.
    fn next_body(&mut self, at_ms: u64, rng: &mut Rng) -> String {
        let (organization, user) = (&self.edge.organization, &self.edge.user);
        if self.sent.is_empty() {
            let samples = samples(organization, user, at_ms);
            self.waiting = samples.into_iter().map(|sample| sample.body).collect();
            rng.shuffle(&mut self.waiting);
        }
        let index = self.sent.len() as u64;
        let bytes = rng.usize(600..4_000);
        let is_sample = rng.u8(..4) == 0;
        let sample = if is_sample { self.waiting.pop() } else { None };
        sample.unwrap_or_else(|| sized_body(organization, user, index, at_ms, bytes))
    }

    /// Takes what the live reader is sent, as much as was posted and is new.
    async fn read_live(&mut self) {
        let fresh = self.sent.len() - self.source.len();
        for frame in self.live.webhooks(fresh).await {
            self.source.push(SentEvent::of_line(&frame.line));
        }
    }

    fn check_source(&self) {
        let seqs = self.source.iter().map(SentEvent::seq);
        assert!(seqs.eq(1..=self.sent.len() as u64), "{}", self.edge.stream());
        let read: BTreeSet<String> = self.source.iter().map(SentEvent::body).collect();
        let sent: BTreeSet<String> = self.sent.iter().cloned().collect();
        assert!(read == sent && sent.len() == self.sent.len(), "{}", self.edge.stream());
    }
}

/// The moment of a burst in the shifted month.
fn shifted_ms(burst: u64) -> u64 {
    now_ms() - MONTH_MS + burst * (MONTH_MS / BURSTS)
}

#[tokio::test]
async fn a_month_of_fifty_people_is_read_as_it_was_written() {
    timeout(LIMIT, replay_a_month()).await.expect("the relay hangs");
}

async fn replay_a_month() {
    let started = Instant::now();
    println!("seed {SEED:#x}");
    let mut rng = Rng::with_seed(SEED);
    let mut relay = Relay::start_with(RelayOptions::sealed_at(SEAL_BYTES as u64)).await;
    let mut people = Vec::new();
    for number in 0..PEOPLE {
        people.push(Person::new(&relay, number).await);
    }
    for burst in 0..BURSTS {
        let posted = people.iter_mut().map(|person| person.burst(burst, &mut rng)).collect();
        send(&mut relay, &people, posted).await;
        for person in &mut people {
            person.read_live().await;
        }
        for person in &people {
            wait_until_sealed(&relay, &person.edge).await;
        }
    }
    let events: usize = people.iter().map(|person| person.sent.len()).sum();
    println!("{events} events after {:?}", started.elapsed());

    let mut histories = Vec::new();
    for person in &people {
        person.check_source();
        histories.push(StoredHistory::of(&mut relay, &person.edge).await);
    }
    let segments: usize = histories.iter().map(|history| history.agreed().len()).sum();
    println!("{segments} segments");
    assert!(segments as u64 >= PEOPLE as u64 * BURSTS);
    for person in &people {
        // One that has gone to sleep by itself can't be evicted.
        assert!(relay.stream_length(&person.edge.stream()).await > 0);
        relay.evict_stream(&person.edge.stream()).await;
    }
    stream::iter(&people)
        .for_each_concurrent(SIDE_BY_SIDE, |person| check_reader(&relay, person))
        .await;
    println!("read after {:?}", started.elapsed());

    for number in [3, 20, 31, 44] {
        let lost = damage(&mut relay, &histories, number, &mut rng).await;
        check_damaged(&relay, &people[number], &lost).await;
    }
    println!("done after {:?}", started.elapsed());
}

/// Sends a burst of everybody: webhooks side by side, or into the queue past the Worker.
async fn send(relay: &mut Relay, people: &[Person], posted: Vec<Vec<Posted>>) {
    let (shifted, webhooks): (Vec<_>, Vec<_>) =
        posted.into_iter().zip(people).partition(|(_, person)| person.is_shifted());
    stream::iter(webhooks)
        .for_each_concurrent(SIDE_BY_SIDE, async |(burst, _)| {
            for posted in burst {
                relay.deliver(&posted.body, "month").await;
            }
        })
        .await;
    let mut messages = Vec::new();
    let mut bytes = 0;
    for posted in shifted.into_iter().flat_map(|(burst, _)| burst) {
        let message = message_of(&posted);
        if bytes + message.len() > BATCH_BYTES_MAX || messages.len() == 100 {
            send_batch(relay, std::mem::take(&mut messages)).await;
            bytes = 0;
        }
        bytes += message.len();
        messages.push(json!({ "body": message, "contentType": "text" }));
    }
    send_batch(relay, messages).await;
}

/// What the Worker puts into the queue for a webhook.
fn message_of(posted: &Posted) -> String {
    let id = Envelope::parse(posted.body.as_bytes()).unwrap().event_id();
    let mut message = QueueMessage::new(id, posted.received_at, "month".into());
    message.headers = vec![("Content-Type".into(), "application/json".into())];
    message.encode(&posted.body)
}

async fn send_batch(relay: &mut Relay, messages: Vec<Value>) {
    relay.ask(json!({ "op": "queue_send_batch", "queue": "EVENTS", "messages": messages })).await;
}

async fn wait_until_sealed(relay: &Relay, edge: &EnrolledEdge) {
    until("a burst to be sealed", async || {
        let state = relay.stream_state(&edge.stream()).await;
        (state["hot_bytes"].as_u64()? < SEAL_BYTES as u64).then_some(())
    })
    .await;
}

/// Everybody's stream is read from its beginning, and in one more way each.
async fn check_reader(relay: &Relay, person: &Person) {
    let source = &person.source;
    let mut rng = Rng::with_seed(SEED + person.number as u64);
    check(relay, person, Dialect::Ndjson, "cursor=earliest", source).await;
    match person.number % 6 {
        0 => check_socket(relay, person).await,
        1 => check_pages(relay, person).await,
        2 => check_bulk(relay, person).await,
        3 => {
            for _ in 0..3 {
                let place = rng.usize(..source.len());
                let query = format!("cursor={}", source[place].cursor);
                check(relay, person, Dialect::Ndjson, &query, &source[place + 1..]).await;
                let query = format!("tail={}", source.len() - place);
                check(relay, person, Dialect::Ndjson, &query, &source[place..]).await;
            }
        }
        4 => {
            for kind in ["Issue.update".to_owned(), source[rng.usize(..source.len())].kind()] {
                let passing = source.iter().filter(|event| event.kind() == kind);
                let passing: Vec<SentEvent> = passing.cloned().collect();
                let query = format!("cursor=earliest&kind={kind}");
                check(relay, person, Dialect::Ndjson, &query, &passing).await;
            }
        }
        _ => check(relay, person, Dialect::Sse, "cursor=earliest", source).await,
    }
    if person.is_shifted() {
        let place = rng.usize(..source.len());
        let frame: Value = serde_json::from_str(&source[place].record).unwrap();
        let query = format!("since={}", frame["timestamp"].as_str().unwrap());
        check(relay, person, Dialect::Ndjson, &query, &source[place..]).await;
    }
}

/// Reads exactly these events, numbered from 1.
async fn check(
    relay: &Relay,
    person: &Person,
    dialect: Dialect,
    query: &str,
    expected: &[SentEvent],
) {
    let (mut reader, open) = FrameReader::open(relay, &person.edge, dialect, query).await;
    let newest = person.source.last().unwrap().cursor.to_string();
    assert_eq!(open["tail"], newest, "{} {query}", person.edge.stream());
    for (n, event) in (1..).zip(expected) {
        let frame = reader.frame("webhook").await;
        let Ok(Frame::Webhook(webhook)) = Frame::parse(&frame.line) else { panic!("{frame:?}") };
        assert_eq!(webhook.n, n, "{} {query}", person.edge.stream());
        assert_eq!(SentEvent::of_line(&frame.line), *event, "{} {query}", person.edge.stream());
    }
}

/// A socket is sent away once, when history ends.
async fn check_socket(relay: &Relay, person: &Person) {
    let read = read_socket(relay, &person.edge, person.source.len() as u64).await;
    assert!(read.iter().all(|read| matches!(read, Read::Event(_))));
    let events = read.into_iter().filter_map(|read| match read {
        Read::Event(event) => Some(event),
        Read::Gap(_) => None,
    });
    assert!(events.eq(person.source.iter().cloned()), "{}", person.edge.stream());
}

/// What a reader is sent, besides how the connection goes.
#[derive(Debug, PartialEq)]
enum Read {
    Event(SentEvent),
    /// Up to here events are lost.
    Gap(u64),
}

/// Reads up to a position; comes back when it is told to.
async fn read_socket(relay: &Relay, edge: &EnrolledEdge, last: u64) -> Vec<Read> {
    let mut read = Vec::new();
    let mut cursor = "earliest".to_owned();
    for _ in 0..3 {
        let query = format!("cursor={cursor}");
        let (mut socket, _) = FrameReader::open(relay, edge, Dialect::WebSocket, &query).await;
        while let Ok(frame) = socket.next().await {
            let at = match Frame::parse(&frame.line).unwrap() {
                Frame::Webhook(webhook) => {
                    read.push(Read::Event(SentEvent::of_line(&frame.line)));
                    webhook.cursor
                }
                Frame::Gap(gap) => {
                    assert_eq!(gap.reason, GapReason::Lost);
                    read.push(Read::Gap(gap.resumed_from.seq.get()));
                    gap.resumed_from
                }
                Frame::Bye(bye) => bye.cursor,
                Frame::Heartbeat(heartbeat) => heartbeat.cursor,
                Frame::Signal(_) => continue,
                Frame::Open(_) | Frame::Unknown => panic!("{frame:?}"),
            };
            cursor = at.to_string();
            if at.seq.get() == last {
                return read;
            }
        }
    }
    panic!("{} was sent away too often", edge.stream());
}

async fn check_pages(relay: &Relay, person: &Person) {
    let upwards = page_through(relay, &person.edge, "limit=37&order=asc").await;
    assert!(upwards == person.source, "{}", person.edge.stream());
    let mut downwards = page_through(relay, &person.edge, "limit=100&order=desc").await;
    downwards.reverse();
    assert!(downwards == person.source, "{}", person.edge.stream());
}

async fn check_bulk(relay: &Relay, person: &Person) {
    let (plan, rest) = bulk_plan(relay, &person.edge).await;
    let mut read = Vec::new();
    for segment in &plan {
        let url = segment["url"].as_str().unwrap();
        let answer = Answer::to(relay.as_edge(&person.edge, Method::GET, url)).await;
        assert_eq!(answer.status, 200, "{url}");
        let mut reader = SegmentReader::new(answer.body, &planned_entry(segment)).unwrap();
        while let Some((seq, record)) = reader.next().unwrap() {
            let cursor = Cursor { epoch: rest.epoch, seq };
            read.push(SentEvent { cursor, record: record.to_owned() });
        }
    }
    let query = format!("limit=1000&cursor={rest}");
    let hot = relay.as_edge(&person.edge, Method::GET, &format!("/events?{query}"));
    let page: relay_durable::Page = serde_json::from_slice(&Answer::to(hot).await.body).unwrap();
    read.extend(page.events.iter().map(|event| SentEvent::of_line(event.get())));
    assert!(read == person.source, "{}", person.edge.stream());
}

/// Takes five of a person's segments away, each in another manner; answers what they held.
async fn damage(
    relay: &mut Relay,
    histories: &[StoredHistory],
    number: usize,
    rng: &mut Rng,
) -> Vec<(u64, u64)> {
    let history = &histories[number];
    let ranges = history.agreed();
    let mut places = rng.choose_multiple(0..ranges.len(), 5);
    places.sort_unstable();
    for (manner, place) in places.iter().enumerate() {
        let key = &history.keys[*place];
        let mut bytes = stored_bytes(relay, key).await;
        match manner {
            0 => {
                relay.ask(json!({ "op": "r2_delete", "key": key })).await;
                continue;
            }
            1 => {
                let place = rng.usize(..bytes.len());
                bytes[place] ^= 1 << rng.u8(..8);
            }
            2 => bytes.truncate(rng.usize(..bytes.len())),
            3 => bytes = forged(bytes, &history.index[*place], rng),
            // Somebody else's segment, whole and sound.
            _ => {
                let other = &histories[number - 1].keys;
                bytes = stored_bytes(relay, &other[place % other.len()]).await;
            }
        }
        let body = STANDARD.encode(bytes);
        relay.ask(json!({ "op": "r2_put", "key": key, "body": body, "metadata": {} })).await;
    }
    places.into_iter().map(|place| ranges[place]).collect()
}

/// A sound segment of the same length with one letter changed: only the digest tells.
fn forged(bytes: Vec<u8>, entry: &SegmentEntry, rng: &mut Rng) -> Vec<u8> {
    let length = bytes.len();
    let mut reader = SegmentReader::new(bytes, entry).unwrap();
    let mut records = Vec::new();
    while let Some((_, record)) = reader.next().unwrap() {
        records.push(record.to_owned());
    }
    loop {
        let mut records = records.clone();
        let place = rng.usize(..records.len());
        let at = rng.usize(..records[place].len());
        if !records[place].as_bytes()[at].is_ascii_lowercase() {
            continue;
        }
        records[place].replace_range(at..=at, &rng.lowercase().to_string());
        let mut encoder = SegmentEncoder::new(entry.first);
        records.iter().for_each(|record| encoder.push(record));
        let forged = encoder.finish().unwrap();
        if forged.bytes.len() == length && forged.entry.sha256 != entry.sha256 {
            return forged.bytes;
        }
    }
}

async fn stored_bytes(relay: &mut Relay, key: &str) -> Vec<u8> {
    let object = relay.ask(json!({ "op": "r2_get", "key": key })).await;
    STANDARD.decode(object["body"].as_str().unwrap()).unwrap()
}

/// Exactly the lost ranges are gaps, and everything else is as before.
async fn check_damaged(relay: &Relay, person: &Person, lost: &[(u64, u64)]) {
    let is_lost = |seq: u64| lost.iter().any(|(first, last)| (*first..=*last).contains(&seq));
    let mut expected: Vec<Read> = Vec::new();
    for event in &person.source {
        if !is_lost(event.seq()) {
            expected.push(Read::Event(event.clone()));
        } else if let Some((_, last)) = lost.iter().find(|(first, _)| *first == event.seq()) {
            expected.push(Read::Gap(*last));
        }
    }
    let newest = person.source.len() as u64;
    let (mut reader, _) =
        FrameReader::open(relay, &person.edge, Dialect::Ndjson, "cursor=earliest").await;
    for (place, expected) in expected.iter().enumerate() {
        match expected {
            Read::Event(event) => {
                let frame = reader.frame("webhook").await;
                assert_eq!(SentEvent::of_line(&frame.line), *event, "{place}, lost {lost:?}");
            }
            Read::Gap(last) => {
                let frame = reader.frame("gap").await;
                let Ok(Frame::Gap(gap)) = Frame::parse(&frame.line) else { panic!("{frame:?}") };
                assert_eq!((gap.reason, gap.resumed_from.seq.get()), (GapReason::Lost, *last));
            }
        }
    }
    let read = read_socket(relay, &person.edge, newest).await;
    assert!(read == expected, "a socket, lost {lost:?}");
    let pages = page_through(relay, &person.edge, "limit=50").await;
    let kept: Vec<SentEvent> =
        person.source.iter().filter(|event| !is_lost(event.seq())).cloned().collect();
    assert!(pages == kept, "pages, lost {lost:?}");
}
