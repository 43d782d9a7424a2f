//! Sealing moves the oldest events of the hot tail into a segment.
//!
//! The steps, each of which may be the last before a reset, and what a reset there means:
//!
//! 1. [`Log::next_segment`] chooses the run and stores it as the plan. Reset before: nothing has
//!    happened. Reset after: the plan is found again and gives the same run, whatever was appended
//!    meanwhile, because rows of a planned run are neither extended nor deleted.
//! 2. The shell puts the segment into R2, unless it is there. Reset after: the repetition finds it
//!    there. Nobody reads it yet, because no index names it.
//! 3. The shell writes the KV entry. Reset after: readers may take the range from R2 while it also
//!    lies in the hot tail; both hold the same events.
//! 4. [`Log::complete_seal`] keeps the segment in the place of the plan and deletes the rows, in
//!    one stretch. Reset before: steps 1 to 3 are repeated into the same result. Failure between
//!    the two writes: the rows are left over, hidden by the segment, and go with the next seal.
//!
//! No step loses the rows before the segment is in R2.

use relay_schemas::{
    EventId, SegmentEntry, Seq, UnixMillis,
    limits::{SEGMENT_BYTES_MAX, SEGMENT_EVENTS_MAX},
};

use super::{Log, records_of};
use crate::{
    segment::{EncodedSegment, SegmentEncoder},
    storage::{LogRow, LogStorage, SealPlan, SegmentRow},
};

impl<S: LogStorage> Log<S> {
    /// The run that is being sealed.
    pub fn plan(&self) -> Option<SealPlan> {
        self.plan
    }

    /// Encodes the oldest run of the hot tail: the planned one, or else whole rows up to the size
    /// of a segment, which are then planned.
    pub fn next_segment(&mut self) -> Result<Option<EncodedSegment>, S::Error> {
        self.next_segment_until(self.tail)
    }

    /// The same, but of rows that end at or before a position.
    pub(crate) fn next_segment_until(
        &mut self,
        until: Seq,
    ) -> Result<Option<EncodedSegment>, S::Error> {
        let first = self.sealed.next();
        let mut encoder = SegmentEncoder::new(first);
        let mut next = first;
        while next <= self.tail {
            let row = self.row_at(next)?;
            if !self.takes(&encoder, &row, until) {
                break;
            }
            records_of(&row).for_each(|(_, record)| encoder.push(record));
            next = row.index.last().next();
        }
        let segment = encoder.finish();
        if let (None, Some(segment)) = (self.plan, &segment) {
            let plan = SealPlan { first, last: segment.entry.last };
            self.storage.save_plan(Some(plan))?;
            self.plan = Some(plan);
        }
        Ok(segment)
    }

    fn takes(&self, encoder: &SegmentEncoder, row: &LogRow, until: Seq) -> bool {
        if let Some(plan) = self.plan {
            return row.index.last() <= plan.last;
        }
        let fits = encoder.raw_bytes() + row.index.bytes < SEGMENT_BYTES_MAX
            && encoder.count() + row.index.ids.len() as u64 <= SEGMENT_EVENTS_MAX;
        row.index.last() <= until && (fits || encoder.count() == 0)
    }

    /// Lets a segment that is in R2 and in the index take the place of its rows. `false` when it
    /// is not what is being sealed: the object was reset since, and its history may have changed.
    pub fn complete_seal(&mut self, entry: &SegmentEntry) -> Result<bool, S::Error> {
        let plan = SealPlan { first: entry.first, last: entry.last };
        if self.plan != Some(plan) {
            return Ok(false);
        }
        let (ids, appended_at_max) = self.indexes_of(plan)?;
        self.storage.save_segment(&SegmentRow { entry: entry.clone(), ids, appended_at_max })?;
        self.storage.delete_until(plan.last)?;
        self.plan = None;
        self.sealed = plan.last;
        self.measure()?;
        Ok(true)
    }

    fn indexes_of(&self, plan: SealPlan) -> Result<(Vec<EventId>, UnixMillis), S::Error> {
        let mut runs = Vec::new();
        let mut appended_at_max = UnixMillis::default();
        self.storage.visit_newest_first(&mut |row| {
            let is_planned = row.first >= plan.first && row.last() <= plan.last;
            if is_planned {
                appended_at_max = appended_at_max.max(row.appended_at_max);
                runs.push(row.ids);
            }
            row.first > plan.first
        })?;
        Ok((runs.into_iter().rev().flatten().collect(), appended_at_max))
    }

    /// Up to `count` segments with events after a position, oldest first.
    pub fn segments_after(&self, after: Seq, count: usize) -> Result<Vec<SegmentEntry>, S::Error> {
        self.storage.segments_after(after, count)
    }

    /// Up to `count` segments with events at or before a position, newest first.
    pub fn segments_until(&self, at: Seq, count: usize) -> Result<Vec<SegmentEntry>, S::Error> {
        self.storage.segments_until(at, count)
    }
}
