//! Goal: `edgerelay export` writes exactly the events between its start and the first plan's tail,
//! whatever goes wrong on the way, or says how far it came. Method: exports in this process against a
//! relay of history that fails as planned.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use edgerelay::{
    Arguments, Ending, ExportReport, ExportSettings, Failure, Retry, Settings, export_to,
};
use futures::stream;
use relay_schemas::ErrorCode;
use tokio::sync::Notify;

use crate::{
    events::cursor,
    harness::{credential, within},
    history_relay::{HistoryRelay, Wrong, lines},
};

/// An output that a test can look at.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn length(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs an export in this process.
async fn run_into(output: Shared, relay: &HistoryRelay, flags: &[&str]) -> ExportReport {
    let environment = BTreeMap::from([
        ("PROXY_URL".to_owned(), relay.url.clone()),
        ("EDGE_API_KEY".to_owned(), credential("edge_1")),
    ]);
    let environment = |name: &str| environment.get(name).cloned();
    let arguments = Arguments::parse(["edgerelay", "export"].iter().chain(flags)).unwrap();
    let settings = Settings::resolve(&arguments, &environment, None).unwrap();
    let mut export = ExportSettings::resolve(&arguments, &environment).unwrap();
    export.retry = Retry { attempts_max: 3, base_ms: 1, cap_ms: 2 };
    within(export_to(&settings, &export, output, stream::pending())).await
}

async fn run(relay: &HistoryRelay, flags: &[&str]) -> (ExportReport, String) {
    let output = Shared::default();
    let report = run_into(output.clone(), relay, flags).await;
    (report, output.text())
}

/// Runs an export that must write exactly these events.
async fn check(relay: &HistoryRelay, flags: &[&str], first: u64, last: u64) {
    let (report, written) = run(relay, flags).await;
    assert_eq!(report.ending, Ending::Complete, "{report}");
    assert_eq!(written, lines(first, last));
    assert_eq!(report.cursor, Some(cursor(last)));
    assert_eq!((report.events, report.bytes), (last + 1 - first, written.len() as u64));
}

/// Runs an export that must fail after exactly these events.
async fn check_failure(relay: &HistoryRelay, last: u64) -> Failure {
    let (report, written) = run(relay, &[]).await;
    assert_eq!(written, lines(1, last));
    assert_eq!(report.cursor, (last > 0).then(|| cursor(last)));
    let Ending::Failed(failure) = report.ending else { panic!("{report}") };
    failure
}

#[tokio::test]
async fn segments_and_then_pages_are_one_stream() {
    let relay = HistoryRelay::start(40, &[7, 8, 20, 33]).await;
    check(&relay, &[], 1, 40).await;
    assert_eq!(relay.seen("page").len(), 3);
    check(&relay, &["--connections", "1"], 1, 40).await;
    check(&relay, &["--connections", "32"], 1, 40).await;
}

