use std::sync::Arc;

use relay_schemas::{UnixMillis, Webhook};

use super::{
    Ordering, Session, lag,
    lane_key::{LaneKey, session_of},
    link::Link,
    runs::Job,
};
use crate::event::Event;

impl Session {
    pub(super) fn handle_webhook(&mut self, webhook: &Webhook<'_>, line: &Arc<str>, now: UnixMillis) {
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
        let connection = self.credit.connection();
        // Given up here, and given to this machine once more: then it is new.
        let is_again = webhook.attempt > 1 && self.given_up.remove(&webhook.id);
        if !self.recent.insert(webhook.id) && !is_again {
            // Handled, or held: then the earlier one still holds the cursor back.
            self.counters.duplicates += 1;
            if self.progress.received().is_none_or(|received| webhook.cursor > received) {
                self.pass(webhook.cursor);
            }
            return self.release(connection, line.len());
        }
        let session = self.settings.stops.then(|| session_of(webhook)).flatten();
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
        self.lanes.push(key, ticket, Job { event, attempts: 0, connection, session });
    }
}
