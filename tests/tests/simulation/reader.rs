//! Readers of streams: the machine that reads, and the Worker that stands between it and the
//! object. Each step ends at an await.

use std::collections::VecDeque;

use relay_durable::{ConnectionId, Fetched, Replay, SegmentObject};
use relay_schemas::{
    Bye, ByeCode, ClientMessage, Connect, Dialect, EdgeId, Heartbeat, HistoryOffer, KindFilter,
    OnGap, Position, SegmentEntry, Start, UnixMillis, limits::CREDIT_BYTES,
};

use crate::{
    coverage::Mark,
    platform::Platform,
    profile::{HOUR_MS, MINUTE_MS, SECOND_MS, one_of},
    witness::Witness,
};

/// What the Worker does next for a reader.
#[derive(Debug, Default)]
pub(super) enum Next {
    /// The reader is away, or its connection has ended.
    #[default]
    Nothing,
    Connect,
    /// The reader was told `open` and goes on.
    Ask(Box<Connect>),
    Offered(Box<Connect>, Box<HistoryOffer>),
    Replay,
    Listed(Vec<SegmentEntry>),
    Fetched(Box<SegmentEntry>, Fetched),
    Follow(ConnectionId),
}

pub(crate) struct Reader {
    pub(super) witness: Witness,
    pub(super) dialect: Dialect,
    pub(super) start: Start,
    pub(super) on_gap: OnGap,
    pub(super) next: Next,
    pub(super) replay: Option<Replay>,
    pub(super) prefetched: Option<(SegmentObject, Fetched)>,
    /// Where the reader stands once it has taken what lies in the channel.
    pub(super) position: Option<Position>,
    /// What may lie between object and reader.
    pub(super) limit: i64,
    expires_at: UnixMillis,
    edge: EdgeId,
    /// Written by the Worker and not yet taken: lines, and what they cost.
    channel: VecDeque<(String, i64)>,
    unconsumed: i64,
    consumed: i64,
    away_until: UnixMillis,
    stalled_until: UnixMillis,
}

impl Reader {
    pub(crate) fn new(witness: Witness, dialect: Dialect, start: Start, on_gap: OnGap) -> Self {
        Self {
            witness,
            dialect,
            start,
            on_gap,
            next: Next::Connect,
            replay: None,
            prefetched: None,
            position: None,
            limit: CREDIT_BYTES,
            expires_at: UnixMillis::default(),
            edge: "edge_1".parse().expect("an edge"),
            channel: VecDeque::new(),
            unconsumed: 0,
            consumed: 0,
            away_until: UnixMillis::default(),
            stalled_until: UnixMillis::default(),
        }
    }

    pub(crate) fn stream(&self) -> usize {
        self.witness.stream
    }

    pub(crate) fn is_in_history(&self) -> bool {
        !matches!(self.next, Next::Nothing | Next::Connect | Next::Follow(_))
    }

    pub(crate) fn is_following(&self) -> bool {
        matches!(self.next, Next::Follow(_))
    }

    /// Whether it has everything and waits for more at the object.
    pub(crate) fn has_all(&self, platform: &Platform) -> bool {
        self.channel.is_empty() && self.is_following() && self.witness.has_all(platform)
    }

    /// The reader's own doings: it stalls, vanishes, or is ended as planned.
    pub(crate) fn follow_a_whim(&mut self, platform: &mut Platform) {
        let wait_ms = *one_of(&mut platform.rng, &[SECOND_MS, MINUTE_MS, HOUR_MS, 10 * HOUR_MS]);
        match platform.rng.u32(..8) {
            0 | 1 => {
                platform.mark(Mark::ReaderVanished);
                self.hang_up(platform);
                self.leave(platform.now + wait_ms);
            }
            2 => self.end(ByeCode::Reconnect, platform),
            _ => self.stalled_until = platform.now + wait_ms,
        }
    }

    /// The patience of the last steps.
    pub(crate) fn hurry(&mut self) {
        self.stalled_until = UnixMillis::default();
        self.away_until = UnixMillis::default();
    }

    pub(crate) fn step(&mut self, platform: &mut Platform) {
        if self.away_until > platform.now {
            return;
        }
        if !self.channel.is_empty() && platform.rng.bool() && self.stalled_until <= platform.now {
            return self.consume(platform);
        }
        match self.next {
            Next::Nothing if self.channel.is_empty() => self.come_back(platform),
            Next::Nothing => {}
            _ => self.work(platform),
        }
    }

    fn come_back(&mut self, platform: &mut Platform) {
        if let Some(start) = self.witness.resume() {
            platform.mark(Mark::ReaderResumed);
            self.start = start;
        }
        self.next = Next::Connect;
    }

