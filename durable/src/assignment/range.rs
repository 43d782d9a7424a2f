//! Which events are given to single edges. All others are everybody's: a reader reads them from its
//! cursor, as in broadcast mode.

use relay_schemas::Seq;

use super::{AssignedHead, Assignment, Lease};

impl AssignedHead {
    /// No event is a single edge's.
    pub(super) const CLOSED: Self = Self {
        from: Seq::ZERO,
        until: Seq::ZERO,
        last: None,
        closes_at: Some(Seq::ZERO),
        stops: Vec::new(),
    };

    /// Whether an event is given to one edge.
    pub(super) fn is_single(&self, seq: Seq) -> bool {
        seq > self.from && self.closes_at.is_none_or(|end| seq <= end)
    }
}

impl Assignment {
    /// A mode begins, or ends, with the next event.
    pub(super) fn follow_mode(&mut self, tail: Seq) {
        match (self.rules.is_assigned(), self.head.closes_at) {
            (true, None) | (false, Some(_)) => return,
            (true, Some(_)) => {
                (self.head.from, self.head.until, self.head.closes_at) = (tail, tail, None);
            }
            (false, None) => self.head.closes_at = Some(tail),
        }
        self.changes.head = true;
    }

    /// Whether there may be anything to give, or to take away.
    pub fn is_at_work(&self) -> bool {
        self.head.is_single(self.head.until.next()) || !self.leases.is_empty()
    }

    /// Whether an event is given to one edge.
    pub fn is_single(&self, seq: Seq) -> bool {
        self.head.is_single(seq)
    }

    /// Up to where events are to be considered.
    pub fn end(&self, tail: Seq) -> Seq {
        self.head.closes_at.map_or(tail, |end| end.min(tail))
    }

    /// Up to where everybody reads who is before it.
    pub fn from(&self) -> Seq {
        self.head.from
    }

    /// Up to where a reader at a position reads on by itself.
    pub fn common_until(&self, position: Seq, tail: Seq) -> Seq {
        match self.head.is_single(position.next()) {
            true => position,
            false if position < self.head.from => self.head.from.min(tail),
            false => tail,
        }
    }

    /// Where a reader goes on that has come to events of single edges: behind them.
    pub fn passing(&self, position: Seq, tail: Seq) -> Option<Seq> {
        let is_there = self.head.is_single(position.next());
        is_there.then(|| self.head.closes_at.unwrap_or(tail))
    }

    /// What may be sealed: nothing that somebody has yet to be given, or to finish. What nobody is
    /// there to be given may be, and is everybody's then.
    pub fn sealable_until(&self, tail: Seq) -> Seq {
        let open = self.leases.keys().next();
        let finished = open.map_or(tail, |seq| Seq::new(seq.get() - 1));
        match self.head.is_single(self.head.until.next()) && !self.is_unawaited() {
            true => finished.min(self.head.until),
            false => finished,
        }
    }

    /// Whether events are to be given to single edges, and no edge is there or expected.
    pub fn is_unawaited(&self) -> bool {
        let is_awaited = self.edges.values().any(|record| record.filter.is_some());
        self.head.is_single(self.head.until.next()) && !is_awaited
    }

    /// What was sealed without having been considered is everybody's, whoever may come.
    pub fn note_sealed(&mut self, sealed: Seq) {
        if sealed > self.head.until && self.head.is_single(self.head.until.next()) {
            let until = self.end(sealed);
            (self.head.from, self.head.until) = (until, until);
            self.changes.head = true;
        }
    }

    /// Positions have changed: what is no longer in the hot tail is finished, or lost with it.
    pub fn moved(&mut self, to: impl Fn(Seq) -> Option<Seq>, (sealed, tail): (Seq, Seq)) {
        if self.head == AssignedHead::CLOSED {
            return;
        }
        self.changes.clears = true;
        self.changes.head = true;
        let before = |seq: Seq| to(seq.next()).map(|seq| Seq::new(seq.get() - 1));
        // Everybody reads history again from its beginning.
        let from = before(self.head.from).unwrap_or(sealed);
        self.head.from = if self.head.from == Seq::ZERO { Seq::ZERO } else { from };
        self.head.until = before(self.head.until).unwrap_or(tail);
        self.head.closes_at = self.head.closes_at.map(|end| before(end).unwrap_or(tail));
        self.move_stops(&to);
        let leases = std::mem::take(&mut self.leases).into_values();
        let moved = leases.filter_map(|lease| Some(Lease { seq: to(lease.seq)?, ..lease }));
        self.leases = moved.map(|lease| (lease.seq, lease)).collect();
        self.changes.leases = self.leases.keys().copied().collect();
    }

    /// Retention has passed up to here.
    pub fn forget_until(&mut self, trimmed: Seq) {
        let kept = self.leases.split_off(&trimmed.next());
        let gone = std::mem::replace(&mut self.leases, kept);
        self.changes.leases.extend(gone.into_keys());
        self.changes.given_up_until = (self.given_up_count > 0).then_some(trimmed);
        if self.head.until < trimmed && self.head.is_single(self.head.until.next()) {
            self.head.until = self.end(trimmed);
            self.changes.head = true;
        }
    }
}
