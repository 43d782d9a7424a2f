use relay_schemas::{
    Append, Channel, Cursor, Epoch, ErrorCode, HistoryOffer, MultiEdgeMode, Problem, SegmentEntry,
    Seq, StreamKey, UnixMillis,
    limits::{
        EDGE_REMEMBERED_MS, EDGE_TIMEOUT_DEFAULT_MS, HOT_TAIL_BYTES_MAX, RETENTION_DAYS_DEFAULT_MS,
        SEAL_AGE_DEFAULT_S, SEAL_AGE_SHARE, SEAL_BYTES_DEFAULT, SEAL_LOOK_MS, SEAL_READER_WAIT_MS,
        SEAL_RETRY_MS, SEGMENTS_OFFERED_MAX,
    },
};
use serde::Serialize;

use crate::{
    assignment::AssignmentRules, command::StreamError, log::Resolved, segment::EncodedSegment,
    storage::LogStorage, stream::Stream, subscription::Subscription,
};

/// What an operator sets for streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// How long events are kept.
    pub retention_ms: u64,
    /// Bytes of records in the hot tail that are sealed at once.
    pub seal_bytes: u64,
    /// How old the oldest event of the hot tail grows before it is sealed.
    pub seal_age_ms: u64,
    /// Bytes of records in the hot tail beyond which appends are refused.
    pub hot_bytes_max: u64,
    /// Which edges get an event.
    pub multi_edge: MultiEdgeMode,
    /// How long an edge may be silent over an event that it was given, or away.
    pub edge_timeout_ms: u64,
    /// Whether a failed event is given to another edge.
    pub retry_failed: bool,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            retention_ms: RETENTION_DAYS_DEFAULT_MS,
            seal_bytes: SEAL_BYTES_DEFAULT,
            seal_age_ms: SEAL_AGE_DEFAULT_S * 1000,
            hot_bytes_max: HOT_TAIL_BYTES_MAX,
            multi_edge: MultiEdgeMode::Broadcast,
            edge_timeout_ms: EDGE_TIMEOUT_DEFAULT_MS,
            retry_failed: true,
        }
    }
}

impl StreamSettings {
    /// The same for a stream. No machine reads `unrouted`: nobody is to be given its events.
    pub fn of(self, stream: Option<&StreamKey>) -> Self {
        match stream.map(|stream| &stream.channel) {
            Some(Channel::Unrouted) => Self { multi_edge: MultiEdgeMode::Broadcast, ..self },
            _ => self,
        }
    }

    /// Those of them that are for assigning.
    pub fn assignment(&self) -> AssignmentRules {
        AssignmentRules {
            mode: self.multi_edge,
            timeout_ms: self.edge_timeout_ms,
            retry_failed: self.retry_failed,
        }
    }
}

/// How sealing goes. Lost with the object's memory, which tries again at once then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sealing {
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// No attempt before this.
    pub retry_at: Option<UnixMillis>,
    /// Where nothing more could be sealed, because edges have what follows.
    #[serde(skip)]
    pub(crate) blocked: Option<Blocked>,
}

/// Where sealing waits until something more is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Up to where everything is finished.
    until: Seq,
    /// Whether that is to be sealed when it is old, however little it is.
    is_little: bool,
}

/// A segment on its way to R2 and KV.
#[derive(Debug)]
pub struct SealJob {
    /// Whose events.
    pub stream: StreamKey,
    /// The incarnation.
    pub epoch: Epoch,
    /// The object and what the index says of it.
    pub segment: EncodedSegment,
}

impl SealJob {
    /// The name of the object.
    pub fn key(&self) -> String {
        self.segment.entry.key(&self.stream, self.epoch)
    }
}

impl<S: LogStorage> Stream<S> {
    /// When sealing is due: what was begun at once, then by size, then by age. A hot tail that is
    /// small stays one however old it is: a segment for a few events would cost more than they do.
    pub(crate) fn seal_at(&self) -> Option<UnixMillis> {
        let (log, seal_bytes) = (self.log(), self.settings.seal_bytes);
        // Segments are named after their stream.
        log.stream()?;
        if log.plan().is_none() && self.is_kept_open() {
            return None;
        }
        let wait_ms = match log.plan() {
            Some(_) => 0,
            None if log.hot_bytes() < seal_bytes / SEAL_AGE_SHARE => return None,
            // As long as an edge is waited for, so long is one that was never there.
            None if self.assignment().is_unawaited() => EDGE_REMEMBERED_MS,
            None if self.blocked().is_some() => self.settings.seal_age_ms,
            None if log.hot_bytes() < seal_bytes => self.settings.seal_age_ms,
            None => 0,
        };
        let due = log.hot_since()? + wait_ms;
        Some(due.max(self.sealing.retry_at.unwrap_or_default()))
    }

    /// The next segment to put into R2 and into the index, if one is due.
    pub fn seal_next(&mut self, now: UnixMillis) -> Result<Option<SealJob>, S::Error> {
        if self.seal_at().is_none_or(|due| due > now) {
            return Ok(None);
        }
        let until = self.sealable_until(now);
        if self.is_too_little(until, now)? {
            self.wait_for_more(until, now);
            return Ok(None);
        }
        let segment = self.log_mut().next_segment_until(until)?;
        if segment.is_none() && self.assignment().is_at_work() {
            let until = self.assignment().sealable_until(self.log().tail());
            self.sealing.blocked = Some(Blocked { until, is_little: false });
            self.sealing.retry_at = Some(now + SEAL_LOOK_MS);
        } else if segment.is_none() {
            self.sealing.retry_at = Some(now + SEAL_READER_WAIT_MS.0);
        }
        let epoch = self.log().epoch();
        let stream = self.log().stream().cloned();
        Ok(stream.zip(segment).map(|(stream, segment)| SealJob { stream, epoch, segment }))
    }