#[tokio::test]
async fn it_begins_where_it_is_told_to_also_within_a_segment() {
    let relay = HistoryRelay::start(40, &[7, 20, 33]).await;
    check(&relay, &["--from", &cursor(12).to_string()], 13, 40).await;
    assert_eq!(relay.seen("segment").len(), 2);
    check(&relay, &["--from", &cursor(36).to_string()], 37, 40).await;
    check(&relay, &["--from", &cursor(40).to_string()], 41, 40).await;
    check(&relay, &["--since", "2h 30m"], 21, 40).await;
    assert!(relay.seen("plan").last().unwrap().contains(r#""since": "2h 30m""#));
}

#[tokio::test]
async fn an_empty_stream_and_one_without_segments_are_exported_too() {
    check(&HistoryRelay::start(0, &[]).await, &[], 1, 0).await;
    let relay = HistoryRelay::start(5, &[]).await;
    check(&relay, &[], 1, 5).await;
    assert_eq!(relay.seen("segment").len(), 0);
    check(&HistoryRelay::start(5, &[5]).await, &[], 1, 5).await;
}

#[tokio::test]
async fn a_plan_goes_on_and_its_first_tail_is_the_end() {
    let relay = HistoryRelay::start(30, &[5, 10, 15, 20, 25]).await;
    relay.offer(2);
    relay.grow_by(4);
    check(&relay, &[], 1, 30).await;
    assert!(relay.seen("plan").len() >= 3);
    assert!(relay.seen("plan")[1].contains(r#""on_gap": "error""#));
    let relay = HistoryRelay::start(6, &[]).await;
    relay.grow_by(4);
    check(&relay, &[], 1, 6).await;
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let relay = HistoryRelay::start(20, &[20]).await;
    relay.plan_wrong("segment 1", Wrong::Cut(300));
    relay.plan_wrong("segment 1", Wrong::Cut(200));
    check(&relay, &[], 1, 20).await;
    let expected = ["segment 1 whole", "segment 1 bytes=300-", "segment 1 bytes=500-"];
    assert_eq!(relay.seen("segment"), expected);
}

#[tokio::test]
async fn a_range_that_is_not_the_wanted_one_is_not_used() {
    let expected = ["segment 1 whole", "segment 1 bytes=300-", "segment 1 whole"];
    for (wrong, requests) in [(Wrong::NoRanges, 2), (Wrong::OtherRange, 3)] {
        let relay = HistoryRelay::start(20, &[20]).await;
        relay.plan_wrong("segment 1", Wrong::Cut(300));
        relay.plan_wrong("segment 1", wrong);
        check(&relay, &[], 1, 20).await;
        assert_eq!(relay.seen("segment"), expected[..requests]);
    }
    // Nor is it damage, which is forgiven once only.
    let relay = HistoryRelay::start(20, &[20]).await;
    for wrong in [Wrong::Cut(300), Wrong::OtherRange, Wrong::Flip] {
        relay.plan_wrong("segment 1", wrong);
    }
    check(&relay, &[], 1, 20).await;
}

#[tokio::test]
async fn passing_faults_are_waited_out() {
    let relay = HistoryRelay::start(40, &[7, 20]).await;
    for route in ["plan", "segment 1", "segment 8", "page"] {
        relay.plan_wrong(route, Wrong::Problem(ErrorCode::Unavailable, Some(0)));
        relay.plan_wrong(route, Wrong::Portal);
    }
    check(&relay, &[], 1, 40).await;
}

#[tokio::test]
async fn what_does_not_pass_is_given_up() {
    let relay = HistoryRelay::start(40, &[7, 20]).await;
    for _ in 0..3 {
        relay.plan_wrong("segment 8", Wrong::Problem(ErrorCode::Unavailable, None));
    }
    let failure = check_failure(&relay, 7).await;
    assert!(matches!(failure, Failure::GaveUp { attempts: 3, .. }), "{failure}");
    assert!(failure.to_string().contains("0000000000000008-0000000000000020"), "{failure}");
    assert_eq!(failure.code(), 1);
}

#[tokio::test]
async fn a_damaged_segment_is_fetched_once_more_and_never_written() {
    let relay = HistoryRelay::start(40, &[7, 20]).await;
    relay.plan_wrong("segment 8", Wrong::Flip);
    check(&relay, &[], 1, 40).await;
    for wrong in [Wrong::Flip, Wrong::Decoded] {
        let relay = HistoryRelay::start(40, &[7, 20, 30]).await;
        relay.plan_wrong("segment 8", wrong.clone());
        relay.plan_wrong("segment 8", wrong);
        let failure = check_failure(&relay, 7).await;
        assert!(matches!(failure, Failure::Damaged { .. }), "{failure}");
        assert!(failure.to_string().contains("0000000000000008-0000000000000020"), "{failure}");
        assert_eq!(relay.seen("segment 8"), ["segment 8 whole", "segment 8 whole"]);
    }
}

#[tokio::test]
async fn a_history_that_changes_meanwhile_ends_it() {
    let relay = HistoryRelay::start(30, &[5, 10, 15]).await;
    relay.offer(1);
    relay.plan_wrong("plan", Wrong::NoRanges);
    relay.plan_wrong("plan", Wrong::Reset);
    let failure = check_failure(&relay, 5).await;
    assert!(failure.to_string().contains("cursor_epoch_changed"), "{failure}");
    assert_eq!(failure.code(), 5);
    for (route, code, last) in [
        ("segment 6", ErrorCode::SegmentUnknown, 5),
        ("page", ErrorCode::CursorTrimmed, 10),
        ("plan", ErrorCode::CredentialRevoked, 0),
        ("plan", ErrorCode::NotFound, 0),
    ] {
        let relay = HistoryRelay::start(12, &[5, 10]).await;
        relay.plan_wrong(route, Wrong::Problem(code, None));
        let failure = check_failure(&relay, last).await;
        let expected = match code {
            ErrorCode::CredentialRevoked => 3,
            ErrorCode::NotFound => 2,
            _ => 5,
        };
        assert_eq!(failure.code(), expected, "{failure}");
        assert!(failure.to_string().contains(code.as_str()), "{failure}");
    }
}

#[tokio::test]
async fn a_slow_first_segment_does_not_pile_up_the_others() {
    const CONNECTIONS: usize = 3;
    let ends = [2, 4, 6, 8, 10, 12, 14, 16];
    let relay = HistoryRelay::start(16, &ends).await;
    let (release, output) = (Arc::new(Notify::new()), Shared::default());
    relay.plan_wrong("segment 1", Wrong::Hold(Arc::clone(&release)));
    let (asked, written) = (Arc::new(Mutex::new(Vec::new())), output.clone());
    let seen = Arc::clone(&asked);
    // A segment may be asked for when all but CONNECTIONS of those before it are written.
    relay.on_segment(move |first| {
        seen.lock().unwrap().push((first, written.length()));
        if seen.lock().unwrap().len() == CONNECTIONS {
            release.notify_one();
        }
    });
    let flags = ["--connections", &CONNECTIONS.to_string()];
    let report = run_into(output.clone(), &relay, &flags).await;
    assert_eq!((report.ending, output.text()), (Ending::Complete, lines(1, 16)));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), ends.len());
    for (first, length) in asked.iter() {
        let must_be_written = (first - 1).saturating_sub(2 * (CONNECTIONS as u64 - 1));
        assert!(*length >= lines(1, must_be_written).len(), "{first} was asked for too early");
    }
}
