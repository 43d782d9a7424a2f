use relay_schemas::{Activity, ActivityRequest, EventId, Report, ReportStatus, UnixMillis};

use super::{
    Command, Handled, Notice, OnFailure, Outcome, RunSummary, Session, Ticket, backoff::jitter_ms,
};
use crate::{
    dispatch::Dispatch,
    event::Event,
    fault::{Exit, shorten},
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
    /// The agent session that it is about, where handlers can be stopped.
    pub(super) session: Option<String>,
}

impl Session {
    pub(super) fn run_handlers(&mut self) {
        while let Some((ticket, job)) = self.lanes.start_next() {
            job.attempts += 1;
            let (event, attempt) = (job.event.clone(), job.attempts);
            if attempt == 1 {
                self.report(event.id(), ReportStatus::Processing, None, RunSummary::default());
            }
            self.commands.push_back(Command::Run { ticket, event, attempt });
        }
    }

    pub(super) fn handle_progress(&mut self, ticket: Ticket, activity: Activity) {
        if !self.settings.activities {
            return;
        }
        let Some(job) = self.lanes.job(ticket) else { return };
        let event_id = job.event.id();
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
        match outcome {
            Outcome::Succeeded => {
                self.counters.events_handled += 1;
                self.report_end(event, summary);
                self.pass_event(ticket, Handled::well(event));
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
                        self.tell(Notice::Skipped { event, message });
                        self.pass_event(ticket, Handled::given_up(event, given));
                    }
                }
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
        if let Some(bytes) = self.credit.release(connection, bytes)
            && self.link.is_duplex()
        {
            self.commands.push_back(Command::Grant { bytes });
        }
    }

    pub(super) fn report_end(&mut self, event: EventId, summary: RunSummary) {
        self.report(event, ReportStatus::Completed, None, summary);
    }

    pub(super) fn report_failure(&mut self, event: EventId, error: &str, summary: RunSummary) {
        self.report(event, ReportStatus::Failed, Some(shorten(error.to_owned())), summary);
    }

    pub(super) fn report(
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
}
