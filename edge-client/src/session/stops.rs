use std::collections::VecDeque;

use relay_schemas::{EventId, Signal, UnixMillis, Webhook};

use super::{Command, Handled, Job, Notice, Session, message::RunSummary};
use crate::limits::STOPS_MAX;

/// What a stopped event is reported with.
pub(crate) const STOPPED: &str = "stopped";

/// Agent sessions whose work a signal has ended, until the stop itself comes in its place: what
/// comes before it was meant for work that is no longer wanted.
#[derive(Debug, Default)]
pub(crate) struct Stops {
    marks: VecDeque<Mark>,
}

#[derive(Debug)]
struct Mark {
    session: String,
    stop: EventId,
    at: Option<UnixMillis>,
}

impl Stops {
    fn insert(&mut self, signal: &Signal) {
        self.marks.retain(|mark| mark.session != signal.session);
        if self.marks.len() >= STOPS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark {
            session: signal.session.clone(),
            stop: signal.id,
            at: UnixMillis::parse_rfc3339(&signal.timestamp),
        });
    }

    /// Whether an event that comes now is one of those that are not to be handled any more. The
    /// stop itself, or an event that the relay received later, ends the mark: a stop that never
    /// comes on this channel must not silence its session.
    pub(crate) fn covers(&mut self, session: &str, webhook: &Webhook<'_>) -> bool {
        let Some(index) = self.marks.iter().position(|mark| mark.session == session) else {
            return false;
        };
        let mark = &self.marks[index];
        let is_before = UnixMillis::parse_rfc3339(&webhook.timestamp)
            .zip(mark.at)
            .is_some_and(|(received, stopped)| received < stopped);
        let is_covered = webhook.id != mark.stop && is_before;
        if !is_covered {
            self.marks.remove(index);
        }
        is_covered
    }
}

impl Session {
    /// `stop` ends what runs for an agent session, and passes over what waits for it. Other
    /// signals are of a newer relay.
    pub(super) fn handle_signal(&mut self, signal: &Signal) {
        self.counters.signals += 1;
        if signal.signal != "stop" || !self.settings.stops || self.ending.is_some() {
            return;
        }
        let held = self.lanes.find(|job| job.event.id() == signal.id);
        if held.is_none() {
            self.stops.insert(signal);
            if self.recent.get(&signal.id).is_some() {
                // The stop itself was handled: only what is yet to come from before it is meant.
                return;
            }
        }
        let is_meant = |job: &Job| job.session.as_deref() == Some(signal.session.as_str());
        let is_before = |ticket| held.is_none_or(|held| ticket < held);
        let running = self.lanes.running_where(|ticket, job| is_before(ticket) && is_meant(job));
        let waiting = self.lanes.take_waiting(|ticket, job| is_before(ticket) && is_meant(job));
        self.tell(Notice::Stopped { running: running.len(), waiting: waiting.len() });
        self.commands.extend(running.into_iter().map(|ticket| Command::Stop { ticket }));
        for (ticket, job) in waiting {
            self.counters.events_stopped += 1;
            self.report_end(job.event.id(), RunSummary::saying(STOPPED));
            let handled = Handled::well(job.event.id());
            self.pass_job(ticket, job, handled);
        }
    }

    /// An event of a stopped session came: it is passed over.
    pub(super) fn pass_stopped(&mut self, webhook: &Webhook<'_>, bytes: usize) {
        self.counters.events_stopped += 1;
        self.report_end(webhook.id, RunSummary::saying(STOPPED));
        self.conclude(Handled::well(webhook.id));
        let ticket = self.progress.accept(webhook.cursor);
        self.progress.finish(ticket);
        let connection = self.credit.connection();
        self.release(connection, bytes);
    }
}

impl RunSummary {
    fn saying(message: &str) -> Self {
        Self { message: Some(message.to_owned()), ..Self::default() }
    }
}
