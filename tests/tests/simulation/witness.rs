use relay_schemas::{
    BodyMode, Cursor, Epoch, Frame, Gap, GapReason, KindFilter, Start, rewrite_body,
    write_webhook_frame,
};

use crate::{
    coverage::Mark,
    oracle::{Expected, Incarnation},
    platform::Platform,
};

/// A reader as its machine knows it: it sees lines, and every one of them must be right.
///
/// Invariant 3 is checked here: exactly what comes after the start, in order, each once, or a
/// gap that names exactly what is missing. Invariant 5 too: every byte is that of its own stream.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) stream: usize,
    pub(crate) kinds: KindFilter,
    pub(crate) body: BodyMode,
    /// What it would come back with.
    pub(crate) saved: Option<Cursor>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    expected: Expected,
    is_open: bool,
    epoch: Epoch,
    /// Everything up to here was received, or is not wanted, or was named by a gap.
    position: u64,
    /// The last position that it was told.
    told: u64,
    n: u64,
    is_ended: bool,
}

impl Witness {
    pub(crate) fn new(stream: usize, kinds: KindFilter, body: BodyMode) -> Self {
        Self { stream, kinds, body, saved: None, connection: None }
    }

    /// A new connection, that must start as the oracle says.
    pub(crate) fn begin(&mut self, expected: Expected) {
        let (epoch, position) = (expected.epoch, expected.after);
        self.connection = Some(Connection {
            expected,
            is_open: false,
            epoch,
            position,
            told: 0,
            n: 0,
            is_ended: false,
        });
    }

    /// Where it would start now.
    pub(crate) fn resume(&self) -> Option<Start> {
        self.saved.map(|cursor| Start::Cursor(cursor.to_string()))
    }

    pub(crate) fn is_wanted(&self, seq: u64, incarnation: &Incarnation) -> bool {
        self.kinds.passes(&incarnation.event(seq).kind)
    }

    /// Whether nothing is missing up to the newest event.
    pub(crate) fn has_all(&self, platform: &Platform) -> bool {
        let incarnation = platform.incarnation(self.stream);
        let Some(connection) = self.connection.as_ref().filter(|it| it.is_open) else {
            return false;
        };
        connection.epoch == incarnation.epoch
            && (connection.position + 1..=incarnation.tail())
                .all(|seq| !self.is_wanted(seq, incarnation))
    }

    pub(crate) fn take(&mut self, line: &str, platform: &mut Platform) {
        platform.trace.note(format_args!("{} reads {line}", self.stream));
        let ended = self.connection.as_ref().is_none_or(|connection| connection.is_ended);
        assert!(!ended, "nothing comes after a bye");
        if let Some(rest) = line.strip_prefix(r#"{"type":"webhook","cursor":""#) {
            let cursor = rest[..Cursor::WIDTH].parse().expect("a cursor");
            return self.take_webhook(cursor, line, platform);
        }
        match Frame::parse(line).expect("a frame") {
            Frame::Open(open) => {
                assert_eq!(open.epoch, open.cursor.epoch);
                assert!(open.oldest <= open.cursor && open.cursor <= open.tail);
                self.take_open(open.cursor);
            }
            Frame::Gap(gap) => self.take_gap(&gap, platform),
            Frame::Heartbeat(heartbeat) => {
                platform.mark(Mark::Heartbeat);
                assert_eq!(heartbeat.n, self.connection().n);
                assert!(heartbeat.cursor <= heartbeat.tail);
                self.move_to(heartbeat.cursor, platform);
            }
            Frame::Bye(bye) => {
                self.move_to(bye.cursor, platform);
                self.connection().is_ended = true;
            }
            Frame::Webhook(_) | Frame::Signal(_) | Frame::Unknown => panic!("{line:.200}"),
        }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a connection")
    }

    /// A start by time may be told earlier than it is: what comes before is left out.
    fn take_open(&mut self, cursor: Cursor) {
        let connection = self.connection();
        assert!(!connection.is_open, "opened twice");
        assert_eq!(cursor.epoch, connection.epoch);
        let (started_at, expected) = (cursor.seq.get(), connection.position);
        assert!(started_at <= expected, "starts after {started_at} and not after {expected}");
        assert!(started_at == expected || !connection.expected.is_exact, "starts too early");
        connection.is_open = true;
        connection.told = cursor.seq.get();
        self.saved = Some(cursor);
    }

