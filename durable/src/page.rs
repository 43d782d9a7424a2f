mod fill;

use std::ops::ControlFlow;

use relay_schemas::{
    BodyMode, Cursor, EdgeId, EventId, Gap, HistoryOffer, KindFilter, OnGap, Order, PageCommand,
    ReadFilter, SegmentEntry, Seq, Start, StoredReport, StreamKey, UnixMillis,
    limits::PAGE_BYTES_MAX, record_kind, record_received_at, rewrite_body, write_webhook_frame,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::fill::{PageFill, PageStep};
use crate::{
    command::StreamError,
    log::Resolved,
    segment::{SegmentError, SegmentReader},
    storage::LogStorage,
    stream::{Stream, event_unknown},
};

/// The answer of `GET /events`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page {
    /// Webhook frames, each with its own cursor.
    pub events: Vec<Box<RawValue>>,
    /// Where the next page starts, in the same order.
    pub cursor: Cursor,
    /// The position before the oldest event kept.
    pub oldest: Cursor,
    /// The position of the newest event.
    pub tail: Cursor,
    /// Whether the next page has anything.
    pub has_more: bool,
    /// Set when the page starts elsewhere than asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// What the object has of a page, and which segments have the rest.
#[derive(Debug, Serialize, Deserialize)]
pub struct PagePart {
    /// The page as far as the hot tail has it.
    pub page: Page,
    /// Set when the page goes on in history.
    pub history: Option<HistoryOffer>,
}

/// What the object knows of one event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventAnswer {
    /// It lies in the hot tail.
    Hot(EventWithReports),
    /// It lies in a segment.
    Sealed {
        /// Where.
        cursor: Cursor,
        /// Which.
        segment: SegmentEntry,
        /// What edges reported, oldest first.
        reports: Vec<StoredReport>,
    },
}

/// The answer of `GET /events/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventWithReports {
    /// The webhook frame.
    pub event: Box<RawValue>,
    /// What edges reported, oldest first.
    pub reports: Vec<StoredReport>,
}

#[derive(Clone, Debug)]
struct PageBuilder {
    filter: ReadFilter,
    body: BodyMode,
    /// How many events the page may have, with those that it has already.
    limit: usize,
    /// Events that another part has.
    before: usize,
    bytes: usize,
    events: Vec<Box<RawValue>>,
}

impl PageBuilder {
    fn new(command: &PageCommand) -> Self {
        Self {
            filter: command.filter(),
            body: command.query.body,
            limit: command.query.limit,
            before: command.events,
            bytes: command.bytes,
            events: Vec::new(),
        }
    }

    fn count(&self) -> usize {
        self.before + self.events.len()
    }

    fn passes(&self, record: &str) -> bool {
        self.filter.passes(None, record)
    }

    /// Takes a record, or answers that the page is full. The first event always fits.
    fn take(&mut self, cursor: Cursor, record: &str) -> ControlFlow<()> {
        if self.count() >= self.limit {
            return ControlFlow::Break(());
        }
        if self.passes(record) {
            let mut line = String::new();
            let n = self.count() as u64 + 1;
            write_webhook_frame(cursor, n, &rewrite_body(record, self.body), &mut line);
            if self.count() > 0 && self.bytes + line.len() > PAGE_BYTES_MAX {
                return ControlFlow::Break(());
            }
            self.bytes += line.len();
            self.events.push(raw_json(line));
        }
        ControlFlow::Continue(())
    }

    /// Adds what another part has.
    fn append(&mut self, events: Vec<Box<RawValue>>) {
        self.bytes += events.iter().map(|event| event.get().len()).sum::<usize>();
        self.events.extend(events);
    }
}

impl<S: LogStorage> Stream<S> {
    /// What the object has of a page.
    pub fn page(&mut self, command: &PageCommand) -> Result<PagePart, StreamError<S::Error>> {
        self.admit(&command.edge)?;
        self.make_used(&command.stream)?;
        let query = &command.query;
        let mut resolved = self.resolve(&query.start, query.on_gap)?;
        if query.order == Order::Desc {
            self.resolve_downwards(&mut resolved)?;
        }
        let (builder, position) = self.hot_part(command, &resolved)?;
        let history = match query.order {
            Order::Asc if resolved.after < self.log().sealed() => {
                Some(self.offer_ascending(&resolved)?)
            }
            Order::Desc if self.has_history_below(position) && builder.count() < query.limit => {
                Some(self.offer_descending(&Resolved { after: position, ..resolved.clone() })?)
            }
            _ => None,
        };
        let log = self.log();
        let page = Page {
            events: builder.events,
            cursor: log.cursor(position),
            oldest: log.cursor(log.trimmed()),
            tail: log.cursor(log.tail()),
            has_more: match query.order {
                Order::Asc => position < log.tail(),
                Order::Desc => position > log.trimmed(),
            },
            gap: self.gap(&resolved),
        };
        Ok(PagePart { page, history })
    }

