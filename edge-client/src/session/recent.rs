use std::collections::{HashMap, VecDeque};

use relay_schemas::EventId;

use super::ledger::Handled;

/// What is known of an event that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It waits for its handler, or runs.
    Held,
    /// It was handled.
    Handled,
    /// It was given up here, when this many machines had been given it.
    GivenUp {
        /// This one included.
        attempt: u32,
    },
}

/// The newest events, a bounded number, so that a second delivery is known.
#[derive(Debug)]
pub(crate) struct RecentEvents {
    order: VecDeque<EventId>,
    known: HashMap<EventId, Known>,
    count_max: usize,
}

impl RecentEvents {
    /// Knows `stored`, oldest first; what is told of an event last counts.
    pub(crate) fn new(stored: Vec<Handled>, count_max: usize) -> Self {
        let mut recent = Self { order: VecDeque::new(), known: HashMap::new(), count_max };
        for handled in stored {
            recent.learn(handled.id, handled.known());
        }
        recent
    }

    /// What is known of an event.
    pub(crate) fn get(&self, id: &EventId) -> Option<Known> {
        self.known.get(id).copied()
    }

    /// Learns how an event stands now.
    pub(crate) fn learn(&mut self, id: EventId, known: Known) {
        if self.known.insert(id, known).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.count_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let id = |number| EventId::from_bytes([number; 16]);
        let stored = [id(1), id(2)].map(Handled::well);
        let mut recent = RecentEvents::new(stored.to_vec(), 2);
        recent.learn(id(1), Known::GivenUp { attempt: 3 });
        recent.learn(id(3), Known::Held);
        assert_eq!(recent.get(&id(1)), None);
        recent.learn(id(1), Known::Held);
        assert_eq!(recent.get(&id(2)), None);
        assert_eq!(recent.get(&id(3)), Some(Known::Held));
    }

    #[test]
    fn what_was_stored_last_of_an_event_counts() {
        let id = EventId::from_bytes([1; 16]);
        let stored = vec![Handled::given_up(id, 2), Handled::well(id)];
        assert_eq!(RecentEvents::new(stored, 2).get(&id), Some(Known::Handled));
    }
}