    /// Nothing that is wanted is left out on the way.
    fn move_to(&mut self, cursor: Cursor, platform: &Platform) {
        let incarnation = platform.oracles[self.stream].of(cursor.epoch);
        let seq = cursor.seq.get();
        let (from, epoch, told, is_open) = {
            let it = self.connection();
            (it.position, it.epoch, it.told, it.is_open)
        };
        assert!(is_open, "open comes first");
        assert_eq!(epoch, cursor.epoch, "another epoch without a gap");
        assert!(seq >= told, "back from {told} to {seq}");
        assert!(seq <= incarnation.tail(), "{seq} is after the tail");
        let left_out = (from + 1..=seq).find(|seq| self.is_wanted(*seq, incarnation));
        assert_eq!(left_out, None, "left out between {from} and {seq}");
        let connection = self.connection();
        connection.position = from.max(seq);
        connection.told = seq;
        self.saved = Some(cursor);
    }

    fn take_webhook(&mut self, cursor: Cursor, line: &str, platform: &Platform) {
        let seq = cursor.seq.get();
        assert!(seq > self.connection().position, "{seq} again, or before the start");
        assert!(self.connection().expected.fault.is_none(), "a gap that was not told");
        self.move_to(Cursor { seq: relay_schemas::Seq::new(seq - 1), ..cursor }, platform);
        let incarnation = platform.oracles[self.stream].of(cursor.epoch);
        assert!(self.is_wanted(seq, incarnation), "{seq} was not asked for");
        self.connection().n += 1;
        let n = self.connection().n;
        let expected = frame(incarnation, seq, n, self.body);
        assert!(line == expected, "{line:.300}\n{expected:.300}");
        let connection = self.connection();
        (connection.position, connection.told) = (seq, seq);
        self.saved = Some(cursor);
    }

    fn take_gap(&mut self, gap: &Gap, platform: &mut Platform) {
        platform.mark(mark_of(gap.reason));
        assert!(self.connection().is_open, "open comes first");
        if let Some((reason, requested)) = self.connection().expected.fault.take() {
            assert_eq!((gap.reason, &gap.requested), (reason, &requested));
            assert_eq!(gap.resumed_from.seq.get(), self.connection().position);
            return;
        }
        let requested: Cursor = gap.requested.parse().expect("a position that it was told");
        self.move_to(requested, platform);
        check_gap(self.stream, gap, requested, platform);
        let (after, connection) = (gap.resumed_from.seq.get(), self.connection());
        if gap.resumed_from.epoch == connection.epoch {
            connection.position = connection.position.max(after);
        } else {
            (connection.epoch, connection.position) = (gap.resumed_from.epoch, after);
        }
        connection.told = after;
        self.saved = Some(gap.resumed_from);
    }
}

/// The frame of an event.
pub(crate) fn frame(incarnation: &Incarnation, seq: u64, n: u64, body: BodyMode) -> String {
    let mut line = String::new();
    let record = rewrite_body(&incarnation.event(seq).record, body);
    write_webhook_frame(incarnation.cursor(seq), n, &record, &mut line);
    line
}

pub(crate) fn mark_of(reason: GapReason) -> Mark {
    match reason {
        GapReason::Trimmed => Mark::GapTrimmed,
        GapReason::EpochChanged => Mark::GapEpochChanged,
        GapReason::Future => Mark::GapFuture,
        GapReason::Invalid => Mark::GapInvalid,
        GapReason::Lost => Mark::GapLost,
    }
}

/// A gap within a connection names what is really gone, and no more than that.
pub(crate) fn check_gap(stream: usize, gap: &Gap, requested: Cursor, platform: &Platform) {
    let oracle = &platform.oracles[stream];
    let (from, to) = (requested.seq.get(), gap.resumed_from.seq.get());
    let incarnation = oracle.of(gap.resumed_from.epoch);
    match gap.reason {
        GapReason::Trimmed => {
            assert_eq!(requested.epoch, gap.resumed_from.epoch);
            assert!(from < to && to <= incarnation.floor, "{from} to {to} is not trimmed");
        }
        GapReason::Lost => {
            assert_eq!(requested.epoch, gap.resumed_from.epoch);
            let missing = from.min(to) + 1..=from.max(to);
            let retention_ms = platform.profile.settings.retention_ms;
            let is_lost = incarnation.may_be_lost(missing.clone(), retention_ms, platform.now);
            assert!(!missing.is_empty() && is_lost, "{missing:?} is not lost");
        }
        GapReason::EpochChanged => {
            assert_ne!(requested.epoch, gap.resumed_from.epoch);
            assert!(to <= incarnation.floor, "{to} leaves out something");
        }
        GapReason::Future | GapReason::Invalid => panic!("{gap:?} within a connection"),
    }
}
