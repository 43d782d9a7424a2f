//! Compares what a stream knows of its segments with what lies in R2 and in KV, in both
//! directions. What nobody will read any more is removed, what is missing in the index is put
//! there, and what may still be needed for a rebuild is left alone and counted.

use std::collections::BTreeSet;

use relay_schemas::{Epoch, SegmentEntry, SegmentName, Seq, StreamKey, UnixMillis, index_key};
use serde::{Deserialize, Serialize};

use crate::{
    storage::{LogStorage, SealPlan},
    stream::Stream,
};

/// Objects younger than this are never removed: a seal may be under way.
const YOUNG_MS: u64 = 24 * 3_600_000;

/// More segments than a stream can have: 62 days at 100 MB an hour are 150,000.
pub(crate) const SEGMENTS_MAX: usize = 1_000_000;

/// What a stream knows of its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHistory {
    /// Whose.
    pub stream: StreamKey,
    /// The incarnation.
    pub epoch: Epoch,
    /// The position before the oldest event kept.
    pub trimmed: Seq,
    /// The position of the newest event in a segment.
    pub sealed: Seq,
    /// The run that is being sealed.
    pub planned: Option<(Seq, Seq)>,
    /// How long events are kept.
    pub retention_ms: u64,
    /// Every segment, oldest first.
    pub segments: Vec<SegmentEntry>,
}

/// An object of R2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundObject {
    /// Its name.
    pub key: String,
    /// When it was put there.
    pub uploaded_at: UnixMillis,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing needs this object any more.
    DeleteObject(String),
    /// The index lacks this segment.
    PutIndex(SegmentEntry),
    /// The index names a segment that the stream doesn't know.
    DeleteIndex(String),
}

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// What is to be done.
    pub repairs: Vec<Repair>,
    /// Segments whose object wasn't listed. It may have been put there since: whoever believes it
    /// looks again first.
    pub missing: Vec<SegmentEntry>,
    /// Objects that the stream doesn't know and that are kept: of an earlier incarnation, or
    /// beyond what it has sealed. A rebuild takes them up.
    pub orphans: Vec<String>,
}

impl<S: LogStorage> Stream<S> {
    /// What the stream knows of its history; `None` when it was never used.
    pub fn known_history(&self) -> Result<Option<KnownHistory>, S::Error> {
        let log = self.log();
        let Some(stream) = log.stream().filter(|_| log.is_used()) else { return Ok(None) };
        let planned = log.plan().map(|SealPlan { first, last }| (first, last));
        Ok(Some(KnownHistory {
            stream: stream.clone(),
            epoch: log.epoch(),
            trimmed: log.trimmed(),
            sealed: log.sealed(),
            planned,
            retention_ms: self.settings.retention_ms,
            segments: log.segments_after(Seq::ZERO, SEGMENTS_MAX)?,
        }))
    }
}

/// Compares a stream's knowledge with all of its objects and index keys.
pub fn sweep(
    known: &KnownHistory,
    objects: &[FoundObject],
    index: &[String],
    now: UnixMillis,
) -> Sweep {
    let mut sweep = Sweep::default();
    let names: BTreeSet<String> =
        known.segments.iter().map(|entry| entry.key(&known.stream, known.epoch)).collect();
    for object in objects.iter().filter(|object| !names.contains(&object.key)) {
        if is_needless(known, object, now) {
            sweep.repairs.push(Repair::DeleteObject(object.key.clone()));
        } else if now.since_ms(object.uploaded_at) > YOUNG_MS {
            sweep.orphans.push(object.key.clone());
        }
    }
    let found: BTreeSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let indexed: BTreeSet<&str> = index.iter().map(String::as_str).collect();
    let mut keys = BTreeSet::new();
    for entry in &known.segments {
        let key = index_key(&known.stream, known.epoch, entry.first);
        if !found.contains(entry.key(&known.stream, known.epoch).as_str()) {
            sweep.missing.push(entry.clone());
        } else if !indexed.contains(key.as_str()) {
            sweep.repairs.push(Repair::PutIndex(entry.clone()));
        }
        keys.insert(key);
    }
    keys.extend(known.planned.map(|(first, _)| index_key(&known.stream, known.epoch, first)));
    let unknown = index.iter().filter(|key| !keys.contains(*key));
    sweep.repairs.extend(unknown.map(|key| Repair::DeleteIndex(key.clone())));
    sweep
}

/// Whether no reader and no rebuild can want an object that the stream doesn't know.
fn is_needless(known: &KnownHistory, object: &FoundObject, now: UnixMillis) -> bool {
    let age_ms = now.since_ms(object.uploaded_at);
    if age_ms <= YOUNG_MS {
        return false;
    }
    let Some(name) = SegmentName::parse(&object.key) else { return false };
    let is_own = name.stream == known.stream && name.epoch == known.epoch;
    let is_covered = is_own && (name.last <= known.trimmed || spans(known, &name));
    is_covered || age_ms > known.retention_ms + YOUNG_MS
}

/// Whether the stream's segments hold all of a range.
fn spans(known: &KnownHistory, name: &SegmentName) -> bool {
    let mut next = name.first;
    for entry in &known.segments {
        if entry.first <= next && entry.last >= next {
            next = entry.last.next();
        }
    }
    next > name.last
}
