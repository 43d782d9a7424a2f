//! Goal: pages over both tiers are the pages of one log.
//! Method: every limit and start over segments of known events, and random tiers with events
//! larger than a page; the concatenated pages against the plain list.

use proptest::prelude::*;
use relay_durable::{EventAnswer, Page, position_before, sealed_event};
use relay_schemas::{
    BodyMode, ErrorCode, NewEvent, OnGap, Order, PageQuery, Report, ReportStatus, SegmentEntry,
    Seq, Start,
    limits::{PAGE_BYTES_MAX, PAGE_SEGMENTS_MAX, SEGMENTS_OFFERED_MAX},
};

use crate::{
    all_positions, filled, follow, lines, positions, query,
    support::{
        NOW, RETENTION_MS, Relay, cursor, edge, event, event_of, event_of_kind, event_of_size,
        event_received, events, fill, id, kinds, page_command, refused, webhook_line,
    },
};

/// Segments 1 to 3, 4 and 5 to 8; 9 and 10 in the hot tail.
fn tiers() -> Relay {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=3), events(4..=4), events(5..=8)]);
    relay.append(&events(9..=10));
    relay
}

fn at(position: u64, order: Order, limit: usize) -> PageQuery {
    query(Start::Cursor(cursor(position).to_string()), order, limit)
}

/// The positions that a page is to have.
fn wanted(position: u64, order: Order, limit: usize) -> Vec<u64> {
    match order {
        Order::Asc => (position + 1..=10).take(limit).collect(),
        Order::Desc => (1..=position).rev().take(limit).collect(),
    }
}

#[test]
fn a_page_from_any_position_of_any_length_is_exact() {
    for order in [Order::Asc, Order::Desc] {
        for position in 0..=10 {
            for limit in 1..=11 {
                let (page, _) = filled(&mut tiers(), &at(position, order, limit));
                let wanted = wanted(position, order, limit);
                let context = format!("{order:?} {position} {limit}");
                let expected: Vec<String> = (1..)
                    .zip(&wanted)
                    .map(|(n, seq)| webhook_line(*seq, n, &event(*seq)))
                    .collect();
                assert_eq!(lines(&page), expected, "{context}");
                let reached = match (order, wanted.last()) {
                    (Order::Asc, Some(last)) => *last,
                    (Order::Desc, Some(last)) => last - 1,
                    (_, None) => position,
                };
                assert_eq!(page.cursor, cursor(reached), "{context}");
                let end = if order == Order::Asc { 10 } else { 0 };
                assert_eq!(page.has_more, reached != end, "{context}");
                assert_eq!((page.oldest, page.tail), (cursor(0), cursor(10)));
                assert_eq!(page.gap, None);
            }
        }
    }
}

#[test]
fn no_more_is_read_than_the_page_needs() {
    for (position, order, limit, expected) in [
        (0, Order::Asc, 2, &["ask", "fetch 1"][..]),
        (0, Order::Asc, 10, &["ask", "fetch 1", "fetch 4", "fetch 5", "ask"]),
        (8, Order::Asc, 10, &["ask"]),
        (10, Order::Desc, 2, &["ask"]),
        (10, Order::Desc, 1, &["ask"]),
        (10, Order::Desc, 10, &["ask", "fetch 5", "fetch 4", "fetch 1"]),
        (6, Order::Desc, 1, &["ask", "fetch 5"]),
        (0, Order::Desc, 5, &["ask"]),
    ] {
        let (_, steps) = filled(&mut tiers(), &at(position, order, limit));
        assert_eq!(steps, expected, "{position} {order:?} {limit}");
    }
}

#[test]
fn a_filter_and_a_body_hold_in_both_tiers() {
    let kind = |number| if number % 2 == 1 { "Issue.update" } else { "Comment.create" };
    let source: Vec<NewEvent> = (1..=8).map(|number| event_of_kind(number, kind(number))).collect();
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[source[..3].to_vec(), source[3..6].to_vec()]);
    relay.append(&source[6..]);
    for limit in 1..=9 {
        for (filter, odd) in [("Issue", 1), ("Comment", 0)] {
            let mut expected: Vec<u64> = (1..=8).filter(|seq| seq % 2 == odd).collect();
            let up = PageQuery { kinds: kinds(filter), ..at(0, Order::Asc, limit) };
            assert_eq!(all_positions(&follow(&mut relay, &up)), expected, "{limit}");
            expected.reverse();
            let down = PageQuery { kinds: kinds(filter), ..at(8, Order::Desc, limit) };
            assert_eq!(all_positions(&follow(&mut relay, &down)), expected, "{limit}");
        }
    }
    for order in [Order::Asc, Order::Desc] {
        let start = if order == Order::Asc { 0 } else { 8 };
        let query = PageQuery { body: BodyMode::Base64, ..at(start, order, 9) };
        let (page, _) = filled(&mut relay, &query);
        assert_eq!(page.events.len(), 8);
        for line in lines(&page) {
            assert!(line.ends_with(r#","body":"e30=","encoding":"base64"}"#), "{line}");
        }
    }
}

#[test]
fn an_instant_divides_the_log_in_both_orders() {
    let received: [u64; 9] = [10, 30, 20, 25, 5, 12, 40, 7, 50];
    let source: Vec<NewEvent> =
        (1..).zip(received).map(|(number, at)| event_received(number, NOW + at)).collect();
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[source[..3].to_vec(), source[3..6].to_vec(), source[6..8].to_vec()]);
    relay.append(&source[8..]);
    for at in 0..55 {
        let before = received.iter().position(|received| *received >= at).unwrap_or(9) as u64;
        for limit in [1, 2, 3, 20] {
            let go = |relay: &mut Relay, order| {
                all_positions(&follow(relay, &query(Start::Time(NOW + at), order, limit)))
            };
            let after: Vec<u64> = (before + 1..=9).collect();
            assert_eq!(go(&mut relay, Order::Asc), after, "{at} {limit}");
            let until: Vec<u64> = (1..=before).rev().collect();
            assert_eq!(go(&mut relay, Order::Desc), until, "{at} {limit}");
        }
    }
}

