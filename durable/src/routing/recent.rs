use std::collections::{BTreeMap, VecDeque};

use relay_schemas::{EventId, UnixMillis, limits::DECISIONS_REMEMBERED_MAX};

/// In which row the newest decision about each event of the last hours is.
#[derive(Debug, Default)]
pub(super) struct RecentDecisions {
    rows: BTreeMap<EventId, (u64, UnixMillis)>,
    by_age: VecDeque<(UnixMillis, EventId)>,
}

impl RecentDecisions {
    pub(super) fn row_of(&self, id: EventId) -> Option<u64> {
        self.rows.get(&id).map(|(row, _)| *row)
    }

    /// Adds the ids of a row older than all others; `false` when there is no more room.
    pub(super) fn add_older(&mut self, row: u64, ids: &[EventId], at: UnixMillis) -> bool {
        for id in ids.iter().rev() {
            if self.by_age.len() >= DECISIONS_REMEMBERED_MAX {
                return false;
            }
            self.rows.entry(*id).or_insert((row, at));
            self.by_age.push_front((at, *id));
        }
        true
    }

    pub(super) fn add_newer(&mut self, row: u64, id: EventId, at: UnixMillis) {
        self.rows.insert(id, (row, at));
        self.by_age.push_back((at, id));
        if self.by_age.len() > DECISIONS_REMEMBERED_MAX {
            self.forget_oldest();
        }
    }

    pub(super) fn forget_before(&mut self, at: UnixMillis) {
        while self.by_age.front().is_some_and(|(decided_at, _)| *decided_at < at) {
            self.forget_oldest();
        }
    }

    /// An event that was decided again is mentioned twice: only its later mention takes it away.
    fn forget_oldest(&mut self) {
        let Some((at, id)) = self.by_age.pop_front() else { return };
        if self.rows.get(&id).is_some_and(|(_, latest)| *latest <= at) {
            self.rows.remove(&id);
        }
    }
}
