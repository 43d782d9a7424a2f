//! How connections end, and which edges may have none.

use relay_schemas::{ByeCode, Dialect, EdgeId, UnixMillis};

use super::{Opening, Stream};
use crate::{
    command::{Command, ConnectionId, StreamError},
    storage::LogStorage,
    subscription::{Outgoing, Subscription},
};

impl<S: LogStorage> Stream<S> {
    /// A connection is gone. `says_end` tells whether its client has closed it as one that does
    /// not come back: what it was given goes to others at once.
    pub fn closed(
        &mut self,
        id: ConnectionId,
        says_end: bool,
        now: UnixMillis,
    ) -> Result<(Option<Dialect>, Vec<Command>), S::Error> {
        let Some(gone) = self.remove(id) else { return Ok((None, Vec::new())) };
        let takes = |one: &Subscription| one.takes_events() || !self.is_assigned();
        let mut others = self.connections.values().filter(|one| one.edge == gone.edge);
        let is_last = takes(&gone) && !others.any(takes);
        if is_last && !gone.dialect.is_bridged() && (says_end || gone.has_said_bye()) {
            self.assignment.note_end(&gone.edge, false, now);
        }
        let commands = self.settle(Opening::default(), now)?;
        Ok((Some(gone.dialect), commands))
    }

    /// Ends direct connections whose pings have stopped. `last_ping_at` is the platform's note of
    /// its last automatic answer; a reader that never pings is not judged.
    pub fn end_silent(
        &mut self,
        last_ping_at: &dyn Fn(ConnectionId) -> Option<UnixMillis>,
        now: UnixMillis,
    ) -> Result<Vec<Command>, S::Error> {
        self.pings_seen_at = now;
        let silent: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, subscription)| !subscription.dialect.is_bridged())
            .filter(|(id, subscription)| {
                let silence_ms_max = subscription.silence_ms_max();
                last_ping_at(**id).is_some_and(|at| now.since_ms(at) > silence_ms_max)
            })
            .map(|(id, _)| *id)
            .collect();
        if silent.is_empty() {
            return Ok(Vec::new());
        }
        self.losses_unreported += silent.len() as u64;
        let mut commands = Vec::new();
        for id in silent {
            self.note_unheard(id, last_ping_at(id).unwrap_or_default());
            commands.extend(self.end(id, ByeCode::Reconnect));
        }
        commands.extend(self.settle(Opening::default(), now)?);
        Ok(commands)
    }

    /// What an edge was told on a connection that has died is not heard, unless it has another.
    fn note_unheard(&mut self, id: ConnectionId, last_ping_at: UnixMillis) {
        let Some(edge) = self.connections.get(&id).map(|one| one.edge.clone()) else { return };
        let mut others = self.connections.iter().filter(|(other, _)| **other != id);
        if !others.any(|(_, one)| one.edge == edge && one.takes_events()) {
            self.assignment.note_unheard(&edge, last_ping_at);
        }
    }

    /// When to look for them again: only while one of them has been given something. No object is
    /// woken for idle connections, and none sooner than another edge could be given it.
    pub(super) fn silence_due(&self) -> Option<UnixMillis> {
        let has_something = |one: &&Subscription| {
            let mut leases = self.assignment.leases().values();
            leases.any(|lease| lease.edge() == Some(&one.edge))
        };
        let direct = self.connections.values().filter(|one| !one.dialect.is_bridged());
        let silence_ms = direct.filter(has_something).map(Subscription::silence_ms_max).min()?;
        Some(self.pings_seen_at + silence_ms.max(self.assignment.rules().timeout_ms))
    }

    /// Bars an edge and ends its connections.
    pub fn revoke(&mut self, edge: &EdgeId, now: UnixMillis) -> Result<Vec<Command>, S::Error> {
        self.log.storage_mut().save_revocation(edge, now)?;
        let theirs: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, subscription)| subscription.edge == *edge)
            .map(|(id, _)| *id)
            .collect();
        let mut commands: Vec<Command> =
            theirs.into_iter().flat_map(|id| self.end(id, ByeCode::Revoked)).collect();
        self.assignment.note_end(edge, true, now);
        commands.extend(self.settle(Opening::default(), now)?);
        Ok(commands)
    }

    /// Sends every reader away, to come back at once.
    pub(crate) fn end_all(&mut self) -> Vec<Command> {
        let open: Vec<ConnectionId> = self.connections.keys().copied().collect();
        open.into_iter().flat_map(|id| self.end(id, ByeCode::Reconnect)).collect()
    }

    /// The same for good, with a reason.
    pub fn end_all_with(
        &mut self,
        code: ByeCode,
        now: UnixMillis,
    ) -> Result<Vec<Command>, S::Error> {
        let open: Vec<ConnectionId> = self.connections.keys().copied().collect();
        let mut commands: Vec<Command> =
            open.into_iter().flat_map(|id| self.end(id, code)).collect();
        commands.extend(self.settle(Opening::default(), now)?);
        Ok(commands)
    }

    /// Refuses an edge that was revoked.
    pub fn admit(&self, edge: &EdgeId) -> Result<(), StreamError<S::Error>> {
        if self.log.storage().is_revoked(edge)? {
            return Err(StreamError::Refused(relay_schemas::CredentialError::Revoked.into()));
        }
        Ok(())
    }

    /// Ends readers whose credential has expired.
    pub(super) fn end_expired(&mut self, now: UnixMillis) -> Vec<Command> {
        let expired: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, subscription)| now >= subscription.expires_at)
            .map(|(id, _)| *id)
            .collect();
        expired.into_iter().flat_map(|id| self.end(id, ByeCode::Expired)).collect()
    }

    pub(super) fn end_and_settle(
        &mut self,
        id: ConnectionId,
        code: ByeCode,
        now: UnixMillis,
    ) -> Result<Vec<Command>, S::Error> {
        let mut commands = self.end(id, code);
        commands.extend(self.settle(Opening::default(), now)?);
        Ok(commands)
    }

    /// Forgets a connection. What its edge was to be sent on it is sent on another.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Subscription> {
        let mut gone = self.connections.remove(&id)?;
        self.touched.remove(&id);
        let owed = gone.take_owed();
        let is_other = |one: &Subscription| one.edge == gone.edge && one.takes_events();
        let theirs = self.connections.iter_mut().filter(|(_, one)| is_other(one));
        let newest = theirs.max_by_key(|(id, one)| (one.opened_at, **id));
        if let (Some((other, subscription)), false) = (newest, owed.is_empty()) {
            subscription.owe(owed);
            self.touched.insert(*other);
        }
        Some(gone)
    }

    /// Ends a connection with a `bye`.
    pub(super) fn end(&mut self, id: ConnectionId, code: ByeCode) -> Vec<Command> {
        let Some(mut subscription) = self.remove(id) else { return Vec::new() };
        let cursor = self.log.cursor(subscription.position());
        let retry_after_ms = match code {
            ByeCode::Slow => 1_000,
            _ => 0,
        };
        let line = subscription.bye(code, cursor, retry_after_ms);
        let messages = subscription.messages(
            &self.log,
            Outgoing::with_lines(vec![line]),
            UnixMillis::default(),
        );
        let mut commands: Vec<Command> =
            messages.into_iter().map(|text| Command::Send { connection: id, text }).collect();
        commands.push(Command::Close { connection: id, code });
        commands
    }
}
