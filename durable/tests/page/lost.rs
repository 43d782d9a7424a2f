//! Goal: a page tells what is lost, never passes over it in silence, and goes on behind it.
//! Method: objects removed and spoiled under pages in both orders.

use relay_durable::{Fetched, Page, PageFill, PageStep};
use relay_schemas::{Gap, GapReason, Order, PageQuery, SegmentEntry, Seq, Start};

use crate::{
    all_positions, filled, follow, positions, query,
    support::{NOW, RETENTION_MS, Relay, cursor, event_received, events, page_command},
};

/// Segments 1 to 2, 3 to 4, 5 to 6 and 7 to 8; 9 in the hot tail.
fn tiers() -> (Relay, Vec<SegmentEntry>) {
    let mut relay = Relay::sealing_at_once();
    let segments = relay.seal_each(&[events(1..=2), events(3..=4), events(5..=6), events(7..=8)]);
    relay.append(&events(9..=9));
    (relay, segments)
}

fn without(lost: &[usize]) -> Relay {
    let (mut relay, segments) = tiers();
    for place in lost {
        let key = relay.key(&segments[*place]);
        if place % 2 == 0 {
            relay.bucket.remove(&key);
        } else {
            relay.bucket.get_mut(&key).unwrap()[3] ^= 1;
        }
    }
    relay
}

fn all(order: Order, limit: usize) -> PageQuery {
    let start = if order == Order::Asc { Start::Earliest } else { Start::Now };
    query(start, order, limit)
}

/// From and to of the gaps on these pages.
fn gaps(pages: &[Page]) -> Vec<(u64, u64)> {
    let of = |gap: &Gap| {
        assert_eq!((gap.reason, gap.oldest), (GapReason::Lost, cursor(0)));
        let from = (0..=9).find(|seq| cursor(*seq).to_string() == gap.requested).unwrap();
        (from, gap.resumed_from.seq.get())
    };
    pages.iter().filter_map(|page| page.gap.as_ref().map(of)).collect()
}

fn check(lost: &[usize], limit: usize, up: &[(u64, u64)], down: &[(u64, u64)]) {
    let mut relay = without(lost);
    let is_kept = |seq: &u64| !lost.iter().any(|place| (*seq - 1) / 2 == *place as u64);
    let mut kept: Vec<u64> = (1..=9).filter(is_kept).collect();
    let pages = follow(&mut relay, &all(Order::Asc, limit));
    assert_eq!(all_positions(&pages), kept, "{lost:?} {limit}");
    assert_eq!(gaps(&pages), up, "{lost:?} {limit}");
    kept.reverse();
    let pages = follow(&mut relay, &all(Order::Desc, limit));
    assert_eq!(all_positions(&pages), kept, "{lost:?} {limit}");
    assert_eq!(gaps(&pages), down, "{lost:?} {limit}");
}

#[test]
fn a_lost_segment_is_a_gap_in_both_orders() {
    for limit in [1, 2, 3, 100] {
        check(&[0], limit, &[(0, 2)], &[(2, 0)]);
        check(&[1], limit, &[(2, 4)], &[(4, 2)]);
        check(&[3], limit, &[(6, 8)], &[(8, 6)]);
    }
}

#[test]
fn lost_segments_side_by_side_are_one_gap() {
    for limit in [2, 100] {
        check(&[1, 2], limit, &[(2, 6)], &[(6, 2)]);
        check(&[0, 1, 2, 3], limit, &[(0, 8)], &[(8, 0)]);
    }
}

#[test]
fn a_second_gap_is_told_by_the_next_page() {
    check(&[0, 2], 100, &[(0, 2), (4, 6)], &[(6, 4), (2, 0)]);
    let (page, _) = filled(&mut without(&[0, 2]), &all(Order::Asc, 100));
    assert_eq!((positions(&page), page.cursor, page.has_more), (vec![3, 4], cursor(4), true));
}

#[test]
fn the_object_is_asked_once_before_a_segment_is_given_up() {
    let (_, steps) = filled(&mut without(&[1]), &all(Order::Asc, 100));
    let expected = ["ask", "fetch 1", "fetch 3", "ask", "fetch 3", "fetch 5", "fetch 7", "ask"];
    assert_eq!(steps, expected);
    let (_, steps) = filled(&mut without(&[0]), &all(Order::Desc, 100));
    let expected = ["ask", "fetch 7", "fetch 5", "fetch 3", "fetch 1", "ask", "fetch 1"];
    assert_eq!(steps, expected);
}

/// Fills a page while the first fetch fails for a moment, and `meanwhile` happens then.
fn filled_meanwhile(
    relay: &mut Relay,
    query: &PageQuery,
    mut fails_at: usize,
    meanwhile: impl FnOnce(&mut Relay),
) -> Page {
    let mut meanwhile = Some(meanwhile);
    let mut fill = PageFill::new(page_command(query));
    for _ in 0..100 {
        match fill.next_step() {
            PageStep::Ask(command) => fill.answered(relay.stream.page(&command).unwrap()),
            PageStep::Fetch(object) => {
                let bytes = relay.bucket[&object.key].clone();
                let fetched = match (fails_at, meanwhile.take()) {
                    (0, Some(meanwhile)) => {
                        meanwhile(relay);
                        Fetched::Missing
                    }
                    (_, rest) => {
                        meanwhile = rest;
                        Fetched::Bytes(bytes)
                    }
                };
                fails_at = fails_at.saturating_sub(1);
                fill.fetched(&object.entry, fetched);
            }
            PageStep::Done => return fill.into_page().unwrap(),
        }
    }
    panic!("no end")
}

