//! What an export asks for and writes next.

mod planning;
#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use fastrand::Rng;
use relay_schemas::{Cursor, Epoch, ErrorCode, Seq, UnixMillis};

use super::{
    batch::{Batch, Content, Written},
    download::{Damage, Download},
    ending::Ending,
    failure::Failure,
    notice::Notice,
    output::OutputFault,
    page::Page,
    plan::Plan,
    trial::Trial,
    window::{Piece, Window},
};
use crate::{
    config::{ExportSettings, ExportStart, Retry},
    fault::Fault,
    limits::EXPORT_STOP_GRACE_MS,
};

/// What happens to an export.
#[derive(Debug)]
pub(super) enum Input {
    Start,
    PlanRead(Plan),
    PlanFailed(Fault),
    /// A segment is there and is what the plan says.
    Fetched(Download),
    Damaged(Download, Damage),
    FetchFailed(Download, Fault),
    PageRead(Page),
    PageFailed(Fault),
    /// The batch, or as much of it as was possible before an interruption.
    Written(Written),
    WriteFailed(OutputFault),
    /// Somebody wants it to end; a second time, at once.
    Stop,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Command {
    ReadPlan(PlanFrom),
    /// Bytes that the download holds are not asked for again.
    Fetch(Download),
    /// A page of the events after this.
    ReadPage(Cursor),
    /// One at a time.
    Write(Batch),
    /// End the writing after the line that it is at.
    Interrupt,
    Tell(Notice),
    End(Ending),
}

/// Where a plan begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PlanFrom {
    Start(ExportStart),
    Rest(Cursor),
}

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Everything from the start up to here is written.
    pub(super) cursor: Option<Cursor>,
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// Positions passed, and positions in all; unknown before the first plan.
    pub(super) passed: Option<(u64, u64)>,
}

/// The part of the stream that is exported, fixed by the first plan.
#[derive(Clone, Copy, Debug)]
struct Extent {
    epoch: Epoch,
    start: Seq,
    tail: Seq,
}

/// An export as a value: inputs in, commands out. Commands are to be drained before the next
/// input.
#[derive(Debug)]
pub(super) struct Transfer {
    start: ExportStart,
    retry: Retry,
    segments_max: usize,
    fail_on_gap: bool,
    random: Rng,
    extent: Option<Extent>,
    plan: Trial,
    /// The position up to which segments are planned.
    planned_to: Option<Cursor>,
    planned: VecDeque<Piece>,
    window: Window,
    page: Trial,
    /// Between `Write` and `Written`, whether a slot is released then.
    writing: Option<Source>,
    tally: Tally,
    stop_at: Option<UnixMillis>,
    commands: VecDeque<Command>,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Window,
    Page,
}

impl Transfer {
    /// An export that has not started.
    pub(super) fn new(settings: &ExportSettings, fail_on_gap: bool, seed: u64) -> Self {
        let start = settings.start.value.clone();
        let cursor = match start {
            ExportStart::From(cursor) => Some(cursor),
            ExportStart::Earliest | ExportStart::Since(_) => None,
        };
        Self {
            start,
            retry: settings.retry,
            segments_max: settings.connections.value,
            fail_on_gap,
            random: Rng::with_seed(seed),
            extent: None,
            plan: Trial::new("the plan".into(), &settings.retry),
            planned_to: None,
            planned: VecDeque::new(),
            window: Window::new(settings.connections.value),
            page: Trial::new("the page".into(), &settings.retry),
            writing: None,
            tally: Tally { cursor, ..Tally::default() },
            stop_at: None,
            commands: VecDeque::new(),
            has_ended: false,
        }
    }

    /// What is to be done next.
    pub(super) fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When a `Tick` is wanted at the latest.
    pub(super) fn poll_timeout(&self) -> Option<UnixMillis> {
        let trials = [self.plan.poll_timeout(), self.page.poll_timeout()];
        let times = trials.into_iter().chain([self.window.poll_timeout(), self.stop_at]);
        times.flatten().min()
    }

