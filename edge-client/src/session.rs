//! The session as a value: what to do about a connection, its events and their handlers. It
//! knows nothing about sockets, clocks, files or threads; time and randomness come in.

mod backoff;
mod credit;
mod lane_key;
mod lanes;
mod ledger;
mod link;
mod message;
mod notice;
mod progress;
mod recent;
mod settings;
mod status;
mod stops;
mod watchdog;

use std::{collections::VecDeque, mem};

use fastrand::Rng;
use relay_schemas::{
    Activity, ActivityRequest, ByeCode, Cursor, EventId, Report, ReportStatus, UnixMillis,
};

pub(crate) use self::stops::STOPPED;
pub use self::{
    backoff::Backoff,
    ledger::Batch,
    message::{Command, DialFrom, Input, Outcome, RunSummary, Start},
    notice::{Notice, Weight},
    progress::Ticket,
    settings::{OnFailure, Ordering, Restored, SessionSettings},
    status::{Counters, LinkState, SessionStatus},
};
use self::{
    backoff::jitter_ms, credit::Credit, lanes::Lanes, ledger::Ledger, link::Link,
    progress::Progress, recent::RecentIds, stops::Stops,
};
use crate::{
    dispatch::Dispatch,
    event::Event,
    fault::{Exit, Fault, shorten},
    limits::{
        BYTES_HELD_MAX, DIAL_BACKOFF_BASE_MS, DIAL_BACKOFF_CAP_MS, EVENTS_HELD_MAX,
        HANDLER_BACKOFF_BASE_MS, HANDLER_BACKOFF_CAP_MS, RECENT_IDS_MAX, WINDOW_EVENTS_MAX,
    },
};

#[derive(Debug)]
struct Job {
    event: Event,
    attempts: u32,
    connection: u32,
    /// The agent session that it is about, where handlers can be stopped.
    session: Option<String>,
}

