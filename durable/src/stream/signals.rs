//! What passes ahead of everything: stop signals. And who is there for an agent session's events.

use std::collections::BTreeSet;

use relay_schemas::{
    Attendance, Connect, Counter, EdgeId, NewEvent, Seq, Signal, Subject, UnixMillis, record_is_own,
};

use super::Stream;
use crate::{
    assignment::{Stop, session_key},
    command::{Command, ConnectionId},
    storage::LogStorage,
    subscription::Outgoing,
};

const STOP: &str = "stop";

/// The kind of the events that signals come of. Who may not read it hears of none.
pub(super) const PROMPTED: &str = "AgentSessionEvent.prompted";

impl<S: LogStorage> Stream<S> {
    /// The signals of new events, to the edge that has their session: ahead of what it has yet to
    /// read, without credit and whatever it filters, as far as its scopes go. One that is away is told when it is back.
    pub(super) fn signal(
        &mut self,
        tail_before: Seq,
        fresh: &[&NewEvent],
        now: UnixMillis,
    ) -> Vec<Command> {
        let mut commands = Vec::new();
        let positions = (1..).map(|distance| tail_before.plus(distance));
        let stops = positions.zip(fresh).filter(|(_, event)| event.signal.as_deref() == Some(STOP));
        for (seq, event) in stops {
            let Some(session) = session_of(&event.record) else { continue };
            let (id, received_at) = (event.id, event.received_at);
            let stop = Stop { id, session, seq: Some(seq), received_at, told_at: None };
            self.assignment.keep_stop(&stop);
            let holder = self.assignment.holder(&session_key(&stop.session), now);
            let holder = holder.map(|holder| holder.edge.clone());
            let told = self.told_of(holder.as_ref());
            // One that only watches may be another process of the same machine.
            let is_holders = |id: &ConnectionId| {
                self.connections.get(id).is_some_and(|one| {
                    let is_at_work = one.takes_events() || !self.is_assigned();
                    is_at_work && Some(&one.edge) == holder.as_ref()
                })
            };
            // Whoever else may have taken the work over is told now, the holder also when it is back:
            // the connection on which it is told may be dead.
            let told_at = told.iter().any(is_holders).then_some(now);
            if let Some(holder) = &holder {
                self.assignment.note_stop(holder, Stop { told_at, ..stop.clone() }, now);
            }
            for id in told {
                commands.extend(self.send_signal(id, &stop, now));
            }
        }
        commands
    }

    /// The connections that are to hear of a stop. In broadcast mode those of every edge, when the
    /// one that works on the session isn't known, or isn't there.
    fn told_of(&self, holder: Option<&EdgeId>) -> Vec<ConnectionId> {
        let may_hear = || {
            let connections = self.connections.iter();
            connections.filter(|(_, one)| one.filter().allowed.passes(PROMPTED))
        };
        let theirs = |edge: &EdgeId| -> Vec<ConnectionId> {
            may_hear().filter(|(_, one)| one.edge == *edge).map(|(id, _)| *id).collect()
        };
        let told = holder.map(theirs).unwrap_or_default();
        if told.is_empty() && !self.is_assigned() {
            return may_hear().map(|(id, _)| *id).collect();
        }
        told
    }

    fn send_signal(&mut self, id: ConnectionId, stop: &Stop, now: UnixMillis) -> Vec<Command> {
        let Some(subscription) = self.connections.get_mut(&id) else { return Vec::new() };
        let line = signal_line(stop, self.log.cursor(subscription.position()));
        let outgoing = Outgoing::with_lines(vec![line]);
        self.assignment.counts.add(Counter::Signals, 1);
        let messages = subscription.messages(&self.log, outgoing, now);
        messages.into_iter().map(|text| Command::Send { connection: id, text }).collect()
    }

    /// The signals that an edge may not have heard, for the beginning of its next connection.
    pub(super) fn untold_signals(
        &mut self,
        connect: &Connect,
        position: Seq,
        now: UnixMillis,
    ) -> Vec<String> {
        if !connect.allowed.passes(PROMPTED) {
            return Vec::new();
        }
        let takes_events = connect.capacity() != Some(0) || !self.is_assigned();
        let stops = self.assignment.tell_stops(&connect.edge, takes_events, now);
        self.assignment.counts.add(Counter::Signals, stops.len() as u64);
        let cursor = self.log.cursor(position);
        stops.iter().map(|stop| signal_line(stop, cursor)).collect()
    }

    /// Which events' sessions are held by an edge that is connected, before anything is given out.
    pub(super) fn held(&self, events: &[NewEvent], now: UnixMillis) -> BTreeSet<usize> {
        let is_held = |event: &NewEvent| {
            let session = is_of_session(event).then(|| session_of(&event.record)).flatten();
            let holder =
                session.and_then(|session| self.assignment.holder(&session_key(&session), now));
            holder.is_some_and(|holder| self.is_connected(&holder.edge))
        };
        let indexed = events.iter().enumerate();
        indexed.filter(|(_, event)| is_held(event)).map(|(index, _)| index).collect()
    }

    fn is_connected(&self, edge: &EdgeId) -> bool {
        self.connections.values().any(|one| one.edge == *edge)
    }

    /// Who is there for the events of agent sessions: those that read them, or the one that has
    /// been given each.
    pub(super) fn attendance(
        &self,
        events: &[NewEvent],
        held: &BTreeSet<usize>,
    ) -> Result<Vec<Attendance>, S::Error> {
        let mut attended = Vec::new();
        for (index, event) in events.iter().enumerate().filter(|(_, event)| is_of_session(event)) {
            let there = match self.is_assigned() {
                true => self.given_to(event)?.into_iter().collect(),
                false => self.readers_of(event),
            };
            let edges = there.iter().map(|edge| self.assignment.name_of(edge)).collect();
            attended.push(Attendance { index, edges, is_held: held.contains(&index) });
        }
        Ok(attended)
    }

    fn given_to(&self, event: &NewEvent) -> Result<Option<EdgeId>, S::Error> {
        let seq = self.log.position_of(event.id)?;
        let lease = seq.and_then(|seq| self.assignment.leases().get(&seq));
        let edge = lease.and_then(|lease| lease.edge()).cloned();
        Ok(edge.filter(|edge| self.is_connected(edge)))
    }

    fn readers_of(&self, event: &NewEvent) -> BTreeSet<EdgeId> {
        let is_own = record_is_own(&event.record);
        let subject = Subject::read(&event.record).unwrap_or_default();
        let readers = self
            .connections
            .values()
            .filter(|one| one.filter().passes_parts(&event.kind, is_own, subject.app.as_deref()));
        readers.map(|one| one.edge.clone()).collect()
    }
}

fn is_of_session(event: &NewEvent) -> bool {
    event.kind.starts_with("AgentSessionEvent.")
}

fn session_of(record: &str) -> Option<String> {
    Some(Subject::read(record)?.session?.into_owned())
}

pub(super) fn signal_line(stop: &Stop, cursor: relay_schemas::Cursor) -> String {
    let signal = Signal {
        signal: STOP.to_owned(),
        session: stop.session.clone(),
        id: stop.id,
        cursor,
        timestamp: stop.received_at.to_string(),
    };
    signal.to_line()
}
