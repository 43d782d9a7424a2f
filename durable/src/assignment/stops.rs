//! Stops that edges have yet to hear. A stop is told when it is sent, but heard only when the edge
//! has said something of it: a connection can be dead for a while before anybody knows.

use relay_schemas::{
    EdgeId, EventId, UnixMillis,
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

    /// The stops that an edge may not have heard, which it is told now.
    pub fn tell_stops(&mut self, edge: &EdgeId, now: UnixMillis) -> Vec<Stop> {
        let Some(record) = self.edges.get_mut(edge).filter(|record| !record.stops.is_empty())
        else {
            return Vec::new();
        };
        record.stops.retain(|stop| stop.is_wanted(now));
        let stops = record.stops.clone();
        record.stops.iter_mut().for_each(|stop| stop.told_at = Some(now));
        self.changes.edges.insert(edge.clone());
        stops
    }

    /// An edge has reported on the stop itself, or that its work on the session has ended.
    pub fn note_heard(&mut self, edge: &EdgeId, id: EventId, ended_session: Option<&str>) {
        let Some(record) = self.edges.get_mut(edge) else { return };
        let before = record.stops.len();
        record.stops.retain(|stop| stop.id != id && Some(stop.session.as_str()) != ended_session);
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
