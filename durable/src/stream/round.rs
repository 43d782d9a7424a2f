//! One round of giving out events: first what edges have and were not sent on this connection,
//! then what waits, then what was not considered so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use relay_schemas::{Counter, EdgeId, Seq, UnixMillis, limits::ASSIGNMENT_ABSENT_MAX};

use super::{
    assigning::read_one,
    signals::{PROMPTED, signal_line},
};
use crate::{
    assignment::{Assignment, Candidate, Choice, Lease, LeaseSubject, Load, Stop, choose},
    command::ConnectionId,
    log::Log,
    storage::LogStorage,
    subscription::{Outgoing, Subscription},
};

/// The frames that a connection begins with, if one is being opened.
#[derive(Debug, Default)]
pub(super) struct Opening(BTreeMap<ConnectionId, Outgoing>);

impl Opening {
    pub(super) fn of(connection: ConnectionId, outgoing: Outgoing) -> Self {
        Self(BTreeMap::from([(connection, outgoing)]))
    }

    pub(super) fn into_outgoing(self) -> BTreeMap<ConnectionId, Outgoing> {
        self.0
    }
}

pub(super) struct Round<'a, S> {
    log: &'a Log<S>,
    assignment: &'a mut Assignment,
    connections: &'a mut BTreeMap<ConnectionId, Subscription>,
    /// The connections of each edge, the newest first.
    members: BTreeMap<EdgeId, Vec<ConnectionId>>,
    loads: BTreeMap<EdgeId, Load>,
    outgoing: BTreeMap<ConnectionId, Outgoing>,
    changed: BTreeSet<ConnectionId>,
    /// How many events wait for edges that are away, once it was counted.
    absent: Option<usize>,
    now: UnixMillis,
}

impl<'a, S: LogStorage> Round<'a, S> {
    pub(super) fn new(
        log: &'a Log<S>,
        assignment: &'a mut Assignment,
        connections: &'a mut BTreeMap<ConnectionId, Subscription>,
        opening: Opening,
        now: UnixMillis,
    ) -> Self {
        let mut members: BTreeMap<EdgeId, Vec<ConnectionId>> = BTreeMap::new();
        // Who still reads what everybody reads comes to what is given to single edges later.
        let takes = |one: &Subscription| one.takes_events() && one.position() >= assignment.from();
        for (id, subscription) in connections.iter().filter(|(_, one)| takes(one)) {
            members.entry(subscription.edge.clone()).or_default().push(*id);
        }
        let opened_at = |id: &ConnectionId| connections.get(id).map(|one| (one.opened_at, *id));
        members.values_mut().for_each(|ids| ids.sort_by_key(|id| std::cmp::Reverse(opened_at(id))));
        let loads = assignment.loads();
        Self {
            log,
            assignment,
            connections,
            members,
            loads,
            outgoing: opening.0,
            changed: BTreeSet::new(),
            absent: None,
            now,
        }
    }

    /// What is to be sent, and whose subscriptions have changed besides.
    pub(super) fn finish(self) -> (BTreeMap<ConnectionId, Outgoing>, BTreeSet<ConnectionId>) {
        (self.outgoing, self.changed)
    }

    pub(super) fn run(&mut self) -> Result<(), S::Error> {
        self.send_owed()?;
        if self.assignment.take_forgotten() {
            self.pass_unwanted();
        }
        for seq in self.assignment.givable(self.now) {
            if !self.has_room() {
                break;
            }
            self.give_waiting(seq)?;
        }
        self.give_new()
    }

    /// Some events may have waited for an edge that is expected no longer.
    fn pass_unwanted(&mut self) {
        for seq in self.assignment.waiting() {
            let Some(lease) = self.assignment.leases().get(&seq) else { continue };
            if self.choose_again(lease) == Choice::Nobody {
                self.assignment.pass_waiting(seq);
            }
        }
    }

