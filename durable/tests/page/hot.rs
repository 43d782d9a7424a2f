//! Goal: pages of the hot tail are exact, and so are single events and their reports.
//! Method: pages followed by their own cursors, against a plain list; scripts for reports.

use proptest::prelude::*;
use relay_durable::{EventAnswer, EventWithReports, Page};
use relay_schemas::{
    BodyMode, Cursor, Epoch, ErrorCode, EventId, GapReason, NewEvent, OnGap, Order, PageQuery,
    Report, ReportStatus, Seq, Start, limits::PAGE_BYTES_MAX,
};

use crate::{
    lines, positions, query,
    support::{
        DAY_MS, NOW, RETENTION_MS, Relay, SALT, cursor, edge, event, event_alone, event_of,
        event_of_kind, event_of_size, events, fill, id, kinds, page_command, refused, webhook_line,
    },
};

fn page(relay: &mut Relay, query: &PageQuery) -> Page {
    let part = relay.stream.page(&page_command(query)).unwrap();
    assert_eq!(part.history, None);
    part.page
}

fn hot_event(relay: &Relay, id: EventId) -> EventWithReports {
    match relay.stream.event(&edge("edge_1"), id, &Default::default()).unwrap() {
        EventAnswer::Hot(event) => event,
        sealed => panic!("{sealed:?}"),
    }
}

