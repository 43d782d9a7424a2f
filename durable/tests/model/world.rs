use std::collections::BTreeMap;

use relay_durable::{Command, ConnectionId, LogStorage, StreamError};
use relay_schemas::{
    ByeCode, Connect, Disposition, EdgeId, ErrorCode, NewEvent, Start, UnixMillis,
};

use crate::{
    operation::{Fault, From, Operation},
    oracle::Oracle,
    reader::Reader,
    support::{HOUR_MS, Relay, connect, cursor, edge, event_of, fill, id, kinds},
};

/// Longer than ids are remembered, as in every sensible setting.
const RETENTION_MS: u64 = 10 * HOUR_MS;

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) webhooks: u64,
    pub(crate) duplicates: u64,
    pub(crate) trims: u64,
    pub(crate) stalls: u64,
    pub(crate) gaps_at_start: u64,
    pub(crate) gaps_later: u64,
    pub(crate) byes: u64,
    pub(crate) reloads: u64,
    pub(crate) faults_lost: u64,
    pub(crate) faults_landed: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        self.webhooks += other.webhooks;
        self.duplicates += other.duplicates;
        self.trims += other.trims;
        self.stalls += other.stalls;
        self.gaps_at_start += other.gaps_at_start;
        self.gaps_later += other.gaps_later;
        self.byes += other.byes;
        self.reloads += other.reloads;
        self.faults_lost += other.faults_lost;
        self.faults_landed += other.faults_landed;
    }
}

/// A stream, its readers, and what must be true of them.
pub(crate) struct World {
    relay: Relay,
    oracle: Oracle,
    readers: BTreeMap<ConnectionId, Reader>,
    next_id: ConnectionId,
    /// A batch that was answered with an error: the queue brings it again.
    pending: Vec<NewEvent>,
    revoked: Vec<EdgeId>,
    pub(crate) coverage: Coverage,
}

fn edge_at(index: usize) -> EdgeId {
    edge(&format!("edge_{index}"))
}

impl World {
    pub(crate) fn new() -> Self {
        let mut relay = Relay::with_retention(RETENTION_MS);
        // The epoch is fixed first, because the oracle writes cursors.
        assert!(relay.append(&[]).is_empty());
        Self {
            relay,
            oracle: Oracle::default(),
            readers: BTreeMap::new(),
            next_id: 1,
            pending: Vec::new(),
            revoked: Vec::new(),
            coverage: Coverage::default(),
        }
    }

