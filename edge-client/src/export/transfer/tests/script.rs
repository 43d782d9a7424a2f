use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use relay_schemas::{ErrorCode, Gap, GapReason};

use super::{
    super::{Command, Input, PlanFrom, Transfer, samples},
    at, drain, passing, seq, settings,
};
use crate::{
    config::ExportStart,
    export::{
        batch::Written,
        download::{Damage, Download},
        ending::Ending,
        failure::Failure,
        notice::Notice,
        output::OutputFault,
        page::Page,
        plan::Plan,
    },
    fault::{Fault, Refusal, RefusalKind},
};

/// Says commands in short, so that scripts can be read.
fn say(command: &Command) -> String {
    match command {
        Command::ReadPlan(PlanFrom::Start(_)) => "plan".into(),
        Command::ReadPlan(PlanFrom::Rest(cursor)) => format!("plan {}", cursor.seq.get()),
        Command::Fetch(download) => {
            format!("fetch {}+{}", download.segment().first.get(), download.length())
        }
        Command::ReadPage(after) => format!("page {}", after.seq.get()),
        Command::Write(batch) => format!("write {}-{}", batch.after.get(), batch.until.get()),
        Command::Interrupt => "interrupt".into(),
        Command::Tell(Notice::Gap(_)) => "gap".into(),
        Command::Tell(Notice::Retry { attempt, .. }) => format!("retry {attempt}"),
        Command::Tell(Notice::Damaged { .. }) => "damaged".into(),
        Command::End(Ending::Failed(failure)) => format!("failed {}", failure.code()),
        Command::End(ending) => format!("{ending:?}"),
    }
}

struct Script {
    transfer: Transfer,
    now: u64,
    commands: Vec<Command>,
}

impl Script {
    fn start(connections: usize) -> Self {
        Self::start_at(ExportStart::Earliest, connections, false)
    }

    fn start_at(start: ExportStart, connections: usize, fail_on_gap: bool) -> Self {
        let transfer = Transfer::new(&settings(start, connections), fail_on_gap, 7);
        let mut script = Self { transfer, now: 0, commands: Vec::new() };
        script.feed(Input::Start, "plan");
        script
    }

    /// Feeds an input and compares what follows.
    #[track_caller]
    fn feed(&mut self, input: Input, expected: &str) {
        self.transfer.handle(input, at(self.now));
        self.commands = drain(&mut self.transfer);
        let said: Vec<String> = self.commands.iter().map(say).collect();
        assert_eq!(said.join(", "), expected);
    }

    #[track_caller]
    fn plan(&mut self, plan: Plan, expected: &str) {
        self.feed(Input::PlanRead(plan), expected);
    }

    #[track_caller]
    fn fetched(&mut self, first: u64, last: u64, expected: &str) {
        self.feed(Input::Fetched(download(first, last, 10_000)), expected);
    }

    #[track_caller]
    fn written(&mut self, up_to: u64, events: u64, expected: &str) {
        let up_to = relay_schemas::Seq::new(up_to);
        self.feed(Input::Written(Written { up_to, events, bytes: 1 }), expected);
    }

    fn ending(&self) -> &Ending {
        match self.commands.last() {
            Some(Command::End(ending)) => ending,
            other => panic!("{other:?} is no end"),
        }
    }
}

/// A download that has come as far as that.
fn download(first: u64, last: u64, length: usize) -> Download {
    let (segment, bytes) = samples::segment(first, last);
    let mut download = Download::new(segment.into());
    download.push(&bytes[..length.min(bytes.len())]).unwrap();
    download
}

fn refusal(code: ErrorCode, kind: RefusalKind) -> Fault {
    Fault::Terminal(Refusal { kind, code: code.as_str().into(), message: "no".into() })
}

fn gap(to: u64) -> Gap {
    Gap {
        requested: "x".into(),
        resumed_from: samples::cursor(to),
        oldest: samples::cursor(to),
        reason: GapReason::Trimmed,
    }
}

