//! A page that reaches into history is put together in the Worker: from what the object has in
//! its hot tail, and from segments.

use std::collections::VecDeque;

use relay_schemas::{
    Cursor, Gap, GapReason, HistoryOffer, OnGap, Order, PageCommand, SegmentEntry, Seq, Start,
    UnixMillis,
    limits::{PAGE_BYTES_MAX, PAGE_SEGMENTS_MAX},
    record_received_at,
};

use super::{Page, PageBuilder, PagePart};
use crate::{
    replay::{Fetched, SegmentObject},
    segment::{SegmentError, SegmentReader},
};

/// What the shell is to do next for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageStep {
    /// Ask the object, then call [`PageFill::answered`].
    Ask(Box<PageCommand>),
    /// Get a segment from R2, then call [`PageFill::fetched`].
    Fetch(SegmentObject),
    /// Nothing more: the page is complete.
    Done,
}

/// A page that is being filled.
#[derive(Debug)]
pub struct PageFill {
    command: PageCommand,
    page: Option<Page>,
    builder: PageBuilder,
    known: VecDeque<SegmentEntry>,
    received_since: Option<UnixMillis>,
    doubted: Option<Seq>,
    segments_read: usize,
    segments_lost: u64,
    is_done: bool,
}

impl PageFill {
    /// Begins with the reader's query.
    pub fn new(command: PageCommand) -> Self {
        let builder = PageBuilder::new(&command);
        Self {
            command,
            page: None,
            builder,
            known: VecDeque::new(),
            received_since: None,
            doubted: None,
            segments_read: 0,
            segments_lost: 0,
            is_done: false,
        }
    }

    /// What is to be done next.
    pub fn next_step(&self) -> PageStep {
        let Some(page) = self.page.as_ref().filter(|_| !self.is_done) else {
            return match self.page {
                Some(_) => PageStep::Done,
                None => PageStep::Ask(Box::new(self.command.clone())),
            };
        };
        if let Some(entry) = self.known.front().filter(|entry| self.is_next(entry, page.cursor.seq))
        {
            let key = entry.key(&self.command.stream, page.cursor.epoch);
            return PageStep::Fetch(SegmentObject { key, entry: entry.clone() });
        }
        let mut command = self.command.clone();
        command.query.start = Start::Cursor(page.cursor.to_string());
        command.query.on_gap = OnGap::Resume;
        command.events = self.builder.events.len();
        command.bytes = self.builder.bytes;
        PageStep::Ask(Box::new(command))
    }

    fn is_next(&self, entry: &SegmentEntry, position: Seq) -> bool {
        match self.command.query.order {
            Order::Asc => entry.first <= position.next(),
            Order::Desc => entry.last >= position,
        }
    }

    /// What the object has, and which segments come next.
    pub fn answered(&mut self, part: PagePart) {
        let mut page = part.page;
        if let Some(earlier) = &mut self.page {
            // Retention has passed the page meanwhile, or the stream was rebuilt: the next page
            // is told.
            if page.gap.is_some() {
                earlier.oldest = page.oldest;
                self.is_done = true;
                return;
            }
            page.gap = earlier.gap.take();
        }
        self.builder.append(std::mem::take(&mut page.events));
        self.page = Some(page);
        match part.history {
            Some(offer) => self.take(offer),
            None => self.is_done = true,
        }
    }

    fn take(&mut self, offer: HistoryOffer) {
        self.received_since = offer.received_since.or(self.received_since);
        let reached = match (self.command.query.order, offer.segments.first()) {
            (Order::Asc, Some(entry)) => Seq::new(entry.first.get() - 1).max(offer.after.seq),
            (Order::Asc, None) => offer.sealed.seq,
            (Order::Desc, Some(entry)) => entry.last.min(offer.after.seq),
            (Order::Desc, None) => offer.oldest.seq,
        };
        // The object names what follows. Where it can't, its own index has a hole.
        if reached != offer.after.seq {
            self.tell_lost_until(reached);
        }
        self.known = offer.segments.into();
        self.is_done |= self.command.query.order == Order::Desc && self.is_at_oldest();
    }

    /// What R2 holds of the segment asked for.
    pub fn fetched(&mut self, entry: &SegmentEntry, fetched: Fetched) {
        let read = match fetched {
            Fetched::Missing => None,
            Fetched::Bytes(bytes) => self.read(bytes, entry).ok(),
        };
        match read {
            Some(is_full) => {
                self.known.pop_front();
                self.doubted = None;
                self.segments_read += 1;
                self.is_done |= is_full || self.segments_read >= PAGE_SEGMENTS_MAX;
                self.is_done |= self.command.query.order == Order::Desc && self.is_at_oldest();
            }
            None if self.doubted == Some(entry.first) => self.pass_lost(entry),
            // The object may know better by now: retention passes, streams are rebuilt.
            None => {
                self.doubted = Some(entry.first);
                self.known.clear();
            }
        }
    }