    /// How far it is.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes what happened. Nothing counts after the end.
    pub(super) fn handle(&mut self, input: Input, now: UnixMillis) {
        if self.has_ended {
            return;
        }
        match input {
            Input::Start | Input::Tick => {}
            Input::PlanRead(plan) => self.handle_plan(plan),
            Input::PlanFailed(fault) => {
                let notice = self.plan.fail(fault, now, &mut self.random);
                self.tell(notice);
            }
            Input::Fetched(download) => self.handle_fetched(download),
            Input::Damaged(download, damage) => self.handle_damaged(download, &damage),
            Input::FetchFailed(download, fault) => self.handle_fetch_failed(download, fault, now),
            Input::PageRead(page) => self.handle_page(page),
            Input::PageFailed(fault) => {
                let notice = self.page.fail(fault, now, &mut self.random);
                self.tell(notice);
            }
            Input::Written(written) => self.handle_written(written),
            Input::WriteFailed(fault) => self.handle_write_failed(fault),
            Input::Stop => self.handle_stop(now),
        }
        self.advance(now);
    }

    fn handle_fetched(&mut self, download: Download) {
        let slot = self.window.slot(download.segment().first);
        let slot = slot.expect("a segment stays in the window until it is written");
        slot.trial.succeed();
        slot.download = Some(download);
    }

    fn handle_damaged(&mut self, mut download: Download, damage: &Damage) {
        let slot = self.window.slot(download.segment().first);
        let slot = slot.expect("a segment stays in the window until it is written");
        let (segment, message) = (download.segment().url.clone(), damage.to_string());
        if slot.was_damaged {
            let past = slot.piece.past;
            return slot.trial.end(Failure::Damaged { segment, message, past });
        }
        download.restart();
        slot.was_damaged = true;
        slot.download = Some(download);
        slot.trial.renew();
        self.tell(Some(Notice::Damaged { segment, message }));
    }

    fn handle_fetch_failed(&mut self, download: Download, fault: Fault, now: UnixMillis) {
        let slot = self.window.slot(download.segment().first);
        let slot = slot.expect("a segment stays in the window until it is written");
        if download.length() > slot.length_max {
            slot.length_max = download.length();
            slot.trial.note_progress();
        }
        let segment = download.segment().url.clone();
        slot.download = Some(download);
        if let Fault::Terminal(refusal) = &fault
            && refusal.code == ErrorCode::SegmentLost.as_str()
        {
            let (message, past) = (refusal.to_string(), slot.piece.past);
            return slot.trial.end(Failure::Damaged { segment, message, past });
        }
        let notice = slot.trial.fail(fault, now, &mut self.random);
        self.tell(notice);
    }

    fn handle_page(&mut self, page: Page) {
        let Some((extent, after)) = self.extent.zip(self.tally.cursor) else { return };
        if let Err(fault) = page.check(after) {
            return self.page.end(Failure::Contradiction(format!("the page {fault}")));
        }
        let reached = page.cursor.seq;
        if !page.has_more && reached < extent.tail {
            let fault = format!("the page after {after} is the last one, and not at the tail");
            return self.page.end(Failure::Contradiction(fault));
        }
        if reached == after.seq {
            let fault = format!("the page after {after} is empty, and not the last one");
            return self.page.end(Failure::Contradiction(fault));
        }
        if page.gap.is_some() && self.fail_on_gap {
            return self.page.end(Failure::Gap);
        }
        self.tell(page.gap.clone().map(Notice::Gap));
        self.page.succeed();
        let until = reached.min(extent.tail);
        self.write(Source::Page, after.seq, until, Content::Page(page));
    }

    fn handle_written(&mut self, written: Written) {
        if let Some(Cursor { seq, .. }) = &mut self.tally.cursor {
            *seq = written.up_to;
        }
        self.tally.events += written.events;
        self.tally.bytes += written.bytes;
        self.note_passed();
        if self.writing.take() == Some(Source::Window) {
            self.window.release();
        }
    }

