//! Goal: with cuts, failures and crashes anywhere, no event is passed over. Method: a world of a
//! stream, a disk and handlers around a session, driven by random steps and checked after each.

use std::sync::Arc;

use edgerelay::{
    Batch, Command, DialFrom, Input, Ordering, Outcome, Restored, RunSummary, SessionSettings,
    Ticket,
};
use proptest::prelude::*;
use relay_schemas::EventId;

use crate::{
    events::event_id,
    script::{Script, at, heartbeat_line, open_line, passing, settings, webhook_line_with},
};

#[derive(Clone, Debug)]
enum Step {
    Webhook(u8),
    Heartbeat,
    Succeed(prop::sample::Index),
    Fail(prop::sample::Index),
    Cut,
    Pass(u64),
    Persisted,
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4).prop_map(Step::Webhook),
        1 => Just(Step::Heartbeat),
        6 => any::<prop::sample::Index>().prop_map(Step::Succeed),
        1 => any::<prop::sample::Index>().prop_map(Step::Fail),
        1 => Just(Step::Cut),
        2 => (0u64..70_000).prop_map(Step::Pass),
        4 => Just(Step::Persisted),
        1 => Just(Step::Crash),
    ]
}

/// A stream, a disk and handlers around a session that may crash at any time.
struct World {
    script: Script,
    settings: SessionSettings,
    stored: Restored,
    writing: Option<Batch>,
    running: Vec<(Ticket, EventId)>,
    /// The session that each event of the stream belongs to.
    stream: Vec<u8>,
    sent: u64,
    is_open: bool,
    succeeded: Vec<EventId>,
}

impl World {
    fn new(settings: SessionSettings) -> Self {
        let stored = at(0);
        let mut world = Self {
            script: Script::new(settings.clone(), stored.clone()),
            settings,
            stored,
            writing: None,
            running: Vec::new(),
            stream: Vec::new(),
            sent: 0,
            is_open: false,
            succeeded: Vec::new(),
        };
        let commands = world.script.feed(Input::Start);
        world.perform(commands);
        world
    }

    fn feed(&mut self, input: Input) {
        let commands = self.script.feed(input);
        self.perform(commands);
    }

    fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Dial(DialFrom::Cursor(from)) => {
                    self.sent = from.seq.get();
                    self.is_open = true;
                    self.script.n = 0;
                    self.feed(Input::Connected { is_duplex: false });
                    self.feed(Input::Line(Arc::from(open_line(from, None))));
                }
                Command::Hangup => self.is_open = false,
                Command::Run { ticket, event, .. } => {
                    let id = event.id();
                    let lane = |id: EventId| self.lane(id);
                    assert!(
                        self.running.iter().all(|(_, other)| lane(*other) != lane(id)),
                        "two of one session run together"
                    );
                    assert!(self.running.len() < self.settings.concurrency);
                    self.running.push((ticket, id));
                }
                Command::Persist(batch) => {
                    assert!(self.writing.replace(batch).is_none(), "one write at a time");
                }
                Command::Tell(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn lane(&self, id: EventId) -> u8 {
        let seq = u128::from_be_bytes(*id.as_bytes());
        self.stream[usize::try_from(seq).unwrap() - 1]
    }

    /// Sends what the connection has not sent.
    fn send(&mut self) {
        while self.is_open && self.sent < self.stream.len() as u64 && self.script.session.has_room()
        {
            self.sent += 1;
            self.script.n += 1;
            let lane = self.stream[usize::try_from(self.sent).unwrap() - 1];
            let body = format!(r#"{{"agentSession":{{"id":"{lane}"}}}}"#);
            let line = webhook_line_with(self.sent, self.script.n, &body);
            self.feed(Input::Line(Arc::from(line)));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Webhook(lane) => self.stream.push(lane),
            Step::Heartbeat if self.is_open => {
                let line = heartbeat_line(self.sent, self.script.n);
                self.feed(Input::Line(Arc::from(line)));
            }
            Step::Succeed(index) if !self.running.is_empty() => {
                let (ticket, id) = self.running.remove(index.index(self.running.len()));
                self.succeeded.push(id);
                self.finish_run(ticket, Outcome::Succeeded);
            }
            Step::Fail(index) if !self.running.is_empty() => {
                let (ticket, _) = self.running.remove(index.index(self.running.len()));
                self.finish_run(ticket, Outcome::Failed("no".into()));
            }
            Step::Cut if self.is_open => {
                self.is_open = false;
                self.feed(Input::Disconnected(passing()));
            }
            Step::Pass(milliseconds) => {
                self.script.now = self.script.now + milliseconds;
                self.feed(Input::Tick);
            }
            Step::Persisted => self.written(),
            Step::Crash => {
                // The write under way is lost; handlers that ran are gone.
                let now = self.script.now;
                self.script = Script::new(self.settings.clone(), self.stored.clone());
                self.script.now = now;
                self.running.clear();
                self.writing = None;
                self.is_open = false;
                self.feed(Input::Start);
            }
            Step::Heartbeat | Step::Succeed(_) | Step::Fail(_) | Step::Cut => {}
        }
        self.send();
        self.check();
    }

    fn finish_run(&mut self, ticket: Ticket, outcome: Outcome) {
        self.feed(Input::Finished { ticket, outcome, summary: RunSummary::default() });
    }

    fn written(&mut self) {
        if let Some(batch) = self.writing.take() {
            self.stored.cursor = batch.cursor.or(self.stored.cursor);
            self.stored.handled.extend(batch.handled);
            self.feed(Input::Persisted);
        }
    }

    /// Nothing before the stored cursor is unhandled.
    fn check(&self) {
        let stored = self.stored.cursor.unwrap().seq.get();
        for seq in 1..=stored {
            assert!(self.succeeded.contains(&event_id(seq)), "{seq} was passed over");
        }
    }

    /// Lets everything come to its end.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.stored.cursor.unwrap().seq.get() == self.stream.len() as u64 {
                return;
            }
            self.step(Step::Pass(70_000));
            self.step(Step::Heartbeat);
            while !self.running.is_empty() {
                let (ticket, id) = self.running.remove(0);
                self.succeeded.push(id);
                self.finish_run(ticket, Outcome::Succeeded);
            }
            self.send();
            self.written();
        }
        panic!("the session came to no end: {:?}", self.script.session.status(self.script.now));
    }
}

proptest! {
    /// With cuts, failures and crashes anywhere: every event is handled, none is passed over, and
    /// those of one agent session finish for the first time in their order.
    #[test]
    fn every_event_is_handled_in_its_order(
        concurrency in 1usize..4,
        steps in prop::collection::vec(any_step(), 0..150),
    ) {
        let settings = SessionSettings {
            ordering: if concurrency == 1 { Ordering::Stream } else { Ordering::Lanes },
            concurrency,
            attempts_max: None,
            ..settings()
        };
        let mut world = World::new(settings);
        for step in steps {
            world.step(step);
        }
        world.finish();
        let mut first = Vec::new();
        for id in &world.succeeded {
            if !first.contains(id) {
                first.push(*id);
            }
        }
        prop_assert_eq!(first.len(), world.stream.len());
        for lane in 0..4 {
            let order: Vec<_> = first.iter().filter(|id| world.lane(**id) == lane).collect();
            prop_assert!(order.is_sorted(), "session {} finished as {:?}", lane, order);
        }
    }

    #[test]
    fn arbitrary_lines_never_panic(lines in prop::collection::vec(".{0,80}", 0..20)) {
        let mut script = Script::open(settings(), at(0), true);
        for line in lines {
            script.line(&line);
            script.line(&format!(r#"{{"type":"webhook","{line}"#));
            script.pass(100);
        }
    }
}
