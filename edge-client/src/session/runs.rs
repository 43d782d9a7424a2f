use std::mem;

use relay_schemas::{Activity, ActivityRequest, EventId, Report, ReportStatus, UnixMillis};

use super::{
    Command, Handled, Notice, OnFailure, Outcome, RunSummary, Session, Ticket, backoff::jitter_ms,
    words::Words,
};
use crate::{
    dispatch::Dispatch,
    event::Event,
    fault::Exit,
    limits::{HANDLER_BACKOFF_BASE_MS, HANDLER_BACKOFF_CAP_MS},
};

/// An event that is to be handled.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) event: Event,
    /// How many machines were given it, this one included.
    pub(super) given: u32,
    /// Times that a handler was started for it.
    pub(super) attempts: u32,
    /// The one that it came on.
    pub(super) connection: u32,
    /// The agent session that it is about, where handlers can be stopped, or show something.
    pub(super) session: Option<String>,
    /// What the present attempt has said.
    pub(super) words: Words,
}

impl Session {
    pub(super) fn run_handlers(&mut self) {
        while let Some((ticket, job)) = self.lanes.start_next() {
            job.attempts += 1;
            let (event, attempt) = (job.event.clone(), job.attempts);
            // Also when it is begun again: what the attempt before has said last is not the end.
            self.report(event.id(), ReportStatus::Processing, None, RunSummary::default());
            self.commands.push_back(Command::Run { ticket, event, attempt });
        }
    }

    pub(super) fn handle_progress(&mut self, ticket: Ticket, activity: Activity) {
        let Some(job) = self.lanes.job(ticket) else { return };
        let event_id = job.event.id();
        let is_shown = self.settings.activities && job.session.is_some();
        let Some(activity) = job.words.take(event_id, activity, is_shown) else { return };
        self.counters.activities += 1;
        self.ledger.dispatch(Dispatch::Activity(ActivityRequest { event_id, activity }));
    }

    pub(super) fn handle_finished(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        summary: RunSummary,
        now: UnixMillis,
    ) {
        let Some(job) = self.lanes.job(ticket) else { return };
        let (event, given, attempt) = (job.event.id(), job.given, job.attempts);
        let words = mem::take(&mut job.words);
        match outcome {
            Outcome::Succeeded => {
                self.counters.events_handled += 1;
                self.report_end(event, words.of_success(summary));
                self.pass_event(ticket, Handled::well(event));
            }
            Outcome::Closed => self.end(Exit::OutputClosed, now),
            // It was ended with the client, and comes again.
            Outcome::Failed(_) if self.is_abandoned() => self.lanes.rest_until(ticket, now),
            Outcome::Failed(message) => {
                self.counters.attempts_failed += 1;
                if self.settings.attempts_max.is_none_or(|max| attempt < max) {
                    return self.try_again(ticket, event, attempt, message, now);
                }
                let (error, summary) = words.of_failure(&message, summary);
                self.report_failure(event, error, summary);
                self.give_up(ticket, Handled::given_up(event, given), message, now);
            }
        }
    }

    /// After the last attempt.
    fn give_up(&mut self, ticket: Ticket, handled: Handled, message: String, now: UnixMillis) {
        let event = handled.id;
        match self.settings.on_failure {
            OnFailure::Stop => {
                self.lanes.rest_until(ticket, now);
                self.end(Exit::HandlerFailed { event, message }, now);
            }
            OnFailure::Skip => {
                self.counters.events_skipped += 1;
                self.tell(Notice::Skipped { event, message });
                self.pass_event(ticket, handled);
            }
        }
    }

    pub(super) fn try_again(
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
    pub(super) fn pass_event(&mut self, ticket: Ticket, handled: Handled) {
        if let Some(job) = self.lanes.finish(ticket) {
            self.pass_job(ticket, job, handled);
        }
    }

    /// The same for one that is in no lane any more.
    pub(super) fn pass_job(&mut self, ticket: Ticket, job: Job, handled: Handled) {
        self.conclude(handled);
        self.progress.finish(ticket);
        let bytes = job.event.line().len();
        self.bytes_held -= bytes;
        self.release(job.connection, bytes);
    }

    /// Remembers how an event ended, also beyond this process.
    pub(super) fn conclude(&mut self, handled: Handled) {
        self.recent.learn(handled.id, handled.known());
        self.ledger.handled(handled);
    }

    pub(super) fn release(&mut self, connection: u32, bytes: usize) {
        self.credit.release(connection, bytes);
        if self.link.is_duplex()
            && self.has_room()
            && let Some(bytes) = self.credit.due()
        {
            self.commands.push_back(Command::Grant { bytes });
        }
    }

    pub(super) fn report_end(&mut self, event: EventId, summary: RunSummary) {
        self.report(event, ReportStatus::Completed, None, summary);
    }

    pub(super) fn report_failure(&mut self, event: EventId, error: String, summary: RunSummary) {
        self.report(event, ReportStatus::Failed, Some(error), summary);
    }

    pub(super) fn report(
        &mut self,
        event_id: EventId,
        status: ReportStatus,
        error: Option<String>,
        summary: RunSummary,
    ) {
        if self.settings.reports && !summary.is_told {
            let RunSummary { message, exit_code, duration_ms, is_told: _ } = summary;
            let report = Report { event_id, status, error, message, exit_code, duration_ms };
            self.ledger.dispatch(Dispatch::Status(report));
        }
    }
}
