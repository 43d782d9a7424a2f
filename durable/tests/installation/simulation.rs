//! Random events, reports, faults and crashes: whatever happens, Linear ends up with each thing
//! once and in the order of its session, nothing is forgotten, and nothing is tried after it was
//! given up.

use std::collections::{BTreeMap, BTreeSet};

use relay_durable::{Effect, Installation, MemoryInstallation};
use relay_schemas::{Announce, ReportStatus, linear_api::LinearAnswer};
use serde_json::json;

use crate::desk::{Desk, NOW, Refusal, activity, created, mention, report, stop, variables};

const SESSIONS: u64 = 5;
const EVENTS: u64 = 12;
const STEPS: u64 = 250;

/// A small generator that is the same everywhere (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % sides
    }
}

/// One run: a desk, what was said by machines in which order, and requests whose answers are open.
struct Run {
    desk: Desk,
    dice: Dice,
    announced: BTreeSet<u8>,
    /// What is to be at Linear, by lane, in order.
    expected: BTreeMap<String, Vec<String>>,
    /// What was said before its announcement.
    early: BTreeMap<u8, Vec<String>>,
    /// What calls say, by their ids.
    texts: BTreeMap<String, String>,
    open: Vec<Effect>,
    faults: BTreeMap<&'static str, u32>,
}

fn session_of(number: u8) -> String {
    format!("s{}", u64::from(number) % SESSIONS)
}

