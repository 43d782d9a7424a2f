use std::{collections::BTreeSet, ops::ControlFlow};

use relay_schemas::{
    BodyMode, BridgeMessage, Bye, ByeCode, Connect, Cursor, Dialect, EdgeId, Gap, GapReason,
    Heartbeat, Position, ReadFilter, Seq, UnixMillis,
    limits::{CREDIT_BYTES, CREDIT_BYTES_MAX, SLOW_LAG_EVENTS, SLOW_STALL_MS},
    rewrite_body, write_attempt_frame,
};
use serde::{Deserialize, Serialize};

use crate::{log::Log, storage::LogStorage};

/// One reader: a position and a credit, and nothing queued for it. Small enough for a WebSocket's
/// attachment (16 KiB), where it outlives the object's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Who reads.
    pub edge: EdgeId,
    /// How frames are sent.
    pub dialect: Dialect,
    /// When the credential expires.
    pub expires_at: UnixMillis,
    /// When it was opened.
    pub opened_at: UnixMillis,
    /// Seconds between heartbeats.
    pub heartbeat_s: u32,
    /// Its display name.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(flatten)]
    filter: ReadFilter,
    body: BodyMode,
    position: Seq,
    n: u64,
    credit_bytes: i64,
    stalled_since: Option<UnixMillis>,
    position_told_at: UnixMillis,
    /// Positions that the edge has and that were not sent on this connection yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    owed: BTreeSet<Seq>,
    #[serde(default)]
    has_said_bye: bool,
    /// How many events its edge works on at once, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
}

/// What is sent to a reader in one go.
#[derive(Debug, Default)]
pub struct Outgoing {
    lines: Vec<String>,
    /// How many of the lines are webhooks.
    pub webhooks: u64,
    charged_bytes: u64,
    passed_over: bool,
}

impl Outgoing {
    /// Starts with control frames.
    pub fn with_lines(lines: Vec<String>) -> Self {
        Self { lines, ..Self::default() }
    }

    /// Adds a control frame.
    pub(crate) fn push_line(&mut self, line: String) {
        self.lines.push(line);
    }
}

impl Subscription {
    /// A reader that starts after `after`.
    pub fn new(connect: &Connect, after: Seq, now: UnixMillis) -> Self {
        Self {
            edge: connect.edge.clone(),
            dialect: connect.dialect,
            expires_at: connect.expires_at,
            opened_at: now,
            heartbeat_s: connect.heartbeat_s,
            name: connect.edge_name.clone(),
            filter: connect.filter(),
            body: connect.body,
            position: after,
            n: connect.resume.map_or(0, |resume| resume.n),
            credit_bytes: connect
                .resume
                .map_or(CREDIT_BYTES, |resume| resume.credit_bytes.min(CREDIT_BYTES_MAX)),
            stalled_since: None,
            position_told_at: UnixMillis::default(),
            owed: BTreeSet::new(),
            has_said_bye: false,
            capacity: connect.capacity(),
        }
    }

    /// How long its pings may stay away.
    pub(crate) fn silence_ms_max(&self) -> u64 {
        u64::from(self.heartbeat_s) * 2_500
    }

    /// The position reached.
    pub fn position(&self) -> Seq {
        self.position
    }

    /// Whether the next event would be sent at once.
    pub fn is_ready_at(&self, tail: Seq) -> bool {
        self.position == tail && self.credit_bytes > 0
    }

    /// Lets so many more bytes be sent.
    pub fn grant(&mut self, bytes: i64) {
        self.credit_bytes = self.credit_bytes.saturating_add(bytes.max(0)).min(CREDIT_BYTES_MAX);
        if self.credit_bytes > 0 {
            self.stalled_since = None;
        }
    }

    /// Takes the event at `seq`: sends it, passes over it, or stops for want of credit. A frame
    /// is sent whole, so credit can end below zero by one frame.
    pub fn offer(
        &mut self,
        cursor: Cursor,
        kind: Option<&str>,
        record: &str,
        outgoing: &mut Outgoing,
    ) -> ControlFlow<()> {
        debug_assert_eq!(cursor.seq, self.position.next(), "events are offered in order");
        if self.credit_bytes <= 0 {
            return ControlFlow::Break(());
        }
        self.position = cursor.seq;
        if !self.filter.passes(kind, record) {
            outgoing.passed_over = true;
            return ControlFlow::Continue(());
        }
        self.send(cursor, 1, record, outgoing);
        ControlFlow::Continue(())
    }

    fn send(&mut self, cursor: Cursor, attempt: u32, record: &str, outgoing: &mut Outgoing) {
        self.n += 1;
        let mut line = String::new();
        let record = rewrite_body(record, self.body);
        write_attempt_frame(cursor, self.n, attempt, &record, &mut line);
        self.credit_bytes -= i64::try_from(line.len()).unwrap_or(i64::MAX);
        outgoing.charged_bytes += line.len() as u64;
        outgoing.lines.push(line);
        outgoing.webhooks += 1;
    }

    /// The client ends, and closes soon.
    pub(crate) fn says_bye(&mut self) {
        self.has_said_bye = true;
    }

    /// Whether the client has said that it ends.
    pub(crate) fn has_said_bye(&self) -> bool {
        self.has_said_bye
    }

    /// What the reader is sent.
    pub fn filter(&self) -> &ReadFilter {
        &self.filter
    }

    /// How many events its edge may have for it; `None` when it has not said.
    pub(crate) fn capacity(&self) -> Option<u32> {
        self.capacity
    }

    /// Whether it takes events of its own, where each is given to one edge: else it only watches.
    pub(crate) fn takes_events(&self) -> bool {
        self.capacity != Some(0)
    }

