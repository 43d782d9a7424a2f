//! The scheduled sweep: one stream after the other, what it knows is compared with R2 and KV.

use relay_durable::{FoundObject, KnownHistory, Repair, Sweep, sweep};
use relay_schemas::{Counter, StreamKey, UnixMillis, segments_prefix};
use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::{Env, Error, Result};

use crate::{
    bucket_listing, host,
    log::{self, Level},
    metrics, sealing,
    stream_client::{ask, post_to_object},
};

/// Streams that one run looks at: each costs a call to its object and a listing of R2 and of KV.
const STREAMS_AT_ONCE_MAX: usize = 100;

/// How often each stream is looked at.
const ROUND_MS: u64 = 24 * 3_600_000;

/// Where the sweep stands. Kept by the operations object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SweepState {
    /// The last stream looked at in this round.
    pub(crate) after: String,
    /// When the round began.
    pub(crate) began_at: UnixMillis,
    /// Whether the round is complete.
    pub(crate) is_done: bool,
}

/// What one run did.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SweepReport {
    streams: u64,
    objects_deleted: u64,
    index_entries_put: u64,
    index_entries_deleted: u64,
    segments_lost: u64,
    orphans: u64,
    failures: u64,
}

/// Looks at the next streams, if a round is due. `is_forced` begins a round at once.
pub(crate) async fn run(env: &Env, is_forced: bool) -> Result<SweepReport> {
    let now = host::now();
    let name = metrics::OPERATIONS_NAME;
    let mut state: SweepState = ask(env, "OPERATIONS", name, "/sweep-state", String::new()).await?;
    if state.is_done && !is_forced && now.since_ms(state.began_at) < ROUND_MS {
        return Ok(SweepReport::default());
    }
    if state.is_done || state.after.is_empty() || is_forced {
        state = SweepState { after: String::new(), began_at: now, is_done: false };
    }
    let query = json!({ "after": state.after, "count": STREAMS_AT_ONCE_MAX }).to_string();
    let streams: Vec<String> = ask(env, "OPERATIONS", name, "/streams", query).await?;
    let mut report = SweepReport::default();
    for stream in &streams {
        if let Err(error) = sweep_stream(env, stream, now, &mut report).await {
            report.failures += 1;
            log::platform_error("sweep_failed", "", &error);
        }
    }
    state.is_done = streams.len() < STREAMS_AT_ONCE_MAX;
    state.after = streams.last().cloned().unwrap_or_default();
    post_to_object(env, "OPERATIONS", name, "/save-sweep", serde_json::to_string(&state)?).await?;
    log::line(Level::Info, "swept", "", serde_json::to_value(&report)?);
    metrics::add(Counter::OrphansDeleted, report.objects_deleted);
    metrics::flush(env).await;
    Ok(report)
}

async fn sweep_stream(
    env: &Env,
    name: &str,
    now: UnixMillis,
    report: &mut SweepReport,
) -> Result<()> {
    report.streams += 1;
    let stream: StreamKey =
        name.parse().map_err(|_| Error::RustError("not a stream's name".into()))?;
    // What lies there is listed before the stream is asked: what is sealed meanwhile is known.
    let objects: Vec<FoundObject> = bucket_listing::all(env, &segments_prefix(&stream))
        .await?
        .iter()
        .map(|object| FoundObject {
            key: object.key(),
            uploaded_at: UnixMillis::new(object.uploaded().as_millis()),
        })
        .collect();
    let index = index_keys(env, &stream).await?;
    let known: Option<KnownHistory> = ask(env, "STREAMS", name, "/known", String::new()).await?;
    let Some(known) = known else {
        report.orphans += objects.len() as u64;
        return Ok(());
    };
    repair(env, &known, sweep(&known, &objects, &index, now), report).await
}

async fn index_keys(env: &Env, stream: &StreamKey) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut list = env.kv("INDEX")?.list().prefix(format!("seg/{stream}/"));
        if let Some(cursor) = cursor {
            list = list.cursor(cursor);
        }
        let page = list.execute().await?;
        keys.extend(page.keys.into_iter().map(|key| key.name));
        cursor = page.cursor;
        if page.list_complete || cursor.is_none() {
            return Ok(keys);
        }
    }
}

async fn repair(
    env: &Env,
    known: &KnownHistory,
    found: Sweep,
    report: &mut SweepReport,
) -> Result<()> {
    report.segments_lost += found.lost.len() as u64;
    report.orphans += found.orphans.len() as u64;
    if !found.lost.is_empty() || !found.orphans.is_empty() {
        let fields = json!({
            "stream": known.stream.to_string(),
            "lost": found.lost.len(),
            "orphans": found.orphans.len(),
        });
        log::line(Level::Error, "history_incomplete", "", fields);
    }
    let mut needless = Vec::new();
    for repair in found.repairs {
        match repair {
            Repair::DeleteObject(key) => needless.push(key),
            Repair::PutIndex(entry) => {
                sealing::put_index(env, &known.stream, known.epoch, &entry).await?;
                report.index_entries_put += 1;
            }
            Repair::DeleteIndex(key) => {
                env.kv("INDEX")?.delete(&key).await?;
                report.index_entries_deleted += 1;
            }
        }
    }
    report.objects_deleted += needless.len() as u64;
    sealing::discard(env, needless).await;
    Ok(())
}
