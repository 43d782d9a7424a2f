use std::collections::VecDeque;

use relay_schemas::Cursor;

/// An accepted event's place among all that this process accepted: 0, 1, 2 …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// How far reading has come, and how far handling has come without a hole. Handlers finish in any
/// order; the cursor moves only past events of which every earlier one is finished too.
#[derive(Debug)]
pub(crate) struct Progress {
    handled: Option<Cursor>,
    first: u64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    cursor: Cursor,
    is_finished: bool,
}

impl Progress {
    /// Starts at the stored cursor.
    pub(crate) fn new(stored: Option<Cursor>) -> Self {
        Self { handled: stored, first: 0, entries: VecDeque::new() }
    }

    /// Everything up to here is handled: the position to store.
    pub(crate) fn handled(&self) -> Option<Cursor> {
        self.handled
    }

    /// Everything up to here is received: the position to dial from, while this process lives.
    pub(crate) fn received(&self) -> Option<Cursor> {
        self.entries.back().map_or(self.handled, |entry| Some(entry.cursor))
    }

    /// Events and positions after the handled one.
    pub(crate) fn window(&self) -> usize {
        self.entries.len()
    }

    /// An event was received. One that the relay hands out again may stand behind what was read
    /// since; then it moves nothing back.
    pub(crate) fn accept(&mut self, cursor: Cursor) -> Ticket {
        let cursor = match self.received() {
            Some(received) if received.epoch == cursor.epoch => cursor.max(received),
            Some(_) | None => cursor,
        };
        self.entries.push_back(Entry { cursor, is_finished: false });
        Ticket(self.first + self.entries.len() as u64 - 1)
    }

    /// Nothing needs handling up to `cursor`: a heartbeat past filtered events, a gap, a duplicate.
    pub(crate) fn pass(&mut self, cursor: Cursor) {
        match self.entries.back_mut() {
            None => self.handled = Some(cursor),
            Some(entry) if entry.is_finished => entry.cursor = cursor,
            Some(_) => self.entries.push_back(Entry { cursor, is_finished: true }),
        }
    }

    /// The event was handled. Finishing twice is finishing once.
    pub(crate) fn finish(&mut self, ticket: Ticket) {
        let Some(index) = ticket.0.checked_sub(self.first) else { return };
        if let Some(entry) = usize::try_from(index).ok().and_then(|at| self.entries.get_mut(at)) {
            entry.is_finished = true;
        }
        while let Some(entry) = self.entries.front().filter(|entry| entry.is_finished) {
            self.handled = Some(entry.cursor);
            self.first += 1;
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relay_schemas::{Epoch, Seq, UnixMillis};

    use super::*;

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: Epoch::new(UnixMillis::new(1), 1), seq: Seq::new(seq) }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Accept,
        Pass,
        Finish(prop::sample::Index),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Accept),
            1 => Just(Step::Pass),
            4 => any::<prop::sample::Index>().prop_map(Step::Finish),
        ]
    }

    proptest! {
        /// The model keeps every position for ever and recounts from the start.
        #[test]
        fn the_cursor_is_the_end_of_the_finished_prefix(steps in prop::collection::vec(any_step(), 0..200)) {
            let mut progress = Progress::new(None);
            let mut model: Vec<(Option<Ticket>, bool)> = Vec::new();
            for step in steps {
                let next = cursor(model.len() as u64 + 1);
                match step {
                    Step::Accept => model.push((Some(progress.accept(next)), false)),
                    Step::Pass => {
                        progress.pass(next);
                        model.push((None, true));
                    }
                    Step::Finish(index) if !model.is_empty() => {
                        let entry = index.get_mut(&mut model);
                        if let Some(ticket) = entry.0 {
                            progress.finish(ticket);
                            entry.1 = true;
                        }
                    }
                    Step::Finish(_) => {}
                }
                let finished = model.iter().take_while(|entry| entry.1).count() as u64;
                prop_assert_eq!(progress.handled(), (finished > 0).then(|| cursor(finished)));
                let received = model.len() as u64;
                prop_assert_eq!(progress.received(), (received > 0).then(|| cursor(received)));
            }
        }
    }

    #[test]
    fn an_event_that_comes_again_moves_nothing_back() {
        let mut progress = Progress::new(Some(cursor(9)));
        let again = progress.accept(cursor(4));
        let next = progress.accept(cursor(10));
        let older = progress.accept(cursor(5));
        assert_eq!(progress.received(), Some(cursor(10)));
        progress.finish(again);
        assert_eq!(progress.handled(), Some(cursor(9)));
        progress.finish(next);
        progress.finish(older);
        assert_eq!((progress.handled(), progress.window()), (Some(cursor(10)), 0));
    }

    #[test]
    fn a_heartbeat_waits_for_what_runs() {
        let mut progress = Progress::new(Some(cursor(1)));
        let ticket = progress.accept(cursor(2));
        progress.pass(cursor(9));
        assert_eq!(progress.handled(), Some(cursor(1)));
        progress.finish(ticket);
        assert_eq!((progress.handled(), progress.window()), (Some(cursor(9)), 0));
    }
}
