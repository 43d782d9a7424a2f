use std::sync::Arc;

use relay_schemas::{Bye, Cursor, Frame, Gap, Heartbeat, Open, UnixMillis, Webhook};

use super::{
    Command, DialFrom, Job, LinkState, Notice, Ordering, Session, lag,
    lane_key::{LaneKey, session_of},
    watchdog::Watchdog,
};
use crate::{
    event::Event,
    fault::{Exit, Fault},
    limits::{DIAL_TIMEOUT_MS, RETRY_AFTER_MS_MAX},
};

/// How the connection stands.
#[derive(Debug)]
pub(super) enum Link {
    /// None, and none wanted.
    Ended,
    /// None yet.
    Down { dial_at: UnixMillis },
    /// A dial runs.
    Dialing { deadline: UnixMillis },
    /// Connected, without the first frame.
    Opening { deadline: UnixMillis, is_duplex: bool },
    /// Events come.
    Open(OpenLink),
}

#[derive(Debug)]
pub(super) struct OpenLink {
    is_duplex: bool,
    heartbeat_ms: u64,
    next_ping: UnixMillis,
    watchdog: Watchdog,
    /// Webhooks that came on this connection.
    webhooks: u64,
}

impl Link {
    pub(super) fn connected(&mut self, is_duplex: bool, now: UnixMillis) {
        if matches!(self, Self::Dialing { .. }) {
            *self = Self::Opening { deadline: now + DIAL_TIMEOUT_MS, is_duplex };
        }
    }

    /// Whether there is something to hang up.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Ended | Self::Down { .. } => false,
            Self::Dialing { .. } | Self::Opening { .. } | Self::Open(_) => true,
        }
    }

    pub(super) fn is_duplex(&self) -> bool {
        matches!(self, Self::Open(link) if link.is_duplex)
    }

    pub(super) fn dial_at(&self) -> Option<UnixMillis> {
        if let Self::Down { dial_at } = self { Some(*dial_at) } else { None }
    }

    /// When the connection is to be given up.
    pub(super) fn deadline(&self) -> Option<UnixMillis> {
        match self {
            Self::Ended | Self::Down { .. } => None,
            Self::Dialing { deadline } | Self::Opening { deadline, .. } => Some(*deadline),
            Self::Open(link) => link.watchdog.deadline(),
        }
    }

    pub(super) fn next_ping(&self) -> Option<UnixMillis> {
        if let Self::Open(link) = self { link.is_duplex.then_some(link.next_ping) } else { None }
    }

    pub(super) fn silent_ms(&self, now: UnixMillis) -> Option<u64> {
        if let Self::Open(link) = self { Some(link.watchdog.silent_ms(now)) } else { None }
    }

    pub(super) fn state(&self) -> LinkState {
        match self {
            Self::Ended => LinkState::Ended,
            Self::Down { .. } => LinkState::Waiting,
            Self::Dialing { .. } => LinkState::Dialing,
            Self::Opening { .. } => LinkState::Opening,
            Self::Open(_) => LinkState::Open,
        }
    }
}

impl Session {
    pub(super) fn handle_alive(&mut self, now: UnixMillis) {
        if let Link::Open(link) = &mut self.link {
            link.watchdog.heard(now);
            self.backoff.reset();
        }
    }

    pub(super) fn handle_line(&mut self, line: Arc<str>, now: UnixMillis) {
        if let Link::Open(link) = &mut self.link {
            link.watchdog.heard(now);
        }
        let is_open = matches!(self.link, Link::Open(_));
        match (Frame::parse(&line), &self.link) {
            (_, Link::Ended | Link::Down { .. } | Link::Dialing { .. }) => {}
            (Ok(Frame::Open(open)), Link::Opening { is_duplex, .. }) => {
                self.handle_open(&open, *is_duplex, now);
            }
            (Ok(Frame::Webhook(webhook)), Link::Open(_)) => {
                self.handle_webhook(&webhook, &line, now);
            }
            (Ok(Frame::Heartbeat(heartbeat)), Link::Open(_)) => {
                self.handle_heartbeat(&heartbeat, now);
            }
            (Ok(Frame::Gap(gap)), Link::Open(_)) => self.handle_gap(gap, now),
            (Ok(Frame::Signal(signal)), Link::Open(_)) => self.handle_signal(&signal),
            (Ok(Frame::Bye(bye)), _) => self.handle_bye(&bye, now),
            (Ok(Frame::Unknown), _) => self.counters.frames_unknown += 1,
            // To read on after a broken line could pass over an event.
            (Ok(_), _) => self.drop_link(misplaced(is_open), now),
            (Err(_), _) => {
                self.counters.lines_bad += 1;
                self.drop_link("a line is not a frame", now);
            }
        }
    }

