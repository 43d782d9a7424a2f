//! Reading history for one connection, in the Worker, while the object sleeps.
//!
//! In scope: which segment comes next and from where it is known, what becomes of one that is
//! gone or damaged, frames in order. Out of scope: fetching, and how much may be written: the
//! shell asks [`Replay::next_step`], does it, and hands the outcome back.

use std::collections::VecDeque;

use relay_schemas::{
    Connect, Cursor, Epoch, Gap, GapReason, HistoryOffer, OnGap, Position, ReadFilter, Resume,
    SegmentEntry, Seq, Start, StreamKey, UnixMillis, index_prefix, record_received_at,
    rewrite_body, write_webhook_frame,
};

use crate::{
    segment::SegmentReader,
    stream::{Bounds, opening_lines},
};

/// What the shell is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayStep {
    /// Take lines with [`Replay::write`], as many as the reader has room for.
    Write,
    /// Get a segment from R2, then call [`Replay::fetched`].
    Fetch(SegmentObject),
    /// List the index in KV under this prefix, then call [`Replay::listed`].
    List {
        /// What the keys begin with.
        prefix: String,
    },
    /// Ask the object: it follows the reader from here, or knows of more history.
    Ask,
}

/// A segment and the name of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentObject {
    /// The name in R2.
    pub key: String,
    /// What the index says of it.
    pub entry: SegmentEntry,
}

/// What R2 answered for a segment. That it couldn't answer is not among these: the shell tries
/// again then, or ends the reader, which resumes.
#[derive(Debug)]
pub enum Fetched {
    /// The object's bytes.
    Bytes(Vec<u8>),
    /// There is no such object.
    Missing,
}

/// Who named the next segments. Only the object's word decides that events are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Object,
    Index,
}

/// One reader in history: a position, and at most one segment being read.
pub struct Replay {
    stream: StreamKey,
    filter: ReadFilter,
    connect: Connect,
    epoch: Epoch,
    position: Seq,
    n: u64,
    oldest: Cursor,
    tail: Cursor,
    sealed: Seq,
    /// Nothing after this is read in history.
    until: Option<Seq>,
    received_since: Option<UnixMillis>,
    known: VecDeque<SegmentEntry>,
    source: Source,
    reading: Option<(SegmentEntry, SegmentReader)>,
    listed_at: Option<Seq>,
    trusts_index: bool,
    doubted: Option<Seq>,
    lines: String,
    segments_lost: u64,
}

impl Replay {
    /// A reader that the object has sent to history, with its opening frames waiting.
    pub fn new(connect: Connect, offer: HistoryOffer) -> Self {
        let bounds = Bounds {
            cursor: offer.after,
            oldest: offer.oldest,
            tail: offer.tail,
            mode: offer.mode,
        };
        let opening = opening_lines(&connect, &bounds, offer.gap.as_ref());
        let n = connect.resume.map_or(0, |resume| resume.n);
        let position = Position { cursor: offer.after, tail: offer.tail, n };
        let mut replay = Self::after(connect, position);
        opening.iter().for_each(|line| replay.push_line(line));
        replay.take(offer);
        replay
    }

    /// A reader that has been followed up to a position, and now goes on in history.
    pub fn after(connect: Connect, position: Position) -> Self {
        Self {
            stream: connect.stream.clone(),
            filter: connect.filter(),
            connect,
            epoch: position.cursor.epoch,
            position: position.cursor.seq,
            n: position.n,
            oldest: position.cursor,
            tail: position.tail,
            sealed: position.cursor.seq,
            until: None,
            received_since: None,
            known: VecDeque::new(),
            source: Source::Object,
            reading: None,
            listed_at: None,
            trusts_index: true,
            doubted: None,
            lines: String::new(),
            segments_lost: 0,
        }
    }

    /// What is to be done next.
    pub fn next_step(&mut self) -> ReplayStep {
        if !self.lines.is_empty() || self.reading.is_some() {
            return ReplayStep::Write;
        }
        let next = self.position.next();
        if self.is_beyond(next) {
            return ReplayStep::Ask;
        }
        self.known.retain(|entry| entry.last >= next);
        match self.known.front() {
            Some(entry) if entry.first <= next => ReplayStep::Fetch(self.object(entry)),
            _ if self.may_list() => {
                let prefix = index_prefix(&self.stream, self.epoch, next);
                ReplayStep::List { prefix }
            }
            _ => ReplayStep::Ask,
        }
    }

    fn is_beyond(&self, seq: Seq) -> bool {
        self.until.is_some_and(|until| seq > until)
    }

    fn may_list(&self) -> bool {
        self.trusts_index && self.position < self.sealed && self.listed_at != Some(self.position)
    }

    fn object(&self, entry: &SegmentEntry) -> SegmentObject {
        SegmentObject { key: entry.key(&self.stream, self.epoch), entry: entry.clone() }
    }

    /// The segment after the one that is being read, worth fetching meanwhile.
    pub fn ahead(&self) -> Option<SegmentObject> {
        let end = self.reading.as_ref()?.0.last;
        if self.is_beyond(end.next()) {
            return None;
        }
        self.known.iter().find(|entry| entry.first == end.next()).map(|entry| self.object(entry))
    }

    /// What KV lists. Entries that don't follow on from the position are not used: a stale or
    /// incomplete listing must not make a hole.
    pub fn listed(&mut self, mut entries: Vec<SegmentEntry>) {
        self.listed_at = Some(self.position);
        self.source = Source::Index;
        self.known.clear();
        entries.sort_by_key(|entry| entry.first);
        let mut next = self.position.next();
        for entry in entries {
            if entry.first == next && entry.last >= next {
                next = entry.last.next();
                self.known.push_back(entry);
            }
        }
    }

