use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    ops::ControlFlow,
};

use relay_schemas::{
    Cursor, Disposition, Epoch, EventId, GapReason, NewEvent, Seq, Start, UnixMillis,
    limits::{DEDUPLICATION_IDS_MAX, DEDUPLICATION_WINDOW_MS, LATE_EVENT_MS, LOG_ROW_BYTES_MAX},
    record_received_at,
};

use crate::storage::{LogHead, LogRow, LogStorage, RowIndex};

/// A stream's log: events at 1, 2, 3 … without holes, and the ids seen lately.
///
/// Holds in memory only what can be loaded again. After any error it must be dropped and loaded
/// anew, because a write may have landed although it was answered with an error.
#[derive(Debug)]
pub struct Log<S> {
    storage: S,
    head: LogHead,
    head_is_saved: bool,
    tail: Seq,
    recent: RecentIds,
}

/// Where reading starts, and what is wrong with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Reading starts after this.
    pub after: Seq,
    /// Set when the reader's position can't be followed, with the position as it was written.
    pub fault: Option<(GapReason, String)>,
}

impl<S: LogStorage> Log<S> {
    /// Loads a log, or begins one at `now` that is not written until it is used.
    pub fn load(storage: S, now: UnixMillis, salt: u32) -> Result<Self, S::Error> {
        let saved = storage.load_head()?;
        let head = saved.unwrap_or(LogHead { epoch: Epoch::new(now, salt), trimmed: Seq::ZERO });
        let before_oldest = storage.oldest()?.map(|row| Seq::new(row.first.get() - 1));
        let trimmed = before_oldest.unwrap_or_default().max(head.trimmed);
        let mut tail = trimmed;
        let mut recent = RecentIds::default();
        storage.visit_newest_first(&mut |row| {
            tail = tail.max(row.last());
            now.since_ms(row.appended_at) <= DEDUPLICATION_WINDOW_MS && recent.add_older(&row)
        })?;
        let head = LogHead { trimmed, ..head };
        Ok(Self { storage, head, head_is_saved: saved.is_some(), tail, recent })
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

    /// The position before the oldest event kept.
    pub fn trimmed(&self) -> Seq {
        self.head.trimmed
    }

    /// A position of this incarnation as a cursor.
    pub fn cursor(&self, seq: Seq) -> Cursor {
        Cursor { epoch: self.head.epoch, seq }
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
        self.make_used()?;
        self.recent.forget_before(now - DEDUPLICATION_WINDOW_MS);
        let mut dispositions = Vec::with_capacity(events.len());
        let mut fresh: Vec<&NewEvent> = Vec::with_capacity(events.len());
        for event in events {
            let seq = self.tail.plus(fresh.len() as u64 + 1);
            let is_new = !self.is_known_from_before(event, now)?
                && self.recent.add_newer(event.id, seq, now);
            dispositions.push(if is_new { Disposition::Appended } else { Disposition::Duplicate });
            if is_new {
                fresh.push(event);
            }
        }
        for row in rows_of(&fresh, self.tail.next(), now) {
            self.storage.insert(&row)?;
        }
        self.tail = self.tail.plus(fresh.len() as u64);
        Ok(dispositions)
    }

    /// Whether an event that was received long ago, and comes from the dead letters, say, stands
    /// in a row older than the ids that are remembered. Others can't: too old a delivery is
    /// refused at the door, so that this search is rare.
    fn is_known_from_before(&self, event: &NewEvent, now: UnixMillis) -> Result<bool, S::Error> {
        let is_late = now.since_ms(event.received_at) > LATE_EVENT_MS;
        Ok(is_late && self.position_of(event.id)?.is_some())
    }

    /// Visits the records after a position, oldest first, until told to stop. Holds one row.
    pub fn read(
        &self,
        after: Seq,
        visit: &mut dyn FnMut(Seq, &str) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let mut next = after.max(self.head.trimmed).next();
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

    /// Visits the records at and before a position, newest first, until told to stop.
    pub fn read_back(
        &self,
        from: Seq,
        visit: &mut dyn FnMut(Seq, &str) -> ControlFlow<()>,
    ) -> Result<(), S::Error> {
        let mut next = from.min(self.tail);
        while next > self.head.trimmed {
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

    /// Where a reader is to start. A position that can't be followed starts at the oldest event,
    /// so that nothing is left out, and says so.
    pub fn resolve(&self, start: &Start) -> Result<Resolved, S::Error> {
        let after = match start {
            Start::Earliest => self.head.trimmed,
            Start::Now => self.tail,
            Start::Tail(count) => {
                Seq::new(self.tail.get().saturating_sub(*count)).max(self.head.trimmed)
            }
            Start::Time(at) => self.before_first_received_since(*at)?,
            Start::Event(id) => match self.position_of(*id)? {
                Some(seq) => seq,
                None => return Ok(self.faulty(GapReason::Invalid, id.to_string())),
            },
            Start::Cursor(text) => return Ok(self.resolve_cursor(text)),
        };
        Ok(Resolved { after, fault: None })
    }

    fn resolve_cursor(&self, text: &str) -> Resolved {
        let reason = match text.parse::<Cursor>() {
            Err(_) => GapReason::Invalid,
            Ok(cursor) if cursor.epoch != self.head.epoch => GapReason::EpochChanged,
            Ok(cursor) if cursor.seq > self.tail => GapReason::Future,
            Ok(cursor) if cursor.seq < self.head.trimmed => GapReason::Trimmed,
            Ok(cursor) => return Resolved { after: cursor.seq, fault: None },
        };
        self.faulty(reason, text.chars().take(Cursor::WIDTH * 4).collect())
    }

    fn faulty(&self, reason: GapReason, requested: String) -> Resolved {
        Resolved { after: self.head.trimmed, fault: Some((reason, requested)) }
    }

    /// The position of an event that is kept.
    pub fn position_of(&self, id: EventId) -> Result<Option<Seq>, S::Error> {
        if let Some(seq) = self.recent.position_of(id) {
            return Ok((seq > self.head.trimmed).then_some(seq));
        }
        let mut found = None;
        self.storage.visit_newest_first(&mut |row| {
            let place = row.ids.iter().position(|known| *known == id);
            found = place.map(|place| Seq::new(row.first.get() + place as u64));
            found.is_none()
        })?;
        Ok(found.filter(|seq| *seq > self.head.trimmed))
    }

    fn before_first_received_since(&self, at: UnixMillis) -> Result<Seq, S::Error> {
        let Some(index) = self.storage.first_received_since(at)? else { return Ok(self.tail) };
        let row = self.row_at(index.first)?;
        let first = records_of(&row)
            .find(|(_, record)| record_received_at(record).is_some_and(|received| received >= at))
            .map_or(row.index.first, |(seq, _)| seq);
        Ok(Seq::new(first.get() - 1).max(self.head.trimmed))
    }

    /// Deletes rows written at or before `at`, and answers whether there were any.
    pub fn trim_until(&mut self, at: UnixMillis) -> Result<bool, S::Error> {
        let mut last_old = None;
        self.storage.visit_newest_first(&mut |row| {
            last_old = (row.appended_at <= at).then(|| row.last());
            last_old.is_none()
        })?;
        let Some(last_old) = last_old else { return Ok(false) };
        self.head.trimmed = self.head.trimmed.max(last_old);
        // The oldest row tells the floor, so only a log without rows needs it in the head. It is
        // written before the rows go: the other way round, a failure between the two would give
        // positions a second time.
        if self.head.trimmed == self.tail {
            self.storage.save_head(&self.head)?;
        }
        self.storage.delete_until(last_old)?;
        Ok(true)
    }

    fn row_at(&self, seq: Seq) -> Result<LogRow, S::Error> {
        let row = self.storage.row_at(seq)?;
        Ok(row.unwrap_or_else(|| panic!("position {} between floor and tail has a row", seq.get())))
    }
}

fn records_of(row: &LogRow) -> impl Iterator<Item = (Seq, &str)> {
    row.records
        .split('\n')
        .enumerate()
        .map(|(place, record)| (Seq::new(row.index.first.get() + place as u64), record))
}

/// Packs events into rows of at most `LOG_ROW_BYTES_MAX`.
fn rows_of(events: &[&NewEvent], first: Seq, now: UnixMillis) -> Vec<LogRow> {
    let mut rows: Vec<LogRow> = Vec::new();
    let mut next = first;
    for event in events {
        match rows.last_mut() {
            Some(row) if row.records.len() + event.record.len() < LOG_ROW_BYTES_MAX => {
                row.records.push('\n');
                row.records.push_str(&event.record);
                row.index.ids.push(event.id);
                row.index.received_at_max = row.index.received_at_max.max(event.received_at);
            }
            _ => rows.push(LogRow {
                index: RowIndex {
                    first: next,
                    ids: vec![event.id],
                    appended_at: now,
                    received_at_max: event.received_at,
                },
                records: event.record.clone(),
            }),
        }
        next = next.next();
    }
    rows
}

/// The ids of the last hours, to recognise duplicates by.
#[derive(Debug, Default)]
struct RecentIds {
    positions: BTreeMap<EventId, Seq>,
    by_age: VecDeque<(UnixMillis, EventId)>,
}

impl RecentIds {
    fn position_of(&self, id: EventId) -> Option<Seq> {
        self.positions.get(&id).copied()
    }

    /// Adds the ids of a row older than all others; `false` when there is no more room.
    fn add_older(&mut self, row: &RowIndex) -> bool {
        for (place, id) in row.ids.iter().enumerate().rev() {
            if self.by_age.len() >= DEDUPLICATION_IDS_MAX {
                return false;
            }
            // An id forgotten and then appended again stands in two rows: the newer place counts.
            if let Entry::Vacant(entry) = self.positions.entry(*id) {
                entry.insert(Seq::new(row.first.get() + place as u64));
                self.by_age.push_front((row.appended_at, *id));
            }
        }
        true
    }

    /// Adds an id; `false` when it is known.
    fn add_newer(&mut self, id: EventId, seq: Seq, now: UnixMillis) -> bool {
        if self.positions.contains_key(&id) {
            return false;
        }
        self.positions.insert(id, seq);
        self.by_age.push_back((now, id));
        if self.by_age.len() > DEDUPLICATION_IDS_MAX {
            self.forget_oldest();
        }
        true
    }

    fn forget_before(&mut self, at: UnixMillis) {
        while self.by_age.front().is_some_and(|(appended_at, _)| *appended_at < at) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_age.pop_front() {
            self.positions.remove(&id);
        }
    }
}
