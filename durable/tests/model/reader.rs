use relay_schemas::{
    BridgeMessage, ByeCode, Cursor, Dialect, Frame, GapReason, Position, UnixMillis,
    limits::{CREDIT_BYTES, CREDIT_BYTES_MAX},
    write_webhook_frame,
};

use crate::{oracle::Oracle, support::cursor};

/// What a reader knows from its socket alone.
pub(crate) struct Reader {
    pub(crate) dialect: Dialect,
    pub(crate) edge: usize,
    pub(crate) expires_at: UnixMillis,
    issues_only: bool,
    /// What `open` must say, and the gap that must follow it.
    start: Option<(u64, Option<GapReason>)>,
    gap_due: Option<GapReason>,
    /// Everything up to here was received, or was not wanted, or was named by a gap.
    position: u64,
    pub(crate) n: u64,
    pub(crate) credit: i64,
    pub(crate) gaps_at_start: u64,
    pub(crate) gaps_later: u64,
    pub(crate) bye: Option<ByeCode>,
}

impl Reader {
    pub(crate) fn new(
        dialect: Dialect,
        edge: usize,
        expires_at: UnixMillis,
        issues_only: bool,
        start: (u64, Option<GapReason>),
    ) -> Self {
        Self {
            dialect,
            edge,
            expires_at,
            issues_only,
            start: Some(start),
            gap_due: None,
            position: 0,
            n: 0,
            credit: CREDIT_BYTES,
            gaps_at_start: 0,
            gaps_later: 0,
            bye: None,
        }
    }

    pub(crate) fn grant(&mut self, bytes: i64) {
        self.credit = (self.credit + bytes).min(CREDIT_BYTES_MAX);
    }

    /// Whether it has, or does not want, everything up to the tail.
    pub(crate) fn has_all(&self, oracle: &Oracle) -> bool {
        self.start.is_none() && self.wants_none_before(oracle.tail() + 1, oracle)
    }

    fn wants_none_before(&self, seq: u64, oracle: &Oracle) -> bool {
        self.issues_only
            && (self.position + 1..seq).all(|seq| !oracle.event(seq).kind.starts_with("Issue."))
            || self.position + 1 >= seq
    }

    fn move_to(&mut self, reached: Cursor, oracle: &Oracle) {
        let seq = reached.seq.get();
        assert_eq!(reached, cursor(seq), "the epoch stays");
        assert!(seq >= self.position, "never back");
        assert!(
            self.wants_none_before(seq + 1, oracle),
            "left out between {} and {seq}",
            self.position
        );
        self.position = seq;
    }

    /// Takes a message; every frame must be the right one.
    pub(crate) fn receive(&mut self, text: &str, oracle: &Oracle, now: UnixMillis) {
        assert_eq!(self.bye, None, "nothing after a bye");
        if !self.dialect.is_bridged() {
            return self.take_line(text, oracle, now);
        }
        let Some(BridgeMessage { position, lines, .. }) = BridgeMessage::decode(text) else {
            panic!("not a bridge message: {text:.100}")
        };
        lines.lines().for_each(|line| self.take_line(line, oracle, now));
        assert_eq!(self.gap_due, None, "a gap that was not told");
        let Position { cursor: reached, tail, n } = position;
        self.move_to(reached, oracle);
        assert_eq!((n, tail), (self.n, cursor(oracle.tail())));
    }

    fn take_line(&mut self, line: &str, oracle: &Oracle, now: UnixMillis) {
        if let Some(rest) = line.strip_prefix(r#"{"type":"webhook","cursor":""#) {
            assert_eq!(self.gap_due, None, "a gap that was not told");
            assert!(now < self.expires_at, "an event for an expired credential");
            return self.take_webhook(rest[..Cursor::WIDTH].parse().unwrap(), line, oracle);
        }
        match Frame::parse(line).unwrap() {
            Frame::Open(open) => {
                let (position, fault) = self.start.take().expect("one open, and first");
                assert_eq!(open.cursor, cursor(position));
                assert_eq!((open.oldest, open.tail), (cursor(oracle.floor), cursor(oracle.tail())));
                (self.position, self.gap_due) = (position, fault);
            }
            Frame::Gap(gap) => self.take_gap(&gap, oracle),
            Frame::Heartbeat(heartbeat) => {
                assert_eq!(heartbeat.n, self.n);
                self.move_to(heartbeat.cursor, oracle);
            }
            Frame::Bye(bye) => {
                self.move_to(bye.cursor, oracle);
                self.bye = Some(bye.code);
            }
            Frame::Webhook(_) | Frame::Unknown => panic!("{line:.200}"),
        }
    }

    fn take_webhook(&mut self, reached: Cursor, line: &str, oracle: &Oracle) {
        assert!(self.start.is_none(), "open is first");
        assert!(self.credit > 0, "a frame without credit");
        self.credit -= line.len() as i64;
        let seq = reached.seq.get();
        assert!(seq > self.position, "{seq} again");
        assert!(
            self.wants_none_before(seq, oracle),
            "left out between {} and {seq}",
            self.position
        );
        let event = oracle.event(seq);
        assert!(!self.issues_only || event.kind.starts_with("Issue."), "not asked for");
        self.n += 1;
        let mut expected = String::new();
        write_webhook_frame(cursor(seq), self.n, &event.record, &mut expected);
        assert!(line == expected, "{line:.300}\n{expected:.300}");
        self.position = seq;
    }

    /// A gap names what is missing: nothing that is still kept.
    fn take_gap(&mut self, gap: &relay_schemas::Gap, oracle: &Oracle) {
        assert_eq!((gap.oldest, gap.resumed_from), (cursor(oracle.floor), cursor(oracle.floor)));
        match self.gap_due.take() {
            Some(reason) => {
                assert_eq!(gap.reason, reason);
                self.gaps_at_start += 1;
            }
            None => {
                assert_eq!(gap.reason, GapReason::Trimmed);
                self.move_to(gap.requested.parse().unwrap(), oracle);
                assert!(self.position < oracle.floor, "nothing is missing");
                self.position = oracle.floor;
                self.gaps_later += 1;
            }
        }
    }
}
