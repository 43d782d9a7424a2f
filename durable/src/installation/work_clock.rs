use relay_schemas::UnixMillis;

use super::call::Urgency;

/// How long one alarm works before the next takes over. The platform ends it after 15 min.
const WORK_MS_MAX: u64 = 120_000;

/// How long first words go on after that, while the last requests end: none takes longer. With no end
/// of their own, a crowd of them would keep all else waiting.
const FIRST_WORDS_MS: u64 = 5_000;

/// When the next alarm comes if this one's work is cut off. The relay speaks 8 s after Linear's own
/// clock began at the latest: this leaves a second for the call. Requests that are still open then
/// cost nothing, because an alarm waits for the one before.
const CUT_OFF_MS: u64 = 1_000;

/// How long after its last sign the alarm's work is taken to go on. It looks up more often.
const WORKING_MS: u64 = 20_000;

/// Who sees to what there is to do: the alarm's work that goes on, or an alarm to come. Every answer
/// is acted upon before the next await, so that nothing comes in between.
#[derive(Debug, Default)]
pub struct WorkClock {
    /// When the alarm's work began.
    began_at: UnixMillis,
    /// When it was last seen going on.
    worked_at: Option<UnixMillis>,
    alarm: Option<UnixMillis>,
}

/// What a command has to do about what it has left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It is seen to.
    Nothing,
    /// The work that goes on has to look again.
    Kick,
    /// Set the alarm.
    Alarm(UnixMillis),
}

/// What the alarm's work may still begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Everything.
    Full,
    /// The next alarm is to take over when what is under way has ended: only what can't wait for
    /// that.
    FirstWords,
    /// Nothing.
    Ending,
}

impl Pace {
    pub(super) fn allows(self, urgency: Urgency) -> bool {
        match self {
            Self::Full => true,
            Self::FirstWords => urgency == Urgency::First,
            Self::Ending => false,
        }
    }
}

impl WorkClock {
    /// The alarm has come and its work begins. Gives back when the next is to come if the work is
    /// cut off, which is set before anything is done.
    pub fn begin(&mut self, now: UnixMillis) -> UnixMillis {
        let next = now + CUT_OFF_MS;
        self.began_at = now;
        self.worked_at = Some(now);
        self.alarm = Some(next);
        next
    }

    /// The work goes on.
    pub fn go_on(&mut self, now: UnixMillis) {
        self.worked_at = Some(now);
    }

    /// What it may still begin.
    pub fn pace(&self, now: UnixMillis) -> Pace {
        match now.since_ms(self.began_at) {
            ..WORK_MS_MAX => Pace::Full,
            worked_ms if worked_ms < WORK_MS_MAX + FIRST_WORDS_MS => Pace::FirstWords,
            _ => Pace::Ending,
        }
    }

    /// A command has come, after which something is to be done at `next`. The alarm is set only when
    /// it must come earlier than the one that is set: each setting is a billed row.
    pub fn wake(&mut self, next: Option<UnixMillis>, now: UnixMillis) -> Wake {
        if self.worked_at.is_some_and(|at| now.since_ms(at) < WORKING_MS) {
            return Wake::Kick;
        }
        let Some(next) = next else { return Wake::Nothing };
        if self.alarm.is_some_and(|set| set <= next && set > now) {
            return Wake::Nothing;
        }
        self.alarm = Some(next);
        Wake::Alarm(next)
    }

    /// The work has ended. `next` is what there is to do as of now, also after what has come since
    /// the work looked last; the alarm is set to it, or deleted.
    pub fn end(&mut self, next: Option<UnixMillis>) -> Option<UnixMillis> {
        self.worked_at = None;
        self.alarm = next;
        next
    }

    /// An alarm could not be set, or there is nothing it could do: nobody is at work, and what comes
    /// next sets one.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
