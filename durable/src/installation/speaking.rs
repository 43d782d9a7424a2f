//! What events and machines say.

use std::collections::BTreeMap;

use relay_schemas::{
    Abandoned, ActivityCommand, ActivityContent, ActivityReply, Announce, Announcement, AnsweredIn,
    EdgeId, ErrorCode, EventId, Problem, ReportCommand, ReportStatus, UnixMillis,
    limits::{OUTBOX_BYTES_MAX, OUTBOX_CALLS_MAX, PARKED_MS, PARKED_REPORTS_MAX, SPEAK_MS_MAX},
};
use serde::{Deserialize, Serialize};

use super::{
    Installation, InstallationError, Random,
    answers::{AnnouncedEvent, LastWord, activity_call_id, is_retried},
    call::{StandIn, Urgency},
    not_installed,
    storage::{InstallationRow, InstallationStorage},
};

/// How long it is known that a turn has ended, in memory: a stop is announced within seconds of it.
const ENDED_REMEMBERED_MS: u64 = 60_000;

type Outcome<T, S> = Result<T, InstallationError<<S as InstallationStorage>::Error>>;

/// What a machine said before its event was announced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Parked {
    number: u64,
    at: UnixMillis,
    said: Said,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Report(ReportCommand),
    Activity(ActivityCommand),
}

