//! How a stream hands events to single edges, and what is done at the end of every call.

use std::collections::{BTreeMap, BTreeSet};

use relay_schemas::{EdgeId, EventId, NewEvent, Seq, Speaker, UnixMillis};

use super::{
    Stream,
    round::{Opening, Round},
};
use crate::{
    assignment::{FAILED, Lease, LeaseSubject, Present, letter_of},
    command::{Command, ConnectionId, GivenUp},
    log::Log,
    rebuild::Rebuilt,
    storage::LogStorage,
    subscription::{Outgoing, Subscription},
};

/// Who is connected, and what each edge reads by its newest connection. Where each event is given
/// to one edge, those that only watch are not there for any.
pub(super) fn present(
    connections: &BTreeMap<ConnectionId, Subscription>,
    is_assigned: bool,
) -> BTreeMap<&EdgeId, Present<'_>> {
    let mut newest: BTreeMap<&EdgeId, &Subscription> = BTreeMap::new();
    let there = connections.values().filter(|one| !is_assigned || one.takes_events());
    for subscription in there {
        let known = newest.entry(&subscription.edge).or_insert(subscription);
        if subscription.opened_at >= known.opened_at {
            *known = subscription;
        }
    }
    let present = newest
        .into_iter()
        .map(|(edge, one)| (edge, Present { name: one.name.as_deref(), filter: one.filter() }));
    present.collect()
}

impl<S: LogStorage> Stream<S> {
    /// The end of every call that may have changed something: notes who is there, takes events
    /// away from those who are silent or gone, gives out what may be given, and stores all that.
    pub(super) fn settle(
        &mut self,
        opening: Opening,
        now: UnixMillis,
    ) -> Result<Vec<Command>, S::Error> {
        let mut commands = Vec::new();
        let is_at_work = self.assignment.is_at_work();
        if is_at_work {
            commands.extend(self.end_expired(now));
        }
        let is_assigned = self.is_assigned();
        self.assignment.note_present(&present(&self.connections, is_assigned), now);
        if is_at_work {
            self.assignment.expire(now);
            let mut round =
                Round::new(&self.log, &mut self.assignment, &mut self.connections, opening, now);
            round.run()?;
            let (outgoing, changed) = round.finish();
            self.touched.extend(changed);
            self.push_round(outgoing, now, &mut commands);
            commands.extend(self.give_up(now)?);
        } else {
            self.push_round(opening.into_outgoing(), now, &mut commands);
        }
        for connection in std::mem::take(&mut self.touched) {
            commands.push(Command::Remember { connection });
        }
        self.assignment.forget_stops();
        self.assignment.store(self.log.storage_mut())?;
        Ok(commands)
    }

    pub(super) fn push_round(
        &mut self,
        outgoing: BTreeMap<ConnectionId, Outgoing>,
        now: UnixMillis,
        commands: &mut Vec<Command>,
    ) {
        for (id, outgoing) in outgoing {
            let Some(subscription) = self.connections.get_mut(&id) else { continue };
            self.delivered_unreported += outgoing.webhooks;
            self.touched.remove(&id);
            super::push_messages(&self.log, id, subscription, outgoing, now, commands);
        }
    }

    /// What goes to the dead letters now.
    fn give_up(&mut self, now: UnixMillis) -> Result<Vec<Command>, S::Error> {
        let mut commands = Vec::new();
        for Lease { seq, attempt, failure, tried, subject, .. } in self.assignment.to_give_up(now) {
            let mut letter = None;
            read_one(&self.log, seq, &mut |record| letter = letter_of(record))?;
            let Some((message, body)) = letter else {
                self.assignment.pass_over(seq);
                continue;
            };
            let failure = failure.unwrap_or_default();
            let reason = format!("assignment: given to {attempt} edges; last: {failure}");
            let last = tried.last().filter(|_| failure != FAILED);
            let silent =
                last.map(|id| Speaker { id: id.clone(), name: self.assignment.name_of(id) });
            let (attempts, kind) = (attempt, subject.kind);
            let given_up = GivenUp { seq, message, body, reason, attempts, kind, silent };
            commands.push(Command::GiveUp(Box::new(given_up)));
        }
        Ok(commands)
    }

    /// An event lies in the dead letters.
    pub fn gave_up(&mut self, seq: Seq) -> Result<(), S::Error> {
        self.assignment.gave_up(seq);
        self.assignment.store(self.log.storage_mut())
    }

    /// What was sealed is finished, or everybody's from now on.
    pub(crate) fn note_sealed(&mut self) -> Result<(), S::Error> {
        self.assignment.note_sealed(self.log.sealed());
        self.assignment.store(self.log.storage_mut())
    }

    /// A new incarnation: leases of events in the hot tail go with them.
    pub(crate) fn move_leases(
        &mut self,
        hot: &std::ops::RangeInclusive<Seq>,
        rebuilt: &Rebuilt,
    ) -> Result<(), S::Error> {
        let moved = rebuilt.moves.iter().find(|one| one.first == *hot.start());
        let to = |seq: Seq| {
            let moved = moved.filter(|_| hot.contains(&seq))?;
            Some(moved.to.plus(seq.distance_from(moved.first)))
        };
        let sealed = rebuilt.segments.last().map(|segment| segment.entry.last).unwrap_or_default();
        let tail = to(*hot.end()).unwrap_or(sealed);
        self.assignment.moved(to, (sealed, tail));
        self.assignment.store(self.log.storage_mut())
    }

    /// Events that lay in the dead letters and were put back begin anew in their places. Those
    /// whose places are sealed by now are to stand at the end of the log again: they are answered.
    pub(super) fn reopen(&mut self, events: &[NewEvent]) -> Result<BTreeSet<EventId>, S::Error> {
        let mut again = BTreeSet::new();
        for event in events {
            let Some(seq) = self.given_up(event.id)? else { continue };
            let mut subject = None;
            read_one(&self.log, seq, &mut |record| subject = LeaseSubject::read(record))?;
            if subject.is_none() && self.log.position_of(event.id)? == Some(seq) {
                again.insert(event.id);
            }
            self.assignment.reopen(event.id, seq, subject);
        }
        Ok(again)
    }

    /// The position of an event that lies in the dead letters.
    pub(super) fn given_up(&self, id: EventId) -> Result<Option<Seq>, S::Error> {
        match self.assignment.given_up_count() {
            0 => Ok(None),
            _ => self.log.storage().given_up(id),
        }
    }
}

/// Reads one record of the hot tail.
pub(super) fn read_one<S: LogStorage>(
    log: &Log<S>,
    seq: Seq,
    take: &mut dyn FnMut(&str),
) -> Result<(), S::Error> {
    if seq <= log.sealed() || seq > log.tail() {
        return Ok(());
    }
    log.read(Seq::new(seq.get() - 1), &mut |_, record| {
        take(record);
        std::ops::ControlFlow::Break(())
    })
}
