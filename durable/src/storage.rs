use crate::{
    assignment::{AssignedHead, EdgeRecord, Holder, Lease},
    rebuild::Rebuilt,
};
use relay_schemas::{
    EdgeId, Epoch, EventId, SegmentEntry, Seq, StoredReport, StreamKey, UnixMillis,
};

/// What a log knows of itself besides its rows. Written when the stream is first used and when
/// its last row is trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The incarnation.
    pub epoch: Epoch,
    /// The last position that is no longer kept, unless the oldest segment or row tells a later
    /// one; zero when nothing was trimmed.
    pub trimmed: Seq,
    /// Whose log this is; the names of its segments begin with it.
    pub stream: Option<StreamKey>,
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
    /// When its first event was written.
    pub appended_at_min: UnixMillis,
    /// When its last event was written.
    pub appended_at_max: UnixMillis,
    /// The latest receipt among the events.
    pub received_at_max: UnixMillis,
    /// Bytes of the records.
    pub bytes: u64,
}

impl RowIndex {
    /// Position of the last event.
    pub fn last(&self) -> Seq {
        Seq::new(self.first.get() + self.ids.len() as u64 - 1)
    }
}

/// A run of events that is being sealed. It is stored before anything is done with it, so that a
/// repetition after a reset makes the same segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealPlan {
    /// Position of the first event.
    pub first: Seq,
    /// Position of the last event; the end of a row.
    pub last: Seq,
}

/// A sealed segment as its stream remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Where it lies and what it holds.
    pub entry: SegmentEntry,
    /// The events' ids, in order: duplicates are recognised and events found by them.
    pub ids: Vec<EventId>,
    /// When the last of its events was written.
    pub appended_at_max: UnixMillis,
}

