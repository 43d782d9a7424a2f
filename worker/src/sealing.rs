//! Puts segments into R2 and into the index in KV. What each step means is written beside
//! [`relay_durable::Log::next_segment`].

use std::collections::HashMap;

use relay_durable::{EncodedSegment, SealJob};
use relay_schemas::{Counter, Epoch, SegmentEntry, StreamKey, index_key};
use serde_json::json;
use worker::{Bucket, Conditional, Env, Error, HttpMetadata, Result};

use crate::{
    host,
    log::{self, Level},
    metrics,
    settings::Settings,
};

/// KV keeps nothing shorter than this.
const INDEX_LIFE_S_MIN: u64 = 60;

/// How long an entry outlives its segment.
const INDEX_MARGIN_MS: u64 = 2 * 86_400_000;

/// Objects that one call deletes at most.
const DELETED_AT_ONCE_MAX: usize = 1_000;

const DIGEST: &str = "sha256";

/// Makes a segment durable in R2, and then known in KV. The store that refused is logged.
pub(crate) async fn keep(env: &Env, job: &SealJob) -> std::result::Result<(), ()> {
    let outcome = match put(env, job).await {
        Ok(()) => index(env, job).await.map_err(|error| ("kv", error)),
        Err(error) => Err(("r2", error)),
    };
    outcome.map_err(|(store, error)| {
        metrics::add(Counter::SealFailures(store), 1);
        log::platform_error("segment_not_kept", "", &error);
    })
}

/// Puts the object unless it is there. One that is there with other bytes was made by another
/// version of the encoder from the same records, or damaged: the hot tail is right.
async fn put(env: &Env, job: &SealJob) -> Result<()> {
    let bucket = env.bucket("BUCKET")?;
    let is_absent = Conditional { etag_does_not_match: Some("*".into()), ..Default::default() };
    if put_object(&bucket, job, Some(is_absent)).await? || is_same(&bucket, job).await? {
        return Ok(());
    }
    put_object(&bucket, job, None).await?;
    Ok(())
}

async fn put_object(bucket: &Bucket, job: &SealJob, only_if: Option<Conditional>) -> Result<bool> {
    let entry = &job.segment.entry;
    let metadata: HashMap<String, String> = [
        ("version", "1".to_owned()),
        ("count", entry.count().to_string()),
        ("first_received_at", entry.received_at_min.to_string()),
        ("last_received_at", entry.received_at_max.to_string()),
        ("uncompressed_bytes", entry.raw_bytes.to_string()),
        (DIGEST, entry.sha256.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let http_metadata = HttpMetadata {
        content_type: Some("application/x-ndjson".into()),
        content_encoding: Some("br".into()),
        cache_control: Some("private, immutable".into()),
        ..Default::default()
    };
    let mut put = bucket
        .put(job.key(), job.segment.bytes.clone())
        .custom_metadata(metadata)
        .http_metadata(http_metadata)
        .sha256(entry.sha256.as_bytes().to_vec());
    if let Some(only_if) = only_if {
        put = put.only_if(only_if);
    }
    Ok(put.execute().await?.is_some())
}

async fn is_same(bucket: &Bucket, job: &SealJob) -> Result<bool> {
    let Some(found) = bucket.head(job.key()).await? else { return Ok(false) };
    let digest = found.custom_metadata()?.remove(DIGEST);
    let entry = &job.segment.entry;
    Ok(found.size() == entry.bytes && digest == Some(entry.sha256.to_string()))
}

async fn index(env: &Env, job: &SealJob) -> Result<()> {
    put_index(env, &job.stream, job.epoch, &job.segment.entry).await
}

/// Writes a segment's entry, which expires after the segment: retention is swept in steps, and the
/// sweep must not find an entry missing that is about to be needless.
pub(crate) async fn put_index(
    env: &Env,
    stream: &StreamKey,
    epoch: Epoch,
    entry: &SegmentEntry,
) -> Result<()> {
    let settings = Settings::of(env).map_err(|problem| Error::RustError(problem.to_string()))?;
    let retention_ms = settings.streams_of(Some(stream)).retention_ms;
    let expires_at = entry.received_at_max + retention_ms + INDEX_MARGIN_MS;
    let life_s = expires_at.since_ms(host::now()) / 1000;
    env.kv("INDEX")?
        .put(&index_key(stream, epoch, entry.first), "")?
        .metadata(entry)?
        .expiration_ttl(life_s.max(INDEX_LIFE_S_MIN))
        .execute()
        .await?;
    Ok(())
}

/// Counts a segment whose rows are gone.
pub(crate) fn count_sealed(segment: &EncodedSegment) {
    let entry = &segment.entry;
    metrics::add(Counter::SegmentsSealed, 1);
    metrics::add(Counter::EventsSealed, entry.count());
    log::line(
        Level::Info,
        "segment_sealed",
        "",
        json!({ "events": entry.count(), "bytes": entry.bytes, "raw_bytes": entry.raw_bytes }),
    );
}

/// Deletes objects that retention has passed. What fails is left to the bucket's lifecycle rule.
pub(crate) async fn discard(env: &Env, keys: Vec<String>) {
    if keys.is_empty() {
        return;
    }
    let Ok(bucket) = env.bucket("BUCKET") else { return };
    for keys in keys.chunks(DELETED_AT_ONCE_MAX) {
        if let Err(error) = bucket.delete_multiple(keys.to_vec()).await {
            log::platform_error("segments_not_deleted", "", &error);
        }
    }
}
