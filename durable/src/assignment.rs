//! Who works on what: in the assigned modes each event is given to one edge under a lease.
//!
//! In scope: leases and their ends, holders of sessions and issues, what is known of each edge.
//! Out of scope: connections, credit and sending, which the stream sees to; storage, which takes
//! what [`Assignment::store`] has to tell. Nothing here is only in memory: what changes is stored
//! before a command of the same call leaves.

mod choice;
mod ending;
mod given_up;
mod holding;
mod lease;
mod letter;
mod presence;
mod range;
mod stops;

use std::collections::{BTreeMap, BTreeSet};

use relay_schemas::{
    Counter, EdgeId, EventId, MetricsDelta, MultiEdgeMode, Seq, UnixMillis,
    limits::{ASSIGNED_PER_EDGE_MAX, ASSIGNMENT_OPEN_MAX, ASSIGNMENT_WINDOW, EDGE_TIMEOUTS_MAX},
};

pub use self::{
    choice::{Candidate, Choice, choose, score},
    ending::Standing,
    lease::{
        AssignedHead, EdgeRecord, Holder, Lease, LeaseState, LeaseSubject, Left, Stop, session_key,
    },
    presence::Present,
};
pub(crate) use self::{ending::FAILED, letter::letter_of};
use crate::storage::LogStorage;

/// What an operator sets for assigning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssignmentRules {
    /// How events are spread.
    pub mode: MultiEdgeMode,
    /// How long an edge may be silent over an event, or away.
    pub timeout_ms: u64,
    /// Whether a failed event is given to another edge.
    pub retry_failed: bool,
}

impl AssignmentRules {
    /// Whether each event goes to one edge.
    pub fn is_assigned(self) -> bool {
        self.mode != MultiEdgeMode::Broadcast
    }
}

/// How much an edge has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Leases.
    pub open: usize,
    /// Those that it has not reported on.
    pub unreported: usize,
}

impl Load {
    /// Whether it may be given more, for a reader that works on so many at once. One that has not
    /// said has a window of those that it has yet to begin.
    pub fn has_room(self, capacity: Option<u32>) -> bool {
        let is_within = match capacity {
            Some(capacity) => self.open < capacity as usize,
            None => self.unreported < ASSIGNMENT_WINDOW,
        };
        is_within && self.open < ASSIGNED_PER_EDGE_MAX
    }
}

/// The state of a stream's assigning.
#[derive(Clone, Debug)]
pub struct Assignment {
    rules: AssignmentRules,
    head: AssignedHead,
    leases: BTreeMap<Seq, Lease>,
    holders: BTreeMap<String, Holder>,
    edges: BTreeMap<EdgeId, EdgeRecord>,
    changes: Changes,
    /// How many of the stream's events lie in the dead letters.
    given_up_count: u64,
    /// When those that are to be given up are told to the shell again.
    give_up_at: Option<UnixMillis>,
    /// Until when absences have been looked at.
    seen_at: UnixMillis,
    /// Whether edges were forgotten since it was last looked whom events wait for.
    has_forgotten: bool,
    /// What was counted and not yet told.
    pub(crate) counts: MetricsDelta,
}

/// What storage has yet to be told.
#[derive(Clone, Debug, Default)]
struct Changes {
    clears: bool,
    head: bool,
    leases: BTreeSet<Seq>,
    /// Where events in the dead letters stand, or that they are there no more.
    given_up: BTreeMap<EventId, Option<Seq>>,
    given_up_until: Option<Seq>,
    holders: BTreeSet<String>,
    edges: BTreeSet<EdgeId>,
}

impl Assignment {
    /// Loads what is stored. An event keeps the rule under which it was appended: what is older
    /// than the mode is read by everybody, and what single edges were to have they get, whatever
    /// the mode is now. Everything up to `sealed` is finished, or was considered by nobody.
    pub fn load<S: LogStorage>(
        storage: &S,
        rules: AssignmentRules,
        (sealed, tail): (Seq, Seq),
        now: UnixMillis,
    ) -> Result<Self, S::Error> {
        let stored = storage.load_assigned()?;
        let (leases, given_up_count) = match &stored {
            Some(_) => (storage.load_leases()?, storage.count_given_up()?),
            None => (Vec::new(), 0),
        };
        let holders = storage.load_holders()?.into_iter();
        let edges = storage.load_edges()?.into_iter();
        let mut assignment = Self {
            rules,
            head: stored.unwrap_or(AssignedHead::CLOSED),
            leases: leases.into_iter().map(|lease| (lease.seq, lease)).collect(),
            holders: holders.map(|holder| (holder.key.clone(), holder)).collect(),
            edges: edges.map(|record| (record.edge.clone(), record)).collect(),
            changes: Changes::default(),
            given_up_count,
            give_up_at: None,
            seen_at: now,
            has_forgotten: true,
            counts: MetricsDelta::default(),
        };
        // A lease may have landed without the head behind it.
        let last = assignment.leases.keys().next_back().copied().unwrap_or_default();
        assignment.head.until = assignment.head.until.max(last);
        assignment.note_sealed(sealed);
        assignment.follow_mode(tail);
        assignment.take_earlier_stops();
        assignment.take_earlier_letters();
        assignment.forget_left_over(storage)?;
        Ok(assignment)
    }