fn lane_of(number: u8) -> String {
    if number % 4 == 3 { "root".into() } else { session_of(number) }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut desk = Desk::new();
        let mut dice = Dice(seed);
        desk.linear.refuses_repeated = dice.roll(2) == 0;
        desk.linear.refuses_batches = dice.roll(4) == 0;
        if dice.roll(2) == 0 {
            desk.linear.gone.insert("s0".into());
        }
        Self {
            desk,
            dice,
            announced: BTreeSet::new(),
            expected: BTreeMap::new(),
            early: BTreeMap::new(),
            texts: BTreeMap::new(),
            open: Vec::new(),
            faults: BTreeMap::new(),
        }
    }

    fn note(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    fn crash(&mut self) {
        self.open.clear();
        self.desk.reload();
    }

    /// Gives a command until it is taken, as its sender would.
    fn insist(
        &mut self,
        mut command: impl FnMut(&mut Installation<MemoryInstallation>) -> Result<(), Refusal>,
    ) {
        if self.dice.roll(8) == 0 {
            let (after, lands) = (self.dice.roll(4), self.dice.roll(2) == 0);
            self.desk.storage.fail_after(after, lands);
        }
        for _ in 0..2 {
            match command(&mut self.desk.core) {
                Ok(()) => {
                    self.desk.storage.heal();
                    return;
                }
                Err(Refusal::Storage(_)) => {
                    self.note("storage");
                    self.crash();
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
        panic!("refused twice");
    }

    fn announce(&mut self) {
        let number = self.dice.roll(EVENTS) as u8;
        let edges: &[&str] = if self.dice.roll(2) == 0 { &[] } else { &["laptop"] };
        let mut announcement = match number % 4 {
            3 => mention(number),
            2 => stop(number, &session_of(number), !edges.is_empty()),
            _ => created(number, &session_of(number), edges),
        };
        announcement.sent_at = self.desk.now;
        let announce = Announce { announcements: vec![announcement] };
        let now = self.desk.now;
        self.insist(|core| core.announce(&announce, now));
        if self.announced.insert(number) {
            let early = self.early.remove(&number).unwrap_or_default();
            self.expected.entry(lane_of(number)).or_default().extend(early);
        }
    }

    fn speak(&mut self, turn: u64) {
        let number = self.dice.roll(EVENTS) as u8;
        let now = self.desk.now;
        let text = format!("{number}: word {turn}");
        if number % 4 == 3 || self.dice.roll(3) == 0 {
            // Each status once for each event, with the words of the first.
            let edge = crate::desk::machine(&format!("m{turn}"));
            let mut report = report(number, ReportStatus::Failed, Some(&text));
            report.edge = edge;
            self.insist(|core| core.report(&report, now));
        } else {
            let id = format!("{turn:08}-0000-4000-8000-000000000000");
            let command = activity(number, &id, json!({"type": "thought", "body": text}));
            self.insist(|core| core.activity(&command, now, &mut || [0; 16]).map(|_| ()));
            if self.dice.roll(4) == 0 {
                self.insist(|core| core.activity(&command, now, &mut || [0; 16]).map(|_| ()));
            }
        }
        match self.announced.contains(&number) {
            true => self.expected.entry(lane_of(number)).or_default().push(text),
            false => self.early.entry(number).or_default().push(text),
        }
    }

    fn collect(&mut self) {
        while let Some(effect) = self.desk.core.next_effect(self.desk.now).unwrap() {
            if let Effect::Call { body, .. } = &effect {
                // One input, or one for each call of a batch.
                for input in variables(&effect).as_object().into_iter().flat_map(|all| all.values())
                {
                    if let (Some(id), Some(text)) =
                        (input["id"].as_str(), input["content"]["body"].as_str())
                    {
                        self.texts.insert(id.into(), text.into());
                    }
                }
                let given_up = self.desk.core.given_up(self.desk.now).unwrap().calls;
                assert!(given_up.iter().all(|call| !body.contains(&call.id)), "tried again");
            }
            self.open.push(effect);
            assert!(self.open.len() < 100, "there is no end to it");
        }
    }

    /// One open request comes to an end, good or bad, in any order.
    fn complete(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let index = self.dice.roll(self.open.len() as u64) as usize;
        let effect = self.open.swap_remove(index);
        let answer = match self.dice.roll(12) {
            0 => self.faulty("lost before", None),
            1 => {
                self.desk.ask(&effect);
                self.faulty("lost after", None)
            }
            2 => self.faulty("internal", Some(LinearAnswer::new(500, ""))),
            3 if matches!(effect, Effect::Call { .. }) => {
                self.desk.linear.expire_access();
                self.note("401");
                Some(self.desk.ask(&effect))
            }
            4 => {
                let limited = LinearAnswer::new(
                    400,
                    r#"{"errors":[{"message":"m","extensions":{"code":"RATELIMITED"}}]}"#,
                );
                self.faulty("limited", Some(limited.with("retry-after", 3)))
            }
            _ => Some(self.desk.ask(&effect)),
        };
        if self.dice.roll(10) == 0 {
            let lands = self.dice.roll(2) == 0;
            self.desk.storage.fail_after(0, lands);
        }
        let random = &mut || [7; 16];
        let (core, now) = (&mut self.desk.core, self.desk.now);
        let noted = match &effect {
            Effect::Call { request, .. } => core.called(*request, answer.as_ref(), now, random),
            Effect::Refresh { request, app, .. } => {
                core.refreshed((app, *request), answer.as_ref(), now, random)
            }
        };
        if noted.is_err() {
            self.note("storage");
            self.crash();
        }
        self.desk.storage.heal();
    }

    fn faulty(&mut self, name: &'static str, answer: Option<LinearAnswer>) -> Option<LinearAnswer> {
        self.note(name);
        answer
    }

    fn step(&mut self, turn: u64) {
        match self.dice.roll(10) {
            0 | 1 => self.announce(),
            2..=4 => self.speak(turn),
            5..=7 => self.complete(),
            8 => {
                let milliseconds = self.dice.roll(4_000);
                self.desk.wait(milliseconds);
            }
            _ if self.dice.roll(6) == 0 => {
                self.note("crash");
                self.crash();
            }
            _ => {}
        }
        self.collect();
    }

    /// All is well from now on: everything that was said arrives.
    fn end(&mut self) {
        for number in self.early.clone().into_keys() {
            while !self.announced.contains(&number) {
                self.announce();
            }
        }
        self.crash();
        let end = self.desk.now + 3_600_000;
        while self.desk.status().outbox.waiting > 0 && self.desk.now < end {
            self.desk.drain();
            let next = self.desk.core.next_alarm(self.desk.now);
            self.desk.now = next.unwrap_or(end).max(self.desk.now + 1).min(end);
        }
    }

    /// Words that an answer went ahead of after they had failed for a minute.
    fn overtaken(&self) -> BTreeSet<String> {
        let given_up = self.desk.core.given_up(self.desk.now).unwrap().calls;
        let overtaken = given_up.iter().filter(|call| call.code == "overtaken");
        overtaken.map(|call| self.texts[&call.id].clone()).collect()
    }

    fn check(&self, seed: u64) {
        let linear = &self.desk.linear;
        let overtaken = self.overtaken();
        assert_eq!(self.desk.status().outbox.waiting, 0, "seed {seed}: something is forgotten");
        for (lane, expected) in &self.expected {
            let is_gone = linear.gone.contains(lane);
            let made =
                linear.made.iter().filter(|(_, of, text)| of == lane && text.contains(": word"));
            let made: Vec<&str> = made.map(|(_, _, text)| text.as_str()).collect();
            // An attempt whose answer was lost may have shown what was overtaken after it.
            let is_expected = |text: &&str| !overtaken.contains(*text) || made.contains(text);
            let expected: Vec<&str> =
                expected.iter().map(String::as_str).filter(is_expected).collect();
            assert_eq!(made, if is_gone { vec![] } else { expected }, "seed {seed}, {lane}");
        }
        for id in linear.refused.keys() {
            // Once more, if the answer or its storing was lost.
            let tries = linear.tries[id];
            let lost: u32 = self.faults.values().sum();
            assert!(tries <= 1 + lost, "seed {seed}: {id} was tried {tries} times");
        }
        let given_up = self.desk.core.given_up(self.desk.now).unwrap().calls;
        let given_up: BTreeSet<&str> = given_up.iter().map(|call| call.id.as_str()).collect();
        let is_given_up = |id: &String| given_up.contains(id.as_str());
        // What the relay would have said for a machine is dropped when the machine speaks.
        let forgotten =
            linear.refused.iter().find(|(id, text)| text.contains(": word") && !is_given_up(id));
        assert_eq!(forgotten, None, "seed {seed}");
        let is_refused =
            |id: &&str| linear.refused.contains_key(*id) || overtaken.contains(&self.texts[*id]);
        assert!(given_up.iter().all(is_refused), "seed {seed}");
        let sessions = self.announced.iter().filter(|number| **number % 4 != 3);
        for session in sessions.map(|number| session_of(*number)) {
            let is_answered = linear.made.iter().any(|(_, lane, _)| *lane == session);
            assert!(is_answered || linear.gone.contains(&session), "seed {seed}, {session}");
        }
    }
}

fn run(seed: u64) -> Run {
    let mut run = Run::new(seed);
    for turn in 0..STEPS {
        run.step(turn);
    }
    run.end();
    run.check(seed);
    let overtaken = run.overtaken().len() as u32;
    *run.faults.entry("overtaken").or_default() += overtaken;
    run
}

#[test]
fn each_word_is_at_linear_once_and_in_order() {
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..300 {
        for (fault, count) in run(seed).faults {
            *faults.entry(fault).or_default() += count;
        }
    }
    for fault in ["lost before", "lost after", "internal", "401", "limited", "storage", "crash"] {
        assert!(faults.get(fault).is_some_and(|count| *count > 100), "{fault}: {faults:?}");
    }
    assert!(faults["overtaken"] > 0, "{faults:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (one, two) = (run(7), run(7));
    assert_eq!(one.desk.linear.made, two.desk.linear.made);
    assert_eq!(one.desk.now, two.desk.now);
    assert!(one.desk.now > NOW);
}