    /// What R2 holds of the segment asked for.
    pub fn fetched(&mut self, entry: &SegmentEntry, fetched: Fetched) {
        let reader = match fetched {
            Fetched::Missing => None,
            Fetched::Bytes(bytes) => SegmentReader::new(bytes, entry).ok(),
        };
        match reader {
            Some(mut reader) => {
                reader.skip_to(self.position);
                self.reading = Some((entry.clone(), reader));
            }
            None => self.doubt(entry),
        }
    }

    /// A segment can't be read. KV may be stale, and so may what the object said a while ago: it
    /// is asked before the reader is told that events are lost.
    fn doubt(&mut self, entry: &SegmentEntry) {
        self.known.clear();
        self.reading = None;
        if self.source == Source::Index || self.doubted != Some(entry.first) {
            self.trusts_index = false;
            self.doubted = Some(entry.first);
            return;
        }
        self.doubted = None;
        self.segments_lost += 1;
        self.tell_lost_until(entry.last);
    }

    fn tell_lost_until(&mut self, last: Seq) {
        let gap = Gap {
            requested: self.cursor().to_string(),
            resumed_from: Cursor { epoch: self.epoch, seq: last },
            oldest: self.oldest,
            reason: GapReason::Lost,
        };
        self.push_line(&gap.to_line());
        self.position = last;
        // The instant lay in what is lost: everything after it is to be read.
        self.received_since = None;
    }

    /// The command to ask the object with: like the reader's own, but from here on.
    pub fn ask(&self, credit_bytes: i64) -> Connect {
        Connect {
            start: Start::Cursor(self.cursor().to_string()),
            on_gap: OnGap::Resume,
            resume: Some(Resume { n: self.n, credit_bytes }),
            ..self.connect.clone()
        }
    }

    /// The object knows of more history.
    pub fn offered(&mut self, offer: HistoryOffer) {
        if let Some(gap) = &offer.gap {
            self.push_line(&gap.to_line());
            // The instant may lie within what is gone: nothing after it is left out.
            self.received_since = None;
        }
        self.take(offer);
    }

    fn take(&mut self, offer: HistoryOffer) {
        self.epoch = offer.after.epoch;
        self.position = offer.after.seq;
        self.oldest = offer.oldest;
        self.sealed = offer.sealed.seq;
        self.until = offer.until;
        self.tail = offer.tail;
        self.received_since = offer.received_since.or(self.received_since);
        self.known = offer.segments.into();
        self.source = Source::Object;
        self.listed_at = None;
        // The object names what follows. Where it can't, its own index has a hole.
        let next = self.position.next();
        let found = self.known.front().map_or(self.sealed.next(), |entry| entry.first);
        if next < found {
            self.tell_lost_until(Seq::new(found.get() - 1));
        }
    }

    /// The object has sent a reader back that it had followed.
    pub fn go_on_after(&mut self, position: Position) {
        self.epoch = position.cursor.epoch;
        self.position = position.cursor.seq;
        self.tail = position.tail;
        self.n = position.n;
        self.known.clear();
        self.until = None;
        self.received_since = None;
        // What is next was sealed moments ago: the object knows it, KV perhaps not yet.
        self.sealed = self.position;
    }

    /// Makes the object the next to be asked. It alone knows of revocations, of retention and of a
    /// new incarnation, so a long replay does this from time to time.
    pub fn ask_next(&mut self) {
        self.known.clear();
        self.sealed = self.position;
    }

    /// Writes frames, each with a line break, until `out` has at least `bytes_max` bytes or the
    /// segment ends. Answers how many of the bytes are webhooks, which cost credit.
    pub fn write(&mut self, bytes_max: usize, out: &mut String) -> u64 {
        out.push_str(&std::mem::take(&mut self.lines));
        let mut charged_bytes = 0;
        let Some((entry, mut reader)) = self.reading.take() else { return charged_bytes };
        while out.len() < bytes_max {
            match reader.next() {
                // What lies behind is not for everybody.
                Ok(Some((seq, _))) if self.until.is_some_and(|until| seq > until) => {
                    return charged_bytes;
                }
                Ok(Some((seq, record))) => {
                    charged_bytes += self.write_record(seq, record, out);
                }
                Ok(None) => {
                    self.doubted = None;
                    return charged_bytes;
                }
                Err(_) => {
                    self.doubt(&entry);
                    // The position lies after a gap that was told just now: it leaves with it.
                    out.push_str(&std::mem::take(&mut self.lines));
                    return charged_bytes;
                }
            }
        }
        self.reading = Some((entry, reader));
        charged_bytes
    }

    fn write_record(&mut self, seq: Seq, record: &str, out: &mut String) -> u64 {
        self.position = seq;
        if let Some(since) = self.received_since {
            if record_received_at(record).is_some_and(|at| at < since) {
                return 0;
            }
            self.received_since = None;
        }
        if !self.filter.passes(None, record) {
            return 0;
        }
        self.n += 1;
        let before = out.len();
        let record = rewrite_body(record, self.connect.body);
        write_webhook_frame(self.cursor(), self.n, &record, out);
        let charged_bytes = (out.len() - before) as u64;
        out.push('\n');
        charged_bytes
    }

    fn push_line(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.position }
    }

    /// Where the reader stands after what was written. The index may have shown it events that
    /// are newer than the object's last word.
    pub fn position(&self) -> Position {
        let cursor = self.cursor();
        Position { cursor, tail: self.tail.max(cursor), n: self.n }
    }

    /// Segments that the reader was told are lost, since this was last asked.
    pub fn take_segments_lost(&mut self) -> u64 {
        std::mem::take(&mut self.segments_lost)
    }
}