    /// Writes what has changed: one row for each lease, holder and edge, one for the head. Leases
    /// come in their order and the head behind them: whatever fails in between, no event is passed
    /// over.
    pub fn store<S: LogStorage>(&mut self, storage: &mut S) -> Result<(), S::Error> {
        let changes = std::mem::take(&mut self.changes);
        if changes.clears {
            storage.clear_assigned()?;
        }
        for (id, seq) in &changes.given_up {
            if let Some(seq) = seq {
                storage.save_given_up(*id, *seq)?;
            }
        }
        for seq in changes.leases {
            match self.leases.get(&seq) {
                Some(lease) => storage.save_lease(lease)?,
                None => storage.delete_lease(seq)?,
            }
        }
        for id in changes.given_up.iter().filter(|(_, seq)| seq.is_none()).map(|(id, _)| id) {
            storage.delete_given_up(*id)?;
        }
        if let Some(until) = changes.given_up_until {
            storage.delete_given_up_until(until)?;
            self.given_up_count = storage.count_given_up()?;
        }
        if changes.head {
            storage.save_assigned(&self.head)?;
        }
        for key in changes.holders {
            match self.holders.get(&key) {
                Some(holder) => storage.save_holder(holder)?,
                None => storage.delete_holder(&key)?,
            }
        }
        for edge in changes.edges {
            match self.edges.get(&edge) {
                Some(record) => storage.save_edge(record)?,
                None => storage.delete_edge(&edge)?,
            }
        }
        Ok(())
    }

    /// What an operator has set.
    pub fn rules(&self) -> AssignmentRules {
        self.rules
    }

    /// Every event up to here has a lease, or is finished.
    pub fn until(&self) -> Seq {
        self.head.until
    }

    /// The leases.
    pub fn leases(&self) -> &BTreeMap<Seq, Lease> {
        &self.leases
    }

    /// What is known of edges.
    pub fn edges(&self) -> &BTreeMap<EdgeId, EdgeRecord> {
        &self.edges
    }

    /// The holders.
    pub fn holders(&self) -> &BTreeMap<String, Holder> {
        &self.holders
    }

    /// How many more events may be considered until others are finished.
    pub fn room(&self) -> usize {
        ASSIGNMENT_OPEN_MAX.saturating_sub(self.leases.len())
    }

    /// How much each edge has.
    pub fn loads(&self) -> BTreeMap<EdgeId, Load> {
        let mut loads: BTreeMap<EdgeId, Load> = BTreeMap::new();
        for lease in self.leases.values() {
            if let Some(edge) = lease.edge() {
                let load = loads.entry(edge.clone()).or_default();
                load.open += 1;
                load.unreported += usize::from(lease.is_unreported());
            }
        }
        loads
    }

    /// The positions that an edge has.
    pub fn leased_to(&self, edge: &EdgeId) -> BTreeSet<Seq> {
        let theirs = self.leases.values().filter(|lease| lease.edge() == Some(edge));
        theirs.map(|lease| lease.seq).collect()
    }

    /// The positions that nobody has, oldest first.
    pub fn waiting(&self) -> Vec<Seq> {
        let waiting = self.leases.values().filter(|lease| lease.state == LeaseState::Waiting);
        waiting.map(|lease| lease.seq).collect()
    }

    /// Those of them that may be given to somebody now: first what edges went away from, so that
    /// nothing takes the room of what is under way.
    pub fn givable(&self, now: UnixMillis) -> Vec<Seq> {
        let givable = self.leases.values().filter(|lease| lease.may_be_given(now));
        let mut givable: Vec<&Lease> = givable.collect();
        givable.sort_by_key(|lease| (lease.left.is_none(), lease.left, lease.seq));
        givable.into_iter().map(|lease| lease.seq).collect()
    }

    /// Who has been given something last.
    pub fn last_given(&self) -> Option<&EdgeId> {
        self.head.last.as_ref()
    }

    /// Whether an edge has answered lately.
    pub fn is_healthy(&self, edge: &EdgeId) -> bool {
        self.edges.get(edge).is_none_or(|record| record.timeouts_in_a_row < EDGE_TIMEOUTS_MAX)
    }

    /// An event that is considered for the first time and has to wait.
    pub fn wait(&mut self, seq: Seq, subject: LeaseSubject) {
        self.pass(seq);
        self.leases.insert(seq, Lease::waiting(seq, subject));
        self.changes.leases.insert(seq);
    }

    /// An event that nobody wants.
    pub fn pass(&mut self, seq: Seq) {
        assert_eq!(seq, self.head.until.next(), "events are considered in order");
        self.head.until = seq;
        self.changes.head = true;
    }

    /// Gives a waiting event to an edge, and answers which attempt that is. An edge that was away
    /// from its work goes on with it: that is no attempt more.
    pub fn give(&mut self, seq: Seq, edge: &EdgeId, now: UnixMillis) -> u32 {
        let lease = self.leases.get_mut(&seq).expect("a lease that waits");
        assert_eq!(lease.state, LeaseState::Waiting, "one edge has an event at a time");
        let left = lease.left_by().filter(|(by, _)| *by == edge).map(|(_, left)| left);
        lease.attempt += u32::from(left.is_none());
        (lease.late, lease.left) = (None, None);
        lease.paused_until = None;
        let processing_at = (left == Some(Left::Begun)).then_some(now);
        lease.state = LeaseState::Held { edge: edge.clone(), sent_at: now, processing_at };
        let (attempt, subject) = (lease.attempt, lease.subject.clone());
        self.counts.add(Counter::Assignments("given"), 1);
        self.changes.leases.insert(seq);
        if self.head.last.as_ref() != Some(edge) {
            self.head.last = Some(edge.clone());
            self.changes.head = true;
        }
        if !subject.is_stop {
            self.hold(&subject, edge, now);
        }
        attempt
    }
}