#[test]
fn the_position_before_an_instant_is_found_in_its_segment() {
    let source =
        vec![event_received(1, NOW + 10), event_received(2, NOW + 30), event_received(3, NOW + 20)];
    let mut relay = Relay::sealing_at_once();
    let segments = relay.seal_each(&[events(11..=12), source]);
    let bytes = &relay.bucket[&relay.key(&segments[1])];
    for (after_ms, expected) in [(0, 2), (10, 2), (11, 3), (30, 3), (31, 5)] {
        let found = position_before(bytes.clone(), &segments[1], NOW + after_ms);
        assert_eq!(found, Ok(Seq::new(expected)), "{after_ms}");
    }
    assert!(position_before(bytes[1..].to_vec(), &segments[1], NOW).is_err());
}

#[test]
fn the_bytes_of_both_tiers_count() {
    let large = |number| event_of_size(number, 700_000);
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[vec![large(1)]]);
    relay.append(&[large(2)]);
    for (start, order, first) in [(0, Order::Asc, 1), (2, Order::Desc, 2)] {
        let (page, _) = filled(&mut relay, &at(start, order, 9));
        assert_eq!((positions(&page), page.cursor, page.has_more), (vec![first], cursor(1), true));
    }
}

#[test]
fn a_page_of_rare_kinds_ends_early_and_the_next_goes_on() {
    let count = 2 * PAGE_SEGMENTS_MAX as u64 + 3;
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&(1..=count).map(|number| vec![event(number)]).collect::<Vec<_>>());
    for order in [Order::Asc, Order::Desc] {
        let start = if order == Order::Asc { 0 } else { count };
        let rare = PageQuery { kinds: kinds("Rare"), ..at(start, order, 5) };
        let (page, steps) = filled(&mut relay, &rare);
        assert_eq!((page.events.len(), page.has_more), (0, true));
        assert_eq!(steps.len(), 1 + PAGE_SEGMENTS_MAX);
        assert_eq!(page.cursor.seq.get().abs_diff(start), PAGE_SEGMENTS_MAX as u64);
        assert_eq!(follow(&mut relay, &rare).len(), 3);
        let all = follow(&mut relay, &at(start, order, 1_000));
        assert_eq!(all_positions(&all).len() as u64, count);
        assert_eq!(all.len(), 3);
    }
}

#[test]
fn a_page_goes_on_where_the_object_named_no_more() {
    let count = SEGMENTS_OFFERED_MAX as u64 + 5;
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&(1..=count).map(|number| vec![event(number)]).collect::<Vec<_>>());
    let pages = follow(&mut relay, &at(0, Order::Asc, 1_000));
    assert_eq!(all_positions(&pages), (1..=count).collect::<Vec<_>>());
    let pages = follow(&mut relay, &at(count, Order::Desc, 1_000));
    assert_eq!(all_positions(&pages), (1..=count).rev().collect::<Vec<_>>());
}

#[test]
fn retention_is_the_end_of_history() {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=2)]);
    relay.now = NOW + 10;
    relay.seal_each(&[events(3..=4)]);
    relay.append(&events(5..=5));
    relay.now = NOW + RETENTION_MS;
    relay.alarm();
    for limit in 1..=4 {
        let up = follow(&mut relay, &query(Start::Earliest, Order::Asc, limit));
        assert_eq!(all_positions(&up), [3, 4, 5]);
        let down = follow(&mut relay, &query(Start::Now, Order::Desc, limit));
        assert_eq!(all_positions(&down), [5, 4, 3]);
        assert_eq!(down.last().unwrap().cursor, cursor(2));
    }
}

