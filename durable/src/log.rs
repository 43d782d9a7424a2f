mod recent_ids;
mod resolve;
mod retention;
mod rows;
mod sealing;

use std::{collections::BTreeSet, ops::ControlFlow};

use relay_schemas::{
    Cursor, Disposition, Epoch, EventId, NewEvent, Seq, StreamKey, UnixMillis,
    limits::{DEDUPLICATION_WINDOW_MS, LATE_EVENT_MS},
};

pub use self::resolve::Resolved;
use self::{
    recent_ids::RecentIds,
    rows::{may_extend, records_of, rows_of},
};
use crate::storage::{LogHead, LogRow, LogStorage, RowIndex, SealPlan};

/// A stream's log: events at 1, 2, 3 … without holes, and the ids seen lately.
///
/// From the floor, [`Log::trimmed`], to [`Log::sealed`] the events lie in segments, which are not
/// read here; from there to [`Log::tail`] in the hot tail, in storage.
///
/// Holds in memory only what can be loaded again. After any error it must be dropped and loaded
/// anew, because a write may have landed although it was answered with an error.
#[derive(Debug)]
pub struct Log<S> {
    storage: S,
    head: LogHead,
    head_is_saved: bool,
    sealed: Seq,
    tail: Seq,
    plan: Option<SealPlan>,
    /// Read when they are first needed: whoever only reads doesn't wait for them.
    recent: Option<RecentIds>,
    hot: HotTail,
    oldest_appended_at: Option<UnixMillis>,
}

/// What is known of the hot tail without reading it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct HotTail {
    /// Bytes of the records.
    bytes: u64,
    /// When its oldest event was written.
    since: Option<UnixMillis>,
    /// The newest row.
    newest: Option<RowIndex>,
}

impl<S: LogStorage> Log<S> {
    /// Loads a log, or begins one at `now` that is not written until it is used.
    pub fn load(storage: S, now: UnixMillis, salt: u32) -> Result<Self, S::Error> {
        let saved = storage.load_head()?;
        let head_is_saved = saved.is_some();
        let head = saved.unwrap_or(LogHead {
            epoch: Epoch::new(now, salt),
            trimmed: Seq::ZERO,
            stream: None,
        });
        let plan = storage.load_plan()?;
        let mut log = Self {
            storage,
            head,
            head_is_saved,
            sealed: Seq::ZERO,
            tail: Seq::ZERO,
            plan,
            recent: None,
            hot: HotTail::default(),
            oldest_appended_at: None,
        };
        log.find_bounds()?;
        log.measure()?;
        Ok(log)
    }

    /// Segments tell more than rows: rows that a segment holds too are left over from a seal
    /// whose last step failed.
    fn find_bounds(&mut self) -> Result<(), S::Error> {
        let oldest_first = match self.storage.segments_after(Seq::ZERO, 1)?.first() {
            Some(segment) => Some(segment.first),
            None => self.storage.first_after(Seq::ZERO)?.map(|row| row.first),
        };
        let floor = oldest_first.map(|first| Seq::new(first.get() - 1)).unwrap_or_default();
        self.head.trimmed = self.head.trimmed.max(floor);
        let newest = self.storage.segments_until(Seq::MAX, 1)?.pop();
        self.sealed = newest.map_or(Seq::ZERO, |segment| segment.last).max(self.head.trimmed);
        // Retention may have taken what was planned, and failed before it could say so.
        self.plan = self.plan.filter(|plan| plan.first == self.sealed.next());
        Ok(())
    }

    /// Looks at the hot tail again, after anything but an append has changed it.
    fn measure(&mut self) -> Result<(), S::Error> {
        let oldest = self.storage.first_after(self.sealed)?;
        let mut newest = None;
        if oldest.is_some() {
            self.storage.visit_newest_first(&mut |row| {
                newest = Some(row);
                false
            })?;
        }
        self.tail = newest.as_ref().map_or(self.sealed, RowIndex::last);
        self.oldest_appended_at = match self.storage.oldest_segment_appended_at()? {
            Some(at) => Some(at),
            None => oldest.as_ref().map(|row| row.appended_at_max),
        };
        self.hot = HotTail {
            bytes: self.storage.bytes_after(self.sealed)?,
            since: oldest.map(|row| row.appended_at_min),
            newest,
        };
        Ok(())
    }

