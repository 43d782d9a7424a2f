use std::sync::Arc;

use relay_schemas::{ReportStatus, UnixMillis, Webhook};

use super::{
    Ordering, Session, lag,
    lane_key::{LaneKey, session_of},
    link::Link,
    message::RunSummary,
    recent::Known,
    runs::Job,
    words::Words,
};
use crate::event::Event;

/// What is said of an event that was given up before.
const GIVEN_UP: &str = "the handler gave up on it before";

impl Session {
    /// An event came, for the first time or again.
    pub(super) fn handle_webhook(
        &mut self,
        webhook: &Webhook<'_>,
        line: &Arc<str>,
        now: UnixMillis,
    ) {
        let Link::Open(link) = &mut self.link else { return };
        link.webhooks += 1;
        if webhook.n != 0 && webhook.n != link.webhooks {
            self.counters.losses_detected += 1;
            return self.drop_link("the connection lost an event", now);
        }
        self.backoff.reset();
        self.counters.events_received += 1;
        if self.tail.is_none_or(|tail| lag(Some(tail), Some(webhook.cursor)) > 0) {
            self.tail = Some(webhook.cursor);
        }
        // Elsewhere a second delivery says nothing.
        let is_given = link.is_assigned || webhook.attempt > 1;
        match self.recent.get(&webhook.id) {
            // Given out anew since: it is to be tried again.
            Some(Known::GivenUp { attempt }) if is_given && attempt != webhook.attempt => {}
            Some(known) => {
                if is_given {
                    self.answer_again(webhook, known);
                }
                return self.pass_known(webhook, line.len());
            }
            None => {}
        }
        self.recent.learn(webhook.id, Known::Held);
        self.take_in(webhook, line);
    }

    /// The relay waits for word of an event that came before. What was said of it then may have got
    /// lost, or be on its way yet.
    fn answer_again(&mut self, webhook: &Webhook<'_>, known: Known) {
        let event = webhook.id;
        match known {
            Known::Held => self.say_begun(webhook),
            Known::Handled => self.report_end(event, RunSummary::default()),
            Known::GivenUp { .. } => {
                self.report_failure(event, GIVEN_UP.to_owned(), RunSummary::default())
            }
        }
    }

    /// Its handler has yet to end; the relay may have taken the event away meanwhile, and know
    /// nothing of that. What has not begun is reported when it does.
    fn say_begun(&mut self, webhook: &Webhook<'_>) {
        let Some(job) = self.lanes.find_mut(|job| job.event.id() == webhook.id) else { return };
        job.given = webhook.attempt;
        if job.attempts > 0 {
            self.report(webhook.id, ReportStatus::Processing, None, RunSummary::default());
        }
    }

    /// Handled, or held: then the earlier one still holds the cursor back.
    fn pass_known(&mut self, webhook: &Webhook<'_>, bytes: usize) {
        self.counters.duplicates += 1;
        if self.progress.received().is_none_or(|received| webhook.cursor > received) {
            self.pass(webhook.cursor);
        }
        self.release(self.credit.connection(), bytes);
    }

    fn take_in(&mut self, webhook: &Webhook<'_>, line: &Arc<str>) {
        let connection = self.credit.connection();
        let is_asked_for = self.settings.stops || self.settings.activities;
        let session = is_asked_for.then(|| session_of(webhook)).flatten();
        if session.as_deref().is_some_and(|session| self.stops.covers(session, webhook)) {
            return self.pass_stopped(webhook, line.len());
        }
        let ticket = self.progress.accept(webhook.cursor);
        let key = match self.settings.ordering {
            Ordering::Stream => LaneKey::STREAM,
            Ordering::Lanes => LaneKey::of(webhook),
            Ordering::HandedOver => LaneKey(ticket.0),
        };
        let event = Event::new(webhook, Arc::clone(line));
        self.bytes_held += line.len();
        let given = webhook.attempt;
        let words = Words::default();
        self.lanes.push(key, ticket, Job { event, given, attempts: 0, connection, session, words });
    }
}