#[test]
fn a_position_that_cannot_be_followed_is_told_once() {
    for order in [Order::Asc, Order::Desc] {
        let mut relay = tiers();
        let bad = query(Start::Cursor("x".into()), order, 4);
        let pages = follow(&mut relay, &bad);
        let gap = pages[0].gap.as_ref().unwrap();
        let start = if order == Order::Asc { 0 } else { 10 };
        assert_eq!((gap.requested.as_str(), gap.resumed_from), ("x", cursor(start)));
        assert!(pages[1..].iter().all(|page| page.gap.is_none()));
        assert_eq!(all_positions(&pages), wanted(start, order, 10));
        let strict = PageQuery { on_gap: OnGap::Error, ..bad };
        let problem = refused(relay.stream.page(&page_command(&strict)));
        assert_eq!(problem.code, ErrorCode::CursorInvalid);
    }
}

/// Whether every page is within its bounds, numbered from one, and not empty before the end.
fn check_bounds(pages: &[Page], limit: usize) {
    for page in pages {
        let bytes: usize = lines(page).iter().map(String::len).sum();
        assert!(bytes <= PAGE_BYTES_MAX || page.events.len() == 1, "{bytes}");
        assert!(page.events.len() <= limit);
        assert!(!page.events.is_empty() || pages.len() == 1, "an empty page");
        assert_eq!(page.gap, None);
        for (n, line) in (1..).zip(lines(page)) {
            assert!(line.contains(&format!(r#""n":{n},"#)), "{n}");
        }
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![
        8 => 0usize..2_000,
        2 => 300_000usize..700_000,
        1 => PAGE_BYTES_MAX - 600..PAGE_BYTES_MAX + 10_000,
    ];
    prop::collection::vec(size, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn pages_tile_both_tiers_both_ways(
        batches in prop::collection::vec((sizes(), any::<bool>()), 1..6),
        trimmed in 0u64..4,
        limit in 1usize..8,
        start in 0u64..25,
    ) {
        let mut relay = Relay::sealing_at_once();
        let mut last = 0;
        for (place, (sizes, seals)) in (0..).zip(&batches) {
            relay.now = NOW + place;
            let batch: Vec<NewEvent> = (last + 1..).zip(sizes).map(|(number, size)| {
                let mut event = event_of(number, "Issue.update", NOW, r#"{"fill":""}"#);
                fill(&mut event, *size);
                event
            }).collect();
            relay.append(&batch);
            last += sizes.len() as u64;
            if *seals {
                relay.seal();
            }
        }
        if trimmed > 0 {
            relay.now = NOW + RETENTION_MS + trimmed - 1;
            relay.alarm();
        }
        let floor = relay.stream.log().trimmed().get();
        let start = start.clamp(floor, last);
        let up = follow(&mut relay, &at(start, Order::Asc, limit));
        check_bounds(&up, limit);
        prop_assert_eq!(all_positions(&up), (start + 1..=last).collect::<Vec<_>>());
        let down = follow(&mut relay, &at(start, Order::Desc, limit));
        check_bounds(&down, limit);
        prop_assert_eq!(all_positions(&down), (floor + 1..=start).rev().collect::<Vec<_>>());
    }
}

#[test]
fn an_event_is_shown_from_wherever_it_lies_with_its_reports() {
    let mut relay = tiers();
    let edge = edge("edge_1");
    for number in [2, 4, 8, 9] {
        let report = Report::new(id(number), ReportStatus::Completed);
        relay.stream.report(&edge, report, NOW).unwrap();
    }
    for number in 1..=10 {
        let found = match relay.stream.event(&edge, id(number), &Default::default()).unwrap() {
            EventAnswer::Hot(event) => {
                assert!(number > 8);
                event
            }
            EventAnswer::Sealed { cursor: at, segment, reports } => {
                assert_eq!(at, cursor(number));
                assert!((segment.first..=segment.last).contains(&Seq::new(number)));
                let bytes = relay.bucket[&relay.key(&segment)].clone();
                sealed_event(bytes, &segment, at, reports, &Default::default()).unwrap().unwrap()
            }
        };
        assert_eq!(found.event.get(), webhook_line(number, 1, &event(number)));
        assert_eq!(found.reports.len(), usize::from([2, 4, 8, 9].contains(&number)), "{number}");
    }
}

#[test]
fn an_event_whose_segment_is_damaged_is_an_error() {
    let mut relay = tiers();
    let EventAnswer::Sealed { cursor, segment, .. } =
        relay.stream.event(&edge("edge_1"), id(3), &Default::default()).unwrap()
    else {
        panic!("3 is sealed")
    };
    let bytes = relay.bucket.remove(&relay.key(&segment)).unwrap();
    assert!(
        sealed_event(bytes[1..].to_vec(), &segment, cursor, vec![], &Default::default()).is_err()
    );
    let shorter = SegmentEntry { last: Seq::new(2), ..segment.clone() };
    assert!(sealed_event(bytes.clone(), &shorter, cursor, vec![], &Default::default()).is_err());
    assert!(positions(&filled(&mut tiers(), &at(2, Order::Asc, 1)).0) == [3]);
    assert!(sealed_event(bytes, &segment, cursor, vec![], &Default::default()).is_ok());
}