    fn send_owed(&mut self) -> Result<(), S::Error> {
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(subscription) = self.connections.get_mut(&id) else { continue };
            let (leases, edge) = (self.assignment.leases(), subscription.edge.clone());
            let is_theirs = |seq| leases.get(&seq).and_then(|one| one.edge()) == Some(&edge);
            if subscription.keep_owed(is_theirs) {
                self.changed.insert(id);
            }
            while let Some(seq) = self.connections.get(&id).and_then(Subscription::next_owed) {
                let attempt = self.assignment.leases().get(&seq).map_or(1, |lease| lease.attempt);
                self.send(id, seq, attempt)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, id: ConnectionId, seq: Seq, attempt: u32) -> Result<(), S::Error> {
        let log = self.log;
        read_one(log, seq, &mut |record| self.send_record(id, seq, attempt, record))?;
        // A lease whose record is gone is not owed: it would stop all others.
        if let Some(subscription) = self.connections.get_mut(&id) {
            subscription.keep_owed(|owed| owed != seq);
        }
        Ok(())
    }

    fn send_record(&mut self, id: ConnectionId, seq: Seq, attempt: u32, record: &str) {
        let Some(subscription) = self.connections.get_mut(&id) else { return };
        let outgoing = self.outgoing.entry(id).or_default();
        subscription.send_given(self.log.cursor(seq), attempt, record, outgoing);
    }

    /// A stop that came before its session's event was given goes ahead of that.
    fn send_stop(&mut self, id: ConnectionId, seq: Seq) {
        let Some(stop) = self.assignment.stop_ahead(seq) else { return };
        let Some(subscription) = self.connections.get(&id) else { return };
        let may_hear = subscription.filter().allowed.passes(PROMPTED);
        if !may_hear || self.assignment.is_told(&subscription.edge, stop.id, self.now) {
            return;
        }
        let line = signal_line(&stop, self.log.cursor(subscription.position()));
        self.outgoing.entry(id).or_default().push_line(line);
        let told = Stop { told_at: Some(self.now), ..stop };
        self.assignment.note_stop(&subscription.edge, told, self.now);
        self.assignment.counts.add(Counter::Signals, 1);
    }

    fn give_waiting(&mut self, seq: Seq) -> Result<(), S::Error> {
        let Some(lease) = self.assignment.leases().get(&seq) else { return Ok(()) };
        let subject = lease.subject.clone();
        if let Choice::Edge(edge) = self.choose_again(lease)
            && let Some(connection) = self.ready(&edge, &subject)
        {
            let attempt = self.give(seq, &edge);
            self.send_stop(connection, seq);
            self.send(connection, seq, attempt)?;
        }
        Ok(())
    }

    fn give_new(&mut self) -> Result<(), S::Error> {
        let mut room = self.assignment.room();
        if !self.has_room() || room == 0 {
            return Ok(());
        }
        let (log, end) = (self.log, self.assignment.end(self.log.tail()));
        log.read(self.assignment.until(), &mut |seq, record| {
            if seq > end || room == 0 || !self.has_room() {
                return ControlFlow::Break(());
            }
            room -= 1;
            self.consider(seq, record);
            ControlFlow::Continue(())
        })
    }

    fn consider(&mut self, seq: Seq, record: &str) {
        let Some(subject) = LeaseSubject::read(record) else { return self.assignment.pass(seq) };
        match self.choose(&subject, &[]) {
            Choice::Nobody => self.assignment.pass(seq),
            Choice::Later => self.assignment.wait(seq, subject),
            Choice::Absent => self.wait_for_absent(seq, subject),
            Choice::Edge(edge) => {
                let connection = self.ready(&edge, &subject);
                self.assignment.wait(seq, subject);
                if let Some(connection) = connection {
                    let attempt = self.give(seq, &edge);
                    self.send_stop(connection, seq);
                    self.send_record(connection, seq, attempt, record);
                }
            }
        }
    }

    /// So many may wait that others still have room.
    fn wait_for_absent(&mut self, seq: Seq, subject: LeaseSubject) {
        let absent = self.absent.unwrap_or_else(|| self.count_absent());
        self.absent = Some(absent + 1);
        self.assignment.wait(seq, subject);
        if absent >= ASSIGNMENT_ABSENT_MAX {
            self.assignment.refuse_waiting(seq, "too many wait for absent edges");
        }
    }

    fn count_absent(&self) -> usize {
        let waiting = self.assignment.waiting();
        if waiting.len() < ASSIGNMENT_ABSENT_MAX {
            // Too few in any case, and each is looked at again in the next round.
            return waiting.len();
        }
        let leases = waiting.iter().filter_map(|seq| self.assignment.leases().get(seq));
        leases.filter(|one| self.choose_again(one) == Choice::Absent).count()
    }

    fn give(&mut self, seq: Seq, edge: &EdgeId) -> u32 {
        let attempt = self.assignment.give(seq, edge, self.now);
        let is_unreported = self.assignment.leases().get(&seq).is_some_and(Lease::is_unreported);
        let load = self.loads.entry(edge.clone()).or_default();
        load.open += 1;
        load.unreported += usize::from(is_unreported);
        attempt
    }

    /// Whether anybody may be given anything: without, events are left in the log.
    fn has_room(&self) -> bool {
        self.members.iter().any(|(edge, ids)| {
            let load = self.load(edge);
            ids.iter().any(|id| may_be_given(&self.connections[id], load))
        })
    }

    fn load(&self, edge: &EdgeId) -> Load {
        self.loads.get(edge).copied().unwrap_or_default()
    }

    /// The newest connection of an edge on which an event may be sent now.
    fn ready(&self, edge: &EdgeId, subject: &LeaseSubject) -> Option<ConnectionId> {
        let (ids, load) = (self.members.get(edge)?.iter(), self.load(edge));
        ids.copied().find(|id| {
            let subscription = &self.connections[id];
            may_be_given(subscription, load) && subject.passes(subscription.filter())
        })
    }

    /// Who gets an event that has waited: the edge that went away from it, once that is back.
    fn choose_again(&self, lease: &Lease) -> Choice {
        let back = lease.left_by().map(|(edge, _)| edge);
        match back.filter(|edge| self.ready(edge, &lease.subject).is_some()) {
            Some(edge) => Choice::Edge(edge.clone()),
            None => self.choose(&lease.subject, &lease.tried),
        }
    }

    fn choose(&self, subject: &LeaseSubject, tried: &[EdgeId]) -> Choice {
        let candidates = self.candidates(subject);
        let is_any_healthy = candidates.iter().any(|one| one.is_healthy);
        for holder in self.assignment.holders_of(subject, self.now) {
            if tried.contains(&holder) {
                continue;
            }
            match candidates.iter().find(|one| one.edge == holder) {
                Some(one) if !one.is_healthy && is_any_healthy => {}
                Some(one) if one.has_room => return Choice::Edge(holder),
                Some(_) => return Choice::Later,
                None if self.assignment.is_away(&holder, self.now) => return Choice::Later,
                None => {}
            }
        }
        if candidates.is_empty() {
            return match self.assignment.is_expected(subject, self.now) {
                _ if self.has_reader_behind(subject) => Choice::Later,
                true => Choice::Absent,
                false => Choice::Nobody,
            };
        }
        let key = self.assignment.key_of(subject);
        let mode = self.assignment.rules().mode;
        choose(mode, &key, tried, self.assignment.last_given(), &candidates)
    }

    /// Whether one that wants the event is connected, and has yet to read what is everybody's.
    fn has_reader_behind(&self, subject: &LeaseSubject) -> bool {
        let from = self.assignment.from();
        let mut behind = self.connections.values().filter(|one| one.position() < from);
        behind.any(|one| one.takes_events() && subject.passes(one.filter()))
    }

    fn candidates(&self, subject: &LeaseSubject) -> Vec<Candidate> {
        let reads = |ids: &[ConnectionId]| {
            ids.iter().any(|id| subject.passes(self.connections[id].filter()))
        };
        let members = self.members.iter().filter(|(_, ids)| reads(ids));
        members
            .map(|(edge, _)| {
                let load = self.load(edge);
                Candidate {
                    edge: edge.clone(),
                    open: load.open,
                    has_room: self.ready(edge, subject).is_some(),
                    is_healthy: self.assignment.is_healthy(edge),
                }
            })
            .collect()
    }
}

fn may_be_given(subscription: &Subscription, load: Load) -> bool {
    subscription.may_be_given() && load.has_room(subscription.capacity())
}