#[test]
fn segments_are_written_in_order_then_pages_up_to_the_tail() {
    let mut script = Script::start(2);
    script.plan(samples::plan(0, 0, &[3, 6, 9], 12), "fetch 1+0, fetch 4+0");
    script.fetched(4, 6, "");
    script.fetched(1, 3, "write 0-3");
    script.written(3, 3, "write 3-6, fetch 7+0");
    script.written(6, 3, "");
    script.fetched(7, 9, "write 6-9");
    script.written(9, 3, "page 9");
    script.feed(Input::PageRead(samples::page(10, 11, true)), "write 9-11");
    script.written(11, 2, "page 11");
    script.feed(Input::PageRead(samples::page(12, 14, true)), "write 11-12");
    script.written(12, 1, "Complete");
    assert_eq!(script.transfer.tally().events, 12);
    script.feed(Input::Stop, "");
}

#[test]
fn a_slow_first_segment_holds_the_others_back() {
    let mut script = Script::start(3);
    let ends = [1, 2, 3, 4, 5, 6];
    script.plan(samples::plan(0, 0, &ends, 6), "fetch 1+0, fetch 2+0, fetch 3+0");
    script.fetched(3, 3, "");
    script.fetched(2, 2, "");
    script.fetched(1, 1, "write 0-1");
    script.written(1, 1, "write 1-2, fetch 4+0");
}

#[test]
fn a_start_within_a_segment_skips_what_lies_before() {
    let start = ExportStart::From(samples::cursor(4));
    let mut script = Script::start_at(start.clone(), 1, false);
    assert_eq!(seq(script.transfer.tally().cursor), Some(4), "known before the relay answers");
    script.plan(samples::plan(4, 2, &[6], 6), "fetch 3+0");
    script.fetched(3, 6, "write 4-6");
    script.written(6, 2, "Complete");
    assert_eq!(script.transfer.tally().passed, Some((2, 2)));
}

#[test]
fn an_empty_stream_and_a_start_at_the_tail_are_complete() {
    Script::start(4).plan(samples::plan(0, 0, &[], 0), "Complete");
    Script::start(4).plan(samples::plan(7, 7, &[], 7), "Complete");
}

#[test]
fn plans_go_on_and_later_ones_may_pass_the_first_tail() {
    let mut script = Script::start(2);
    let more = |plan: Plan| Plan { has_more: true, ..plan };
    script.plan(more(samples::plan(0, 0, &[3, 6], 10)), "fetch 1+0, fetch 4+0, plan 6");
    script.fetched(1, 3, "write 0-3");
    // The tail has grown, and 7 to 12 were sealed meanwhile.
    script.plan(more(samples::plan(6, 6, &[8, 12, 14], 20)), "");
    script.written(3, 3, "fetch 7+0");
    script.fetched(4, 6, "write 3-6");
    script.written(6, 3, "fetch 9+0");
    script.fetched(9, 12, "");
    script.fetched(7, 8, "write 6-8");
    script.written(8, 2, "write 8-10");
    script.written(10, 2, "Complete");
}

#[test]
fn requests_are_made_again_after_a_wait_and_given_up_in_the_end() {
    let mut script = Script::start(1);
    script.feed(Input::PlanFailed(passing()), "retry 1");
    let wake_at = script.transfer.poll_timeout().unwrap();
    script.feed(Input::Tick, "");
    script.now = wake_at.get();
    script.feed(Input::Tick, "plan");
    let asked = Fault::Passing { message: "later".into(), retry_after_ms: Some(60_000) };
    script.feed(Input::PlanFailed(asked), "retry 2");
    script.now += 59_999;
    script.feed(Input::Tick, "");
    script.now += 1;
    script.feed(Input::Tick, "plan");
    script.feed(Input::PlanFailed(passing()), "failed 1");
    assert!(matches!(script.ending(), Ending::Failed(Failure::GaveUp { attempts: 3, .. })));
}

#[test]
fn a_broken_download_keeps_its_bytes_and_progress_counts_anew() {
    let mut script = Script::start(1);
    script.plan(samples::plan(0, 0, &[3], 3), "fetch 1+0");
    for length in [10, 20, 30, 40] {
        script.feed(Input::FetchFailed(download(1, 3, length), passing()), "retry 1");
        script.now += 10_000;
        script.feed(Input::Tick, &format!("fetch 1+{length}"));
    }
    // It began anew, and what has come once is no progress the second time.
    script.feed(Input::FetchFailed(download(1, 3, 0), passing()), "retry 2");
    script.now += 10_000;
    script.feed(Input::Tick, "fetch 1+0");
    script.feed(Input::FetchFailed(download(1, 3, 40), passing()), "failed 1");
}

