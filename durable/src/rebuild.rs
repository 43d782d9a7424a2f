//! Restores a stream's index from R2 alone, after its storage was lost.

use relay_schemas::{
    Epoch, EventId, SegmentEntry, SegmentName, SegmentOrigin, Seq, StreamKey, UnixMillis, record_id,
};

use crate::{
    command::Command,
    log::Log,
    segment::{SegmentError, SegmentReader},
    storage::{LogStorage, SegmentRow},
    stream::Stream,
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
) -> Rebuilt {
    found.sort_by_key(|one| (one.name.epoch, one.name.first, std::cmp::Reverse(one.name.last)));
    let mut rebuilt = Rebuilt { epoch, segments: Vec::new(), moves: Vec::new() };
    let mut next = Seq::ZERO.next();
    let mut covered: Option<(Epoch, Seq)> = None;
    for one in found {
        let at = (one.name.epoch, one.name.last);
        let is_hot = one.name.epoch == log.epoch() && one.name.first > log.sealed();
        if is_hot || covered.is_some_and(|covered| covered.0 == at.0 && covered.1 >= at.1) {
            continue;
        }
        covered = Some(at);
        if one.name.epoch == log.epoch() {
            rebuilt.moves.push(Move { first: one.name.first, last: one.name.last, to: next });
        }
        let row = moved(one, next);
        next = row.entry.last.next();
        rebuilt.segments.push(row);
    }
    if log.tail() > log.sealed() {
        rebuilt.moves.push(Move { first: log.sealed().next(), last: log.tail(), to: next });
    }
    rebuilt
}

fn moved(found: FoundSegment, first: Seq) -> SegmentRow {
    let origin = SegmentOrigin { epoch: found.name.epoch, first: found.name.first };
    let entry = SegmentEntry {
        first,
        last: first.plus(found.entry.count() - 1),
        origin: Some(origin),
        ..found.entry
    };
    let appended_at_max: UnixMillis = entry.received_at_max;
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
        let rebuilt = plan(self.log(), found, Epoch::new(now, salt));
        let commands = self.end_all();
        self.log_mut().storage_mut().rebuild(stream, &rebuilt)?;
        Ok((rebuilt, commands))
    }
}
