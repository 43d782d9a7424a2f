//! Reading segments from R2 and the index from KV, for the cores that decide what is read.

use std::time::Duration;

use futures::channel::oneshot;
use relay_durable::{Fetched, SegmentObject};
use relay_schemas::{
    Connect, Counter, EdgeId, HistoryOffer, OnGap, Problem, SegmentEntry, Start, StreamKey,
};
use wasm_bindgen_futures::spawn_local;
use worker::{Delay, Env, Response, Result, WebSocket};

use crate::{
    log, metrics, respond,
    stream_client::{self, RESUMED_FROM_HEADER},
    stream_object::HistoryQuery,
};

/// How long to wait before R2 is asked again.
const RETRIES_MS: [u64; 3] = [100, 500, 2_000];

/// What the object answered to a connect.
pub(crate) enum Opened {
    /// It follows the reader, over this socket.
    Live(WebSocket),
    /// The reader's position lies in history.
    History(HistoryOffer),
    /// It refused; its answer is the relay's.
    Refused(Response),
}

/// Asks the object to follow a reader. Answers also where reading starts, when elsewhere than
/// asked.
pub(crate) async fn connect(env: &Env, connect: &Connect) -> Result<(Opened, Option<String>)> {
    let mut response = stream_client::connect(env, &connect.stream, connect).await?;
    let resumed_from = response.headers().get(RESUMED_FROM_HEADER)?;
    let opened = match response.status_code() {
        101 => {
            let no_socket = || worker::Error::RustError("the object opened no socket".into());
            Opened::Live(response.websocket().ok_or_else(no_socket)?)
        }
        200 => {
            let offer: HistoryOffer = response.json().await?;
            let resumed_from = offer.gap.as_ref().map(|gap| gap.resumed_from.to_string());
            return Ok((Opened::History(offer), resumed_from));
        }
        _ => Opened::Refused(stream_client::hand_on(response).await?),
    };
    Ok((opened, resumed_from))
}

/// Asks the object which segments follow a start.
pub(crate) async fn offer(
    env: &Env,
    stream: &StreamKey,
    edge: &EdgeId,
    (start, on_gap): (Start, OnGap),
    count: usize,
) -> Result<std::result::Result<HistoryOffer, Response>> {
    let query = HistoryQuery { stream: stream.clone(), edge: edge.clone(), start, on_gap, count };
    let body = serde_json::to_string(&query)?;
    let mut response =
        stream_client::post(env, "STREAMS", &stream.to_string(), "/history", body.into()).await?;
    Ok(match response.status_code() {
        200 => Ok(response.json().await?),
        _ => Err(stream_client::hand_on(response).await?),
    })
}

/// A segment's object. An error of R2 is not the absence of the object.
pub(crate) async fn fetch(env: &Env, key: &str) -> Result<Fetched> {
    let mut waits = RETRIES_MS.iter();
    loop {
        match fetch_once(env, key).await {
            Ok(fetched) => {
                let is_there = matches!(fetched, Fetched::Bytes(_));
                metrics::add(Counter::SegmentsRead, u64::from(is_there));
                return Ok(fetched);
            }
            Err(error) => match waits.next() {
                Some(wait_ms) => Delay::from(Duration::from_millis(*wait_ms)).await,
                None => {
                    log::platform_error("segment_unavailable", "", &error);
                    return Err(error);
                }
            },
        }
    }
}

async fn fetch_once(env: &Env, key: &str) -> Result<Fetched> {
    match env.bucket("BUCKET")?.get(key).execute().await? {
        Some(object) => match object.body() {
            Some(body) => Ok(Fetched::Bytes(body.bytes().await?)),
            None => Ok(Fetched::Missing),
        },
        None => Ok(Fetched::Missing),
    }
}

/// The same for one request that can answer with a problem.
pub(crate) async fn fetch_for(
    env: &Env,
    object: &SegmentObject,
) -> std::result::Result<Fetched, Problem> {
    fetch(env, &object.key).await.map_err(|_| respond::unavailable())
}

/// What KV lists under a prefix. An index that can't be read knows nothing: the object is asked.
pub(crate) async fn list(env: &Env, prefix: String) -> Vec<SegmentEntry> {
    let listing = async {
        let response = env.kv("INDEX")?.list().prefix(prefix).execute().await?;
        Ok::<_, worker::Error>(response.keys)
    };
    match listing.await {
        Ok(keys) => {
            let metadata = keys.into_iter().filter_map(|key| key.metadata);
            metadata.filter_map(|entry| serde_json::from_value(entry).ok()).collect()
        }
        Err(error) => {
            log::platform_error("index_unavailable", "", &error);
            Vec::new()
        }
    }
}

/// A segment that is fetched while the one before is read.
#[derive(Default)]
pub(crate) struct Prefetch {
    pending: Option<(SegmentEntry, oneshot::Receiver<Result<Fetched>>)>,
}

/// Objects larger than this are fetched when they are needed, so that a reader costs the Worker at
/// most the segment that it reads and this.
const PREFETCHED_BYTES_MAX: u64 = 2 * 1024 * 1024;

impl Prefetch {
    /// Begins to fetch, unless that is under way.
    pub(crate) fn begin(&mut self, env: &Env, object: Option<SegmentObject>) {
        let Some(object) = object else { return };
        let is_pending = self.pending.as_ref().is_some_and(|(entry, _)| *entry == object.entry);
        if is_pending || object.entry.bytes > PREFETCHED_BYTES_MAX {
            return;
        }
        let (sender, receiver) = oneshot::channel();
        let env = env.clone();
        self.pending = Some((object.entry, receiver));
        spawn_local(async move {
            let _ = sender.send(fetch(&env, &object.key).await);
        });
    }

    /// A segment, the one fetched ahead or another.
    pub(crate) async fn take(&mut self, env: &Env, object: &SegmentObject) -> Result<Fetched> {
        if let Some((entry, receiver)) = self.pending.take()
            && entry == object.entry
            && let Ok(fetched) = receiver.await
        {
            return fetched;
        }
        fetch(env, &object.key).await
    }
}