    fn read(&mut self, bytes: Vec<u8>, entry: &SegmentEntry) -> Result<bool, SegmentError> {
        let reader = SegmentReader::new(bytes, entry)?;
        let Some(page) = &mut self.page else { return Ok(true) };
        let instant = self.received_since;
        let (position, is_full) = match self.command.query.order {
            Order::Asc => read_up(reader, &mut self.builder, page.cursor, instant)?,
            Order::Desc => read_down(reader, &mut self.builder, page.cursor, entry, instant)?,
        };
        self.received_since = None;
        page.cursor.seq = position;
        Ok(is_full)
    }

    fn pass_lost(&mut self, entry: &SegmentEntry) {
        self.known.pop_front();
        self.doubted = None;
        self.received_since = None;
        self.segments_read += 1;
        self.is_done |= self.segments_read >= PAGE_SEGMENTS_MAX;
        self.tell_lost_until(match self.command.query.order {
            Order::Asc => entry.last,
            Order::Desc => Seq::new(entry.first.get() - 1),
        });
        self.is_done |= self.command.query.order == Order::Desc && self.is_at_oldest();
    }

    /// Segments that the page says are lost.
    pub fn segments_lost(&self) -> u64 {
        self.segments_lost
    }

    /// A page tells of one gap. What else is missing is left to the next page.
    fn tell_lost_until(&mut self, reached: Seq) {
        self.segments_lost += 1;
        let Some(page) = &mut self.page else { return };
        let resumed_from = Cursor { seq: reached, ..page.cursor };
        match &mut page.gap {
            None => {
                let (requested, oldest) = (page.cursor.to_string(), page.oldest);
                let reason = GapReason::Lost;
                page.gap = Some(Gap { requested, resumed_from, oldest, reason });
            }
            Some(gap) if gap.reason == GapReason::Lost && gap.resumed_from == page.cursor => {
                gap.resumed_from = resumed_from;
            }
            Some(_) => {
                self.is_done = true;
                return;
            }
        }
        page.cursor = resumed_from;
    }

    fn is_at_oldest(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.cursor.seq <= page.oldest.seq)
    }

    /// The page, once there is nothing more to do.
    pub fn into_page(self) -> Option<Page> {
        let order = self.command.query.order;
        let mut page = self.page?;
        page.events = self.builder.events;
        page.has_more = match order {
            Order::Asc => page.cursor.seq < page.tail.seq,
            Order::Desc => page.cursor.seq > page.oldest.seq,
        };
        Some(page)
    }
}

/// Reads upwards after `at`, and answers the position reached and whether the page is full.
fn read_up(
    mut reader: SegmentReader,
    builder: &mut PageBuilder,
    at: Cursor,
    since: Option<UnixMillis>,
) -> Result<(Seq, bool), SegmentError> {
    let mut taken = builder.clone();
    let mut position = at.seq;
    let mut is_before = since.is_some();
    let mut is_full = false;
    reader.skip_to(at.seq);
    while let Some((seq, record)) = reader.next()? {
        is_before &=
            record_received_at(record).is_none_or(|at| since.is_some_and(|since| at < since));
        if !is_before && taken.take(Cursor { seq, ..at }, record).is_break() {
            is_full = true;
            break;
        }
        position = seq;
    }
    *builder = taken;
    Ok((position, is_full))
}

/// Reads downwards from `at`, or from before the first event received at or after `until`. A
/// segment can only be decoded upwards: what may still be pushed out is kept meanwhile.
fn read_down(
    mut reader: SegmentReader,
    builder: &mut PageBuilder,
    at: Cursor,
    entry: &SegmentEntry,
    until: Option<UnixMillis>,
) -> Result<(Seq, bool), SegmentError> {
    let mut newest: VecDeque<(Seq, String)> = VecDeque::new();
    let mut bytes = 0;
    let mut position = at.seq;
    let mut pushed_out = None;
    while let Some((seq, record)) = reader.next()? {
        let is_past = until.is_some_and(|until| record_received_at(record) >= Some(until));
        if seq > at.seq || is_past {
            position = position.min(Seq::new(seq.get() - 1));
            break;
        }
        if builder.passes(record) {
            bytes += record.len();
            newest.push_back((seq, record.to_owned()));
        }
        while newest.len() > builder.limit || (newest.len() > 1 && bytes > PAGE_BYTES_MAX) {
            let oldest = newest.pop_front();
            bytes -= oldest.as_ref().map_or(0, |(_, record)| record.len());
            pushed_out = oldest.map(|(seq, _)| seq).or(pushed_out);
        }
    }
    for (seq, record) in newest.into_iter().rev() {
        if builder.take(Cursor { seq, ..at }, &record).is_break() {
            return Ok((position, true));
        }
        position = Seq::new(seq.get() - 1);
    }
    match pushed_out {
        Some(seq) => Ok((seq, true)),
        None => Ok((Seq::new(entry.first.get() - 1), false)),
    }
}