#[derive(Debug)]
struct Ending {
    exit: Exit,
    deadline: UnixMillis,
    is_abandoned: bool,
    is_told: bool,
}

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
    recent: RecentIds,
    given_up: RecentIds,
    stops: Stops,
    lanes: Lanes<Job>,
    bytes_held: usize,
    ledger: Ledger,
    tail: Option<Cursor>,
    target: Option<Cursor>,
    ending: Option<Ending>,
    counters: Counters,
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
            recent: RecentIds::new(restored.handled, RECENT_IDS_MAX),
            given_up: RecentIds::new(Vec::new(), RECENT_IDS_MAX),
            stops: Stops::default(),
            lanes: Lanes::new(concurrency),
            bytes_held: 0,
            ledger: Ledger::new(settings.persist_interval_ms),
            tail: None,
            target: None,
            ending: None,
            counters: Counters::default(),
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

    /// Whether another line may be fed in. While it may not, the connection is not to be read.
    pub fn has_room(&self) -> bool {
        self.ending.is_none()
            && self.lanes.jobs() < EVENTS_HELD_MAX
            && self.bytes_held < BYTES_HELD_MAX
            && self.progress.window() < WINDOW_EVENTS_MAX
    }

    /// When to come back with [`Input::Tick`], if nothing else happens.
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let dial_at = self.link.dial_at().filter(|_| self.has_room());
        let ending = self.ending.as_ref().filter(|ending| !ending.is_abandoned && !ending.is_told);
        [
            dial_at,
            self.link.deadline(),
            self.link.next_ping(),
            self.lanes.next_wake().filter(|_| self.ending.is_none()),
            self.ledger.due_at(),
            ending.map(|ending| ending.deadline),
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

    fn handle_shutdown(&mut self, now: UnixMillis) {
        match &mut self.ending {
            Some(ending) => ending.deadline = now,
            None => self.end(Exit::Stopped, now),
        }
    }

    fn handle_progress(&mut self, ticket: Ticket, activity: Activity) {
        if !self.settings.activities {
            return;
        }
        let Some(job) = self.lanes.job(ticket) else { return };
        let event_id = job.event.id();
        self.counters.activities += 1;
        self.ledger.dispatch(Dispatch::Activity(ActivityRequest { event_id, activity }));
    }

    fn handle_finished(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        summary: RunSummary,
        now: UnixMillis,
    ) {
        let Some(job) = self.lanes.job(ticket) else { return };
        let (event, attempt) = (job.event.id(), job.attempts);
        match outcome {
            Outcome::Succeeded => {
                self.counters.events_handled += 1;
                self.report_end(event, summary);
                self.pass_event(ticket);
            }
            Outcome::Closed => self.end(Exit::OutputClosed, now),
            Outcome::Failed(message) => {
                self.counters.attempts_failed += 1;
                let is_last = self.settings.attempts_max.is_some_and(|max| attempt >= max);
                match (is_last, self.settings.on_failure) {
                    (false, _) => self.try_again(ticket, event, attempt, message, now),
                    (true, OnFailure::Stop) => {
                        self.report_failure(event, &message, summary);
                        self.lanes.rest_until(ticket, now);
                        self.end(Exit::HandlerFailed { event, message }, now);
                    }
                    (true, OnFailure::Skip) => {
                        self.counters.events_skipped += 1;
                        self.report_failure(event, &message, summary);
                        self.given_up.insert(event);
                        self.tell(Notice::Skipped { event, message });
                        self.pass_event(ticket);
                    }
                }
            }
        }
    }

    fn try_again(
        &mut self,
        ticket: Ticket,
        event: EventId,
        attempt: u32,
        message: String,
        now: UnixMillis,
    ) {
        let retry_in_ms = jitter_ms(
            HANDLER_BACKOFF_BASE_MS,
            HANDLER_BACKOFF_CAP_MS,
            attempt - 1,
            &mut self.random,
        );
        self.lanes.rest_until(ticket, now + retry_in_ms);
        if self.ending.is_none() {
            self.tell(Notice::HandlerFailed { event, attempt, message, retry_in_ms });
        }
    }

    /// The event needs no more handling: its lane goes on, and its bytes may be used again.
    fn pass_event(&mut self, ticket: Ticket) {
        if let Some(job) = self.lanes.finish(ticket) {
            self.pass_job(ticket, job);
        }
    }

    /// The same for one that is in no lane any more.
    fn pass_job(&mut self, ticket: Ticket, job: Job) {
        self.ledger.handled(job.event.id());
        self.progress.finish(ticket);
        let bytes = job.event.line().len();
        self.bytes_held -= bytes;
        self.release(job.connection, bytes);
    }

    fn release(&mut self, connection: u32, bytes: usize) {
        if let Some(bytes) = self.credit.release(connection, bytes)
            && self.link.is_duplex()
        {
            self.commands.push_back(Command::Grant { bytes });
        }
    }

    fn report_end(&mut self, event: EventId, summary: RunSummary) {
        self.report(event, ReportStatus::Completed, None, summary);
    }

    fn report_failure(&mut self, event: EventId, error: &str, summary: RunSummary) {
        self.report(event, ReportStatus::Failed, Some(shorten(error.to_owned())), summary);
    }

    fn report(
        &mut self,
        event_id: EventId,
        status: ReportStatus,
        error: Option<String>,
        summary: RunSummary,
    ) {
        if self.settings.reports {
            let RunSummary { message, exit_code, duration_ms } = summary;
            let report = Report { event_id, status, error, message, exit_code, duration_ms };
            self.ledger.dispatch(Dispatch::Status(report));
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

    fn run_handlers(&mut self) {
        while let Some((ticket, job)) = self.lanes.start_next() {
            job.attempts += 1;
            let (event, attempt) = (job.event.clone(), job.attempts);
            if attempt == 1 {
                self.report(event.id(), ReportStatus::Processing, None, RunSummary::default());
            }
            self.commands.push_back(Command::Run { ticket, event, attempt });
        }
    }

    fn check_target(&mut self, now: UnixMillis) {
        if !self.settings.exit_when_caught_up {
            return;
        }
        if let (Some(cursor), Some(target)) = (self.progress.handled(), self.target)
            && cursor.epoch == target.epoch
            && cursor.seq >= target.seq
        {
            self.end(Exit::CaughtUp, now);
        }
    }

    fn end(&mut self, exit: Exit, now: UnixMillis) {
        if self.ending.is_some() {
            return;
        }
        if self.link.is_busy() {
            self.commands.push_back(Command::Hangup);
        }
        self.link = Link::Ended;
        let deadline = now + self.settings.grace_ms;
        self.ending = Some(Ending { exit, deadline, is_abandoned: false, is_told: false });
    }

    fn settle_ending(&mut self, now: UnixMillis) {
        let running = self.lanes.running();
        let Some(ending) = &mut self.ending else { return };
        // Without a reader, what runs is writing to nobody.
        let is_over = now >= ending.deadline || ending.exit == Exit::OutputClosed;
        if running > 0 && is_over && !ending.is_abandoned {
            ending.is_abandoned = true;
            self.commands.push_back(Command::AbandonHandlers);
            if ending.exit != Exit::OutputClosed {
                self.commands.push_back(Command::Tell(Notice::Abandoned { running }));
            }
        }
        let is_quiet = running == 0 || ending.is_abandoned;
        if is_quiet && self.ledger.is_clean() && !mem::replace(&mut ending.is_told, true) {
            self.commands.push_back(Command::Exit(ending.exit.clone()));
        }
    }

    fn redial(&mut self, now: UnixMillis) {
        if self.ending.is_some() {
            return;
        }
        if self.link.is_busy() {
            self.commands.push_back(Command::Hangup);
        }
        self.backoff.reset();
        self.link = Link::Down { dial_at: now };
    }

    /// The connection is gone, or never came.
    fn lose(&mut self, fault: Fault, now: UnixMillis) {
        if self.ending.is_some() {
            return;
        }
        self.link = Link::Ended;
        match fault {
            Fault::Terminal(refusal) if self.settings.is_renewed && refusal.is_expiry() => {
                self.follow_expiry(now);
            }
            Fault::Terminal(refusal) => self.end(Exit::Refused(refusal), now),
            Fault::Passing { message, retry_after_ms } => {
                self.counters.disconnects += 1;
                let retry_in_ms = self.backoff.next_ms(&mut self.random, retry_after_ms);
                self.link = Link::Down { dial_at: now + retry_in_ms };
                self.tell(Notice::Disconnected { message, retry_in_ms });
            }
        }
    }

    /// The next dial brings another credential. When nothing has come since the last time, both
    /// sides' clocks disagree, and the waits grow.
    fn follow_expiry(&mut self, now: UnixMillis) {
        let is_first = self.backoff.failures() == 0;
        let wait_ms = self.backoff.next_ms(&mut self.random, None);
        let retry_in_ms = if is_first { 0 } else { wait_ms };
        self.link = Link::Down { dial_at: now + retry_in_ms };
        self.tell(Notice::Bye { code: ByeCode::Expired.as_str(), retry_in_ms });
    }

    /// The connection is no good: end it from this side.
    fn drop_link(&mut self, message: impl std::fmt::Display, now: UnixMillis) {
        self.commands.push_back(Command::Hangup);
        self.lose(Fault::passing(message), now);
    }
}

/// Events between two positions of one incarnation.
fn lag(from: Option<Cursor>, tail: Option<Cursor>) -> u64 {
    match (from, tail) {
        (Some(from), Some(tail)) if from.epoch == tail.epoch => tail.seq.distance_from(from.seq),
        _ => 0,
    }
}