    /// Whether it may be sent an event that its edge is given.
    pub(crate) fn may_be_given(&self) -> bool {
        self.credit_bytes > 0 && self.owed.is_empty()
    }

    /// Sends an event that was given to its edge. The cursor is the furthest position that was
    /// sent: it never goes back, though the event may lie before it.
    pub(crate) fn send_given(
        &mut self,
        at: Cursor,
        attempt: u32,
        record: &str,
        outgoing: &mut Outgoing,
    ) {
        self.position = self.position.max(at.seq);
        self.owed.remove(&at.seq);
        self.send(Cursor { seq: self.position, ..at }, attempt, record, outgoing);
    }

    /// Positions that are to be sent as soon as there is credit.
    pub(crate) fn owe(&mut self, positions: impl IntoIterator<Item = Seq>) {
        self.owed.extend(positions);
    }

    /// The next position that is to be sent and may be.
    pub(crate) fn next_owed(&self) -> Option<Seq> {
        self.owed.first().copied().filter(|_| self.credit_bytes > 0)
    }

    /// All that is to be sent; none of it any longer.
    pub(crate) fn take_owed(&mut self) -> BTreeSet<Seq> {
        std::mem::take(&mut self.owed)
    }

    /// Another edge has it by now, or it is finished.
    pub(crate) fn keep_owed(&mut self, is_theirs: impl Fn(Seq) -> bool) -> bool {
        let before = self.owed.len();
        self.owed.retain(|seq| is_theirs(*seq));
        self.owed.len() < before
    }

    /// Whether what comes next lies in a segment: the log can't be read on from here.
    pub fn is_in_history<S: LogStorage>(&self, log: &Log<S>) -> bool {
        self.credit_bytes > 0 && self.position.max(log.trimmed()) < log.sealed()
    }

    /// Reads on from the hot tail until a position or the end of the credit.
    pub fn catch_up<S: LogStorage>(
        &mut self,
        log: &Log<S>,
        until: Seq,
        outgoing: &mut Outgoing,
        now: UnixMillis,
    ) -> Result<(), S::Error> {
        if self.credit_bytes > 0 && self.position < until {
            self.pass_trimmed(log, outgoing);
            log.read(self.position, &mut |seq, record| match seq <= until {
                true => self.offer(log.cursor(seq), None, record, outgoing),
                false => ControlFlow::Break(()),
            })?;
        }
        self.note_stall(until, now);
        Ok(())
    }

    /// Passes over what is not the reader's to read.
    pub(crate) fn skip_to(&mut self, position: Seq) {
        self.position = self.position.max(position);
    }

    /// Retention can overtake a reader that has no credit. It is told what is missing, as a
    /// reader that comes back would be.
    fn pass_trimmed<S: LogStorage>(&mut self, log: &Log<S>, outgoing: &mut Outgoing) {
        if self.position >= log.trimmed() {
            return;
        }
        let oldest = log.cursor(log.trimmed());
        let gap = Gap {
            requested: log.cursor(self.position).to_string(),
            resumed_from: oldest,
            oldest,
            reason: GapReason::Trimmed,
        };
        outgoing.lines.push(gap.to_line());
        self.position = log.trimmed();
    }

    /// Goes back to `tail` when the position lies after it: the object was reset before the events
    /// between were durable, and its sends, which wait for that, were never made.
    pub(crate) fn go_back_to(&mut self, tail: Seq) {
        self.position = self.position.min(tail);
    }

    /// Notes since when events wait for credit.
    pub fn note_stall(&mut self, tail: Seq, now: UnixMillis) {
        if self.credit_bytes <= 0 && self.position < tail {
            self.stalled_since.get_or_insert(now);
        }
    }

    /// Whether events wait for credit, and not for long yet.
    pub(crate) fn has_stalled_within(&self, ms: u64, now: UnixMillis) -> bool {
        self.stalled_since.is_some_and(|since| now.since_ms(since) < ms)
    }

    /// Whether the reader is far behind and makes no progress.
    pub fn is_slow(&self, tail: Seq, now: UnixMillis) -> bool {
        tail.distance_from(self.position) >= SLOW_LAG_EVENTS
            && self.stalled_since.is_some_and(|since| now.since_ms(since) >= SLOW_STALL_MS)
    }

    /// The messages for a reader's socket: frames one by one on a direct WebSocket, all lines in
    /// one message to the Worker that holds an HTTP reader.
    pub fn messages<S: LogStorage>(
        &mut self,
        log: &Log<S>,
        outgoing: Outgoing,
        now: UnixMillis,
    ) -> Vec<String> {
        let mut lines = outgoing.lines;
        let (cursor, tail) = (log.cursor(self.position), log.cursor(log.tail()));
        if !self.dialect.is_bridged() {
            if lines.is_empty() && outgoing.passed_over && self.may_tell_position(now) {
                lines.push(Heartbeat::new(cursor, tail, self.n, now).to_line());
            }
            return lines;
        }
        if lines.is_empty() && !outgoing.passed_over {
            return Vec::new();
        }
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        let position = Position { cursor, tail, n: self.n };
        let charged_bytes = outgoing.charged_bytes;
        vec![BridgeMessage { position, charged_bytes, lines: &text }.encode()]
    }

    /// Positions past filtered events cost no credit, so they are told only so often: a reader
    /// that doesn't read must not pile them up.
    fn may_tell_position(&mut self, now: UnixMillis) -> bool {
        let is_due = now.since_ms(self.position_told_at) >= u64::from(self.heartbeat_s) * 1_000;
        if is_due {
            self.position_told_at = now;
        }
        is_due
    }

    /// The frame that ends this reader.
    pub fn bye(&self, code: ByeCode, cursor: Cursor, retry_after_ms: u64) -> String {
        Bye { code, retry_after_ms, cursor }.to_line()
    }
}