    fn handle_write_failed(&mut self, fault: OutputFault) {
        self.writing = None;
        self.end(match fault {
            OutputFault::Closed => Ending::OutputClosed,
            OutputFault::Failed(message) => Ending::Failed(Failure::Output(message)),
        });
    }

    fn handle_stop(&mut self, now: UnixMillis) {
        if self.stop_at.is_some() {
            return self.end(Ending::Stopped);
        }
        self.stop_at = Some(now + EXPORT_STOP_GRACE_MS);
        if self.writing.is_some() {
            self.commands.push_back(Command::Interrupt);
        }
    }

    /// Starts everything that can be started. In order of what frees memory: 1 ending,
    /// 2 writing, 3 downloads, 4 plans, 5 pages.
    fn advance(&mut self, now: UnixMillis) {
        self.end_if_due(now);
        if self.has_ended || self.stop_at.is_some() {
            return;
        }
        self.write_next();
        self.fetch(now);
        if self.wants_plan() && self.plan.start(now) {
            let start = || PlanFrom::Start(self.start.clone());
            let from = self.planned_to.map_or_else(start, PlanFrom::Rest);
            self.commands.push_back(Command::ReadPlan(from));
        }
        if let Some(after) = self.tally.cursor.filter(|_| self.wants_page())
            && self.page.start(now)
        {
            self.commands.push_back(Command::ReadPage(after));
        }
    }

    fn end_if_due(&mut self, now: UnixMillis) {
        if self.has_ended {
            return;
        }
        let is_grace_over = self.stop_at.is_some_and(|at| at <= now);
        if self.writing.is_some() && !is_grace_over {
            return;
        }
        let is_drained = self.window.is_empty() && self.planned.is_empty();
        let planning = self.plan.failure().filter(|_| is_drained);
        let failure = self.window.failure().or(planning).or(self.page.failure()).cloned();
        if self.is_at_tail() {
            self.end(Ending::Complete);
        } else if self.stop_at.is_some() {
            self.end(Ending::Stopped);
        } else if let Some(failure) = failure {
            self.end(Ending::Failed(failure));
        }
    }

    fn write_next(&mut self) {
        if self.writing.is_some() {
            return;
        }
        if let Some((piece, download)) = self.window.take_ready() {
            self.write(Source::Window, piece.after, piece.until, Content::Segment(download));
        }
    }

    fn write(&mut self, source: Source, after: Seq, until: Seq, content: Content) {
        let Some(Extent { epoch, .. }) = self.extent else { return };
        self.writing = Some(source);
        let written_before = self.tally.events;
        let batch = Batch { epoch, after, until, written_before, content };
        self.commands.push_back(Command::Write(batch));
    }

    fn fetch(&mut self, now: UnixMillis) {
        while self.window.has_room() {
            let Some(piece) = self.planned.pop_front() else { break };
            self.window.push(piece, &self.retry);
        }
        while let Some(download) = self.window.start_next(now) {
            self.commands.push_back(Command::Fetch(download));
        }
    }

    /// Pages take over when every segment is written.
    fn wants_page(&mut self) -> bool {
        let is_due = self.plan.has_succeeded()
            && self.window.is_empty()
            && self.planned.is_empty()
            && self.writing.is_none();
        if is_due && self.page.has_succeeded() {
            self.page = Trial::new("the page".into(), &self.retry);
        }
        is_due
    }

    fn is_at_tail(&self) -> bool {
        let cursor = self.tally.cursor;
        self.extent.zip(cursor).is_some_and(|(extent, cursor)| cursor.seq >= extent.tail)
    }

    fn note_passed(&mut self) {
        if let Some((Extent { start, tail, .. }, cursor)) = self.extent.zip(self.tally.cursor) {
            let passed = (cursor.seq.distance_from(start), tail.distance_from(start));
            self.tally.passed = Some(passed);
        }
    }

    fn tell(&mut self, notice: Option<Notice>) {
        self.commands.extend(notice.map(Command::Tell));
    }

    fn end(&mut self, ending: Ending) {
        self.has_ended = true;
        self.commands.push_back(Command::End(ending));
    }
}