    pub(crate) fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Append { events, fault } => {
                self.append_pending();
                let batch: Vec<NewEvent> =
                    events.iter().map(|event| event_at(*event, self.relay.now)).collect();
                self.append(&batch, *fault);
            }
            Operation::Connect { dialect, edge, start, issues_only, lives_ms } => {
                let connect = Connect {
                    edge: edge_at(*edge),
                    expires_at: self.relay.now + *lives_ms,
                    kinds: if *issues_only { kinds("Issue") } else { Default::default() },
                    ..connect(*dialect, self.start(start))
                };
                self.connect(&connect, *edge, start, *issues_only);
            }
            Operation::Grant { reader, bytes } => self.grant(*reader, *bytes),
            Operation::Garbage { reader } => {
                if let Some(id) = self.reader_at(*reader) {
                    let commands = self.relay.message(id, "}");
                    let expired = self.relay.now >= self.readers[&id].expires_at;
                    self.deliver(&commands);
                    let code = if expired { ByeCode::Expired } else { ByeCode::Protocol };
                    assert_eq!(commands.last(), Some(&Command::Close { connection: id, code }));
                }
            }
            Operation::Close { reader } => {
                if let Some(id) = self.reader_at(*reader) {
                    self.relay.stream.closed(id).expect("it was open");
                    self.relay.remembered.remove(&id);
                    self.readers.remove(&id);
                }
            }
            Operation::Reload => self.reload(),
            Operation::Wait { ms } => self.relay.now = self.relay.now + *ms,
            Operation::Alarm { fault } => self.alarm(*fault),
            Operation::Revoke { edge } => self.revoke(*edge),
        }
        self.check_memory();
    }

    /// Lets everything come to its end: nothing may be left over.
    pub(crate) fn finish(&mut self) {
        self.append_pending();
        let open: Vec<ConnectionId> = self.readers.keys().copied().collect();
        for id in open {
            for _ in 0..100 {
                let Some(reader) = self.readers.get(&id) else { break };
                if reader.has_all(&self.oracle) {
                    break;
                }
                self.grant_to(id, 1_000_000);
            }
            let done = self.readers.get(&id).is_none_or(|reader| reader.has_all(&self.oracle));
            assert!(done, "reader {id} never gets everything");
        }
        self.reload();
    }

    fn append_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.append(&pending, None);
        }
    }

    fn append(&mut self, batch: &[NewEvent], fault: Fault) {
        self.arm(fault);
        let outcome = self.relay.try_append(batch);
        let now = self.relay.now;
        let Ok((reply, commands)) = outcome else {
            self.coverage_of_fault(fault);
            self.reload_unchecked();
            let landed = self.relay.stream.log().tail().get() - self.oracle.tail();
            self.oracle.append(batch, now, landed);
            self.oracle.check_log(self.relay.stream.log());
            self.pending = batch.to_vec();
            return;
        };
        self.disarm();
        let dispositions = self.oracle.append(batch, now, u64::MAX / 2);
        assert_eq!(reply.dispositions, dispositions);
        assert_eq!(reply.tail, cursor(self.oracle.tail()));
        let duplicates = dispositions.iter().filter(|one| **one == Disposition::Duplicate).count();
        self.coverage.duplicates += duplicates as u64;
        self.deliver(&commands);
        self.oracle.check_log(self.relay.stream.log());
        for (id, reader) in &self.readers {
            let served = reader.credit <= 0 || reader.has_all(&self.oracle);
            assert!(served, "reader {id} has credit and waits");
            self.coverage.stalls += u64::from(!reader.has_all(&self.oracle));
        }
    }

    fn start(&self, start: &From) -> Start {
        match start {
            From::Earliest => Start::Earliest,
            From::Now => Start::Now,
            From::Tail(count) => Start::Tail(*count),
            From::Cursor(back) => {
                Start::Cursor(cursor((self.oracle.tail() + 2).saturating_sub(*back)).to_string())
            }
            From::Event(number) => Start::Event(id(*number)),
            From::Time(back_ms) => Start::Time(self.relay.now - *back_ms),
            From::Nonsense => Start::Cursor("nonsense".into()),
        }
    }

    fn connect(&mut self, connect: &Connect, edge: usize, start: &From, issues_only: bool) {
        let id = self.next_id;
        self.next_id += 1;
        let now = self.relay.now;
        match self.relay.try_connect(id, connect) {
            Err(StreamError::Refused(problem)) => {
                assert_eq!(problem.code, ErrorCode::CredentialRevoked);
                assert!(self.revoked.contains(&connect.edge));
            }
            Err(StreamError::Storage(fault)) => panic!("{fault}"),
            Ok(connected) => {
                assert!(!self.revoked.contains(&connect.edge));
                let (mut position, gap) = self.oracle.resolve(start, now);
                let oldest = self.relay.storage.oldest().expect("memory can be read");
                // A trim whose delete failed leaves rows below the floor: a time that lies in one
                // starts at the floor, which leaves out nothing.
                if oldest.is_some_and(|row| row.first.get() <= self.oracle.floor)
                    && matches!(start, From::Time(_))
                {
                    position = self.relay.stream.log().resolve(&connect.start).unwrap().after.get();
                }
                assert_eq!(connected.resumed_from, gap.map(|_| cursor(position)));
                let reader = Reader::new(
                    connect.dialect,
                    edge,
                    connect.expires_at,
                    issues_only,
                    (position, gap),
                );
                self.readers.insert(id, reader);
                self.deliver(&connected.commands);
                let reader = &self.readers[&id];
                assert!(reader.credit <= 0 || reader.has_all(&self.oracle));
            }
        }
    }

    fn reader_at(&self, index: usize) -> Option<ConnectionId> {
        let count = self.readers.len();
        (count > 0).then(|| *self.readers.keys().nth(index % count).expect("below the count"))
    }

    fn grant(&mut self, index: usize, bytes: i64) {
        if let Some(id) = self.reader_at(index) {
            self.grant_to(id, bytes);
        }
    }

    fn grant_to(&mut self, id: ConnectionId, bytes: i64) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.grant(bytes);
        }
        let commands = self.relay.grant(id, bytes);
        self.deliver(&commands);
        if let Some(reader) = self.readers.get(&id) {
            assert!(self.relay.now < reader.expires_at, "an expired reader is ended");
            assert!(reader.credit <= 0 || reader.has_all(&self.oracle), "reader {id} waits");
        }
    }

    fn reload(&mut self) {
        self.reload_unchecked();
        self.oracle.check_log(self.relay.stream.log());
    }

    fn reload_unchecked(&mut self) {
        self.coverage.reloads += 1;
        self.relay.reload();
        let open: Vec<&ConnectionId> = self.relay.stream.connections().keys().collect();
        assert_eq!(open, self.readers.keys().collect::<Vec<_>>());
    }

    fn alarm(&mut self, fault: Fault) {
        let floor = self.oracle.floor_at(self.relay.now - RETENTION_MS);
        self.arm(fault);
        match self.relay.stream.alarm(self.relay.now) {
            Ok(commands) => {
                self.disarm();
                if floor > self.oracle.floor {
                    self.coverage.trims += 1;
                    self.oracle.floor = floor;
                    self.oracle.check_log(self.relay.stream.log());
                }
                self.relay.execute(&commands);
                self.deliver(&commands);
                let now = self.relay.now;
                assert!(self.readers.values().all(|reader| now < reader.expires_at));
                let alarm = self.relay.stream.next_alarm().unwrap();
                assert!(alarm.is_none_or(|at| at > now), "an alarm that is due again at once");
            }
            Err(_) => {
                self.coverage_of_fault(fault);
                self.reload_unchecked();
                let found = self.relay.stream.log().trimmed().get();
                assert!(found == self.oracle.floor || found == floor, "trimmed to {found}");
                self.oracle.floor = found;
                self.oracle.check_log(self.relay.stream.log());
            }
        }
    }

    fn revoke(&mut self, edge: usize) {
        let commands = self.relay.revoke(&edge_at(edge));
        self.deliver(&commands);
        self.revoked.push(edge_at(edge));
        assert!(self.readers.values().all(|reader| reader.edge != edge));
    }

    /// Hands messages to the readers as sockets would.
    fn deliver(&mut self, commands: &[Command]) {
        for command in commands {
            match command {
                Command::Send { connection, text } => {
                    let reader = self.readers.get_mut(connection).expect("an open connection");
                    let before = (reader.n, reader.gaps_at_start, reader.gaps_later);
                    reader.receive(text, &self.oracle, self.relay.now);
                    self.coverage.webhooks += reader.n - before.0;
                    self.coverage.gaps_at_start += reader.gaps_at_start - before.1;
                    self.coverage.gaps_later += reader.gaps_later - before.2;
                }
                Command::Remember { connection } => assert!(self.readers.contains_key(connection)),
                Command::Close { connection, code } => {
                    let reader = self.readers.remove(connection).expect("an open connection");
                    assert_eq!(reader.bye, Some(*code), "a bye says why");
                    self.coverage.byes += 1;
                }
            }
        }
    }

    /// Invariant 6: the object holds a position and a credit for each reader, and nothing else.
    fn check_memory(&self) {
        assert_eq!(self.relay.stream.connections().len(), self.readers.len());
        assert!(self.relay.remembered.values().all(|text| text.len() < 1_000));
    }

    fn arm(&self, fault: Fault) {
        if let Some((writes, lands)) = fault {
            self.relay.storage.fail_after(writes, lands);
        }
    }

    fn disarm(&self) {
        self.relay.storage.fail_after(u64::MAX, false);
    }

    fn coverage_of_fault(&mut self, fault: Fault) {
        let (_, lands) = fault.expect("storage fails only when told to");
        if lands {
            self.coverage.faults_landed += 1;
        } else {
            self.coverage.faults_lost += 1;
        }
    }
}

/// Receipts are not in the order of the positions. Even numbers are issues.
fn event_at((number, is_large): (u64, bool), now: UnixMillis) -> NewEvent {
    let kind = if number % 2 == 0 { "Issue.update" } else { "Comment.create" };
    let received_at = now - number * 7_919_000 % HOUR_MS;
    let mut event = event_of(number, kind, received_at, r#"{"fill":""}"#);
    fill(&mut event, if is_large { 90_000 } else { 20 });
    event
}
