use std::mem;

use relay_schemas::UnixMillis;

use super::{Command, Notice, Session, link::Link};
use crate::fault::Exit;

/// The client ends, as soon as what runs is done.
#[derive(Debug)]
pub(super) struct Ending {
    exit: Exit,
    deadline: UnixMillis,
    is_abandoned: bool,
    is_told: bool,
}

impl Ending {
    /// When what still runs is to be stopped.
    pub(super) fn deadline(&self) -> Option<UnixMillis> {
        (!self.is_abandoned && !self.is_told).then_some(self.deadline)
    }
}

impl Session {
    /// Whether what runs is being ended, so that its end says nothing about its event.
    pub(super) fn is_abandoned(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.is_abandoned)
    }

    pub(super) fn handle_shutdown(&mut self, now: UnixMillis) {
        match &mut self.ending {
            Some(ending) => ending.deadline = now,
            None => self.end(Exit::Stopped, now),
        }
    }

    pub(super) fn check_target(&mut self, now: UnixMillis) {
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

    pub(super) fn end(&mut self, exit: Exit, now: UnixMillis) {
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

    pub(super) fn settle_ending(&mut self, now: UnixMillis) {
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
}
