//! The scheduled sweep: one stream after the other, what it knows is compared with R2 and KV.

use relay_durable::{FoundObject, KnownHistory, Repair, Sweep, sweep};
use relay_schemas::{Counter, SegmentEntry, StreamKey, UnixMillis, index_key, segments_prefix};
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
const STREAMS_AT_ONCE_MAX: usize = 300;

/// Changes of the index after which a run ends, and the next goes on: an invocation may have
/// 1,000 operations of KV.
const INDEX_CHANGES_MAX: u64 = 300;

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
    let mut looked_at = 0;
    for stream in &streams {
        if report.index_entries_put + report.index_entries_deleted >= INDEX_CHANGES_MAX {
            break;
        }
        looked_at += 1;
        if let Err(error) = sweep_stream(env, stream, now, &mut report).await {
            report.failures += 1;
            log::platform_error("sweep_failed", "", &error);
        }
    }
    state.is_done = looked_at == streams.len() && looked_at < STREAMS_AT_ONCE_MAX;
    state.after = streams[..looked_at].last().cloned().unwrap_or_default();
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
    let lost = confirm_missing(env, known, found.missing).await?;
    report.segments_lost += lost.len() as u64;
    report.orphans += found.orphans.len() as u64;
    if !lost.is_empty() || !found.orphans.is_empty() {
        let fields = json!({
            "stream": known.stream.to_string(),
            "lost": lost.len(),
            "orphans": found.orphans.len(),
        });
        log::line(Level::Error, "history_incomplete", "", fields);
    }
    let mut repairs = found.repairs;
    repairs.extend(
        lost.iter()
            .map(|entry| Repair::DeleteIndex(index_key(&known.stream, known.epoch, entry.first))),
    );
    let mut needless = Vec::new();
    for repair in &repairs {
        if let Repair::DeleteObject(key) = repair {
            needless.push(key.clone());
        }
    }
    report.objects_deleted += needless.len() as u64;
    sealing::discard(env, needless).await;
    for repair in repairs {
        repair_index(env, known, repair, report).await?;
    }
    Ok(())
}

/// What wasn't listed may have been sealed since.
async fn confirm_missing(
    env: &Env,
    known: &KnownHistory,
    missing: Vec<SegmentEntry>,
) -> Result<Vec<SegmentEntry>> {
    let bucket = env.bucket("BUCKET")?;
    let mut lost = Vec::new();
    for entry in missing {
        if bucket.head(entry.key(&known.stream, known.epoch)).await?.is_none() {
            lost.push(entry);
        }
    }
    Ok(lost)
}

async fn repair_index(
    env: &Env,
    known: &KnownHistory,
    repair: Repair,
    report: &mut SweepReport,
) -> Result<()> {
    match repair {
        Repair::PutIndex(entry) => {
            let age_ms = host::now().since_ms(entry.received_at_max);
            if age_ms < known.retention_ms {
                sealing::put_index(env, &known.stream, known.epoch, &entry).await?;
                report.index_entries_put += 1;
            }
        }
        Repair::DeleteIndex(key) => {
            env.kv("INDEX")?.delete(&key).await?;
            report.index_entries_deleted += 1;
        }
        Repair::DeleteObject(_) => {}
    }
    Ok(())
}
