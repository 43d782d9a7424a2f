//! Events on their way to the dead letters, and those that lie there. Of these only the position is
//! kept, in storage: a handler that always fails can make very many.

use relay_schemas::{Counter, EventId, Seq, UnixMillis, limits::GIVE_UP_RETRY_MS};

use super::{Assignment, Lease, LeaseState, LeaseSubject};
use crate::storage::LogStorage;

/// Each is in memory with its body.
const GIVEN_UP_AT_ONCE_MAX: usize = 4;

impl Assignment {
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

    /// An event lies in the dead letters; two rows.
    pub fn gave_up(&mut self, seq: Seq) {
        let is_leaving = |lease: &&Lease| lease.state == LeaseState::GivingUp;
        let Some(lease) = self.leases.get(&seq).filter(is_leaving) else { return };
        let id = lease.subject.id;
        self.lay_down(id, seq);
        self.counts.add(Counter::Assignments("given_up"), 1);
        // The next ones, if there are more than go at once.
        self.give_up_at = None;
    }

    /// An event whose record can't be read makes no letter. It stays in the log, and holds up
    /// nothing.
    pub fn pass_over(&mut self, seq: Seq) {
        self.leases.remove(&seq);
        self.changes.leases.insert(seq);
        self.counts.add(Counter::Assignments("unreadable"), 1);
        self.give_up_at = None;
    }

    fn lay_down(&mut self, id: EventId, seq: Seq) {
        self.leases.remove(&seq);
        self.changes.leases.insert(seq);
        self.changes.given_up.insert(id, Some(seq));
        self.given_up_count += 1;
    }

    /// How many events lie in the dead letters.
    pub fn given_up_count(&self) -> u64 {
        self.given_up_count
    }

    /// An event was put back: it begins anew, when its record is still at hand and says what it is.
    pub fn reopen(&mut self, id: EventId, seq: Seq, subject: Option<LeaseSubject>) {
        self.changes.given_up.insert(id, None);
        self.given_up_count = self.given_up_count.saturating_sub(1);
        if let (Some(subject), false) = (subject, self.leases.contains_key(&seq)) {
            self.changes.leases.insert(seq);
            self.leases.insert(seq, Lease::waiting(seq, subject));
        }
    }

    /// A failure between two writes can leave an event both in a lease and given up: the lease says
    /// how it goes on.
    pub(super) fn forget_left_over<S: LogStorage>(&mut self, storage: &S) -> Result<(), S::Error> {
        if self.given_up_count == 0 {
            return Ok(());
        }
        for id in self.leases.values().map(|lease| lease.subject.id) {
            if storage.given_up(id)?.is_some() {
                self.changes.given_up.insert(id, None);
                self.given_up_count = self.given_up_count.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Those of which an earlier version has kept the leases.
    pub(super) fn take_earlier_letters(&mut self) {
        let lies = |lease: &&Lease| lease.state == LeaseState::GivenUp;
        let lying = self.leases.values().filter(lies);
        let lying: Vec<(EventId, Seq)> = lying.map(|one| (one.subject.id, one.seq)).collect();
        lying.into_iter().for_each(|(id, seq)| self.lay_down(id, seq));
    }
}
