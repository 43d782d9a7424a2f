use relay_schemas::{Cursor, GapReason, Seq, Start, UnixMillis, record_received_at};

use super::{Log, records_of};
use crate::storage::LogStorage;

/// Where reading starts, and what is wrong with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Reading starts after this.
    pub after: Seq,
    /// Set when the start is an instant within a segment: reading starts after `after` with the
    /// first event that was received at or after it.
    pub received_since: Option<UnixMillis>,
    /// Set when the reader's position can't be followed, with the position as it was written.
    pub fault: Option<(GapReason, String)>,
}

impl<S: LogStorage> Log<S> {
    /// Where a reader is to start. A position that can't be followed starts at the oldest event,
    /// so that nothing is left out, and says so.
    pub fn resolve(&self, start: &Start) -> Result<Resolved, S::Error> {
        let after = match start {
            Start::Earliest => self.trimmed(),
            Start::Now => self.tail(),
            Start::Tail(count) => {
                Seq::new(self.tail().get().saturating_sub(*count)).max(self.trimmed())
            }
            Start::Time(at) => return self.resolve_time(*at),
            Start::Event(id) => match self.position_of(*id)? {
                Some(seq) => seq,
                None => return Ok(self.faulty(GapReason::Invalid, id.to_string())),
            },
            Start::Cursor(text) => return Ok(self.resolve_cursor(text)),
        };
        Ok(Resolved { after, received_since: None, fault: None })
    }

    fn resolve_cursor(&self, text: &str) -> Resolved {
        let reason = match text.parse::<Cursor>() {
            Err(_) => GapReason::Invalid,
            Ok(cursor) if cursor.epoch != self.epoch() => GapReason::EpochChanged,
            Ok(cursor) if cursor.seq > self.tail() => GapReason::Future,
            Ok(cursor) if cursor.seq < self.trimmed() => GapReason::Trimmed,
            Ok(cursor) => {
                return Resolved { after: cursor.seq, received_since: None, fault: None };
            }
        };
        self.faulty(reason, text.chars().take(Cursor::WIDTH * 4).collect())
    }

    fn faulty(&self, reason: GapReason, requested: String) -> Resolved {
        Resolved { after: self.trimmed(), received_since: None, fault: Some((reason, requested)) }
    }

    /// A segment is not opened for this: whoever reads it finds the event.
    fn resolve_time(&self, at: UnixMillis) -> Result<Resolved, S::Error> {
        let (after, received_since) = match self.storage.segment_received_since(at)? {
            Some(segment) => (Seq::new(segment.first.get() - 1), Some(at)),
            None => (self.hot_before_first_received_since(at)?, None),
        };
        Ok(Resolved { after: after.max(self.trimmed()), received_since, fault: None })
    }

    fn hot_before_first_received_since(&self, at: UnixMillis) -> Result<Seq, S::Error> {
        let Some(index) = self.storage.first_received_since(self.sealed(), at)? else {
            return Ok(self.tail());
        };
        let row = self.row_at(index.first)?;
        let first = records_of(&row)
            .find(|(_, record)| record_received_at(record).is_some_and(|received| received >= at))
            .map_or(row.index.first, |(seq, _)| seq);
        Ok(Seq::new(first.get() - 1))
    }
}
