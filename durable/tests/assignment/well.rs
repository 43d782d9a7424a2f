//! Goal: an event of a machine that is well never becomes a dead letter, nor does it start twice,
//! however long its machine is busy.
//!
//! Method: seeded schedules of machines that begin what they are given, in order and as many as
//! they can at once, and finish it after a while that can be many times `EDGE_TIMEOUT_MS`. Some say
//! how many they can, as little as they like to; connections break and come back, and the object is
//! reset. Where no other machine could take its work over, one sleeps for longer than it is waited
//! for, and says nothing anew when it is back.

use std::collections::{BTreeMap, VecDeque};

use relay_durable::{Command, StreamSettings};
use relay_schemas::{
    Connect, MultiEdgeMode,
    ReportStatus::{Completed, Processing},
    UnixMillis,
};

use crate::{
    TIMEOUT_MS,
    dice::Dice,
    given, of_edge, settings,
    support::{Relay, event_about},
};

const SEEDS: u64 = 40;
const STEPS: usize = 300;

/// As `edgerelay` is: what it is given waits for a free place.
struct Machine {
    name: String,
    capacity: Option<u32>,
    places: usize,
    connection: u64,
    waiting: VecDeque<u64>,
    running: BTreeMap<u64, UnixMillis>,
    started: u64,
}

struct Shop {
    relay: Relay,
    dice: Dice,
    machines: Vec<Machine>,
    connections: u64,
    appended: u64,
    /// How many steps anything has waited behind a run for longer than silence may last.
    waited_long: usize,
    /// How often what a machine had was taken away while it slept.
    overslept: usize,
}

impl Shop {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let modes = [MultiEdgeMode::RoundRobin, MultiEdgeMode::Sticky];
        let settings =
            StreamSettings { seal_bytes: 2_000, ..settings(modes[dice.roll(2) as usize]) };
        let machines = (0..1 + dice.roll(3)).map(|number| {
            let places = 1 + dice.roll(3) as usize;
            let capacity = [None, Some(places as u32), Some(2 + places as u32)];
            Machine {
                name: format!("edge_{number}"),
                capacity: capacity[dice.roll(3) as usize],
                places,
                connection: 0,
                waiting: VecDeque::new(),
                running: BTreeMap::new(),
                started: 0,
            }
        });
        let machines = machines.collect();
        let relay = Relay::with_settings(settings);
        Self { relay, dice, machines, connections: 0, appended: 0, waited_long: 0, overslept: 0 }
    }

    fn connect(&mut self, index: usize) {
        self.connections += 1;
        let machine = &mut self.machines[index];
        machine.connection = self.connections;
        let reader = Connect { capacity: machine.capacity, ..of_edge(&machine.name) };
        let commands = self.relay.connect(self.connections, &reader);
        self.take(&commands);
    }

    fn take(&mut self, commands: &[Command]) {
        for one in given(commands) {
            let theirs = self.machines.iter_mut().find(|one_| one_.connection == one.connection);
            let machine = theirs.expect("only the open connection is sent anything");
            assert_eq!(one.attempt, 1, "{} was taken away from a machine that is well", one.number);
            let is_known = machine.running.contains_key(&one.number);
            if !is_known && !machine.waiting.contains(&one.number) {
                machine.waiting.push_back(one.number);
            }
            if let Some(capacity) = machine.capacity {
                let has = machine.waiting.len() + machine.running.len();
                assert!(has <= capacity as usize, "{} has {has}", machine.name);
            }
        }
        assert_eq!(self.relay.given_up, []);
    }

    fn append(&mut self) {
        let numbers = self.appended + 1..=self.appended + 1 + self.dice.roll(5);
        self.appended = *numbers.end();
        let event = |number: u64| {
            let (session, issue) = (format!("s-{}", number % 6), format!("i-{}", number % 9));
            event_about(number, "AgentSessionEvent.prompted", &session, &issue)
        };
        let (_, commands) = self.relay.try_append(&numbers.map(event).collect::<Vec<_>>()).unwrap();
        self.take(&commands);
    }

    /// A machine ends what is due, and begins what it has places for.
    fn work(&mut self, index: usize) {
        let now = self.relay.now;
        let due = |(_, until): &(&u64, &UnixMillis)| **until <= now;
        let ended = self.machines[index].running.iter().find(due).map(|(number, _)| *number);
        if let Some(number) = ended {
            let machine = &mut self.machines[index];
            machine.running.remove(&number);
            let name = machine.name.clone();
            let commands = self.relay.report(&name, number, Completed);
            self.take(&commands);
        }
        let machine = &mut self.machines[index];
        if machine.running.len() < machine.places
            && let Some(number) = machine.waiting.pop_front()
        {
            let duration_ms = [1, TIMEOUT_MS / 2, 7 * TIMEOUT_MS][self.dice.roll(3) as usize];
            machine.running.insert(number, now + duration_ms);
            machine.started += 1;
            let name = machine.name.clone();
            let commands = self.relay.report(&name, number, Processing);
            self.take(&commands);
        }
    }

    fn step(&mut self) {
        self.relay.now = self.relay.now + [0, 1_000, TIMEOUT_MS / 4][self.dice.roll(3) as usize];
        match self.dice.roll(12) {
            0 | 1 => self.append(),
            2 => self.relay.reload(),
            3 => {
                let index = self.dice.roll(self.machines.len() as u64) as usize;
                let commands = self.relay.closed(self.machines[index].connection, false);
                self.take(&commands);
                self.connect(index);
            }
            4 => drop(self.relay.seal()),
            5 if self.machines.len() == 1 => self.sleep(),
            _ => {}
        }
        // Nobody who is well needs longer than a step for what it can do at once.
        for index in 0..self.machines.len() {
            (0..5).for_each(|_| self.work(index));
            let machine = &self.machines[index];
            self.waited_long += usize::from(!machine.waiting.is_empty());
        }
        let commands = self.relay.alarm();
        self.take(&commands);
    }

    fn sleep(&mut self) {
        let commands = self.relay.closed(self.machines[0].connection, false);
        self.take(&commands);
        for _ in 0..3 {
            self.relay.now = self.relay.now + TIMEOUT_MS;
            let commands = self.relay.alarm();
            self.take(&commands);
        }
        self.overslept += usize::from(!self.relay.stream.assignment().waiting().is_empty());
        self.relay.reload();
        self.connect(0);
    }

    fn run(&mut self) {
        (0..self.machines.len()).for_each(|index| self.connect(index));
        (0..STEPS).for_each(|_| self.step());
        for _ in 0..20_000 {
            self.relay.now = self.relay.now + TIMEOUT_MS / 4;
            (0..self.machines.len()).for_each(|index| self.work(index));
            let commands = self.relay.alarm();
            self.take(&commands);
            if self.relay.stream.assignment().leases().is_empty() {
                break;
            }
        }
        assert_eq!(self.relay.stream.assignment().until().get(), self.appended);
        let started: u64 = self.machines.iter().map(|machine| machine.started).sum();
        assert_eq!(started, self.appended, "each event starts once");
    }
}

