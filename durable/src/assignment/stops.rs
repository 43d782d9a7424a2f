//! Stops that edges have yet to hear. A stop is told when it is sent, but heard only when the edge
//! has said something of it: a connection can be dead for a while before anybody knows.

use relay_schemas::{
    EdgeId, EventId, Seq, UnixMillis,
    limits::{HOLDER_REMEMBERED_MS, STOP_REPEATED_MS, STOPS_PER_EDGE_MAX},
};

use super::{Assignment, EdgeRecord, Stop};

impl Stop {
    /// Whether it is worth telling.
    fn is_wanted(&self, now: UnixMillis) -> bool {
        now.since_ms(self.received_at) < HOLDER_REMEMBERED_MS
            && self.told_at.is_none_or(|at| now.since_ms(at) < STOP_REPEATED_MS)
    }
}

impl Assignment {
    /// Keeps a stop for whoever is given what came before it in its session; no row of its own.
    pub fn keep_stop(&mut self, stop: &Stop) {
        if !stop.seq.is_some_and(|seq| self.head.is_single(seq)) {
            return;
        }
        let stops = &mut self.head.stops;
        stops.retain(|one| one.session != stop.session);
        let excess = (stops.len() + 1).saturating_sub(STOPS_PER_EDGE_MAX);
        stops.drain(..excess);
        stops.push(Stop { told_at: None, ..stop.clone() });
        self.changes.head = true;
    }

    /// The stop that goes ahead of an event: it came after it, for the same session.
    pub fn stop_ahead(&self, seq: Seq) -> Option<Stop> {
        let subject = &self.leases.get(&seq)?.subject;
        let session = subject.session.as_ref().filter(|_| !subject.is_stop)?;
        let mut stops = self.head.stops.iter();
        stops.find(|stop| stop.session == *session && stop.seq > Some(seq)).cloned()
    }

    /// Forgets the stops before which nothing is left of their sessions.
    pub fn forget_stops(&mut self) {
        let (leases, until) = (&self.leases, self.head.until);
        let is_ahead = |stop: &Stop| {
            let Some(seq) = stop.seq else { return false };
            let mut before = leases.range(..seq).map(|(_, lease)| &lease.subject);
            let is_meant = |session: &Option<String>| session.as_ref() == Some(&stop.session);
            until.next() < seq || before.any(|one| !one.is_stop && is_meant(&one.session))
        };
        let before = self.head.stops.len();
        self.head.stops.retain(is_ahead);
        self.changes.head |= self.head.stops.len() < before;
    }

    /// Positions have changed.
    pub(super) fn move_stops(&mut self, to: &impl Fn(Seq) -> Option<Seq>) {
        let moved = |stop: &mut Stop| stop.seq = stop.seq.and_then(to);
        self.head.stops.iter_mut().for_each(moved);
        self.head.stops.retain(|stop| stop.seq.is_some());
        for (edge, record) in &mut self.edges {
            if !record.stops.is_empty() {
                record.stops.iter_mut().for_each(moved);
                self.changes.edges.insert(edge.clone());
            }
        }
    }

    /// Whether an edge is told of a stop in this call.
    pub fn is_told(&self, edge: &EdgeId, stop: EventId, now: UnixMillis) -> bool {
        let stops = self.edges.get(edge).map(|record| record.stops.iter());
        stops.is_some_and(|mut all| all.any(|one| one.id == stop && one.told_at == Some(now)))
    }

    /// Notes a stop for the edge that works on its session, whether that is told now or not; one
    /// row.
    pub fn note_stop(&mut self, edge: &EdgeId, stop: Stop, now: UnixMillis) {
        let record = self.edges.entry(edge.clone());
        let record = record.or_insert_with(|| EdgeRecord::new(edge.clone()));
        record.stops.retain(|one| one.session != stop.session && one.is_wanted(now));
        let excess = (record.stops.len() + 1).saturating_sub(STOPS_PER_EDGE_MAX);
        record.stops.drain(..excess);
        record.stops.push(stop);
        self.changes.edges.insert(edge.clone());
    }

    /// The stops that an edge may not have heard, which it is told now. What is told where no
    /// events are taken may reach nobody that works: it is told again.
    pub fn tell_stops(&mut self, edge: &EdgeId, takes_events: bool, now: UnixMillis) -> Vec<Stop> {
        let Some(record) = self.edges.get_mut(edge).filter(|record| !record.stops.is_empty())
        else {
            return Vec::new();
        };
        let before = record.stops.len();
        record.stops.retain(|stop| stop.is_wanted(now));
        let stops = record.stops.clone();
        if takes_events {
            record.stops.iter_mut().for_each(|stop| stop.told_at = Some(now));
        }
        if takes_events || record.stops.len() < before {
            self.changes.edges.insert(edge.clone());
        }
        stops
    }

    /// The connection on which an edge was told was dead since then: its stops are to be told as if
    /// they had never been.
    pub fn note_unheard(&mut self, edge: &EdgeId, since: UnixMillis) {
        let Some(record) = self.edges.get_mut(edge) else { return };
        for stop in record.stops.iter_mut().filter(|stop| stop.told_at >= Some(since)) {
            stop.told_at = None;
            self.changes.edges.insert(edge.clone());
        }
    }

    /// An edge has reported on the stop itself, or that its work on the session has ended: of one
    /// that it was told, when it has nothing else from before it.
    pub fn note_heard(&mut self, edge: &EdgeId, id: EventId, ended_session: Option<&str>) {
        let Some(record) = self.edges.get_mut(edge) else { return };
        let theirs = self.leases.values().filter(|lease| lease.edge() == Some(edge));
        let others = theirs.filter(|one| one.subject.id != id && !one.subject.is_stop);
        let of_session = others.filter(|one| {
            ended_session.is_some() && one.subject.session.as_deref() == ended_session
        });
        let open_since = of_session.map(|lease| lease.seq).next();
        let has_earlier =
            |stop: &Stop| open_since.is_some_and(|open| stop.seq.is_none_or(|seq| open < seq));
        let is_over = |stop: &Stop| {
            let is_told = stop.told_at.is_some() && Some(stop.session.as_str()) == ended_session;
            is_told && !has_earlier(stop)
        };
        let before = record.stops.len();
        record.stops.retain(|stop| stop.id != id && !is_over(stop));
        if record.stops.len() < before {
            self.changes.edges.insert(edge.clone());
        }
    }

    /// Those that an earlier version noted with the holder.
    pub(super) fn take_earlier_stops(&mut self) {
        for holder in self.holders.values_mut() {
            let Some(stop) = holder.stop.take() else { continue };
            let record = self.edges.entry(holder.edge.clone());
            record.or_insert_with(|| EdgeRecord::new(holder.edge.clone())).stops.push(stop);
            self.changes.holders.insert(holder.key.clone());
            self.changes.edges.insert(holder.edge.clone());
        }
    }
}
