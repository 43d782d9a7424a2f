//! Which edges are there, which are expected, and how they answer.

use std::collections::BTreeMap;

use relay_schemas::{EdgeId, ReadFilter, UnixMillis, limits::EDGE_REMEMBERED_MS};

use super::{Assignment, EdgeRecord, LeaseSubject};

/// What a connected edge reads.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// Its display name.
    pub name: Option<&'a str>,
    /// By its newest connection.
    pub filter: &'a ReadFilter,
}

impl Assignment {
    /// Notes who is connected; one row for each edge that came, went, or reads something else.
    pub fn note_present(&mut self, present: &BTreeMap<&EdgeId, Present<'_>>, now: UnixMillis) {
        for (edge, Present { name, filter }) in present {
            let known = self.edges.get(*edge);
            let is_same = known.is_some_and(|known| {
                known.gone_at.is_none()
                    && !known.has_ended
                    && known.name.as_deref() == *name
                    && known.filter.as_ref() == Some(*filter)
            });
            if is_same {
                continue;
            }
            let mut record = known.cloned().unwrap_or_else(|| EdgeRecord::new((*edge).clone()));
            record.name = name.map(str::to_owned);
            record.filter = Some((*filter).clone());
            record.gone_at = None;
            record.has_ended = false;
            self.changes.edges.insert((*edge).clone());
            self.edges.insert((*edge).clone(), record);
        }
        for (edge, record) in &mut self.edges {
            if record.gone_at.is_none() && !present.contains_key(edge) {
                record.gone_at = Some(now);
                self.changes.edges.insert(edge.clone());
            }
        }
    }

    /// Forgets edges that are long gone.
    pub fn forget_edges(&mut self, now: UnixMillis) {
        let is_old = |record: &EdgeRecord| {
            record.gone_at.is_some_and(|at| now.since_ms(at) >= EDGE_REMEMBERED_MS)
        };
        let old: Vec<EdgeId> =
            self.edges.values().filter(|one| is_old(one)).map(|one| one.edge.clone()).collect();
        for edge in old {
            self.has_forgotten = true;
            self.edges.remove(&edge);
            self.changes.edges.insert(edge);
        }
    }

    /// Whether edges were forgotten since this was last asked.
    pub fn take_forgotten(&mut self) -> bool {
        std::mem::take(&mut self.has_forgotten)
    }

    /// An edge said that it ends, or was revoked: what it has is free at once. One that was
    /// revoked isn't expected back either.
    pub fn note_end(&mut self, edge: &EdgeId, is_revoked: bool, now: UnixMillis) {
        let Some(record) = self.edges.get_mut(edge) else { return };
        record.has_ended = true;
        record.gone_at = Some(record.gone_at.unwrap_or(now));
        if is_revoked {
            record.filter = None;
        }
        self.changes.edges.insert(edge.clone());
    }

    /// A report is a sign of life; one row, after silence only.
    pub fn note_report(&mut self, edge: &EdgeId) {
        if let Some(record) = self.edges.get_mut(edge)
            && record.timeouts_in_a_row > 0
        {
            record.timeouts_in_a_row = 0;
            self.changes.edges.insert(edge.clone());
        }
    }

    /// Whether an edge is away for so short a time that its sessions wait for it.
    pub fn is_away(&self, edge: &EdgeId, now: UnixMillis) -> bool {
        let record = self.edges.get(edge).filter(|record| !record.has_ended);
        let gone_at = record.and_then(|record| record.gone_at);
        gone_at.is_some_and(|at| now < at + self.rules.timeout_ms)
    }

    /// Whether an edge that is not connected wants the event and was there within the last days.
    pub fn is_expected(&self, subject: &LeaseSubject, now: UnixMillis) -> bool {
        self.edges.values().any(|record| {
            record.gone_at.is_some_and(|at| now.since_ms(at) < EDGE_REMEMBERED_MS)
                && record.filter.as_ref().is_some_and(|filter| subject.passes(filter))
        })
    }

    /// An edge's display name, else its id.
    pub fn name_of(&self, edge: &EdgeId) -> String {
        let name = self.edges.get(edge).and_then(|record| record.name.clone());
        name.unwrap_or_else(|| edge.to_string())
    }
}