#[test]
fn an_event_of_a_well_machine_never_becomes_a_dead_letter() {
    let (mut waited_long, mut overslept) = (0, 0);
    for seed in 0..SEEDS {
        let shop = std::panic::catch_unwind(|| {
            let mut shop = Shop::new(seed);
            shop.run();
            (shop.waited_long, shop.overslept)
        });
        let (waits, sleeps) = shop.unwrap_or_else(|_| panic!("seed {seed} fails"));
        waited_long += waits;
        overslept += sleeps;
    }
    assert!(waited_long > 200 && overslept > 100, "never met: {waited_long}, {overslept}");
}

/// Many sleeps, each longer than a machine is waited for, within one run.
#[test]
fn a_run_outlives_any_number_of_sleeps() {
    crate::check_round_robin(|mut relay| {
        relay.connect(1, &of_edge("edge_1"));
        relay.append(&[event_about(1, "AgentSessionEvent.created", "s", "")]);
        relay.report("edge_1", 1, Processing);
        for sleep in 1..=8 {
            relay.closed(sleep, false);
            relay.now = relay.now + 2 * TIMEOUT_MS;
            relay.alarm();
            assert_eq!(relay.stream.assignment().waiting().len(), 1, "others could have it");
            assert_eq!(
                crate::who(&relay.connect(sleep + 1, &of_edge("edge_1"))),
                [(sleep + 1, 1, 1)]
            );
            // It says nothing, and is at work.
            relay.now = relay.now + 10 * TIMEOUT_MS;
            assert_eq!(given(&relay.alarm()), []);
        }
        relay.report("edge_1", 1, Completed);
        assert_eq!(relay.given_up, []);
        assert!(relay.stream.assignment().leases().is_empty());
    });
}
