//! Restores a stream's index from R2 alone, after its storage was lost.

use std::collections::{BTreeMap, BTreeSet};

use relay_schemas::{
    Epoch, EventId, SegmentEntry, SegmentName, SegmentOrigin, Seq, StreamKey, UnixMillis, record_id,
};

use crate::{
    command::Command,
    log::Log,
    segment::{SegmentError, SegmentReader},
    storage::{LogStorage, SegmentRow},
    stream::Stream,
    sweep::SEGMENTS_MAX,
};

/// A segment that was found in R2 and read through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSegment {
    /// Its name, which tells where it was sealed.
    pub name: SegmentName,
    /// What it holds, as its own incarnation counted.
    pub entry: SegmentEntry,
    /// The ids of its events, in order.
    pub ids: Vec<EventId>,
}

impl FoundSegment {
    /// Reads an object through. `entry` says what its name and its metadata promise.
    pub fn read(
        name: SegmentName,
        entry: SegmentEntry,
        bytes: Vec<u8>,
    ) -> Result<Self, SegmentError> {
        let mut reader = SegmentReader::new(bytes, &entry)?;
        let mut ids = Vec::new();
        while let Some((_, record)) = reader.next()? {
            ids.push(record_id(record).ok_or(SegmentError::Corrupt("a record has no id"))?);
        }
        Ok(Self { name, entry, ids })
    }
}

/// Events that get other positions: those from `first` to `last` begin at `to` now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Position of the first event so far.
    pub first: Seq,
    /// Position of the last event so far.
    pub last: Seq,
    /// Position of the first event from now on.
    pub to: Seq,
}

/// What a rebuild does to a stream's storage, in one stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// The new incarnation.
    pub epoch: Epoch,
    /// All of its segments, oldest first.
    pub segments: Vec<SegmentRow>,
    /// Where rows and reports go.
    pub moves: Vec<Move>,
}

/// Gives every event that R2 and the hot tail have a position of a new incarnation: first the
/// segments, in the order of incarnations and positions, then the hot tail.
pub(crate) fn plan<S: LogStorage>(
    log: &Log<S>,
    mut found: Vec<FoundSegment>,
    epoch: Epoch,
) -> Result<Rebuilt, S::Error> {
    found.sort_by_key(|one| (one.name.epoch, one.name.first, std::cmp::Reverse(one.name.last)));
    let known = known_segments(log)?;
    // By ids, because an object that the index doesn't name may hold what stands elsewhere under
    // other positions: in rows whose seal was never completed, or in a segment made of them since.
    let mut standing = ids_of_hot_tail(log)?;
    let indexed = found.iter().filter(|one| known.contains_key(&one.name.to_string()));
    standing.extend(indexed.flat_map(|one| &one.ids));
    let mut rebuilt = Rebuilt { epoch, segments: Vec::new(), moves: Vec::new() };
    let mut next = Seq::ZERO.next();
    let mut appended_at_max = UnixMillis::default();
    for one in found {
        let place = known.get(&one.name.to_string());
        if place.is_none() && one.ids.iter().all(|id| standing.contains(id)) {
            continue;
        }
        standing.extend(&one.ids);
        if let Some((first, last)) = place {
            rebuilt.moves.push(Move { first: *first, last: *last, to: next });
        }
        // Retention goes by this, from the oldest on: it must not fall.
        appended_at_max = appended_at_max.max(one.entry.received_at_max);
        let row = moved(one, next, appended_at_max);
        next = row.entry.last.next();
        rebuilt.segments.push(row);
    }
    if log.tail() > log.sealed() {
        rebuilt.moves.push(Move { first: log.sealed().next(), last: log.tail(), to: next });
    }
    Ok(rebuilt)
}

/// The segments of the current index, by the names of their objects.
fn known_segments<S: LogStorage>(log: &Log<S>) -> Result<BTreeMap<String, (Seq, Seq)>, S::Error> {
    let Some(stream) = log.stream() else { return Ok(BTreeMap::new()) };
    let entries = log.segments_after(Seq::ZERO, SEGMENTS_MAX)?;
    let places =
        entries.iter().map(|entry| (entry.key(stream, log.epoch()), (entry.first, entry.last)));
    Ok(places.collect())
}

fn ids_of_hot_tail<S: LogStorage>(log: &Log<S>) -> Result<BTreeSet<EventId>, S::Error> {
    let mut ids = BTreeSet::new();
    log.storage().visit_newest_first(&mut |row| {
        let is_hot = row.first > log.sealed();
        if is_hot {
            ids.extend(row.ids);
        }
        is_hot
    })?;
    Ok(ids)
}

fn moved(found: FoundSegment, first: Seq, appended_at_max: UnixMillis) -> SegmentRow {
    let origin = SegmentOrigin { epoch: found.name.epoch, first: found.name.first };
    let entry = SegmentEntry {
        first,
        last: first.plus(found.entry.count() - 1),
        origin: Some(origin),
        ..found.entry
    };
    SegmentRow { entry, ids: found.ids, appended_at_max }
}

impl<S: LogStorage> Stream<S> {
    /// Begins a new incarnation with the segments that R2 has and the hot tail. Every reader is
    /// sent away: its cursor is of the earlier incarnation, and it will be told so. The stream is
    /// to be loaded again afterwards.
    pub fn rebuild(
        &mut self,
        stream: &StreamKey,
        found: Vec<FoundSegment>,
        now: UnixMillis,
        salt: u32,
    ) -> Result<(Rebuilt, Vec<Command>), S::Error> {
        let rebuilt = plan(self.log(), found, Epoch::new(now, salt))?;
        let commands = self.end_all();
        let hot = self.log().sealed().next()..=self.log().tail();
        self.log_mut().storage_mut().rebuild(stream, &rebuilt)?;
        self.move_leases(&hot, &rebuilt)?;
        Ok((rebuilt, commands))
    }
}
