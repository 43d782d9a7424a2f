use std::collections::{HashSet, VecDeque};

use relay_schemas::EventId;

/// The newest event ids, a bounded number, so that a second delivery is known.
#[derive(Debug)]
pub(crate) struct RecentIds {
    order: VecDeque<EventId>,
    known: HashSet<EventId>,
    count_max: usize,
}

impl RecentIds {
    /// Knows `stored`, oldest first.
    pub(crate) fn new(stored: Vec<EventId>, count_max: usize) -> Self {
        let mut recent = Self { order: VecDeque::new(), known: HashSet::new(), count_max };
        for id in stored {
            recent.insert(id);
        }
        recent
    }

    /// Whether an id is known.
    pub(crate) fn contains(&self, id: &EventId) -> bool {
        self.known.contains(id)
    }

    /// Forgets an id; `false` when it was not known.
    pub(crate) fn remove(&mut self, id: &EventId) -> bool {
        let was_known = self.known.remove(id);
        if was_known {
            self.order.retain(|known| known != id);
        }
        was_known
    }

    /// Learns an id; `false` when it was known.
    pub(crate) fn insert(&mut self, id: EventId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.count_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let id = |number| EventId::from_bytes([number; 16]);
        let mut recent = RecentIds::new(vec![id(1), id(2)], 2);
        assert!(!recent.insert(id(1)));
        assert!(recent.insert(id(3)));
        assert!(recent.insert(id(1)));
        assert!(!recent.insert(id(3)));
    }
}