    /// The machine takes a chunk, and lets as much more be sent.
    fn consume(&mut self, platform: &mut Platform) {
        let Some((lines, charged)) = self.channel.pop_front() else { return };
        self.unconsumed -= charged;
        self.consumed += charged;
        for line in lines.split_terminator('\n') {
            self.witness.take(line, platform);
        }
        if let Next::Follow(connection) = self.next
            && self.consumed > 0
            && self.consumed >= self.limit / 2
        {
            let message = ClientMessage::Credit { bytes: std::mem::take(&mut self.consumed) };
            let text = serde_json::to_string(&message).expect("plain fields serialise");
            let sockets = &mut platform.objects[self.stream()].sockets;
            if let Some(socket) = sockets.get_mut(&connection) {
                socket.to_object.push_back(text);
            }
        }
    }

    pub(super) fn room(&self) -> i64 {
        self.limit - self.unconsumed
    }

    /// What is left of the reader's credit, all of which was granted by now.
    pub(super) fn credit(&mut self) -> i64 {
        self.consumed = 0;
        self.room()
    }

    /// Invariant 6: what lies in the Worker is bounded by the credit and one frame.
    pub(super) fn write(&mut self, lines: String, charged: i64) {
        let longest = lines.split('\n').map(str::len).max().unwrap_or_default() as i64;
        if !lines.is_empty() {
            self.unconsumed += charged;
            self.channel.push_back((lines, charged));
        }
        let bound = self.limit.max(0) + longest;
        assert!(charged == 0 || self.unconsumed <= bound, "more than {bound} bytes wait");
    }

    pub(super) fn heartbeat(&mut self, now: UnixMillis) {
        if let Some(Position { cursor, tail, n }) = self.position {
            self.write(format!("{}\n", Heartbeat::new(cursor, tail, n, now).to_line()), 0);
        }
    }

    /// The Worker ends a connection with a word, where it knows where the reader stands.
    pub(super) fn end(&mut self, code: ByeCode, platform: &mut Platform) {
        if matches!(self.next, Next::Nothing | Next::Connect) {
            return;
        }
        if let (Some(Position { cursor, .. }), true) = (self.position, self.is_bridged()) {
            self.write(format!("{}\n", Bye { code, retry_after_ms: 0, cursor }.to_line()), 0);
            platform.mark(mark_of(code));
        }
        self.hang_up(platform);
        self.ended();
    }

    /// Whether the Worker writes the lines.
    pub(super) fn is_bridged(&self) -> bool {
        self.dialect.is_bridged() || !self.is_following()
    }

    /// The connection is over; what it wrote is still taken.
    pub(super) fn ended(&mut self) {
        self.next = Next::Nothing;
        self.replay = None;
        self.prefetched = None;
        self.position = None;
    }

    fn leave(&mut self, until: UnixMillis) {
        self.ended();
        self.channel.clear();
        self.unconsumed = 0;
        self.away_until = until;
    }

    fn hang_up(&mut self, platform: &mut Platform) {
        if let Next::Follow(connection) = self.next {
            platform.hang_up(self.stream(), connection);
        }
    }

    pub(super) fn begin_connection(&mut self, limit: i64) {
        self.limit = limit;
        self.unconsumed = 0;
        self.consumed = 0;
        self.position = None;
    }

    /// An expired credential is renewed before it is used again.
    pub(super) fn connect(&mut self, platform: &Platform) -> Connect {
        if self.expires_at <= platform.now {
            self.expires_at = platform.now + platform.profile.credential_lives_ms;
        }
        Connect {
            stream: platform.objects[self.stream()].key.clone(),
            edge: self.edge.clone(),
            expires_at: self.expires_at,
            dialect: self.dialect,
            start: self.start.clone(),
            kinds: self.witness.kinds.clone(),
            body: self.witness.body,
            on_gap: self.on_gap,
            heartbeat_s: 15,
            resume: None,
            edge_name: None,
            allowed: KindFilter::default(),
            own: false,
            app: None,
            capacity: None,
            may_report: true,
        }
    }
}

pub(super) fn mark_of(code: ByeCode) -> Mark {
    match code {
        ByeCode::Reconnect => Mark::ByeReconnect,
        ByeCode::Slow => Mark::ByeSlow,
        ByeCode::Expired => Mark::ByeExpired,
        ByeCode::Error => Mark::ByeError,
        ByeCode::Revoked | ByeCode::Uninstalled | ByeCode::Protocol => {
            panic!("{code:?} to a good reader")
        }
    }
}
