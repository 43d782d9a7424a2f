use relay_schemas::{SegmentEntry, Seq, UnixMillis};

use super::Log;
use crate::storage::LogStorage;

impl<S: LogStorage> Log<S> {
    /// Deletes what was written at or before `at`, in whole segments and rows, and answers the
    /// segments, whose objects are no longer needed.
    pub fn trim_until(&mut self, at: UnixMillis) -> Result<Vec<SegmentEntry>, S::Error> {
        let segments = self.storage.segments_appended_until(at)?;
        let mut last_old = segments.last().map(|segment| segment.last);
        if last_old.unwrap_or(self.head.trimmed) == self.sealed {
            last_old = self.last_row_until(at)?.or(last_old);
        }
        let Some(last_old) = last_old else { return Ok(segments) };
        self.head.trimmed = self.head.trimmed.max(last_old);
        self.sealed = self.sealed.max(last_old);
        // The oldest segment or row tells the floor, so it is needed in the head only by a log
        // without any, and while rows are gone of which older segments are not. It is written
        // before they go: the other way round, a failure between the two would give positions a
        // second time.
        let goes_beyond_segments = segments.last().is_some_and(|segment| segment.last < last_old);
        if self.head.trimmed == self.tail || goes_beyond_segments {
            self.storage.save_head(&self.head)?;
        }
        if self.plan.is_some_and(|plan| plan.first <= last_old) {
            self.storage.save_plan(None)?;
            self.plan = None;
        }
        // Rows before segments: a row that is left over must not outlive the segment that says so.
        self.storage.delete_until(last_old)?;
        self.storage.delete_segments_until(last_old)?;
        self.storage.delete_reports_until(last_old)?;
        self.measure()?;
        Ok(segments)
    }

    fn last_row_until(&self, at: UnixMillis) -> Result<Option<Seq>, S::Error> {
        let mut last_old = None;
        self.storage.visit_newest_first(&mut |row| {
            let is_old = row.first > self.sealed && row.appended_at_max <= at;
            last_old = is_old.then(|| row.last());
            !is_old && row.first > self.sealed
        })?;
        Ok(last_old)
    }
}
