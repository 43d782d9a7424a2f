//! How leases end: by a report, by silence, by the edge's absence.

use std::collections::BTreeSet;

use relay_schemas::{
    Counter, EdgeId, ReportStatus, Seq, UnixMillis,
    limits::{ASSIGNMENT_ATTEMPTS_MAX, EDGE_REMEMBERED_MS, FAILED_PAUSES, LEASE_MS_MAX},
};

use super::{Assignment, Lease, LeaseState, Left};

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
    /// It has reported that it failed, and nobody else has it by now.
    HasFailed,
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
            let is_unassigned = self.is_single(seq) && seq > self.head.until;
            return if is_unassigned { Standing::Unassigned } else { Standing::NoLease };
        };
        match &lease.state {
            LeaseState::Held { edge, sent_at, .. } if edge == reporter => {
                Standing::Has { sent_at: *sent_at }
            }
            LeaseState::Held { edge, .. } => Standing::HasNot { edge: Some(edge.clone()) },
            LeaseState::Waiting if lease.late.as_ref() == Some(reporter) => Standing::MayTakeBack,
            LeaseState::Waiting | LeaseState::GivingUp
                if lease.failure.as_deref() == Some(FAILED)
                    && lease.tried.last() == Some(reporter) =>
            {
                Standing::HasFailed
            }
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
        (lease.late, lease.left) = (None, None);
        lease.state = LeaseState::Held { edge: edge.clone(), sent_at, processing_at: Some(now) };
        match status {
            ReportStatus::Processing => {}
            ReportStatus::Failed if self.rules.retry_failed => {
                take_away(lease, FAILED);
                lease.paused_until = Some(now + pause_ms(self.rules.timeout_ms, lease.attempt));
                self.counts.add(Counter::Assignments("failed"), 1);
                self.after_taking(seq);
            }
            ReportStatus::Completed | ReportStatus::Failed => {
                self.leases.remove(&seq);
            }
        }
        if status != ReportStatus::Processing {
            self.note_freed(edge, now);
        }
    }

    /// An edge has finished something: the time in which it is to begin what it has besides runs
    /// from now. One row, only where something has waited behind.
    fn note_freed(&mut self, edge: &EdgeId, now: UnixMillis) {
        let has_more = |lease: &Lease| lease.is_unreported() && lease.edge() == Some(edge);
        if !self.leases.values().any(has_more) {
            return;
        }
        if let Some(record) = self.edges.get_mut(edge) {
            record.freed_at = Some(now);
            self.changes.edges.insert(edge.clone());
        }
    }

    /// Those that work on something. What else they have waits behind it.
    fn busy_edges(&self) -> BTreeSet<EdgeId> {
        let processed = self.leases.values().filter(|lease| lease.is_processed());
        processed.filter_map(|lease| lease.edge().cloned()).collect()
    }

    /// Nobody is left that reads a waiting event, nor expected: it stays in the log, or lies in the
    /// dead letters when somebody has been given it.
    pub fn pass_waiting(&mut self, seq: Seq) {
        match self.leases.get(&seq).map(|lease| lease.attempt) {
            Some(0) => {
                self.leases.remove(&seq);
                self.changes.leases.insert(seq);
            }
            Some(_) => self.refuse_waiting(seq, "nobody is left that reads it"),
            None => {}
        }
    }

    /// A waiting event goes to the dead letters.
    pub fn refuse_waiting(&mut self, seq: Seq, reason: &str) {
        let Some(lease) = self.leases.get_mut(&seq) else { return };
        lease.failure = Some(reason.to_owned());
        lease.state = LeaseState::GivingUp;
        self.after_taking(seq);
    }

    /// Whether an event that was taken away is to be given again.
    pub fn is_to_be_given(&self, seq: Seq) -> bool {
        self.leases.get(&seq).is_some_and(|lease| lease.state == LeaseState::Waiting)
    }

    fn after_taking(&mut self, seq: Seq) {
        self.changes.leases.insert(seq);
        if self.leases.get(&seq).is_some_and(|lease| lease.state == LeaseState::GivingUp) {
            self.give_up_at = None;
        }
    }

    /// When a lease ends by itself. While its edge works on it and is connected it lasts up to six
    /// hours from its last report. What its edge has yet to begin is due only while that one works
    /// on nothing else: nobody is silent who is busy.
    fn due_of(&self, lease: &Lease, busy: &BTreeSet<EdgeId>) -> Option<UnixMillis> {
        let LeaseState::Held { edge, sent_at, processing_at } = &lease.state else { return None };
        let Some(record) = self.edges.get(edge).filter(|record| !record.has_ended) else {
            return Some(UnixMillis::default());
        };
        match processing_at {
            Some(processing_at) => {
                let due = *processing_at + LEASE_MS_MAX;
                let absent_until = record.gone_at.map(|gone_at| gone_at + self.rules.timeout_ms);
                Some(absent_until.map_or(due, |absent_until| due.min(absent_until)))
            }
            None if busy.contains(edge) => None,
            None => {
                let idle_since = record.freed_at.map_or(*sent_at, |at| at.max(*sent_at));
                Some(idle_since + self.rules.timeout_ms)
            }
        }
    }

    /// Takes events away from edges that are silent, or gone.
    pub fn expire(&mut self, now: UnixMillis) {
        let busy = self.busy_edges();
        // Who has lost what it worked on is busy no more.
        loop {
            let due = self.due(now);
            if due.is_empty() {
                break;
            }
            due.into_iter().for_each(|seq| self.expire_one(seq, &busy));
        }
        self.seen_at = self.seen_at.max(now);
    }

    fn due(&self, now: UnixMillis) -> Vec<Seq> {
        let busy = self.busy_edges();
        let is_due = |lease: &&Lease| self.due_of(lease, &busy).is_some_and(|due| due <= now);
        self.leases.values().filter(is_due).map(|lease| lease.seq).collect()
    }

    fn expire_one(&mut self, seq: Seq, busy: &BTreeSet<EdgeId>) {
        let Some(lease) = self.leases.get_mut(&seq) else { return };
        let Some(edge) = lease.edge().cloned() else { return };
        let was_begun = lease.is_processed();
        let record = self.edges.get_mut(&edge);
        let has_gone = record.as_ref().is_some_and(|one| one.gone_at.is_some() && !one.has_ended);
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
        lease.left = match (has_gone, was_begun) {
            (true, true) => Some(Left::Begun),
            (true, false) if busy.contains(&edge) => Some(Left::Queued),
            (true | false, _) => None,
        };
        lease.late = Some(edge);
        self.after_taking(seq);
    }

    /// When something ends by itself, or somebody who is waited for is waited for no longer.
    pub fn next_due(&self, tail: Seq) -> Option<UnixMillis> {
        if !self.is_at_work() {
            return None;
        }
        let busy = self.busy_edges();
        let leases = self.leases.values().filter_map(|lease| self.due_of(lease, &busy));
        let paused = self.leases.values().filter(|one| one.state == LeaseState::Waiting);
        let paused = paused.filter_map(|lease| lease.paused_until);
        let is_giving_up = self.leases.values().any(|one| one.state == LeaseState::GivingUp);
        let give_up = is_giving_up.then(|| self.give_up_at.unwrap_or_default());
        let waits = self.head.until < self.end(tail)
            || self.leases.values().any(|lease| lease.state == LeaseState::Waiting);
        let gone = self.edges.values().filter(|_| waits);
        let gone = gone.filter_map(|record| Some((record.gone_at?, record.has_ended)));
        let away = gone.clone().filter(|(_, has_ended)| !has_ended);
        let away = away.map(|(gone_at, _)| gone_at + self.rules.timeout_ms);
        let forgotten = gone.map(|(gone_at, _)| gone_at + EDGE_REMEMBERED_MS);
        let ahead = away.chain(forgotten).chain(paused).filter(|due| *due > self.seen_at);
        leases.chain(give_up).chain(ahead).min()
    }
}

/// Why an event was taken away that an edge has reported as failed.
pub(crate) const FAILED: &str = "failed";

fn pause_ms(timeout_ms: u64, attempt: u32) -> u64 {
    let index = (attempt.max(1) as usize - 1).min(FAILED_PAUSES.len() - 1);
    timeout_ms * FAILED_PAUSES[index] / 12
}

fn take_away(lease: &mut Lease, reason: &str) {
    if let Some(edge) = lease.edge().cloned() {
        lease.tried.retain(|one| *one != edge);
        lease.tried.push(edge);
    }
    lease.failure = Some(reason.to_owned());
    (lease.late, lease.left) = (None, None);
    lease.state = match lease.attempt < ASSIGNMENT_ATTEMPTS_MAX {
        true => LeaseState::Waiting,
        false => LeaseState::GivingUp,
    };
}
