//! Finds a stream's segments in R2 when its own storage may know nothing of them.

use relay_durable::{Fetched, FoundSegment};
use relay_schemas::{
    SegmentEntry, SegmentName, Sha256Digest, StreamKey, UnixMillis, segments_prefix,
};
use worker::{Env, Object, Result};

use crate::{bucket_listing, history};

/// Every segment that can be read, and how many can't.
pub(crate) async fn find(env: &Env, stream: &StreamKey) -> Result<(Vec<FoundSegment>, u64)> {
    let mut found = Vec::new();
    let mut damaged = 0;
    for object in bucket_listing::all(env, &segments_prefix(stream)).await? {
        match read(env, &object).await? {
            Some(segment) => found.push(segment),
            None => damaged += 1,
        }
    }
    Ok((found, damaged))
}

async fn read(env: &Env, object: &Object) -> Result<Option<FoundSegment>> {
    let key = object.key();
    let Some(name) = SegmentName::parse(&key) else { return Ok(None) };
    let Fetched::Bytes(bytes) = history::fetch(env, &key).await? else { return Ok(None) };
    let Some(entry) = entry_of(&name, object, &bytes)? else { return Ok(None) };
    Ok(FoundSegment::read(name, entry, bytes).ok())
}

/// What the name and the metadata promise. The digest is the promised one: other bytes are damage.
fn entry_of(name: &SegmentName, object: &Object, bytes: &[u8]) -> Result<Option<SegmentEntry>> {
    let metadata = object.custom_metadata()?;
    let instant = |text: &String| UnixMillis::parse_rfc3339(text);
    let fields = (
        metadata.get("first_received_at").and_then(instant),
        metadata.get("last_received_at").and_then(instant),
        metadata.get("uncompressed_bytes").and_then(|text| text.parse().ok()),
        metadata.get("sha256").and_then(|text| Sha256Digest::parse_hex(text)),
    );
    let (Some(received_at_min), Some(received_at_max), Some(raw_bytes), Some(sha256)) = fields
    else {
        return Ok(None);
    };
    Ok(Some(SegmentEntry {
        first: name.first,
        last: name.last,
        received_at_min,
        received_at_max,
        bytes: bytes.len() as u64,
        raw_bytes,
        sha256,
        origin: None,
    }))
}