    /// The ids of the last hours.
    fn recent_ids(&self, now: UnixMillis) -> Result<RecentIds, S::Error> {
        let mut recent = RecentIds::default();
        let is_recent = |at: UnixMillis| now.since_ms(at) <= DEDUPLICATION_WINDOW_MS;
        self.storage.visit_newest_first(&mut |row| {
            row.first > self.sealed
                && is_recent(row.appended_at_max)
                && recent.add_older(row.first, &row.ids, row.appended_at_max)
        })?;
        self.storage.visit_segments_newest_first(&mut |segment| {
            is_recent(segment.appended_at_max)
                && recent.add_older(segment.first, &segment.ids, segment.appended_at_max)
        })?;
        Ok(recent)
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// The storage.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// Whether anything was ever stored.
    pub fn is_used(&self) -> bool {
        self.head_is_saved
    }

    /// The position of the newest event.
    pub fn tail(&self) -> Seq {
        self.tail
    }

    /// The position of the newest event that lies in a segment, or is no longer kept.
    pub fn sealed(&self) -> Seq {
        self.sealed
    }

    /// The position before the oldest event kept.
    pub fn trimmed(&self) -> Seq {
        self.head.trimmed
    }

    /// The incarnation.
    pub fn epoch(&self) -> Epoch {
        self.head.epoch
    }

    /// Whose log this is; known once it was used.
    pub fn stream(&self) -> Option<&StreamKey> {
        self.head.stream.as_ref()
    }

    /// Bytes of the records of the hot tail.
    pub fn hot_bytes(&self) -> u64 {
        self.hot.bytes
    }

    /// When the oldest event of the hot tail was written.
    pub fn hot_since(&self) -> Option<UnixMillis> {
        self.hot.since
    }

    /// When the newest event of the oldest segment or row was written: retention counts from it.
    pub fn oldest_appended_at(&self) -> Option<UnixMillis> {
        self.oldest_appended_at
    }

    /// A position of this incarnation as a cursor.
    pub fn cursor(&self, seq: Seq) -> Cursor {
        Cursor { epoch: self.head.epoch, seq }
    }

    /// Tells the log whose it is. One of an earlier version learns it late.
    pub fn set_stream(&mut self, stream: &StreamKey) {
        if self.head.stream.is_none() {
            self.head.stream = Some(stream.clone());
            self.head_is_saved = false;
        }
    }

    /// Makes the epoch durable, before a cursor of it leaves.
    pub fn make_used(&mut self) -> Result<(), S::Error> {
        if !self.head_is_saved {
            self.storage.save_head(&self.head)?;
            self.head_is_saved = true;
        }
        Ok(())
    }

    /// Gives each new event the next position and stores it; duplicates keep the place they have.
    /// The returned flags say, in order, which of `events` are new.
    pub fn append(
        &mut self,
        events: &[NewEvent],
        now: UnixMillis,
    ) -> Result<Vec<Disposition>, S::Error> {
        self.append_again(events, &BTreeSet::new(), now)
    }

    /// The same; events that are named in `again` get another position, though they have one.
    pub(crate) fn append_again(
        &mut self,
        events: &[NewEvent],
        again: &BTreeSet<EventId>,
        now: UnixMillis,
    ) -> Result<Vec<Disposition>, S::Error> {
        self.make_used()?;
        let mut recent = match self.recent.take() {
            Some(recent) => recent,
            None => self.recent_ids(now)?,
        };
        recent.forget_before(now - DEDUPLICATION_WINDOW_MS);
        let mut dispositions = Vec::with_capacity(events.len());
        let mut fresh: Vec<&NewEvent> = Vec::with_capacity(events.len());
        for event in events {
            let seq = self.tail.plus(fresh.len() as u64 + 1);
            let stands_again =
                again.contains(&event.id) && !fresh.iter().any(|one| one.id == event.id);
            if stands_again {
                recent.forget(event.id);
            }
            let is_new = (stands_again || !self.is_known_from_before(event, now)?)
                && recent.add_newer(event.id, seq, now);
            dispositions.push(if is_new { Disposition::Appended } else { Disposition::Duplicate });
            if is_new {
                fresh.push(event);
            }
        }
        self.recent = Some(recent);
        for row in rows_of(&fresh, self.tail.next(), now) {
            self.write(row)?;
        }
        Ok(dispositions)
    }

    /// Adds a row's events to the newest row while that is small, else the row itself. Rows that
    /// are being sealed stay as they are.
    fn write(&mut self, row: LogRow) -> Result<(), S::Error> {
        let planned = self.plan.map_or(Seq::ZERO, |plan| plan.last);
        let at = row.index.appended_at_max;
        self.hot.since.get_or_insert(at);
        self.oldest_appended_at.get_or_insert(at);
        self.tail = row.index.last();
        match &mut self.hot.newest {
            Some(newest) if newest.first > planned && may_extend(newest, &row) => {
                self.storage.extend(newest.first, &row)?;
                self.hot.bytes += row.index.bytes + 1;
                newest.bytes += row.index.bytes + 1;
                newest.ids.extend(row.index.ids);
                newest.appended_at_max = at;
                if newest.first == self.head.trimmed.next() {
                    self.oldest_appended_at = Some(at);
                }
                newest.received_at_max = newest.received_at_max.max(row.index.received_at_max);
            }
            newest => {
                self.storage.insert(&row)?;
                self.hot.bytes += row.index.bytes;
                *newest = Some(row.index);
            }
        }
        Ok(())
    }

    /// Whether an event that was received long ago, and comes from the dead letters, say, stands
    /// in a row older than the ids that are remembered. Others can't: too old a delivery is
    /// refused at the door, so that this search is rare.
    fn is_known_from_before(&self, event: &NewEvent, now: UnixMillis) -> Result<bool, S::Error> {
        let is_late = now.since_ms(event.received_at) > LATE_EVENT_MS;
        Ok(is_late && self.position_of(event.id)?.is_some())
    }

    /// Visits the records of the hot tail after a position, oldest first, until told to stop.
    /// Holds one row.
    pub fn read(
        &self,
        after: Seq,
        visit: &mut dyn FnMut(Seq, &str) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let mut next = after.max(self.sealed).next();
        while next <= self.tail {
            let row = self.row_at(next)?;
            for (seq, record) in records_of(&row).skip_while(|(seq, _)| *seq < next) {
                if visit(seq, record).is_break() {
                    return Ok(());
                }
            }
            next = row.index.last().next();
        }
        Ok(())
    }

    /// Visits the records of the hot tail at and before a position, newest first, until told to
    /// stop.
    pub fn read_back(
        &self,
        from: Seq,
        visit: &mut dyn FnMut(Seq, &str) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let mut next = from.min(self.tail);
        while next > self.sealed {
            let row = self.row_at(next)?;
            let records: Vec<(Seq, &str)> = records_of(&row).collect();
            for (seq, record) in records.into_iter().rev().skip_while(|(seq, _)| *seq > next) {
                if visit(seq, record).is_break() {
                    return Ok(());
                }
            }
            next = Seq::new(row.index.first.get() - 1);
        }
        Ok(())
    }

    /// The position of an event that is kept.
    pub fn position_of(&self, id: EventId) -> Result<Option<Seq>, S::Error> {
        let recent = self.recent.as_ref().and_then(|recent| recent.position_of(id));
        let found = match recent {
            Some(seq) => Some(seq),
            None => self.storage.position_of(id)?,
        };
        Ok(found.filter(|seq| *seq > self.head.trimmed))
    }

    fn row_at(&self, seq: Seq) -> Result<LogRow, S::Error> {
        let row = self.storage.row_at(seq)?;
        Ok(row.unwrap_or_else(|| panic!("position {} of the hot tail has a row", seq.get())))
    }
}
