//! A relay of one stream's history on port 0: plans, segments, pages, and the ways in which they
//! can go wrong. Each request for a route takes the next fault that is planned for it.

use std::{
    collections::{HashMap, VecDeque},
    future::IntoFuture,
    io::Write,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{StreamExt, stream};
use relay_schemas::{
    Cursor, ErrorCode, Gap, GapReason, Problem, Sha256Digest, write_webhook_frame,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use crate::events::{cursor, record};

/// What goes wrong with one request.
#[derive(Clone)]
pub(crate) enum Wrong {
    /// An error of the relay, with `Retry-After`.
    Problem(ErrorCode, Option<u64>),
    /// A page that is no relay's.
    Portal,
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// One byte is another.
    Flip,
    /// A range is not understood: everything comes.
    NoRanges,
    /// Another range comes.
    OtherRange,
    /// A proxy has decoded it.
    Decoded,
    /// The answer waits.
    Hold(Arc<Notify>),
    /// The stream was reset just before.
    Reset,
}

type Queries = HashMap<String, String>;
type Check = Box<dyn Fn(u64) + Send>;

struct Inner {
    events: u64,
    /// Positions after which segments end.
    ends: Vec<u64>,
    offered_max: usize,
    trimmed: u64,
    /// The stream grows so much with each plan, and seals it.
    growth: u64,
    wrongs: VecDeque<(&'static str, Wrong)>,
    seen: Vec<String>,
    on_segment: Option<Check>,
}

#[derive(Clone)]
pub(crate) struct HistoryRelay {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
}

/// The record at a position; some are large enough that a segment comes in several pieces.
pub(crate) fn sample(seq: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seq);
    let noise: String = (0..random.usize(20..400)).map(|_| random.alphanumeric()).collect();
    record(seq, &format!(r#"{{"type":"Issue","text":"{noise}"}}"#))
}

/// What an export of these events writes.
pub(crate) fn lines(first: u64, last: u64) -> String {
    let mut text = String::new();
    for (seq, n) in (first..=last).zip(1..) {
        write_webhook_frame(cursor(seq), n, &sample(seq), &mut text);
        text.push('\n');
    }
    text
}

fn records(first: u64, last: u64) -> String {
    (first..=last).map(|seq| sample(seq) + "\n").collect()
}

fn compress(text: &str) -> Vec<u8> {
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
    writer.write_all(text.as_bytes()).unwrap();
    writer.into_inner()
}

impl HistoryRelay {
    /// A stream of so many events, with segments that end there.
    pub(crate) async fn start(events: u64, ends: &[u64]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            inner: Arc::new(Mutex::new(Inner {
                events,
                ends: ends.to_vec(),
                offered_max: 100,
                trimmed: 0,
                growth: 0,
                wrongs: VecDeque::new(),
                seen: Vec::new(),
                on_segment: None,
            })),
        };
        let router = Router::new()
            .route("/events/segments", get(plan))
            .route("/events/segments/{epoch}/{name}", get(segment))
            .route("/events", get(page))
            .with_state(relay.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        relay
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn offer(&self, segments: usize) {
        self.inner().offered_max = segments;
    }

    pub(crate) fn grow_by(&self, events: u64) {
        self.inner().growth = events;
    }

    pub(crate) fn trim(&self, events: u64) {
        self.inner().trimmed = events;
    }

    /// The next request for `plan`, `page` or `segment FIRST` goes wrong.
    pub(crate) fn plan_wrong(&self, route: &'static str, wrong: Wrong) {
        self.inner().wrongs.push_back((route, wrong));
    }

    /// Called with the first position of every segment that is asked for.
    pub(crate) fn on_segment(&self, check: impl Fn(u64) + Send + 'static) {
        self.inner().on_segment = Some(Box::new(check));
    }

    /// Requests so far, those of one kind: `plan`, `page` or `segment`.
    pub(crate) fn seen(&self, kind: &str) -> Vec<String> {
        self.inner().seen.iter().filter(|seen| seen.starts_with(kind)).cloned().collect()
    }

    /// Waits until a request like this has come.
    pub(crate) async fn wait_for(&self, request: &str) {
        while !self.inner().seen.iter().any(|seen| seen.contains(request)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn note(&self, route: &str, request: String) -> Option<Wrong> {
        let mut inner = self.inner();
        inner.seen.push(request);
        let at = inner.wrongs.iter().position(|(planned, _)| *planned == route)?;
        inner.wrongs.remove(at).map(|(_, wrong)| wrong)
    }
}

fn problem(code: ErrorCode, retry_after_s: Option<u64>) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap();
    let mut response = (status, Problem::new(code, "as planned").to_json()).into_response();
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Answers to requests of which nothing is sent as it should be.
async fn refuse(wrong: &Wrong) -> Option<Response> {
    match wrong {
        Wrong::Problem(code, retry_after_s) => Some(problem(*code, *retry_after_s)),
        Wrong::Portal => Some((StatusCode::FORBIDDEN, "<html>").into_response()),
        Wrong::Reset => Some(problem(ErrorCode::CursorEpochChanged, None)),
        Wrong::Hold(release) => {
            release.notified().await;
            None
        }
        Wrong::Cut(_) | Wrong::Flip | Wrong::NoRanges | Wrong::OtherRange | Wrong::Decoded => None,
    }
}

/// Where reading starts, and the gap before it.
fn start(inner: &Inner, queries: &Queries, name: &str) -> Result<(u64, Option<Gap>), ErrorCode> {
    let requested = match (queries.get(name), queries.get("since")) {
        (Some(text), _) if text != "earliest" => text,
        (_, Some(_)) => return Ok((inner.events / 2, None)),
        _ => return Ok((inner.trimmed, None)),
    };
    let from: Cursor = requested.parse().unwrap();
    if from.seq.get() >= inner.trimmed {
        return Ok((from.seq.get(), None));
    }
    if queries.get("on_gap").is_some_and(|on_gap| on_gap == "error") {
        return Err(ErrorCode::CursorTrimmed);
    }
    let oldest = cursor(inner.trimmed);
    let reason = GapReason::Trimmed;
    let gap = Gap { requested: requested.clone(), resumed_from: oldest, oldest, reason };
    Ok((inner.trimmed, Some(gap)))
}

async fn plan(State(relay): State<HistoryRelay>, Query(queries): Query<Queries>) -> Response {
    let wrong = relay.note("plan", format!("plan {queries:?}"));
    if let Some(wrong) = &wrong
        && let Some(response) = refuse(wrong).await
    {
        return response;
    }
    let mut inner = relay.inner();
    let (from, gap) = match start(&inner, &queries, "from") {
        Ok(start) => start,
        Err(code) => return problem(code, None),
    };
    let (segments, rest, has_more) = offer(&inner, from);
    let body = json!({
        "stream": "org-1/user:u-1", "epoch": cursor(0).epoch, "from": cursor(from),
        "segments": segments, "rest": cursor(rest), "oldest": cursor(inner.trimmed),
        "tail": cursor(inner.events), "has_more": has_more, "gap": gap,
    });
    if inner.growth > 0 {
        inner.events += inner.growth;
        let tail = inner.events;
        inner.ends.push(tail);
    }
    axum::Json(body).into_response()
}

/// The next segments, the position after them, and whether there are more.
fn offer(inner: &Inner, from: u64) -> (Vec<Value>, u64, bool) {
    let firsts = [0].iter().chain(&inner.ends).map(|end| end + 1);
    let mut sealed = firsts.zip(&inner.ends).filter(|(_, end)| **end > from);
    let offered: Vec<_> = sealed.by_ref().take(inner.offered_max).collect();
    let rest = offered.last().map_or(from, |(_, end)| **end);
    let entries = offered.into_iter().map(|(first, end)| entry(first, *end)).collect();
    (entries, rest, sealed.next().is_some())
}

fn entry(first: u64, last: u64) -> Value {
    let text = records(first, last);
    let bytes = compress(&text);
    json!({
        "first": first, "last": last, "count": last + 1 - first,
        "first_received_at": "2026-11-20T05:06:07.000Z",
        "last_received_at": "2026-11-20T05:06:07.000Z",
        "bytes": bytes.len(), "uncompressed_bytes": text.len(),
        "sha256": Sha256Digest::of(&[&bytes]),
        "url": format!("/events/segments/{}/{first:016}-{last:016}", cursor(0).epoch),
    })
}

async fn segment(
    State(relay): State<HistoryRelay>,
    Path((_, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let (first, last) = name.split_once('-').unwrap();
    let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
    let header = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let (range, condition) = (header(header::RANGE), header(header::IF_RANGE));
    assert_eq!(header(header::ACCEPT_ENCODING).as_deref(), Some("br"));
    if let Some(check) = &relay.inner().on_segment {
        check(first);
    }
    let request = format!("segment {first} {}", range.as_deref().unwrap_or("whole"));
    let wrong = relay.note(&format!("segment {first}"), request);
    if let Some(wrong) = &wrong
        && let Some(response) = refuse(wrong).await
    {
        return response;
    }
    let text = records(first, last);
    if matches!(wrong, Some(Wrong::Decoded)) {
        return text.into_response();
    }
    let bytes = compress(&text);
    let digest = format!("\"{}\"", Sha256Digest::of(&[&bytes]));
    let begin = range.filter(|_| condition.as_ref() == Some(&digest)).map(|range| {
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap()
    });
    send(bytes, begin, wrong)
}

fn send(mut bytes: Vec<u8>, begin: Option<usize>, wrong: Option<Wrong>) -> Response {
    if matches!(wrong, Some(Wrong::Flip)) {
        bytes[20] ^= 4;
    }
    let (begin, length) = (begin.filter(|_| !matches!(wrong, Some(Wrong::NoRanges))), bytes.len());
    let mut bytes = Bytes::from(bytes).slice(begin.unwrap_or(0)..);
    let cut = if let Some(Wrong::Cut(cut)) = wrong { Some(cut) } else { None };
    bytes.truncate(cut.unwrap_or(bytes.len()));
    let mut pieces: Vec<_> = bytes.chunks(100).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
    pieces.extend(cut.map(|_| Err(std::io::Error::other("cut"))));
    // One after another, so that what stands before a cut arrives.
    let pieces = stream::iter(pieces).then(async |piece| {
        tokio::time::sleep(Duration::from_millis(2)).await;
        piece
    });
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert(header::CONTENT_ENCODING, "br".parse().unwrap());
    if let Some(begin) = begin {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let begin = if matches!(wrong, Some(Wrong::OtherRange)) { begin + 1 } else { begin };
        let range = format!("bytes {begin}-{}/{length}", length - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, range.parse().unwrap());
    }
    response
}

async fn page(State(relay): State<HistoryRelay>, Query(queries): Query<Queries>) -> Response {
    let wrong = relay.note("page", format!("page {queries:?}"));
    if let Some(wrong) = &wrong
        && let Some(response) = refuse(wrong).await
    {
        return response;
    }
    let inner = relay.inner();
    let (after, _) = match start(&inner, &queries, "cursor") {
        Ok(start) => start,
        Err(code) => return problem(code, None),
    };
    let last = inner.events.min(after + 3);
    let frames: Vec<String> = (after + 1..=last)
        .zip(1..)
        .map(|(seq, n)| {
            let mut frame = String::new();
            write_webhook_frame(cursor(seq), n, &sample(seq), &mut frame);
            frame
        })
        .collect();
    format!(
        r#"{{"events":[{}],"cursor":"{}","has_more":{}}}"#,
        frames.join(","),
        cursor(last),
        last < inner.events
    )
    .into_response()
}