    fn handle_open(&mut self, open: &Open, is_duplex: bool, now: UnixMillis) {
        self.counters.connects += 1;
        self.credit.open(open.credit);
        self.tail = Some(open.tail);
        if self.target.is_none_or(|target| target.epoch != open.epoch) {
            self.target = Some(open.tail);
        }
        if self.progress.received().is_none() {
            // From now on nothing is missed, even if nothing ever comes while this process runs.
            self.progress.pass(open.cursor);
            self.ledger.touch();
        }
        let heartbeat_s = open.heartbeat_s.max(1);
        let heartbeat_ms = u64::from(heartbeat_s) * 1_000;
        self.link = Link::Open(OpenLink {
            is_duplex,
            heartbeat_ms,
            next_ping: now + heartbeat_ms,
            watchdog: Watchdog::new(heartbeat_s, now),
            webhooks: 0,
        });
        let lag_events = lag(Some(open.cursor), self.tail);
        self.tell(Notice::Connected { cursor: open.cursor, lag_events });
    }

    fn handle_webhook(&mut self, webhook: &Webhook<'_>, line: &Arc<str>, now: UnixMillis) {
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

    fn handle_heartbeat(&mut self, heartbeat: &Heartbeat, now: UnixMillis) {
        let Link::Open(link) = &self.link else { return };
        if heartbeat.n > link.webhooks {
            self.counters.losses_detected += 1;
            return self.drop_link("the connection lost an event", now);
        }
        self.backoff.reset();
        self.tail = Some(heartbeat.tail);
        // One from before the last event says nothing new.
        if self.progress.received().is_none_or(|received| heartbeat.cursor > received) {
            self.pass(heartbeat.cursor);
        }
    }

    fn handle_gap(&mut self, gap: Gap, now: UnixMillis) {
        self.counters.gaps += 1;
        let resumed_from = gap.resumed_from;
        self.tell(Notice::Gap(gap));
        if self.settings.fail_on_gap {
            return self.end(Exit::Gap, now);
        }
        self.pass(resumed_from);
    }

    fn handle_bye(&mut self, bye: &Bye, now: UnixMillis) {
        self.commands.push_back(Command::Hangup);
        if let Some(fault) = Fault::of_bye(bye) {
            return self.lose(fault, now);
        }
        // The relay spreads its planned ends by itself; only one that comes again before anything
        // else came is met with a growing wait.
        let is_planned = bye.code == relay_schemas::ByeCode::Reconnect;
        let is_first = self.backoff.failures() == 0;
        let asked_ms = bye.retry_after_ms.min(RETRY_AFTER_MS_MAX);
        let wait_ms = self.backoff.next_ms(&mut self.random, Some(asked_ms));
        let retry_in_ms = if is_planned && is_first { asked_ms } else { wait_ms };
        self.link = Link::Down { dial_at: now + retry_in_ms };
        self.tell(Notice::Bye { code: bye.code.as_str(), retry_in_ms });
    }

    fn pass(&mut self, cursor: Cursor) {
        self.progress.pass(cursor);
        self.ledger.touch();
    }

    /// Dials, pings and gives up in time.
    pub(super) fn settle_link(&mut self, now: UnixMillis) {
        let has_room = self.has_room();
        if let Link::Open(link) = &mut self.link {
            link.watchdog.set_paused(!has_room, now);
        }
        if self.link.deadline().is_some_and(|deadline| deadline <= now) {
            let message = match &self.link {
                Link::Open(_) => "the connection fell silent",
                Link::Opening { .. } => "no first frame came",
                Link::Dialing { .. } | Link::Ended | Link::Down { .. } => "no answer came",
            };
            self.counters.silences += 1;
            self.drop_link(message, now);
        }
        match &mut self.link {
            Link::Down { dial_at } if *dial_at <= now && has_room => {
                self.link = Link::Dialing { deadline: now + DIAL_TIMEOUT_MS };
                let from = self.progress.received();
                let from = from.map(DialFrom::Cursor);
                let from = from.unwrap_or_else(|| DialFrom::Start(self.settings.start.clone()));
                self.commands.push_back(Command::Dial(from));
            }
            Link::Open(link) if link.is_duplex && link.next_ping <= now => {
                link.next_ping = now + link.heartbeat_ms;
                self.commands.push_back(Command::Ping);
            }
            Link::Down { .. }
            | Link::Open(_)
            | Link::Opening { .. }
            | Link::Dialing { .. }
            | Link::Ended => {}
        }
    }
}

fn misplaced(is_open: bool) -> &'static str {
    if is_open { "a second open frame came" } else { "the first frame is not open" }
}
