//! What the Worker does for a reader: history from R2, then the object's word.

use relay_durable::{ConnectionId, Replay, ReplayStep, SegmentObject};
use relay_schemas::{
    BridgeMessage, ByeCode, Connect, Dialect, HistoryOffer, OnGap, Resume, Start,
    limits::CREDIT_BYTES,
};

use crate::{
    calls::Opened,
    coverage::Mark,
    platform::{CallError, Platform},
    reader::{Next, Reader, mark_of},
    socket::{Closed, Received},
};

impl Reader {
    pub(super) fn work(&mut self, platform: &mut Platform) {
        let next = std::mem::take(&mut self.next);
        match next {
            Next::Nothing => {}
            Next::Connect => self.open(platform),
            Next::Ask(connect) => self.ask(connect, platform),
            Next::Offered(connect, offer) => self.take_offer(*connect, *offer),
            Next::Replay => self.replay(platform),
            Next::Listed(entries) => {
                platform.mark_if(!entries.is_empty(), Mark::FoundByList);
                self.with_replay(|replay| replay.listed(entries));
            }
            Next::Fetched(entry, fetched) => {
                let mut is_doubted = false;
                self.with_replay(|replay| {
                    replay.fetched(&entry, fetched);
                    is_doubted = replay.next_step() == ReplayStep::Ask;
                });
                platform.mark_if(is_doubted, Mark::Doubted);
            }
            Next::Follow(connection) => {
                self.next = Next::Follow(connection);
                self.follow(connection, platform);
            }
        }
    }

    fn with_replay(&mut self, run: impl FnOnce(&mut Replay)) {
        run(self.replay.as_mut().expect("a reader in history"));
        self.next = Next::Replay;
    }

    fn open(&mut self, platform: &mut Platform) {
        let connect = self.connect(platform);
        let opened = if self.dialect == Dialect::WebSocket && platform.rng.bool() {
            match platform.history(self.stream(), &connect) {
                Ok(offer) if offer.after >= offer.sealed => return self.next = Next::Connect,
                Ok(offer) => Ok(Opened::History(offer)),
                Err(error) => Err(error),
            }
        } else {
            platform.connect(self.stream(), &connect)
        };
        match opened {
            Ok(opened) => self.opened(connect, opened, platform),
            Err(CallError::Failed) => self.next = Next::Connect,
            Err(CallError::Refused(problem)) => {
                let expected = platform.incarnation(self.stream()).resolve(&self.start);
                let is_right = expected.fault.is_some() && self.on_gap == OnGap::Error;
                assert!(is_right, "refused: {problem:?}");
                platform.mark(Mark::StartRefused);
                self.on_gap = OnGap::Resume;
                self.next = Next::Connect;
            }
        }
    }

    fn opened(&mut self, connect: Connect, opened: Opened, platform: &mut Platform) {
        let expected = platform.incarnation(self.stream()).resolve(&self.start);
        assert!(expected.fault.is_none() || self.on_gap == OnGap::Resume, "bent a cursor");
        let is_direct = self.dialect == Dialect::WebSocket;
        let has_fault = expected.fault.is_some();
        self.witness.begin(expected);
        match opened {
            Opened::Live { connection, resumed_from } => {
                assert_eq!(resumed_from.is_some(), has_fault);
                platform.mark(if is_direct { Mark::DirectFollowed } else { Mark::StartLive });
                self.begin_connection(CREDIT_BYTES);
                self.next = Next::Follow(connection);
            }
            // A direct reader is told to come through the Worker.
            Opened::History(_) if is_direct && platform.rng.bool() => {
                self.dialect = Dialect::Ndjson;
                self.next = Next::Connect;
            }
            Opened::History(offer) => {
                platform.mark(if is_direct { Mark::DirectInHistory } else { Mark::StartInHistory });
                platform.mark_if(offer.received_since.is_some(), Mark::StartByTimeInSegment);
                self.begin_connection(platform.profile.room_bytes);
                self.next = Next::Offered(Box::new(connect), Box::new(offer));
            }
        }
    }

    fn take_offer(&mut self, connect: Connect, offer: HistoryOffer) {
        match &mut self.replay {
            Some(replay) => replay.offered(offer),
            None => self.replay = Some(Replay::new(connect, offer)),
        }
        self.next = Next::Replay;
    }

    /// The reader goes on after what it has: it is followed, or there is more history.
    fn ask(&mut self, connect: Box<Connect>, platform: &mut Platform) {
        if self.dialect == Dialect::WebSocket {
            return self.ask_for_history(connect, platform);
        }
        match platform.connect(self.stream(), &connect) {
            Ok(Opened::Live { connection, .. }) => {
                platform.mark(Mark::HandedOverToFollow);
                self.next = Next::Follow(connection);
            }
            Ok(Opened::History(offer)) => self.next = Next::Offered(connect, Box::new(offer)),
            Err(CallError::Failed) => self.fail(Next::Ask(connect), platform),
            Err(CallError::Refused(problem)) => panic!("{problem:?}"),
        }
    }