    /// Whether edges have, or are yet to be given, all that could be sealed.
    fn is_kept_open(&self) -> bool {
        let until = self.assignment().sealable_until(self.log().tail());
        let is_blocked = self.blocked().is_some_and(|blocked| !blocked.is_little);
        self.assignment().is_at_work() && (until <= self.log().sealed() || is_blocked)
    }

    /// What sealing waits at, as long as nothing more is finished.
    fn blocked(&self) -> Option<Blocked> {
        let until = self.assignment().sealable_until(self.log().tail());
        let blocked = self.sealing.blocked.filter(|blocked| blocked.until == until);
        blocked.filter(|_| self.assignment().is_at_work())
    }

    /// Until something more is finished there is nothing to look at; a reader that keeps rows back
    /// tells nobody when it goes on.
    fn wait_for_more(&mut self, until: Seq, now: UnixMillis) {
        self.sealing.retry_at = Some(now + SEAL_LOOK_MS);
        if until == self.assignment().sealable_until(self.log().tail()) {
            self.sealing.blocked = Some(Blocked { until, is_little: true });
        }
    }

    /// While edges have what follows, what is finished is left to become more, for a day.
    fn is_too_little(&self, until: Seq, now: UnixMillis) -> Result<bool, S::Error> {
        let log = self.log();
        let age_ms = log.hot_since().map_or(0, |since| now.since_ms(since));
        let is_whole = until == log.tail() || log.plan().is_some();
        let is_old = age_ms >= self.settings.seal_age_ms;
        if is_whole || is_old || !self.assignment().is_at_work() {
            return Ok(false);
        }
        // Whole rows are sealed.
        let row = log.storage().first_after(until)?;
        let after = row.map_or(until, |row| Seq::new(row.first.get() - 1));
        let bytes = log.hot_bytes().saturating_sub(log.storage().bytes_after(after)?);
        Ok(bytes < self.settings.seal_bytes / SEAL_AGE_SHARE)
    }

    /// A direct reader that has run out of credit for a moment keeps its rows: it would be sent to
    /// history and back. Others read on in history without noticing.
    fn sealable_until(&self, now: UnixMillis) -> Seq {
        let until = self.assignment().sealable_until(self.log().tail());
        let waiting = self.connections().values().filter(|reader| {
            let reads_by_itself = !self.assignment().is_single(reader.position().next());
            let is_waited_for = reads_by_itself && !reader.dialect.is_bridged();
            is_waited_for && reader.has_stalled_within(SEAL_READER_WAIT_MS.1, now)
        });
        waiting.map(Subscription::position).min().map_or(until, |position| position.min(until))
    }

    /// The segment is in R2 and in the index.
    pub fn seal_done(&mut self, entry: &SegmentEntry) -> Result<bool, S::Error> {
        self.sealing = Sealing::default();
        let is_done = self.log_mut().complete_seal(entry)?;
        self.note_sealed()?;
        Ok(is_done)
    }

    /// R2 or KV did not take it. The hot tail goes on growing and serving.
    pub fn seal_failed(&mut self, now: UnixMillis) {
        let (first_ms, most_ms) = SEAL_RETRY_MS;
        let wait_ms = first_ms.saturating_mul(1 << self.sealing.failures.min(20)).min(most_ms);
        self.sealing.failures += 1;
        self.sealing.retry_at = Some(now + wait_ms);
    }

    /// Refuses what would make the hot tail larger than it may be: the queue keeps it.
    pub(crate) fn require_room(&self, append: &Append) -> Result<(), StreamError<S::Error>> {
        let bytes: usize = append.events.iter().map(|event| event.record.len()).sum();
        if self.log().hot_bytes() + bytes as u64 <= self.settings.hot_bytes_max {
            return Ok(());
        }
        Err(StreamError::Refused(Problem::new(
            ErrorCode::StreamFull,
            "sealing fails, and the hot tail can hold no more",
        )))
    }

    /// History for a reader that reads upwards.
    pub(crate) fn offer_ascending(&self, resolved: &Resolved) -> Result<HistoryOffer, S::Error> {
        let segments = self.log().segments_after(resolved.after, SEGMENTS_OFFERED_MAX)?;
        Ok(self.offer(resolved, segments))
    }

    /// History for a reader that reads downwards.
    pub(crate) fn offer_descending(&self, resolved: &Resolved) -> Result<HistoryOffer, S::Error> {
        let segments = self.log().segments_until(resolved.after, SEGMENTS_OFFERED_MAX)?;
        Ok(self.offer(resolved, segments))
    }

    fn offer(&self, resolved: &Resolved, segments: Vec<SegmentEntry>) -> HistoryOffer {
        let log = self.log();
        let at = |seq: Seq| -> Cursor { log.cursor(seq) };
        HistoryOffer {
            after: at(resolved.after),
            oldest: at(log.trimmed()),
            sealed: at(log.sealed()),
            tail: at(log.tail()),
            received_since: resolved.received_since,
            gap: self.gap(resolved),
            segments,
            until: None,
            mode: self.is_assigned().then_some(self.assignment().rules().mode),
        }
    }
}
