use std::{collections::BTreeSet, sync::atomic::AtomicBool};

use fastrand::Rng;
use proptest::prelude::*;

use super::{
    super::{Command, Input, PlanFrom, Transfer, samples},
    at, drain, passing, settings,
};
use crate::{
    config::ExportStart,
    export::{
        download::{Damage, Download},
        ending::Ending,
        plan::Plan,
    },
};

/// A relay whose stream grows while it is read: segments of up to four events, sealed as far as
/// `sealed_to`.
struct Model {
    random: Rng,
    ends: Vec<u64>,
    sealed_to: u64,
    tail: u64,
    fetched: BTreeSet<u64>,
    segments_written: usize,
    damaged: BTreeSet<u64>,
    output: Vec<u8>,
    connections: usize,
}

impl Model {
    fn new(seed: u64, connections: usize) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut ends = vec![0];
        for _ in 0..20 {
            let last = *ends.last().unwrap();
            ends.push(last + random.u64(1..=4));
        }
        let sealed_to = ends[random.usize(0..10)];
        let tail = sealed_to + random.u64(0..8);
        Self {
            random,
            ends,
            sealed_to,
            tail,
            fetched: BTreeSet::new(),
            segments_written: 0,
            damaged: BTreeSet::new(),
            output: Vec::new(),
            connections,
        }
    }

    /// Sealing and appending go on.
    fn grow(&mut self) {
        self.tail += self.random.u64(0..3);
        let sealed = self.ends.iter().filter(|end| **end <= self.tail).max();
        self.sealed_to = self.sealed_to.max(*sealed.unwrap_or(&0));
    }

    fn plan(&mut self, from: u64) -> Plan {
        let limit = self.random.usize(1..4);
        let sealed: Vec<u64> =
            self.ends.iter().copied().filter(|end| *end > from && *end <= self.sealed_to).collect();
        let begin = *self.ends.iter().filter(|end| **end <= from).max().unwrap_or(&0);
        let offered = &sealed[..sealed.len().min(limit)];
        // Nothing sealed is left between `from` and the hot tail.
        let begin = if offered.is_empty() { from } else { begin };
        let plan = samples::plan(from, begin, offered, self.tail);
        Plan { has_more: sealed.len() > limit, ..plan }
    }

    fn fetch(&mut self, mut download: Download) -> Input {
        let (first, last) = (download.segment().first.get(), download.segment().last.get());
        self.fetched.insert(first);
        let held = self.fetched.len() - self.segments_written;
        assert!(held <= self.connections, "{held} segments in memory");
        let (_, bytes) = samples::segment(first, last);
        let rest = &bytes[usize::try_from(download.length()).unwrap()..];
        match self.random.u8(0..6) {
            0 if rest.len() > 1 => {
                download.push(&rest[..self.random.usize(1..rest.len())]).unwrap();
                Input::FetchFailed(download, passing())
            }
            1 if self.damaged.insert(first) => Input::Damaged(download, Damage::NotRecords),
            _ => {
                download.push(rest).unwrap();
                download.verify().unwrap();
                Input::Fetched(download)
            }
        }
    }

    fn answer(&mut self, command: Command) -> Option<Input> {
        Some(match command {
            Command::ReadPlan(_) | Command::ReadPage(_) if self.random.u8(0..8) == 0 => {
                let is_plan = matches!(command, Command::ReadPlan(_));
                if is_plan { Input::PlanFailed(passing()) } else { Input::PageFailed(passing()) }
            }
            Command::ReadPlan(
                PlanFrom::Start(ExportStart::From(cursor)) | PlanFrom::Rest(cursor),
            ) => Input::PlanRead(self.plan(cursor.seq.get())),
            Command::ReadPlan(PlanFrom::Start(_)) => Input::PlanRead(self.plan(0)),
            Command::Fetch(download) => self.fetch(download),
            Command::ReadPage(after) => {
                let first = after.seq.get() + 1;
                let last = self.tail.min(first + self.random.u64(0..3));
                Input::PageRead(samples::page(first, last, last < self.tail))
            }
            Command::Write(batch) => {
                let is_segment = matches!(batch.content, super::super::Content::Segment(_));
                let written = batch.write(&mut self.output, &AtomicBool::new(false)).unwrap();
                self.segments_written += usize::from(is_segment);
                Input::Written(written)
            }
            Command::Interrupt | Command::Tell(_) => return None,
            Command::End(_) => unreachable!("the end is not answered"),
        })
    }
}

/// Runs an export to its end.
fn run(seed: u64, connections: usize, from: Option<u64>) -> (Ending, Model, u64, u64) {
    let mut model = Model::new(seed, connections);
    let from = from.map(|from| from.min(model.tail));
    let start = from.map_or(ExportStart::Earliest, |from| ExportStart::From(samples::cursor(from)));
    let mut settings = settings(start, connections);
    settings.retry.attempts_max = 1_000;
    let mut transfer = Transfer::new(&settings, false, seed);
    let (mut now, mut input, mut waiting, mut first_tail) = (0, Input::Start, vec![], None);
    loop {
        transfer.handle(input, at(now));
        for command in drain(&mut transfer) {
            match command {
                Command::End(ending) => {
                    return (ending, model, from.unwrap_or(0), first_tail.unwrap_or(0));
                }
                command => waiting.push(command),
            }
        }
        input = Input::Tick;
        if waiting.is_empty() {
            now = transfer.poll_timeout().expect("something is under way").get();
        } else {
            let next = waiting.swap_remove(model.random.usize(0..waiting.len()));
            input = model.answer(next).unwrap_or(Input::Tick);
            if let Input::PlanRead(plan) = &input {
                first_tail.get_or_insert(plan.tail.seq.get());
            }
            model.grow();
        }
    }
}

proptest! {
    #[test]
    fn exactly_the_events_up_to_the_first_tail_in_order(
        seed: u64,
        connections in 1usize..5,
        from in prop::option::of(0u64..30),
    ) {
        let (ending, model, from, tail) = run(seed, connections, from);
        prop_assert_eq!(ending, Ending::Complete);
        let output = String::from_utf8(model.output).unwrap();
        prop_assert_eq!(output, samples::lines(from + 1, tail));
    }
}
