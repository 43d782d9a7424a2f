use relay_schemas::{EdgeId, Epoch, EventId, Seq, StoredReport, UnixMillis};

/// What a log knows of itself besides its rows. Written when the stream is first used and when
/// its last row is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The incarnation.
    pub epoch: Epoch,
    /// The last position that is no longer kept, unless the oldest row tells a later one; zero
    /// when nothing was trimmed.
    pub trimmed: Seq,
}

/// A run of events in one row, so that a batch costs one write. One event larger than
/// `LOG_ROW_BYTES_MAX` has a row of its own, which the adapter may split to fit its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// What is known without reading the records.
    pub index: RowIndex,
    /// The records, one a line, without a final line break.
    pub records: String,
}

/// The part of a row that is read when an object wakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowIndex {
    /// Position of the first event.
    pub first: Seq,
    /// The events' ids, in order; their number is the number of events.
    pub ids: Vec<EventId>,
    /// When the row was written.
    pub appended_at: UnixMillis,
    /// The latest receipt among the events.
    pub received_at_max: UnixMillis,
}

impl RowIndex {
    /// Position of the last event.
    pub fn last(&self) -> Seq {
        Seq::new(self.first.get() + self.ids.len() as u64 - 1)
    }
}

/// The storage of one stream. Every call is synchronous, and calls without an await between them
/// become durable together: a Durable Object's SQLite guarantees both.
///
/// After an error the caller must forget what it holds in memory and load again.
pub trait LogStorage {
    /// What can go wrong.
    type Error: std::fmt::Display;

    /// The head, if the stream was ever used.
    fn load_head(&self) -> Result<Option<LogHead>, Self::Error>;
    /// Replaces the head; one row written.
    fn save_head(&mut self, head: &LogHead) -> Result<(), Self::Error>;

    /// Adds a row after all others; one row written, or as many as a large event is split into.
    fn insert(&mut self, row: &LogRow) -> Result<(), Self::Error>;
    /// Deletes the rows whose last event is at or before `last`; one row written for each.
    fn delete_until(&mut self, last: Seq) -> Result<(), Self::Error>;
    /// The row that holds this position.
    fn row_at(&self, seq: Seq) -> Result<Option<LogRow>, Self::Error>;
    /// Indexes from the newest row to the oldest, until `visit` answers `false`.
    fn visit_newest_first(
        &self,
        visit: &mut dyn FnMut(RowIndex) -> bool,
    ) -> Result<(), Self::Error>;
    /// The index of the oldest row.
    fn oldest(&self) -> Result<Option<RowIndex>, Self::Error>;
    /// The first row with an event received at or after `at`.
    fn first_received_since(&self, at: UnixMillis) -> Result<Option<RowIndex>, Self::Error>;

    /// Keeps a report; one row written. A repeated one replaces the first.
    fn save_report(&mut self, seq: Seq, report: &StoredReport) -> Result<(), Self::Error>;
    /// The reports on an event, oldest first.
    fn reports(&self, seq: Seq) -> Result<Vec<StoredReport>, Self::Error>;

    /// Remembers that an edge may no longer read; one row written.
    fn save_revocation(&mut self, edge: &EdgeId, at: UnixMillis) -> Result<(), Self::Error>;
    /// Whether an edge was revoked.
    fn is_revoked(&self, edge: &EdgeId) -> Result<bool, Self::Error>;
}