impl Parked {
    pub(super) fn event(&self) -> EventId {
        match &self.said {
            Said::Report(report) => report.event,
            Said::Activity(activity) => activity.event,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether Linear's clock stops for it.
    fn is_word(&self) -> bool {
        match &self.said {
            Said::Report(_) => true,
            Said::Activity(command) => is_word(&command.activity.content),
        }
    }

    fn key(&self) -> String {
        format!("{}/{:06}", self.event(), self.number)
    }
}

impl<S: InstallationStorage> Installation<S> {
    /// Events that Linear waits to be answered. The same again changes nothing.
    pub fn announce(&mut self, announce: &Announce, now: UnixMillis) -> Outcome<(), S> {
        for announcement in &announce.announcements {
            self.announce_one(announcement, now)?;
        }
        Ok(())
    }

    fn announce_one(&mut self, announcement: &Announcement, now: UnixMillis) -> Outcome<(), S> {
        let key = announcement.event.to_string();
        if let Some(event) = self.read::<AnnouncedEvent>(InstallationRow::Event, &key)? {
            // A crash may have come between its row and what was parked for it.
            return self.take_parked(event, None, now);
        }
        let names = (announcement.app_user.as_deref(), announcement.app.as_deref());
        let Some(app) = self.app_of(names.0, names.1)? else {
            return self.note_foreign(announcement.event, now);
        };
        let until = now + self.settings.event_kept_ms;
        let announcement = announcement.clone();
        let mut event = AnnouncedEvent { announcement, app, last_words: BTreeMap::new(), until };
        let mut first = event.called_at();
        if event.announcement.is_stop() {
            first = self.first_word_of(&event);
            self.cancel_stand_ins(&event, Word::Stop, now)?;
        }
        let parked = self.parked.get(&event.announcement.event);
        if !parked.is_some_and(|all| all.iter().any(Parked::is_word))
            && self.require_room().is_ok()
            && !(event.announcement.is_stop() && self.has_ended_since(&event))
            && let Some(mut wanted) = event.stand_in(self.speak_at(&event.announcement, now), now)
        {
            wanted.first_after = first.take();
            let about = (event.app.as_str(), event.announcement.event, event.lane());
            self.want(wanted, about, now)?;
        }
        // Thousands of names could stand in a row that is kept for weeks.
        event.announcement.edges.clear();
        self.put(InstallationRow::Event, &key, &event, Some(until))?;
        self.take_parked(event, first, now)
    }

    /// When Linear's clock began, if nothing was shown in the event's session so far.
    fn first_word_of(&self, event: &AnnouncedEvent) -> Option<UnixMillis> {
        event.announcement.session.as_ref()?;
        let stand_ins = self.outbox.stand_ins(&event.lane()).into_iter();
        stand_ins.filter_map(|(number, _)| self.outbox.call(number)?.first_after).min()
    }

    /// When the relay speaks if no machine has: Linear's clock began when it sent the event.
    fn speak_at(&self, announcement: &Announcement, now: UnixMillis) -> UnixMillis {
        let patient = now + self.settings.answer_after_ms;
        patient.min(announcement.sent_at + SPEAK_MS_MAX).max(now)
    }

    /// `first`: what is said now is the first word in a new session that Linear sent then.
    fn take_parked(
        &mut self,
        mut event: AnnouncedEvent,
        mut first: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Outcome<(), S> {
        for parked in self.parked.remove(&event.announcement.event).unwrap_or_default() {
            let key = parked.key();
            match parked.said {
                Said::Report(report) => {
                    self.answer_report(&mut event, &report, first.take(), now)?;
                }
                Said::Activity(activity) => {
                    // Nobody can be told any more that there is no session to show it in.
                    self.show(&mut event, &activity, &mut first, now)?;
                }
            }
            self.storage.delete(InstallationRow::Parked, &key)?;
        }
        Ok(())
    }

    /// Nobody here answers another app's event: what machines say about it is not kept.
    fn note_foreign(&mut self, event: EventId, now: UnixMillis) -> Outcome<(), S> {
        for parked in self.parked.remove(&event).unwrap_or_default() {
            self.storage.delete(InstallationRow::Parked, &parked.key())?;
        }
        // Without any app nothing is parked, and nobody needs to be told apart.
        if self.has_app() && !self.is_foreign(event)? {
            let until = Some(now + self.settings.event_kept_ms);
            self.put_text(InstallationRow::Foreign, &event.to_string(), "", until)?;
        }
        Ok(())
    }

    fn is_foreign(&self, event: EventId) -> Result<bool, S::Error> {
        Ok(self.storage.get(InstallationRow::Foreign, &event.to_string())?.is_some())
    }

    /// What became of an event on a machine.
    pub fn report(&mut self, report: &ReportCommand, now: UnixMillis) -> Outcome<(), S> {
        let is_silent =
            report.kind.as_deref().is_some_and(|kind| AnsweredIn::of_kind(kind).is_none());
        if !self.has_app() || is_silent {
            return Ok(());
        }
        match self.read::<AnnouncedEvent>(InstallationRow::Event, &report.event.to_string())? {
            Some(mut event) => {
                self.require_room()?;
                self.answer_report(&mut event, report, None, now)
            }
            None => match self.awaited_in(report.event, report.kind.as_deref())? {
                Some(_) => self.park(Said::Report(report.clone()), now),
                None => Ok(()),
            },
        }
    }

    /// Where an event that was not announced may yet be answered. What lies in history, so that its
    /// kind is not known, came long ago: had it been for an app here, it would have been announced.
    fn awaited_in(
        &self,
        event: EventId,
        kind: Option<&str>,
    ) -> Result<Option<AnsweredIn>, S::Error> {
        let place = kind.and_then(AnsweredIn::of_kind);
        Ok(if place.is_some() && self.is_foreign(event)? { None } else { place })
    }

    fn answer_report(
        &mut self,
        event: &mut AnnouncedEvent,
        report: &ReportCommand,
        first: Option<UnixMillis>,
        now: UnixMillis,
    ) -> Outcome<(), S> {
        // What was said in a run is no last word when another one begins.
        if is_retried(report) || report.status == ReportStatus::Processing {
            self.note_last_word(event, &report.edge.id, None)?;
        }
        let word = match report.status {
            ReportStatus::Processing => Word::Progress(report.event),
            ReportStatus::Failed if is_retried(report) => Word::Progress(report.event),
            ReportStatus::Completed | ReportStatus::Failed => Word::End,
        };
        let is_no_news = event.is_bare_stop(report) && self.has_ended_since(event);
        if !is_no_news && let Some(mut wanted) = event.answer(report, now) {
            wanted.first_after = first.or_else(|| self.first_word_of(event));
            let about = (event.app.as_str(), report.event, event.lane());
            self.want(wanted, about, now)?;
        }
        self.cancel_stand_ins(event, word, now)
    }

    /// No machine has finished an event that Linear may wait for.
    pub fn abandoned(&mut self, abandoned: &Abandoned, now: UnixMillis) -> Outcome<(), S> {
        let key = abandoned.event.to_string();
        let Some(event) = self.read::<AnnouncedEvent>(InstallationRow::Event, &key)? else {
            return Ok(());
        };
        self.require_room()?;
        if let Some(mut wanted) = event.abandon(abandoned, now) {
            wanted.first_after = self.first_word_of(&event);
            self.want(wanted, (event.app.as_str(), abandoned.event, event.lane()), now)?;
        }
        self.cancel_stand_ins(&event, Word::End, now)
    }

    /// What a machine wants shown. Gives back the id that it has at Linear.
    pub fn activity(
        &mut self,
        command: &ActivityCommand,
        now: UnixMillis,
        random: Random<'_>,
    ) -> Outcome<ActivityReply, S> {
        if !self.has_app() {
            return Err(InstallationError::Refused(not_installed()));
        }
        let mut command = command.clone();
        command
            .activity
            .id
            .get_or_insert_with(|| format!("{:032x}", u128::from_le_bytes(random())));
        let reply = ActivityReply { received: true, id: activity_call_id(&command) };
        let key = command.event.to_string();
        match self.read::<AnnouncedEvent>(InstallationRow::Event, &key)? {
            Some(mut event) => {
                self.require_room()?;
                if !self.show(&mut event, &command, &mut None, now)? {
                    return Err(InstallationError::Refused(session_unknown()));
                }
            }
            None => match self.awaited_in(command.event, command.kind.as_deref())? {
                Some(AnsweredIn::Session) => self.park(Said::Activity(command), now)?,
                Some(AnsweredIn::Thread) | None => {
                    return Err(InstallationError::Refused(session_unknown()));
                }
            },
        }
        Ok(reply)
    }

    /// `false`: there is no session to show it in. `first`: as for what is parked.
    fn show(
        &mut self,
        event: &mut AnnouncedEvent,
        command: &ActivityCommand,
        first: &mut Option<UnixMillis>,
        now: UnixMillis,
    ) -> Outcome<bool, S> {
        let Some(mut wanted) = event.show(command, now) else { return Ok(false) };
        let is_word = is_word(&command.activity.content);
        if is_word {
            wanted.first_after = first.take().or_else(|| self.first_word_of(event));
        }
        if wanted.first_after.is_some() {
            wanted.urgency = Urgency::First;
        }
        let about = (event.app.as_str(), command.event, event.lane());
        self.want(wanted, about, now)?;
        let last_word = LastWord::of(&command.activity.content);
        if last_word.is_some() {
            self.note_last_word(event, &command.edge.id, last_word)?;
        }
        if is_word {
            let word = if last_word.is_some() { Word::End } else { Word::Progress(command.event) };
            self.cancel_stand_ins(event, word, now)?;
        }
        Ok(true)
    }

    /// What a machine has said last about an event.
    fn note_last_word(
        &mut self,
        event: &mut AnnouncedEvent,
        edge: &EdgeId,
        last_word: Option<LastWord>,
    ) -> Outcome<(), S> {
        if event.take_last_word(edge, last_word) {
            let key = event.announcement.event.to_string();
            self.put(InstallationRow::Event, &key, &*event, Some(event.until))?;
        }
        Ok(())
    }

    fn park(&mut self, said: Said, now: UnixMillis) -> Outcome<(), S> {
        if self.parked.values().map(Vec::len).sum::<usize>() >= PARKED_REPORTS_MAX {
            self.forget_oldest_parked()?;
        }
        let newest = self.parked.values().flatten().map(Parked::number).max().unwrap_or(0);
        let parked = Parked { number: newest + 1, at: now, said };
        self.put(InstallationRow::Parked, &parked.key(), &parked, Some(now + PARKED_MS))?;
        self.parked.entry(parked.event()).or_default().push(parked);
        Ok(())
    }

    /// Makes room among reports that wait. The longer one has waited, the less likely its event is
    /// announced at all: those of events that came before the app was installed never are.
    fn forget_oldest_parked(&mut self) -> Result<(), S::Error> {
        let Some(oldest) = self.parked.values().flatten().min_by_key(|parked| parked.number) else {
            return Ok(());
        };
        let (event, number) = (oldest.event(), oldest.number);
        self.storage.delete(InstallationRow::Parked, &oldest.key())?;
        if let Some(parked) = self.parked.get_mut(&event) {
            parked.retain(|parked| parked.number != number);
        }
        self.parked.retain(|_, parked| !parked.is_empty());
        Ok(())
    }

    /// Reports whose event nobody has announced.
    pub(super) fn forget_parked(&mut self, now: UnixMillis) {
        for parked in self.parked.values_mut() {
            parked.retain(|parked| now.since_ms(parked.at) < PARKED_MS);
        }
        self.parked.retain(|_, parked| !parked.is_empty());
    }

    fn require_room(&self) -> Outcome<(), S> {
        if self.outbox.len() < OUTBOX_CALLS_MAX && self.outbox.bytes() < OUTBOX_BYTES_MAX {
            return Ok(());
        }
        Err(InstallationError::Refused(crowded()))
    }

    /// Somebody has spoken: the relay needn't, unless it is a stop that isn't answered yet.
    fn cancel_stand_ins(
        &mut self,
        event: &AnnouncedEvent,
        word: Word,
        now: UnixMillis,
    ) -> Outcome<(), S> {
        if event.announcement.session.is_none() {
            return Ok(());
        }
        if matches!(word, Word::End) {
            self.ended_at.retain(|_, at| now.since_ms(*at) < ENDED_REMEMBERED_MS);
            self.ended_at.insert(event.lane(), now);
        }
        for (number, stand_in) in self.outbox.stand_ins(&event.lane()) {
            let is_own = |event| self.outbox.call(number).is_some_and(|call| call.event == event);
            let is_spoken_for = match (stand_in, word) {
                (StandIn::ForFirstWord, _) | (StandIn::ForStop, Word::End) => true,
                (StandIn::ForStop, Word::Progress(event)) => is_own(event),
                (StandIn::ForStop, Word::Stop) => false,
            };
            if is_spoken_for && let Some(call) = self.outbox.remove(number) {
                self.storage.delete(InstallationRow::Call, &call.id)?;
            }
        }
        Ok(())
    }

    /// Whether a turn in its session has ended since Linear sent an event: what a stop was to end
    /// has, and that the stop has ended, too, is no news.
    fn has_ended_since(&self, event: &AnnouncedEvent) -> bool {
        let ended_at = self.ended_at.get(&event.lane());
        ended_at.is_some_and(|at| *at >= event.announcement.sent_at)
    }
}

/// Who spoke, and how.
#[derive(Clone, Copy)]
enum Word {
    /// A machine is at work on this event.
    Progress(EventId),
    /// A machine's turn is over.
    End,
    /// A person wants the agent to stop, which is answered instead.
    Stop,
}

/// Whether Linear takes it for an answer: its clock goes on over a plan (facts of its agents'
/// interface, as of November 2026: an activity or external URLs acknowledge a session).
fn is_word(content: &ActivityContent) -> bool {
    !matches!(content, ActivityContent::Plan { .. })
}

fn session_unknown() -> Problem {
    Problem::new(ErrorCode::SessionUnknown, "this event belongs to no agent session")
}

fn crowded() -> Problem {
    Problem::new(ErrorCode::Unavailable, "too much waits for Linear in this organization")
}