#[test]
fn a_damaged_segment_is_fetched_once_more_from_scratch() {
    let mut script = Script::start(1);
    script.plan(samples::plan(0, 0, &[2, 4], 4), "fetch 1+0");
    script.fetched(1, 2, "write 0-2");
    script.written(2, 2, "fetch 3+0");
    script.feed(Input::Damaged(download(3, 4, 50), Damage::NotRecords), "damaged, fetch 3+0");
    script.feed(Input::Damaged(download(3, 4, 50), Damage::NotRecords), "failed 1");
    let Ending::Failed(failure) = script.ending() else { panic!("it failed") };
    assert!(failure.to_string().contains("/0000000000000003-0000000000000004 is damaged"));
    assert_eq!(seq(script.transfer.tally().cursor), Some(2));
}

#[test]
fn a_failure_waits_until_everything_before_it_is_written() {
    let mut script = Script::start(3);
    script.plan(samples::plan(0, 0, &[1, 2, 3, 4], 4), "fetch 1+0, fetch 2+0, fetch 3+0");
    let unknown = || refusal(ErrorCode::SegmentUnknown, RefusalKind::Request);
    script.feed(Input::FetchFailed(download(2, 2, 0), unknown()), "");
    script.fetched(1, 1, "write 0-1");
    script.written(1, 1, "failed 5");
}

#[test]
fn a_failed_plan_waits_for_the_segments_before_it() {
    let mut script = Script::start(1);
    let plan = Plan { has_more: true, ..samples::plan(0, 0, &[2], 4) };
    script.plan(plan, "fetch 1+0, plan 2");
    let changed = refusal(ErrorCode::CursorEpochChanged, RefusalKind::Request);
    script.feed(Input::PlanFailed(changed), "");
    script.fetched(1, 2, "write 0-2");
    script.written(2, 2, "failed 5");
}

#[test]
fn a_later_plan_must_go_on_where_the_last_one_ended() {
    let more = || Plan { has_more: true, ..samples::plan(0, 0, &[2], 9) };
    let check = |later: Plan, code: u8| {
        let mut script = Script::start(1);
        script.plan(more(), "fetch 1+0, plan 2");
        script.fetched(1, 2, "write 0-2");
        script.plan(later, "");
        script.written(2, 2, &format!("failed {code}"));
    };
    let mut other = samples::plan(2, 2, &[], 9);
    other.epoch = "0123456789ab".parse().unwrap();
    for cursor in [&mut other.from, &mut other.rest, &mut other.tail] {
        cursor.epoch = other.epoch;
    }
    check(other, 5);
    check(samples::plan(3, 3, &[4], 9), 1);
    check(samples::plan(1, 1, &[4], 9), 1);
    check(Plan { has_more: true, ..samples::plan(2, 2, &[], 9) }, 1);
}

#[test]
fn refusals_end_it_with_the_codes_of_the_other_commands() {
    for (code, kind, expected) in [
        (ErrorCode::CredentialExpired, RefusalKind::Credential, "failed 3"),
        (ErrorCode::ParameterInvalid, RefusalKind::Request, "failed 2"),
        (ErrorCode::NotFound, RefusalKind::Request, "failed 2"),
    ] {
        Script::start(1).feed(Input::PlanFailed(refusal(code, kind)), expected);
    }
    let mut script = Script::start(1);
    script.plan(samples::plan(0, 0, &[], 2), "page 0");
    let trimmed = refusal(ErrorCode::CursorTrimmed, RefusalKind::Request);
    script.feed(Input::PageFailed(trimmed), "failed 5");
}

