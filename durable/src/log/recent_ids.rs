use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use relay_schemas::{EventId, Seq, UnixMillis, limits::DEDUPLICATION_IDS_MAX};

/// The ids of the last hours, to recognise duplicates by.
#[derive(Debug, Default)]
pub(super) struct RecentIds {
    positions: BTreeMap<EventId, Seq>,
    by_age: VecDeque<(UnixMillis, EventId)>,
}

impl RecentIds {
    pub(super) fn position_of(&self, id: EventId) -> Option<Seq> {
        self.positions.get(&id).copied()
    }

    /// Adds the ids of a run older than all others; `false` when there is no more room.
    pub(super) fn add_older(
        &mut self,
        first: Seq,
        ids: &[EventId],
        appended_at: UnixMillis,
    ) -> bool {
        for (place, id) in ids.iter().enumerate().rev() {
            if self.by_age.len() >= DEDUPLICATION_IDS_MAX {
                return false;
            }
            // An id forgotten and then appended again stands in two runs: the newer place counts.
            if let Entry::Vacant(entry) = self.positions.entry(*id) {
                entry.insert(Seq::new(first.get() + place as u64));
                self.by_age.push_front((appended_at, *id));
            }
        }
        true
    }

    /// Adds an id; `false` when it is known.
    pub(super) fn add_newer(&mut self, id: EventId, seq: Seq, now: UnixMillis) -> bool {
        if self.positions.contains_key(&id) {
            return false;
        }
        self.positions.insert(id, seq);
        self.by_age.push_back((now, id));
        if self.by_age.len() > DEDUPLICATION_IDS_MAX {
            self.forget_oldest();
        }
        true
    }

    /// Forgets one id, which is about to get another place.
    pub(super) fn forget(&mut self, id: EventId) {
        if self.positions.remove(&id).is_some() {
            self.by_age.retain(|(_, known)| *known != id);
        }
    }

    pub(super) fn forget_before(&mut self, at: UnixMillis) {
        while self.by_age.front().is_some_and(|(appended_at, _)| *appended_at < at) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.by_age.pop_front() {
            self.positions.remove(&id);
        }
    }
}
