use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, hash_map},
    iter,
};

use relay_schemas::UnixMillis;

use super::{lane_key::LaneKey, progress::Ticket};

/// Work that waits for handlers. Jobs of one lane run one after another in the order in which they
/// came; of different lanes, up to `concurrency` run at the same time, oldest first.
#[derive(Debug)]
pub(crate) struct Lanes<J> {
    concurrency: usize,
    jobs: usize,
    lanes: HashMap<LaneKey, Lane<J>>,
    ready: BTreeMap<Ticket, LaneKey>,
    running: BTreeMap<Ticket, LaneKey>,
    resting: BTreeSet<(UnixMillis, Ticket, LaneKey)>,
}

#[derive(Debug)]
struct Lane<J> {
    head: (Ticket, J),
    rest: VecDeque<(Ticket, J)>,
}

impl<J> Lanes<J> {
    /// No work.
    pub(crate) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            jobs: 0,
            lanes: HashMap::new(),
            ready: BTreeMap::new(),
            running: BTreeMap::new(),
            resting: BTreeSet::new(),
        }
    }

    /// Jobs that wait, rest or run.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Jobs that run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Adds a job behind those of its lane.
    pub(crate) fn push(&mut self, key: LaneKey, ticket: Ticket, job: J) {
        self.jobs += 1;
        match self.lanes.entry(key) {
            hash_map::Entry::Occupied(mut lane) => lane.get_mut().rest.push_back((ticket, job)),
            hash_map::Entry::Vacant(lane) => {
                lane.insert(Lane { head: (ticket, job), rest: VecDeque::new() });
                self.ready.insert(ticket, key);
            }
        }
    }

    /// The next job that may run. It counts as running from now on.
    pub(crate) fn start_next(&mut self) -> Option<(Ticket, &mut J)> {
        if self.running.len() >= self.concurrency {
            return None;
        }
        let (ticket, key) = self.ready.pop_first()?;
        self.running.insert(ticket, key);
        let lane = self.lanes.get_mut(&key).expect("a ready job has a lane");
        Some((ticket, &mut lane.head.1))
    }

    /// The running job; `None` when it does not run.
    pub(crate) fn job(&mut self, ticket: Ticket) -> Option<&mut J> {
        let key = self.running.get(&ticket)?;
        self.lanes.get_mut(key).map(|lane| &mut lane.head.1)
    }

    /// Takes a running job out; the next of its lane may run.
    pub(crate) fn finish(&mut self, ticket: Ticket) -> Option<J> {
        let key = self.running.remove(&ticket)?;
        self.jobs -= 1;
        let lane = self.lanes.get_mut(&key).expect("a running job has a lane");
        let Some(next) = lane.rest.pop_front() else {
            return self.lanes.remove(&key).map(|lane| lane.head.1);
        };
        self.ready.insert(next.0, key);
        Some(std::mem::replace(&mut lane.head, next).1)
    }

    /// The ticket of the first job that is wanted, whether it runs or not.
    pub(crate) fn find(&self, is_wanted: impl Fn(&J) -> bool) -> Option<Ticket> {
        let jobs = self.lanes.values().flat_map(|lane| iter::once(&lane.head).chain(&lane.rest));
        jobs.filter(|(_, job)| is_wanted(job)).map(|(ticket, _)| *ticket).min()
    }

    /// The first job that is found to be wanted, whether it runs or not.
    pub(crate) fn find_mut(&mut self, is_wanted: impl Fn(&J) -> bool) -> Option<&mut J> {
        let lanes = self.lanes.values_mut();
        let jobs = lanes.flat_map(|lane| iter::once(&mut lane.head).chain(&mut lane.rest));
        jobs.map(|(_, job)| job).find(|job| is_wanted(job))
    }

    /// Running jobs that are wanted, oldest first.
    pub(crate) fn running_where(&self, is_wanted: impl Fn(Ticket, &J) -> bool) -> Vec<Ticket> {
        let is_wanted = |(ticket, key): &(&Ticket, &LaneKey)| {
            self.lanes.get(*key).is_some_and(|lane| is_wanted(**ticket, &lane.head.1))
        };
        self.running.iter().filter(is_wanted).map(|(ticket, _)| *ticket).collect()
    }

    /// Takes out jobs that are wanted and don't run, oldest first.
    pub(crate) fn take_waiting(
        &mut self,
        is_wanted: impl Fn(Ticket, &J) -> bool,
    ) -> Vec<(Ticket, J)> {
        let mut keys: Vec<LaneKey> = self.lanes.keys().copied().collect();
        keys.sort_unstable();
        let mut taken = Vec::new();
        for key in keys {
            self.take_waiting_of(key, &is_wanted, &mut taken);
        }
        self.jobs -= taken.len();
        taken.sort_by_key(|(ticket, _)| *ticket);
        taken
    }

    fn take_waiting_of(
        &mut self,
        key: LaneKey,
        is_wanted: &impl Fn(Ticket, &J) -> bool,
        taken: &mut Vec<(Ticket, J)>,
    ) {
        let Some(Lane { head, rest }) = self.lanes.remove(&key) else { return };
        let takes = |(ticket, job): &(Ticket, J)| is_wanted(*ticket, job);
        let (gone, mut rest): (VecDeque<_>, VecDeque<_>) = rest.into_iter().partition(takes);
        taken.extend(gone);
        if self.running.contains_key(&head.0) || !takes(&head) {
            self.lanes.insert(key, Lane { head, rest });
            return;
        }
        self.ready.remove(&head.0);
        self.resting.retain(|(_, ticket, _)| *ticket != head.0);
        taken.push(head);
        if let Some(head) = rest.pop_front() {
            self.ready.insert(head.0, key);
            self.lanes.insert(key, Lane { head, rest });
        }
    }

    /// A running job is to run again, not before `at`. Its lane waits for it, others go on.
    pub(crate) fn rest_until(&mut self, ticket: Ticket, at: UnixMillis) {
        if let Some(key) = self.running.remove(&ticket) {
            self.resting.insert((at, ticket, key));
        }
    }

    /// Jobs whose rest is over may run.
    pub(crate) fn wake(&mut self, now: UnixMillis) {
        while let Some((at, ticket, key)) = self.resting.first().copied()
            && at <= now
        {
            self.resting.pop_first();
            self.ready.insert(ticket, key);
        }
    }

    /// When the next rest is over.
    pub(crate) fn next_wake(&self) -> Option<UnixMillis> {
        self.resting.first().map(|(at, ..)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Start,
        Finish(prop::sample::Index),
        Fail(prop::sample::Index),
        Wake,
        Take(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..4).prop_map(Step::Push),
            4 => Just(Step::Start),
            3 => any::<prop::sample::Index>().prop_map(Step::Finish),
            1 => any::<prop::sample::Index>().prop_map(Step::Fail),
            2 => Just(Step::Wake),
            1 => (0u64..4).prop_map(Step::Take),
        ]
    }

    /// Starts what may start; asserts that no two of one lane run together.
    fn start(lanes: &mut Lanes<u64>, running: &mut Vec<(Ticket, u64)>) {
        while let Some((ticket, lane)) = lanes.start_next() {
            let lane = *lane;
            assert!(running.iter().all(|(_, other)| *other != lane), "lane {lane} runs twice");
            running.push((ticket, lane));
        }
    }

    proptest! {
        #[test]
        fn each_lane_finishes_in_order_and_nothing_is_lost(
            concurrency in 1usize..4,
            steps in prop::collection::vec(any_step(), 0..200),
        ) {
            let mut lanes = Lanes::new(concurrency);
            let (mut pushed, mut passed, mut running, mut finished) =
                (0, 0, Vec::new(), Vec::new());
            let mut now = UnixMillis::new(0);
            for step in steps {
                match step {
                    Step::Push(lane) => {
                        lanes.push(LaneKey(lane), Ticket(pushed), lane);
                        pushed += 1;
                    }
                    Step::Start => start(&mut lanes, &mut running),
                    Step::Finish(index) if !running.is_empty() => {
                        let (ticket, lane) = running.remove(index.index(running.len()));
                        prop_assert_eq!(lanes.finish(ticket), Some(lane));
                        finished.push((lane, ticket));
                    }
                    Step::Fail(index) if !running.is_empty() => {
                        let (ticket, _) = running.remove(index.index(running.len()));
                        lanes.rest_until(ticket, now + 10);
                    }
                    Step::Wake => {
                        now = now + 5;
                        lanes.wake(now);
                    }
                    Step::Take(wanted) => {
                        let taken = lanes.take_waiting(|_, lane| *lane == wanted);
                        prop_assert!(taken.is_sorted());
                        let is_running = |ticket: &Ticket| {
                            running.iter().any(|(running, _)| running == ticket)
                        };
                        let takes_none_that_runs = !taken.iter().any(|(ticket, _)| is_running(ticket));
                        prop_assert!(takes_none_that_runs);
                        let found = lanes.running_where(|_, lane| *lane == wanted).len();
                        let expected = running.iter().filter(|(_, lane)| *lane == wanted).count();
                        prop_assert_eq!(found, expected);
                        passed += taken.len() as u64;
                    }
                    Step::Finish(_) | Step::Fail(_) => {}
                }
                prop_assert!(running.len() <= concurrency);
                prop_assert_eq!(lanes.running(), running.len());
            }
            while lanes.jobs() > 0 {
                now = now + 10;
                lanes.wake(now);
                start(&mut lanes, &mut running);
                for (ticket, lane) in running.drain(..) {
                    lanes.finish(ticket);
                    finished.push((lane, ticket));
                }
            }
            prop_assert_eq!(finished.len() as u64 + passed, pushed);
            for lane in 0..4 {
                let order: Vec<_> = finished.iter().filter(|(of, _)| *of == lane).collect();
                prop_assert!(order.is_sorted());
            }
        }
    }
}