#[test]
fn gaps_are_told_and_can_end_it() {
    let plan = || Plan { gap: Some(gap(3)), ..samples::plan(3, 3, &[5], 5) };
    Script::start(1).plan(plan(), "gap, fetch 4+0");
    Script::start_at(ExportStart::Earliest, 1, true).plan(plan(), "failed 5");
    // The store lost events that the first plan still had.
    let mut script = Script::start(1);
    script.plan(samples::plan(0, 0, &[], 6), "page 0");
    let page = Page { gap: Some(gap(3)), ..samples::page(4, 5, true) };
    script.feed(Input::PageRead(page), "gap, write 0-5");
    script.written(5, 2, "page 5");
    let page = Page { gap: Some(gap(8)), ..samples::page(9, 9, false) };
    script.feed(Input::PageRead(page), "gap, write 5-6");
    let Some(Command::Write(batch)) = script.commands.pop() else { panic!("it writes") };
    let written = batch.write(&mut Vec::new(), &AtomicBool::new(false)).unwrap();
    assert_eq!((written.up_to.get(), written.events), (6, 0), "nothing up to the tail is left");
    script.feed(Input::Written(written), "Complete");
}

#[test]
fn a_lost_segment_names_where_to_go_on_without_it() {
    let mut script = Script::start(1);
    script.plan(samples::plan(0, 0, &[2], 4), "fetch 1+0");
    let lost = refusal(ErrorCode::SegmentLost, RefusalKind::Request);
    script.feed(Input::FetchFailed(download(1, 2, 0), lost), "failed 1");
    let Ending::Failed(failure) = script.ending() else { panic!("it failed") };
    let past = format!("--from {} goes on without", samples::cursor(2));
    assert!(failure.to_string().contains(&past), "{failure}");
}

#[test]
fn pages_that_lead_nowhere_end_it() {
    for page in [samples::page(1, 2, false), samples::page(2, 3, true), samples::page(1, 0, true)] {
        let mut script = Script::start(1);
        script.plan(samples::plan(0, 0, &[], 3), "page 0");
        script.feed(Input::PageRead(page), "failed 1");
    }
}

#[test]
fn a_page_is_asked_for_again_too() {
    let mut script = Script::start(1);
    script.plan(samples::plan(0, 0, &[], 2), "page 0");
    script.feed(Input::PageFailed(passing()), "retry 1");
    script.now += 10_000;
    script.feed(Input::Tick, "page 0");
    script.feed(Input::PageRead(samples::page(1, 2, false)), "write 0-2");
}

#[test]
fn a_request_to_end_lets_the_line_end_and_the_second_does_not() {
    let start = || {
        let mut script = Script::start(1);
        script.plan(samples::plan(0, 0, &[4, 8], 8), "fetch 1+0");
        script
    };
    start().feed(Input::Stop, "Stopped");
    let writing = || {
        let mut script = start();
        script.fetched(1, 4, "write 0-4");
        script.feed(Input::Stop, "interrupt");
        script
    };
    let mut script = writing();
    script.written(3, 3, "Stopped");
    assert_eq!(seq(script.transfer.tally().cursor), Some(3));
    writing().feed(Input::Stop, "Stopped");
    let mut script = writing();
    script.now = 999;
    script.feed(Input::Tick, "");
    assert_eq!(script.transfer.poll_timeout(), Some(at(1_000)));
    script.now = 1_000;
    script.feed(Input::Tick, "Stopped");
    assert_eq!(seq(script.transfer.tally().cursor), Some(0));
}

#[test]
fn an_output_that_fails_ends_it() {
    for (fault, expected) in
        [(OutputFault::Closed, "OutputClosed"), (OutputFault::Failed("full".into()), "failed 1")]
    {
        let mut script = Script::start(1);
        script.plan(samples::plan(0, 0, &[4], 8), "fetch 1+0");
        script.fetched(1, 4, "write 0-4");
        script.feed(Input::WriteFailed(fault), expected);
    }
}

/// Interrupts after the first line that is written.
struct Interrupting<'a>(&'a AtomicBool, Vec<u8>);

impl Write for Interrupting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.store(true, Ordering::Relaxed);
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_interrupted_batch_ends_after_a_whole_line() {
    let mut script = Script::start(1);
    script.plan(samples::plan(0, 0, &[4], 4), "fetch 1+0");
    script.fetched(1, 4, "write 0-4");
    let Some(Command::Write(batch)) = script.commands.pop() else { panic!("it writes") };
    let is_interrupted = AtomicBool::new(false);
    let mut output = Interrupting(&is_interrupted, Vec::new());
    let written = batch.write(&mut output, &is_interrupted).unwrap();
    assert_eq!(String::from_utf8(output.1).unwrap(), samples::lines(1, 1));
    assert_eq!((written.up_to.get(), written.events), (1, 1));
}
