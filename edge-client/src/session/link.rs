use std::{mem, sync::Arc};

use relay_schemas::{Bye, ByeCode, Cursor, Frame, Gap, Heartbeat, Open, UnixMillis};

use super::{Command, DialFrom, LinkState, Notice, Session, lag, mode::Mode, watchdog::Watchdog};
use crate::{
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
    pub(super) webhooks: u64,
    /// Whether each event is given to one machine.
    pub(super) is_assigned: bool,
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

    pub(super) fn is_opening(&self) -> bool {
        matches!(self, Self::Opening { .. })
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
                self.handle_open(&open, &Mode::read(&line), *is_duplex, now);
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

    fn handle_open(&mut self, open: &Open, mode: &Mode<'_>, is_duplex: bool, now: UnixMillis) {
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
        self.was_assigned = mode.assigned().is_some();
        let heartbeat_s = open.heartbeat_s.max(1);
        let heartbeat_ms = u64::from(heartbeat_s) * 1_000;
        self.link = Link::Open(OpenLink {
            is_duplex,
            heartbeat_ms,
            next_ping: now + heartbeat_ms,
            watchdog: Watchdog::new(heartbeat_s, now),
            webhooks: 0,
            is_assigned: self.was_assigned,
        });
        let lag_events = lag(Some(open.cursor), self.tail);
        self.tell(Notice::Connected { cursor: open.cursor, lag_events });
        self.tell_mode(mode);
    }

    /// Where each event is given to one machine, and this one does not report, people should know
    /// what that means: once.
    fn tell_mode(&mut self, told: &Mode<'_>) {
        let Some(mode) = told.assigned().map(str::to_owned) else { return };
        let notice = match self.settings.capacity {
            Some(0) => Notice::GivenNothing { mode },
            None | Some(_) if told.gives_nothing() => Notice::GivenNothing { mode },
            None if !self.settings.reports => Notice::ReportsAwaited { mode },
            None | Some(_) => return,
        };
        if !mem::replace(&mut self.is_mode_told, true) {
            self.tell(notice);
        }
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
        let is_planned = bye.code == ByeCode::Reconnect;
        let is_first = self.backoff.failures() == 0;
        let asked_ms = bye.retry_after_ms.min(RETRY_AFTER_MS_MAX);
        let wait_ms = self.backoff.next_ms(&mut self.random, Some(asked_ms));
        let retry_in_ms = if is_planned && is_first { asked_ms } else { wait_ms };
        self.link = Link::Down { dial_at: now + retry_in_ms };
        self.tell(Notice::Bye { code: bye.code.as_str(), retry_in_ms });
    }

    pub(super) fn pass(&mut self, cursor: Cursor) {
        self.progress.pass(cursor);
        self.ledger.touch();
    }

    /// Dials, pings and gives up in time.
    pub(super) fn settle_link(&mut self, now: UnixMillis) {
        let (may_dial, may_read) = (self.may_dial(), self.may_read());
        if let Link::Open(link) = &mut self.link {
            link.watchdog.set_paused(!may_read, now);
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
            Link::Down { dial_at } if *dial_at <= now && may_dial => {
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

    pub(super) fn redial(&mut self, now: UnixMillis) {
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
    pub(super) fn lose(&mut self, fault: Fault, now: UnixMillis) {
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
    pub(super) fn follow_expiry(&mut self, now: UnixMillis) {
        let is_first = self.backoff.failures() == 0;
        let wait_ms = self.backoff.next_ms(&mut self.random, None);
        let retry_in_ms = if is_first { 0 } else { wait_ms };
        self.link = Link::Down { dial_at: now + retry_in_ms };
        self.tell(Notice::Bye { code: ByeCode::Expired.as_str(), retry_in_ms });
    }

    /// The connection is no good: end it from this side.
    pub(super) fn drop_link(&mut self, message: impl std::fmt::Display, now: UnixMillis) {
        self.commands.push_back(Command::Hangup);
        self.lose(Fault::passing(message), now);
    }
}

fn misplaced(is_open: bool) -> &'static str {
    if is_open { "a second open frame came" } else { "the first frame is not open" }
}
