//! The session as a value: what to do about a connection, its events and their handlers. It
//! knows nothing about sockets, clocks, files or threads; time and randomness come in.

mod backoff;
mod credit;
mod ending;
mod lane_key;
mod lanes;
mod ledger;
mod link;
mod message;
mod mode;
mod notice;
mod progress;
mod receipt;
mod recent;
mod runs;
mod settings;
mod status;
mod stops;
mod watchdog;
mod words;

use std::collections::VecDeque;

use fastrand::Rng;
use relay_schemas::{Cursor, UnixMillis};

pub(crate) use self::stops::STOPPED;
pub use self::{
    backoff::Backoff,
    ledger::{Batch, Handled},
    message::{Command, DialFrom, Input, Outcome, RunSummary, Start},
    notice::{Notice, Weight},
    progress::Ticket,
    settings::{OnFailure, Ordering, Restored, SessionSettings},
    status::{Counters, LinkState, SessionStatus},
};
use self::{
    credit::Credit, ending::Ending, lanes::Lanes, ledger::Ledger, link::Link, progress::Progress,
    recent::RecentEvents, runs::Job, stops::Stops,
};
use crate::{
    fault::Exit,
    limits::{
        BYTES_HELD_MAX, DIAL_BACKOFF_BASE_MS, DIAL_BACKOFF_CAP_MS, EVENTS_HELD_MAX, RECENT_IDS_MAX,
        WINDOW_EVENTS_MAX,
    },
};

/// A client's dealings with one stream. Feed it with [`handle`](Self::handle), then do everything
/// that [`next_command`](Self::next_command) gives before the next input; come back at
/// [`poll_timeout`](Self::poll_timeout) at the latest.
#[derive(Debug)]
pub struct Session {
    settings: SessionSettings,
    random: Rng,
    link: Link,
    backoff: Backoff,
    credit: Credit,
    progress: Progress,
    recent: RecentEvents,
    stops: Stops,
    lanes: Lanes<Job>,
    bytes_held: usize,
    ledger: Ledger,
    tail: Option<Cursor>,
    target: Option<Cursor>,
    ending: Option<Ending>,
    counters: Counters,
    is_mode_told: bool,
    /// Whether the relay that was reached last gives each event to one machine.
    was_assigned: bool,
    commands: VecDeque<Command>,
}

impl Session {
    /// A session that has not started.
    pub fn new(settings: SessionSettings, restored: Restored, seed: u64) -> Self {
        let concurrency = match settings.ordering {
            Ordering::Stream => 1,
            Ordering::Lanes | Ordering::HandedOver => settings.concurrency.max(1),
        };
        Self {
            random: Rng::with_seed(seed),
            link: Link::Ended,
            backoff: Backoff::new(DIAL_BACKOFF_BASE_MS, DIAL_BACKOFF_CAP_MS),
            credit: Credit::default(),
            progress: Progress::new(restored.cursor),
            recent: RecentEvents::new(restored.handled, RECENT_IDS_MAX),
            stops: Stops::default(),
            lanes: Lanes::new(concurrency),
            bytes_held: 0,
            ledger: Ledger::new(settings.persist_interval_ms),
            tail: None,
            target: None,
            ending: None,
            counters: Counters::default(),
            is_mode_told: false,
            was_assigned: false,
            commands: VecDeque::new(),
            settings,
        }
    }

    /// Something happened.
    pub fn handle(&mut self, input: Input, now: UnixMillis) {
        match input {
            Input::Start => self.link = Link::Down { dial_at: now },
            Input::Connected { is_duplex } => self.link.connected(is_duplex, now),
            Input::Line(line) => self.handle_line(line, now),
            Input::Alive => self.handle_alive(now),
            Input::Disconnected(fault) => self.lose(fault, now),
            Input::Finished { ticket, outcome, summary } => {
                self.handle_finished(ticket, outcome, summary, now);
            }
            Input::Progress { ticket, activity } => self.handle_progress(ticket, activity),
            Input::Persisted => self.ledger.written(),
            Input::StateFailed(message) => {
                self.commands.push_back(Command::Exit(Exit::StateFailed(message)));
            }
            Input::Refused(refusal) => self.end(Exit::Refused(refusal), now),
            Input::Slept { duration_ms } => {
                self.tell(Notice::Slept { duration_ms });
                self.redial(now);
            }
            Input::ReconnectRequested => self.redial(now),
            Input::Shutdown => self.handle_shutdown(now),
            Input::Tick => {}
        }
        self.settle(now);
    }

    /// The next thing to be done.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Whether another line may be fed in. While it may not, the connection is not to be read. A
    /// stop comes on the same connection as events: where credit bounds what comes, it is read on.
    /// The first frame is no event, and has its time.
    pub fn may_read(&self) -> bool {
        let is_bounded = self.link.is_duplex() && self.credit.is_in_force();
        self.has_room() || self.link.is_opening() || is_bounded
    }

    /// Whether a connection is wanted. Without one a machine loses what it works on, where that was
    /// given to it alone: there it dials however much it holds.
    pub(crate) fn may_dial(&self) -> bool {
        self.has_room() || self.was_assigned && self.ending.is_none()
    }

    /// Whether more events are wanted.
    pub fn has_room(&self) -> bool {
        self.ending.is_none()
            && self.lanes.jobs() < EVENTS_HELD_MAX
            && self.bytes_held < BYTES_HELD_MAX
            && self.progress.window() < WINDOW_EVENTS_MAX
    }

    /// When to come back with [`Input::Tick`], if nothing else happens.
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let dial_at = self.link.dial_at().filter(|_| self.may_dial());
        [
            dial_at,
            self.link.deadline(),
            self.link.next_ping(),
            self.lanes.next_wake().filter(|_| self.ending.is_none()),
            self.ledger.due_at(),
            self.ending.as_ref().and_then(Ending::deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// How things stand.
    pub fn status(&self, now: UnixMillis) -> SessionStatus {
        let cursor = self.progress.handled();
        SessionStatus {
            link: self.link.state(),
            silent_ms: self.link.silent_ms(now),
            dial_in_ms: self.link.dial_at().map(|at| at.since_ms(now)),
            dial_failures: self.backoff.failures(),
            cursor,
            tail: self.tail,
            lag_events: lag(cursor, self.tail),
            events_held: self.lanes.jobs(),
            bytes_held: self.bytes_held,
            handlers_running: self.lanes.running(),
            counters: self.counters.clone(),
        }
    }

    fn tell(&mut self, notice: Notice) {
        self.commands.push_back(Command::Tell(notice));
    }

    /// Everything that follows from the state and the time, whatever the input was.
    fn settle(&mut self, now: UnixMillis) {
        self.settle_link(now);
        self.lanes.wake(now);
        if self.ending.is_none() {
            self.run_handlers();
            self.check_target(now);
        }
        if self.ledger.due_at().is_some_and(|at| at <= now || self.ending.is_some()) {
            let batch = self.ledger.take(self.progress.handled(), now);
            self.commands.push_back(Command::Persist(batch));
        }
        self.settle_ending(now);
    }
}

/// Events between two positions of one incarnation.
fn lag(from: Option<Cursor>, tail: Option<Cursor>) -> u64 {
    match (from, tail) {
        (Some(from), Some(tail)) if from.epoch == tail.epoch => tail.seq.distance_from(from.seq),
        _ => 0,
    }
}