/// What an object that wakes reads of a segment: a history can have thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIds {
    /// Position of the first event.
    pub first: Seq,
    /// The events' ids, in order.
    pub ids: Vec<EventId>,
    /// When the last of its events was written.
    pub appended_at_max: UnixMillis,
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
    /// Adds events to the end of the newest row, whose first position is `first`; one row written.
    fn extend(&mut self, first: Seq, row: &LogRow) -> Result<(), Self::Error>;
    /// Deletes the rows whose last event is at or before `last`; one row written for each.
    fn delete_until(&mut self, last: Seq) -> Result<(), Self::Error>;
    /// The row that holds this position.
    fn row_at(&self, seq: Seq) -> Result<Option<LogRow>, Self::Error>;
    /// Indexes from the newest row to the oldest, until `visit` answers `false`.
    fn visit_newest_first(
        &self,
        visit: &mut dyn FnMut(RowIndex) -> bool,
    ) -> Result<(), Self::Error>;
    /// The index of the first row whose last event is after `after`.
    fn first_after(&self, after: Seq) -> Result<Option<RowIndex>, Self::Error>;
    /// The first row after `after` with an event received at or after `at`.
    fn first_received_since(
        &self,
        after: Seq,
        at: UnixMillis,
    ) -> Result<Option<RowIndex>, Self::Error>;
    /// Bytes of the records after `after`.
    fn bytes_after(&self, after: Seq) -> Result<u64, Self::Error>;
    /// The newest position of an event in rows and segments.
    fn position_of(&self, id: EventId) -> Result<Option<Seq>, Self::Error>;

    /// The run that is being sealed.
    fn load_plan(&self) -> Result<Option<SealPlan>, Self::Error>;
    /// Remembers the run that is being sealed, or that none is; one row written.
    fn save_plan(&mut self, plan: Option<SealPlan>) -> Result<(), Self::Error>;
    /// Keeps a segment in the place of its plan; one row written.
    fn save_segment(&mut self, segment: &SegmentRow) -> Result<(), Self::Error>;
    /// Up to `count` segments whose last event is after `after`, oldest first.
    fn segments_after(&self, after: Seq, count: usize) -> Result<Vec<SegmentEntry>, Self::Error>;
    /// Up to `count` segments whose first event is at or before `at`, newest first.
    fn segments_until(&self, at: Seq, count: usize) -> Result<Vec<SegmentEntry>, Self::Error>;
    /// The first segment with an event received at or after `at`.
    fn segment_received_since(&self, at: UnixMillis) -> Result<Option<SegmentEntry>, Self::Error>;
    /// When the newest event of the oldest segment was written.
    fn oldest_segment_appended_at(&self) -> Result<Option<UnixMillis>, Self::Error>;
    /// The oldest segments, as far as all of their events were written at or before `at`.
    fn segments_appended_until(&self, at: UnixMillis) -> Result<Vec<SegmentEntry>, Self::Error>;
    /// The ids in segments from the newest to the oldest, until `visit` answers `false`.
    fn visit_segments_newest_first(
        &self,
        visit: &mut dyn FnMut(SegmentIds) -> bool,
    ) -> Result<(), Self::Error>;
    /// How many segments there are, and the bytes of their objects.
    fn segment_totals(&self) -> Result<(u64, u64), Self::Error>;
    /// Deletes the segments whose last event is at or before `last`; one row written for each.
    fn delete_segments_until(&mut self, last: Seq) -> Result<(), Self::Error>;

    /// Replaces the whole index and begins a new incarnation: the head, every segment, the plan,
    /// and the positions of rows and reports.
    fn rebuild(&mut self, stream: &StreamKey, rebuilt: &Rebuilt) -> Result<(), Self::Error>;

    /// Keeps a report; one row written. A repeated one replaces the first.
    fn save_report(&mut self, seq: Seq, report: &StoredReport) -> Result<(), Self::Error>;
    /// The reports on an event, oldest first.
    fn reports(&self, seq: Seq) -> Result<Vec<StoredReport>, Self::Error>;
    /// Deletes the reports on events at or before `last`; one row written for each.
    fn delete_reports_until(&mut self, last: Seq) -> Result<(), Self::Error>;

    /// The reports on the newest events, up to so many.
    fn latest_reports(&self, count: usize) -> Result<Vec<StoredReport>, Self::Error>;

    /// How far events have been considered, if they are assigned.
    fn load_assigned(&self) -> Result<Option<AssignedHead>, Self::Error>;
    /// Replaces that; one row written.
    fn save_assigned(&mut self, head: &AssignedHead) -> Result<(), Self::Error>;
    /// Forgets it, and every lease; one row written for each.
    fn clear_assigned(&mut self) -> Result<(), Self::Error>;
    /// Every lease. Those of earlier versions can lie in the dead letters.
    fn load_leases(&self) -> Result<Vec<Lease>, Self::Error>;
    /// Keeps a lease; one row written.
    fn save_lease(&mut self, lease: &Lease) -> Result<(), Self::Error>;
    /// Deletes a lease, if it is there; one row written.
    fn delete_lease(&mut self, seq: Seq) -> Result<(), Self::Error>;
    /// The position of an event that lies in the dead letters.
    fn given_up(&self, id: EventId) -> Result<Option<Seq>, Self::Error>;
    /// How many there are.
    fn count_given_up(&self) -> Result<u64, Self::Error>;
    /// Remembers one; one row written.
    fn save_given_up(&mut self, id: EventId, seq: Seq) -> Result<(), Self::Error>;
    /// Forgets one; one row written.
    fn delete_given_up(&mut self, id: EventId) -> Result<(), Self::Error>;
    /// Forgets those at or before `last`; one row written for each.
    fn delete_given_up_until(&mut self, last: Seq) -> Result<(), Self::Error>;
    /// Every holder.
    fn load_holders(&self) -> Result<Vec<Holder>, Self::Error>;
    /// Keeps a holder; one row written.
    fn save_holder(&mut self, holder: &Holder) -> Result<(), Self::Error>;
    /// Deletes a holder; one row written.
    fn delete_holder(&mut self, key: &str) -> Result<(), Self::Error>;
    /// Every edge that has read this stream lately.
    fn load_edges(&self) -> Result<Vec<EdgeRecord>, Self::Error>;
    /// Keeps what is known of an edge; one row written.
    fn save_edge(&mut self, record: &EdgeRecord) -> Result<(), Self::Error>;
    /// Forgets an edge; one row written.
    fn delete_edge(&mut self, edge: &EdgeId) -> Result<(), Self::Error>;

    /// Remembers that an edge may no longer read; one row written.
    fn save_revocation(&mut self, edge: &EdgeId, at: UnixMillis) -> Result<(), Self::Error>;
    /// Whether an edge was revoked.
    fn is_revoked(&self, edge: &EdgeId) -> Result<bool, Self::Error>;
}