    /// Reading downwards begins at the newest event where a position can't be followed, and within
    /// a segment at its end: whoever reads it finds the instant.
    fn resolve_downwards(&self, resolved: &mut Resolved) -> Result<(), S::Error> {
        if resolved.fault.is_some() {
            resolved.after = self.log().tail();
        } else if resolved.received_since.is_some() {
            let segment = self.log().segments_after(resolved.after, 1)?.pop();
            resolved.after = segment.map_or(resolved.after, |segment| segment.last);
        }
        Ok(())
    }

    fn has_history_below(&self, position: Seq) -> bool {
        position > self.log().trimmed() && position <= self.log().sealed()
    }

    /// The page's events in the hot tail, and the position reached.
    fn hot_part(
        &self,
        command: &PageCommand,
        resolved: &Resolved,
    ) -> Result<(PageBuilder, Seq), S::Error> {
        let log = self.log();
        let order = command.query.order;
        let mut position = resolved.after;
        let mut builder = PageBuilder::new(command);
        if resolved.after < log.sealed() || resolved.received_since.is_some() {
            return Ok((builder, position));
        }
        let mut visit = |seq: Seq, record: &str| {
            let flow = builder.take(log.cursor(seq), record);
            if flow.is_continue() {
                position = match order {
                    Order::Asc => seq,
                    Order::Desc => Seq::new(seq.get() - 1),
                };
            }
            flow
        };
        match order {
            Order::Asc => log.read(resolved.after, &mut visit)?,
            Order::Desc => log.read_back(resolved.after, &mut visit)?,
        }
        Ok((builder, position))
    }

    /// The first history of a reader, without following it; `None` when there is none before it.
    pub fn history(
        &mut self,
        stream: &StreamKey,
        edge: &EdgeId,
        start: &Start,
        on_gap: OnGap,
    ) -> Result<HistoryOffer, StreamError<S::Error>> {
        self.admit(edge)?;
        self.make_used(stream)?;
        let resolved = self.resolve(start, on_gap)?;
        Ok(self.offer_to_reader(&resolved)?)
    }

    /// One event with what edges reported on it.
    pub fn event(
        &self,
        edge: &EdgeId,
        id: EventId,
        allowed: &KindFilter,
    ) -> Result<EventAnswer, StreamError<S::Error>> {
        self.admit(edge)?;
        let seq = self.known_position(id)?;
        let reports = self.log().storage().reports(seq)?;
        let cursor = self.log().cursor(seq);
        if seq <= self.log().sealed() {
            let segment = self.log().segments_until(seq, 1)?.pop();
            let segment = segment.filter(|segment| segment.last >= seq);
            let segment = segment.ok_or_else(event_unknown)?;
            return Ok(EventAnswer::Sealed { cursor, segment, reports });
        }
        let mut line = String::new();
        self.log().read(Seq::new(seq.get() - 1), &mut |_, record| {
            if may_read(allowed, record) {
                write_webhook_frame(cursor, 1, record, &mut line);
            }
            ControlFlow::Break(())
        })?;
        if line.is_empty() {
            return Err(event_unknown());
        }
        Ok(EventAnswer::Hot(EventWithReports { event: raw_json(line), reports }))
    }
}

/// The event at a position of a segment, with the reports on it; `None` if it may not be read.
pub fn sealed_event(
    bytes: Vec<u8>,
    segment: &SegmentEntry,
    cursor: Cursor,
    reports: Vec<StoredReport>,
    allowed: &KindFilter,
) -> Result<Option<EventWithReports>, SegmentError> {
    let mut reader = SegmentReader::new(bytes, segment)?;
    reader.skip_to(Seq::new(cursor.seq.get() - 1));
    let Some((_, record)) = reader.next()? else {
        return Err(SegmentError::Corrupt("the event is not in it"));
    };
    if !may_read(allowed, record) {
        return Ok(None);
    }
    let mut line = String::new();
    write_webhook_frame(cursor, 1, record, &mut line);
    Ok(Some(EventWithReports { event: raw_json(line), reports }))
}

fn may_read(allowed: &KindFilter, record: &str) -> bool {
    allowed.is_open() || record_kind(record).is_some_and(|kind| allowed.passes(&kind))
}

/// The position before the first event of a segment that was received at or after an instant.
pub fn position_before(
    bytes: Vec<u8>,
    segment: &SegmentEntry,
    since: UnixMillis,
) -> Result<Seq, SegmentError> {
    let mut reader = SegmentReader::new(bytes, segment)?;
    while let Some((seq, record)) = reader.next()? {
        if record_received_at(record).is_some_and(|at| at >= since) {
            return Ok(Seq::new(seq.get() - 1));
        }
    }
    Ok(segment.last)
}

fn raw_json(line: String) -> Box<RawValue> {
    RawValue::from_string(line).expect("a frame is JSON")
}
