use std::ops::ControlFlow;

use relay_schemas::{
    BodyMode, Cursor, Dialect, EdgeId, EventId, Gap, KindFilter, Order, PageQuery, Seq,
    StoredReport, UnixMillis, limits::PAGE_BYTES_MAX, record_kind, rewrite_body,
    write_webhook_frame,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{command::StreamError, storage::LogStorage, stream::Stream};

/// The answer of `GET /events`.
#[derive(Debug, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// The answer of `GET /events/{id}`.
#[derive(Debug, Serialize)]
pub struct EventWithReports {
    /// The webhook frame.
    pub event: Box<RawValue>,
    /// What edges reported, oldest first.
    pub reports: Vec<StoredReport>,
}

/// The answer of `GET /state/{organization}/{channel}`.
#[derive(Debug, Serialize)]
pub struct StreamState {
    /// The position before the oldest event kept.
    pub oldest: Cursor,
    /// The position of the newest event.
    pub tail: Cursor,
    /// Events kept.
    pub events: u64,
    /// Open connections.
    pub connections: Vec<ConnectionState>,
    /// When the object next wants to be woken.
    pub alarm_at: Option<UnixMillis>,
}

/// One open connection.
#[derive(Debug, Serialize)]
pub struct ConnectionState {
    /// Who reads.
    pub edge: EdgeId,
    /// How.
    pub dialect: Dialect,
    /// Since when.
    pub opened_at: UnixMillis,
    /// The position reached.
    pub cursor: Cursor,
    /// Events that it has yet to be sent.
    pub lag_events: u64,
}

struct PageBuilder<'a> {
    kinds: &'a KindFilter,
    body: BodyMode,
    limit: usize,
    bytes: usize,
    events: Vec<Box<RawValue>>,
}

impl PageBuilder<'_> {
    /// Takes a record, or answers that the page is full. The first event always fits.
    fn take(&mut self, cursor: Cursor, record: &str) -> ControlFlow<()> {
        if self.events.len() >= self.limit {
            return ControlFlow::Break(());
        }
        let passes = self.kinds.is_open()
            || record_kind(record).is_some_and(|kind| self.kinds.passes(&kind));
        if passes {
            let mut line = String::new();
            let n = self.events.len() as u64 + 1;
            write_webhook_frame(cursor, n, &rewrite_body(record, self.body), &mut line);
            if !self.events.is_empty() && self.bytes + line.len() > PAGE_BYTES_MAX {
                return ControlFlow::Break(());
            }
            self.bytes += line.len();
            self.events.push(raw_json(line));
        }
        ControlFlow::Continue(())
    }
}

impl<S: LogStorage> Stream<S> {
    /// One page of the log.
    pub fn page(
        &mut self,
        edge: &EdgeId,
        query: &PageQuery,
    ) -> Result<Page, StreamError<S::Error>> {
        self.admit(edge)?;
        self.make_used()?;
        let mut resolved = self.resolve(&query.start, query.on_gap)?;
        if resolved.fault.is_some() && query.order == Order::Desc {
            resolved.after = self.log().tail();
        }
        let log = self.log();
        let mut position = resolved.after;
        let mut builder = PageBuilder {
            kinds: &query.kinds,
            body: query.body,
            limit: query.limit,
            bytes: 0,
            events: Vec::new(),
        };
        let mut visit = |seq: Seq, record: &str| {
            let flow = builder.take(log.cursor(seq), record);
            if flow.is_continue() {
                position = match query.order {
                    Order::Asc => seq,
                    Order::Desc => Seq::new(seq.get() - 1),
                };
            }
            flow
        };
        match query.order {
            Order::Asc => log.read(resolved.after, &mut visit)?,
            Order::Desc => log.read_back(resolved.after, &mut visit)?,
        }
        let oldest = log.cursor(log.trimmed());
        Ok(Page {
            events: builder.events,
            cursor: log.cursor(position),
            oldest,
            tail: log.cursor(log.tail()),
            has_more: match query.order {
                Order::Asc => position < log.tail(),
                Order::Desc => position > log.trimmed(),
            },
            gap: resolved.fault.map(|(reason, requested)| Gap {
                requested,
                resumed_from: log.cursor(resolved.after),
                oldest,
                reason,
            }),
        })
    }

    /// One event with what edges reported on it.
    pub fn event(
        &self,
        edge: &EdgeId,
        id: EventId,
    ) -> Result<EventWithReports, StreamError<S::Error>> {
        self.admit(edge)?;
        let seq = self.known_position(id)?;
        let mut line = String::new();
        self.log().read(Seq::new(seq.get() - 1), &mut |seq, record| {
            write_webhook_frame(self.log().cursor(seq), 1, record, &mut line);
            ControlFlow::Break(())
        })?;
        Ok(EventWithReports { event: raw_json(line), reports: self.log().storage().reports(seq)? })
    }

    /// What an operator sees of the stream.
    pub fn state(&self) -> Result<StreamState, S::Error> {
        let log = self.log();
        let connections = self
            .connections()
            .values()
            .map(|subscription| ConnectionState {
                edge: subscription.edge.clone(),
                dialect: subscription.dialect,
                opened_at: subscription.opened_at,
                cursor: log.cursor(subscription.position()),
                lag_events: log.tail().distance_from(subscription.position()),
            })
            .collect();
        Ok(StreamState {
            oldest: log.cursor(log.trimmed()),
            tail: log.cursor(log.tail()),
            events: log.tail().distance_from(log.trimmed()),
            connections,
            alarm_at: self.next_alarm()?,
        })
    }
}

fn raw_json(line: String) -> Box<RawValue> {
    RawValue::from_string(line).expect("a frame is JSON")
}
