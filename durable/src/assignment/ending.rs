//! How leases end: by a report, by silence, by the edge's absence.

use relay_schemas::{
    Counter, EdgeId, ReportStatus, Seq, UnixMillis,
    limits::{ASSIGNMENT_ATTEMPTS_MAX, GIVE_UP_RETRY_MS, LEASE_MS_MAX},
};

use super::{Assignment, Lease, LeaseState};

/// Whose a report may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The reporting edge has the event, since then.
    Has {
        /// When it was given to it.
        sent_at: UnixMillis,
    },
    /// It had it last, and nobody else has it by now.
    MayTakeBack,
    /// Another has it, or it lies in the dead letters.
    HasNot {
        /// Who has it.
        edge: Option<EdgeId>,
    },
    /// No lease: it is finished, or was never one's alone.
    NoLease,
    /// Nobody has been given it yet.
    Unassigned,
}

impl Assignment {
    /// Where an edge stands with an event.
    pub fn standing(&self, seq: Seq, reporter: &EdgeId) -> Standing {
        let Some(lease) = self.leases.get(&seq) else {
            let is_unassigned = self.rules.is_assigned() && seq > self.head.until;
            return if is_unassigned { Standing::Unassigned } else { Standing::NoLease };
        };
        match &lease.state {
            LeaseState::Held { edge, sent_at, .. } if edge == reporter => {
                Standing::Has { sent_at: *sent_at }
            }
            LeaseState::Held { edge, .. } => Standing::HasNot { edge: Some(edge.clone()) },
            LeaseState::Waiting if lease.late.as_ref() == Some(reporter) => Standing::MayTakeBack,
            LeaseState::Waiting | LeaseState::GivingUp | LeaseState::GivenUp => {
                Standing::HasNot { edge: None }
            }
        }
    }

    /// A report of the edge that has the event, or takes it back; one row.
    pub fn reported(&mut self, seq: Seq, edge: &EdgeId, status: ReportStatus, now: UnixMillis) {
        let Some(lease) = self.leases.get_mut(&seq) else { return };
        self.changes.leases.insert(seq);
        let sent_at = match lease.state {
            LeaseState::Held { sent_at, .. } => sent_at,
            LeaseState::Waiting | LeaseState::GivingUp | LeaseState::GivenUp => now,
        };
        lease.late = None;
        lease.state = LeaseState::Held { edge: edge.clone(), sent_at, processing_at: Some(now) };
        match status {
            ReportStatus::Processing => {}
            ReportStatus::Failed if self.rules.retry_failed => {
                take_away(lease, "failed");
                self.counts.add(Counter::Assignments("failed"), 1);
                self.after_taking(seq);
            }
            ReportStatus::Completed | ReportStatus::Failed => {
                self.leases.remove(&seq);
            }
        }
    }

    fn after_taking(&mut self, seq: Seq) {
        self.changes.leases.insert(seq);
        if self.leases.get(&seq).is_some_and(|lease| lease.state == LeaseState::GivingUp) {
            self.give_up_at = None;
        }
    }

    /// When a lease ends by itself. While its edge works on it and is connected it lasts up to six
    /// hours from its last report.
    fn due_of(&self, lease: &Lease) -> Option<UnixMillis> {
        let LeaseState::Held { edge, sent_at, processing_at } = &lease.state else { return None };
        let record = self.edges.get(edge);
        if record.is_none_or(|record| record.has_ended) {
            return Some(UnixMillis::default());
        }
        let timeout_ms = self.rules.timeout_ms;
        let Some(processing_at) = processing_at else { return Some(*sent_at + timeout_ms) };
        let gone_at = record.and_then(|record| record.gone_at);
        let due = *processing_at + LEASE_MS_MAX;
        Some(gone_at.map_or(due, |gone_at| due.min(gone_at + timeout_ms)))
    }

    /// Takes events away from edges that are silent, or gone.
    pub fn expire(&mut self, now: UnixMillis) {
        let is_due = |lease: &&Lease| self.due_of(lease).is_some_and(|due| due <= now);
        let due: Vec<Seq> = self.leases.values().filter(is_due).map(|lease| lease.seq).collect();
        for seq in due {
            let Some(lease) = self.leases.get_mut(&seq) else { continue };
            let Some(edge) = lease.edge().cloned() else { continue };
            let record = self.edges.get_mut(&edge);
            let is_there = record.filter(|record| record.gone_at.is_none() && !record.has_ended);
            let (reason, result) = match is_there {
                Some(_) => ("silence", "timeout"),
                None => ("disconnected", "disconnect"),
            };
            self.counts.add(Counter::Assignments(result), 1);
            if let Some(record) = is_there {
                record.timeouts_in_a_row = record.timeouts_in_a_row.saturating_add(1);
                self.changes.edges.insert(edge.clone());
            }
            take_away(lease, reason);
            lease.late = Some(edge);
            self.after_taking(seq);
        }
        self.seen_at = self.seen_at.max(now);
    }

    /// When something ends by itself, or somebody who is waited for is waited for no longer.
    pub fn next_due(&self, tail: Seq) -> Option<UnixMillis> {
        if !self.rules.is_assigned() {
            return None;
        }
        let leases = self.leases.values().filter_map(|lease| self.due_of(lease));
        let is_giving_up = self.leases.values().any(|one| one.state == LeaseState::GivingUp);
        let give_up = is_giving_up.then(|| self.give_up_at.unwrap_or_default());
        let waits = self.head.until < tail
            || self.leases.values().any(|lease| lease.state == LeaseState::Waiting);
        let away = self.edges.values().filter(|record| waits && !record.has_ended);
        let away = away.filter_map(|record| Some(record.gone_at? + self.rules.timeout_ms));
        let away = away.filter(|due| *due > self.seen_at);
        leases.chain(give_up).chain(away).min()
    }

    /// Events that are to go to the dead letters now; they are named again until that is done.
    pub fn to_give_up(&mut self, now: UnixMillis) -> Vec<Lease> {
        if self.give_up_at.is_some_and(|at| at > now) {
            return Vec::new();
        }
        let giving_up = self.leases.values().filter(|one| one.state == LeaseState::GivingUp);
        let found: Vec<Lease> = giving_up.take(GIVEN_UP_AT_ONCE_MAX).cloned().collect();
        if !found.is_empty() {
            self.give_up_at = Some(now + GIVE_UP_RETRY_MS);
        }
        found
    }

    /// An event lies in the dead letters; one row.
    pub fn gave_up(&mut self, seq: Seq) {
        if let Some(lease) = self.leases.get_mut(&seq)
            && lease.state == LeaseState::GivingUp
        {
            lease.state = LeaseState::GivenUp;
            self.counts.add(Counter::Assignments("given_up"), 1);
            self.changes.leases.insert(seq);
        }
    }
}

/// Each is in memory with its body.
const GIVEN_UP_AT_ONCE_MAX: usize = 4;

fn take_away(lease: &mut Lease, reason: &str) {
    if let Some(edge) = lease.edge().cloned() {
        lease.tried.retain(|one| *one != edge);
        lease.tried.push(edge);
    }
    lease.failure = Some(reason.to_owned());
    lease.late = None;
    lease.state = match lease.attempt < ASSIGNMENT_ATTEMPTS_MAX {
        true => LeaseState::Waiting,
        false => LeaseState::GivingUp,
    };
}