/// Follows pages until there are no more, with these limits in turn; every page is checked to
/// number its events from one. There are never 200 of them.
fn follow(relay: &mut Relay, start: Start, order: Order, limits: &[usize], kind: &str) -> Vec<u64> {
    let mut found = Vec::new();
    let mut start = start;
    for limit in limits.iter().cycle().take(200) {
        let query = PageQuery { kinds: kinds(kind), ..query(start.clone(), order, *limit) };
        let page = page(relay, &query);
        assert!(page.events.len() <= *limit && page.gap.is_none());
        for (n, line) in (1u64..).zip(lines(&page)) {
            assert!(line.contains(&format!(r#""n":{n},"#)), "{line}");
        }
        found.extend(positions(&page));
        if !page.has_more {
            break;
        }
        start = Start::Cursor(page.cursor.to_string());
    }
    found
}

/// Batches of these sizes, of which the first ones are trimmed; odd events are issues.
fn relay_of(batches: &[u64], trimmed: usize) -> (Relay, u64, u64) {
    let mut relay = Relay::new();
    let (mut last, mut floor) = (0, 0);
    for (place, size) in batches.iter().enumerate() {
        relay.now = NOW + place as u64;
        let kind = |number| if number % 2 == 1 { "Issue.update" } else { "Comment.create" };
        let mut batch: Vec<NewEvent> = (last + 1..=last + size)
            .map(|number| event_of(number, kind(number), NOW, r#"{"fill":""}"#))
            .collect();
        fill(&mut batch[0], 33_000);
        relay.append(&batch);
        last += size;
        if place < trimmed {
            floor = last;
        }
    }
    if trimmed > 0 {
        relay.now = NOW + RETENTION_MS + trimmed as u64 - 1;
        relay.alarm();
    }
    (relay, floor, last)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn pages_tile_the_log_both_ways(
        batches in prop::collection::vec(1u64..6, 1..8),
        trimmed in 0usize..8,
        limits in prop::collection::vec(1usize..7, 1..4),
        tail in 0u64..30,
    ) {
        let (mut relay, floor, last) = relay_of(&batches, trimmed.min(batches.len()));
        let start = last.saturating_sub(tail).max(floor);
        let [all, issues] = ["Issue,Comment", "Issue"];
        let mut go = |order, kind| follow(&mut relay, Start::Tail(tail), order, &limits, kind);
        let odd = |seqs: Vec<u64>| seqs.into_iter().filter(|seq| seq % 2 == 1).collect::<Vec<_>>();

        let after: Vec<u64> = (start + 1..=last).collect();
        prop_assert_eq!(go(Order::Asc, all), after.clone());
        prop_assert_eq!(go(Order::Asc, issues), odd(after));
        let before: Vec<u64> = (floor + 1..=start).rev().collect();
        prop_assert_eq!(go(Order::Desc, all), before.clone());
        prop_assert_eq!(go(Order::Desc, issues), odd(before));
    }
}

#[test]
fn a_page_is_written_as_promised() {
    let mut relay = Relay::new();
    relay.append(&events(1..=3));
    let first = page(&mut relay, &query(Start::Earliest, Order::Asc, 2));
    assert_eq!(
        serde_json::to_string(&first).unwrap(),
        format!(
            r#"{{"events":[{},{}],"cursor":"{}","oldest":"{}","tail":"{}","has_more":true}}"#,
            webhook_line(1, 1, &event(1)),
            webhook_line(2, 2, &event(2)),
            cursor(2),
            cursor(0),
            cursor(3)
        )
    );
    let last = page(&mut relay, &query(Start::Cursor(first.cursor.to_string()), Order::Asc, 2));
    assert_eq!((positions(&last), last.has_more, last.cursor), (vec![3], false, cursor(3)));
    let exact = page(&mut relay, &query(Start::Earliest, Order::Asc, 3));
    assert!(!exact.has_more);
    let newest = page(&mut relay, &query(Start::Now, Order::Desc, 2));
    assert_eq!((positions(&newest), newest.has_more, newest.cursor), (vec![3, 2], true, cursor(1)));
    let rest = page(&mut relay, &query(Start::Cursor(cursor(1).to_string()), Order::Desc, 2));
    assert_eq!((positions(&rest), rest.has_more, rest.cursor), (vec![1], false, cursor(0)));
}

#[test]
fn a_page_has_at_most_a_mebibyte_or_one_event() {
    fn check(sizes: &[usize], expected: &[u64]) {
        let mut relay = Relay::new();
        let batch: Vec<NewEvent> =
            (1..).zip(sizes).map(|(number, size)| event_of_size(number, *size)).collect();
        relay.append(&batch);
        let page = page(&mut relay, &query(Start::Earliest, Order::Asc, 100));
        assert_eq!(positions(&page), expected);
        assert_eq!(page.has_more, expected.len() < sizes.len());
        let bytes: usize = lines(&page).iter().map(String::len).sum();
        assert!(bytes <= PAGE_BYTES_MAX || expected.len() == 1, "{bytes}");
    }
    check(&[400_000, 400_000, 400_000], &[1, 2]);
    check(&[3_000_000, 200], &[1]);
    check(&[200, 3_000_000, 200], &[1]);
    let frame_overhead = webhook_line(1, 1, &event(1)).len() - event(1).record.len();
    let half = PAGE_BYTES_MAX / 2 - frame_overhead;
    check(&[half, half, 200], &[1, 2]);
    check(&[half, half + 1, 200], &[1]);
}

#[test]
fn bodies_and_kinds_are_as_asked_for() {
    let mut relay = Relay::new();
    relay.append(&[event_of_kind(1, "Comment.create"), event_of(2, "Issue.update", NOW, "{ }")]);
    let query = PageQuery {
        kinds: kinds("Issue.update"),
        body: BodyMode::Base64,
        ..query(Start::Earliest, Order::Asc, 5)
    };
    let found = lines(&page(&mut relay, &query));
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with(r#","body":"eyB9","encoding":"base64"}"#), "{}", found[0]);
}

#[test]
fn a_fault_is_told_or_refused() {
    let other_epoch = Cursor { epoch: Epoch::new(NOW, SALT - 1), seq: Seq::new(2) };
    for (start, reason, code) in [
        (cursor(0).to_string(), GapReason::Trimmed, ErrorCode::CursorTrimmed),
        (cursor(9).to_string(), GapReason::Future, ErrorCode::CursorFuture),
        (other_epoch.to_string(), GapReason::EpochChanged, ErrorCode::CursorEpochChanged),
        ("x".into(), GapReason::Invalid, ErrorCode::CursorInvalid),
    ] {
        let (mut relay, ..) = relay_of(&[1, 2], 1);
        let resumed = query(Start::Cursor(start.clone()), Order::Asc, 9);
        let page = page(&mut relay, &resumed);
        assert_eq!(positions(&page), [2, 3]);
        let gap = page.gap.unwrap();
        assert_eq!((gap.requested, gap.reason), (start, reason));
        assert_eq!((gap.resumed_from, gap.oldest), (cursor(1), cursor(1)));

        let strict = PageQuery { on_gap: OnGap::Error, ..resumed };
        let problem = refused(relay.stream.page(&page_command(&strict)));
        assert_eq!(problem.code, code);
        let details = [("oldest", cursor(1).to_string()), ("tail", cursor(3).to_string())];
        assert_eq!(problem.details, details);
    }
}

#[test]
fn an_unused_stream_keeps_the_epoch_that_a_page_told() {
    let mut relay = Relay::new();
    let told = page(&mut relay, &query(Start::Earliest, Order::Asc, 1)).cursor;
    relay.now = NOW + 1;
    relay.reload();
    let page = page(&mut relay, &query(Start::Cursor(told.to_string()), Order::Asc, 1));
    assert!(page.gap.is_none() && page.events.is_empty() && !page.has_more);
}

fn report(number: u64, status: ReportStatus, error: Option<&str>) -> Report {
    Report { error: error.map(str::to_owned), ..Report::new(id(number), status) }
}

#[test]
fn an_event_is_shown_with_the_last_report_of_each_status_and_edge() {
    let mut relay = Relay::new();
    relay.append(&events(1..=3));
    let (one, two) = (edge("edge_1"), edge("edge_2"));
    for (name, status, error, after_ms) in [
        (&one, ReportStatus::Processing, None, 1),
        (&two, ReportStatus::Processing, None, 2),
        (&one, ReportStatus::Failed, Some("first"), 3),
        (&one, ReportStatus::Failed, Some("second"), 4),
        (&one, ReportStatus::Completed, None, 5),
    ] {
        relay.stream.report(name, report(2, status, error), NOW + after_ms).unwrap();
    }
    for reloads in [false, true] {
        if reloads {
            relay.reload();
        }
        let found = hot_event(&relay, id(2));
        assert_eq!(found.event.get(), webhook_line(2, 1, &event(2)));
        let reports: Vec<(String, u64, Option<&str>)> = found
            .reports
            .iter()
            .map(|report| {
                let who = format!("{} {}", report.edge, report.status.as_str());
                (who, report.at.since_ms(NOW), report.error.as_deref())
            })
            .collect();
        assert_eq!(
            reports,
            [
                ("edge_1 processing".into(), 1, None),
                ("edge_2 processing".into(), 2, None),
                ("edge_1 failed".into(), 4, Some("second")),
                ("edge_1 completed".into(), 5, None),
            ]
        );
        assert!(hot_event(&relay, id(3)).reports.is_empty());
    }
}

#[test]
fn a_report_is_stored_once_whatever_its_write_does() {
    for lands in [false, true] {
        let mut relay = Relay::new();
        relay.append(&events(1..=1));
        relay.storage.fail_after(0, lands);
        let send = |relay: &mut Relay| {
            relay.stream.report(&edge("edge_1"), report(1, ReportStatus::Completed, None), NOW)
        };
        assert!(send(&mut relay).is_err());
        relay.reload();
        send(&mut relay).unwrap();
        assert_eq!(hot_event(&relay, id(1)).reports.len(), 1);
    }
}

#[test]
fn an_event_that_is_not_kept_is_unknown() {
    let mut relay = Relay::new();
    relay.append(&[event_alone(1)]);
    let edge = edge("edge_1");
    relay.stream.report(&edge, report(1, ReportStatus::Completed, None), NOW).unwrap();
    relay.now = NOW + DAY_MS;
    relay.append(&events(2..=2));
    relay.now = NOW + RETENTION_MS;
    relay.alarm();
    for reloads in [false, true] {
        if reloads {
            relay.reload();
        }
        for number in [1, 9] {
            let problem = refused(relay.stream.event(&edge, id(number), &Default::default()));
            assert_eq!(problem.code, ErrorCode::EventUnknown);
            let report = report(number, ReportStatus::Completed, None);
            let problem = refused(relay.stream.report(&edge, report, relay.now));
            assert_eq!(problem.code, ErrorCode::EventUnknown);
        }
        assert!(hot_event(&relay, id(2)).reports.is_empty());
    }
}