#[test]
fn a_segment_that_comes_back_is_no_gap() {
    for order in [Order::Asc, Order::Desc] {
        for fails_at in 0..4 {
            let (mut relay, _) = tiers();
            let page = filled_meanwhile(&mut relay, &all(order, 100), fails_at, |_| {});
            let mut expected: Vec<u64> = (1..=9).collect();
            if order == Order::Desc {
                expected.reverse();
            }
            assert_eq!((positions(&page), page.gap), (expected, None));
        }
    }
}

#[test]
fn an_instant_is_still_found_when_the_segment_comes_back() {
    let received = [10, 20, 30, 40];
    let source: Vec<_> =
        (1..).zip(received).map(|(number, at)| event_received(number, NOW + at)).collect();
    for (order, expected) in [(Order::Asc, vec![3, 4]), (Order::Desc, vec![2, 1])] {
        let mut relay = Relay::sealing_at_once();
        relay.seal_each(std::slice::from_ref(&source));
        let query = query(Start::Time(NOW + 25), order, 100);
        let page = filled_meanwhile(&mut relay, &query, 0, |_| {});
        assert_eq!((positions(&page), page.gap), (expected, None), "{order:?}");
    }
}

#[test]
fn after_a_lost_instant_everything_is_shown() {
    let received = [10, 30, 5, 6];
    let source: Vec<_> =
        (1..).zip(received).map(|(number, at)| event_received(number, NOW + at)).collect();
    let mut relay = Relay::sealing_at_once();
    let segments = relay.seal_each(&[source[..2].to_vec(), source[2..].to_vec()]);
    relay.bucket.remove(&relay.key(&segments[0]));
    let (page, _) = filled(&mut relay, &query(Start::Time(NOW + 20), Order::Asc, 100));
    assert_eq!(positions(&page), [3, 4]);
    assert_eq!(gaps(&[page]), [(0, 2)]);
}

#[test]
fn retention_that_passes_a_page_is_told_by_the_next() {
    // 7 to 9 were written later than the others.
    let relay = || {
        let mut relay = Relay::sealing_at_once();
        relay.seal_each(&[events(1..=2), events(3..=6)]);
        relay.now = NOW + 10;
        relay.seal_each(&[events(7..=8)]);
        relay.append(&events(9..=9));
        relay
    };
    let trim = |relay: &mut Relay| {
        relay.now = NOW + RETENTION_MS;
        assert_eq!(relay.alarm().len(), 1);
    };
    let mut up = relay();
    let page = filled_meanwhile(&mut up, &all(Order::Asc, 100), 1, trim);
    assert_eq!((positions(&page), page.has_more, &page.gap), (vec![1, 2], true, &None));
    let next = query(Start::Cursor(page.cursor.to_string()), Order::Asc, 100);
    let (page, _) = filled(&mut up, &next);
    assert_eq!(positions(&page), [7, 8, 9]);
    let gap = page.gap.unwrap();
    assert_eq!((gap.reason, gap.resumed_from), (GapReason::Trimmed, cursor(6)));

    let page = filled_meanwhile(&mut relay(), &all(Order::Desc, 100), 1, trim);
    assert_eq!((positions(&page), page.has_more, page.gap), (vec![9, 8, 7], false, None));
    assert_eq!(page.oldest, cursor(6));
}

#[test]
fn a_hole_in_what_the_object_names_is_told() {
    for (order, expected, from, to) in [
        (Order::Asc, vec![1, 2, 5, 6, 7, 8, 9], 2, 4),
        (Order::Desc, vec![9, 8, 7, 6, 5, 2, 1], 4, 2),
    ] {
        let (mut relay, _) = tiers();
        let mut fill = PageFill::new(page_command(&all(order, 100)));
        let mut steps = 0;
        let page = loop {
            steps += 1;
            assert!(steps < 50, "no end");
            match fill.next_step() {
                PageStep::Ask(command) => {
                    let mut part = relay.stream.page(&command).unwrap();
                    if let Some(offer) = &mut part.history {
                        offer.segments.retain(|entry| entry.first != Seq::new(3));
                    }
                    fill.answered(part);
                }
                PageStep::Fetch(object) => {
                    let bytes = relay.bucket[&object.key].clone();
                    fill.fetched(&object.entry, Fetched::Bytes(bytes));
                }
                PageStep::Done => break fill.into_page().unwrap(),
            }
        };
        assert_eq!(positions(&page), expected);
        assert_eq!(gaps(&[page]), [(from, to)]);
    }
}