    /// A direct reader comes back when history ends, and is connected straight through.
    fn ask_for_history(&mut self, connect: Box<Connect>, platform: &mut Platform) {
        match platform.history(self.stream(), &connect) {
            Ok(offer) if offer.gap.is_none() && offer.after >= offer.sealed => {
                self.next = Next::Replay;
                self.end(ByeCode::Reconnect, platform);
            }
            Ok(offer) => self.next = Next::Offered(connect, Box::new(offer)),
            Err(CallError::Failed) => self.fail(Next::Ask(connect), platform),
            Err(CallError::Refused(problem)) => panic!("{problem:?}"),
        }
    }

    /// The Worker tries again, or ends the reader, which resumes.
    fn fail(&mut self, again: Next, platform: &mut Platform) {
        self.next = again;
        if platform.rng.u32(..4) == 0 {
            self.end(ByeCode::Error, platform);
        }
    }

    fn replay(&mut self, platform: &mut Platform) {
        self.next = Next::Replay;
        let replay = self.replay.as_mut().expect("a reader in history");
        match replay.next_step() {
            ReplayStep::Write => self.write_history(platform),
            ReplayStep::Fetch(object) => self.fetch(object, platform),
            ReplayStep::List { prefix } => self.next = Next::Listed(platform.list(&prefix)),
            ReplayStep::Ask => {
                let credit = self.credit();
                let replay = self.replay.as_ref().expect("a reader in history");
                self.next = Next::Ask(Box::new(replay.ask(credit)));
            }
        }
    }

    fn write_history(&mut self, platform: &mut Platform) {
        let room = self.room();
        if platform.rng.u32(..8) == 0 {
            self.heartbeat(platform.now);
        }
        self.prefetch(platform);
        let Ok(room) = usize::try_from(room) else { return };
        if room == 0 {
            platform.mark(Mark::ReaderStalled);
            return;
        }
        let bytes_max = room.min(platform.rng.usize(1..4_000));
        let replay = self.replay.as_mut().expect("a reader in history");
        let mut lines = String::new();
        let charged = replay.write(bytes_max, &mut lines);
        self.position = Some(replay.position());
        self.write(lines, charged as i64);
    }

    /// What comes next is fetched while the reader takes what is there.
    fn prefetch(&mut self, platform: &mut Platform) {
        let ahead = self.replay.as_ref().and_then(Replay::ahead);
        if let (Some(object), None) = (ahead, &self.prefetched)
            && platform.rng.bool()
        {
            self.prefetched = platform.fetch(&object).map(|fetched| (object, fetched));
        }
    }

    fn fetch(&mut self, object: SegmentObject, platform: &mut Platform) {
        let fetched = match self.prefetched.take() {
            Some((ahead, fetched)) if ahead == object => {
                platform.mark(Mark::Prefetched);
                Some(fetched)
            }
            _ => platform.fetch(&object),
        };
        match fetched {
            Some(fetched) => self.next = Next::Fetched(Box::new(object.entry), fetched),
            None => self.fail(Next::Replay, platform),
        }
    }

    fn follow(&mut self, connection: ConnectionId, platform: &mut Platform) {
        let socket = platform.objects[self.stream()].sockets.get_mut(&connection);
        let is_stalled = socket.as_ref().is_some_and(|socket| socket.is_stalled());
        let received = socket.and_then(|socket| socket.receive());
        platform.mark_if(is_stalled, Mark::ReaderStalled);
        match received {
            None if platform.rng.u32(..8) == 0 => self.heartbeat(platform.now),
            None => {}
            Some(Received::Text(text)) if self.dialect.is_bridged() => self.take_message(&text),
            Some(Received::Text(text)) => {
                let is_webhook = text.starts_with(r#"{"type":"webhook""#);
                self.write(format!("{text}\n"), if is_webhook { text.len() as i64 } else { 0 });
            }
            Some(Received::Closed(closed)) => {
                platform.objects[self.stream()].sockets.remove(&connection);
                self.take_close(closed, platform);
            }
        }
    }

    fn take_message(&mut self, text: &str) {
        let message = BridgeMessage::decode(text).expect("a bridge message");
        self.position = Some(message.position);
        self.write(message.lines.to_owned(), message.charged_bytes as i64);
        // The socket may break before its close arrives: nothing comes after a bye.
        if message.lines.starts_with(r#"{"type":"bye""#) {
            self.position = None;
        }
    }

    fn take_close(&mut self, closed: Closed, platform: &mut Platform) {
        match closed {
            // A planned end has said so in a frame of its own.
            Closed::Bye(code) => {
                platform.mark(mark_of(code));
                self.ended();
            }
            Closed::History => {
                platform.mark(Mark::SentBackToHistory);
                self.go_back_to_history(platform);
            }
            Closed::Broken => self.end(ByeCode::Reconnect, platform),
        }
    }

    fn go_back_to_history(&mut self, platform: &mut Platform) {
        let Some(position) = self.position else { return self.ended() };
        if let Some(replay) = &mut self.replay {
            replay.go_on_after(position);
            self.next = Next::Replay;
            return;
        }
        let resume = Resume { n: position.n, credit_bytes: self.credit() };
        let connect = Connect {
            start: Start::Cursor(position.cursor.to_string()),
            on_gap: OnGap::Resume,
            resume: Some(resume),
            ..self.connect(platform)
        };
        self.next = Next::Ask(Box::new(connect));
    }
}
