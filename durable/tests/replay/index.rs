//! Goal: what KV says is used where it is true and does no harm where it is not.
//! Method: more segments than an object names at once, and every way in which a listing can be
//! wrong in what follows.

use relay_schemas::{
    Dialect, SegmentEntry, Seq, Sha256Digest, Start, index_key, limits::SEGMENTS_OFFERED_MAX,
};

use crate::support::{Relay, connect, cursor, event, events, lines_after, open_line, stream_key};

const OFFERED: u64 = SEGMENTS_OFFERED_MAX as u64;
const COUNT: u64 = OFFERED + 20;

/// A segment for each event, so many that the object doesn't name the last ones.
fn many() -> (Relay, Vec<SegmentEntry>) {
    let mut relay = Relay::sealing_at_once();
    let segments =
        relay.seal_each(&(1..=COUNT).map(|number| vec![event(number)]).collect::<Vec<_>>());
    (relay, segments)
}

fn key(relay: &Relay, first: u64) -> String {
    index_key(&stream_key(), relay.stream.log().epoch(), Seq::new(first))
}

/// Reads everything; the exact frames, and how often each kind of step was taken.
fn check(relay: &mut Relay, lists: usize, asks: usize, fetches: u64) {
    let reading = relay.read(&connect(Dialect::Ndjson, Start::Earliest));
    let mut expected = vec![open_line(Dialect::Ndjson, 0, 0, COUNT)];
    expected.extend(lines_after(&events(1..=COUNT), 0));
    assert_eq!(reading.lines, expected);
    assert_eq!(reading.segments_lost, 0);
    let steps = |name: &str| reading.steps.iter().filter(|step| step.starts_with(name)).count();
    let found = (steps("list"), steps("ask"), steps("fetch") as u64);
    assert_eq!(found, (lists, asks, fetches), "{:?}", reading.steps);
}

#[test]
fn what_the_object_did_not_name_is_found_in_the_index() {
    let (mut relay, _) = many();
    check(&mut relay, 1, 1, COUNT);
}

#[test]
fn an_empty_index_makes_the_object_be_asked() {
    let (mut relay, _) = many();
    relay.index.clear();
    check(&mut relay, 1, 2, COUNT);
}

#[test]
fn behind_a_hole_in_the_listing_nothing_is_used() {
    let (mut relay, _) = many();
    let hole = key(&relay, OFFERED + 5);
    relay.index.remove(&hole);
    // The listing ends before the hole, and so does a second one there.
    check(&mut relay, 2, 2, COUNT);
}

#[test]
fn a_hole_at_the_beginning_of_the_listing_is_no_hole_in_what_is_read() {
    let (mut relay, _) = many();
    let hole = key(&relay, OFFERED + 1);
    relay.index.remove(&hole);
    check(&mut relay, 1, 2, COUNT);
}

#[test]
fn a_stale_entry_does_not_lose_what_the_object_knows() {
    let (mut relay, _) = many();
    let stale = key(&relay, OFFERED + 1);
    // Of an object that is no longer there.
    relay.index.get_mut(&stale).unwrap().last = Seq::new(OFFERED + 2);
    check(&mut relay, 1, 2, COUNT + 1);
}

#[test]
fn a_wrong_digest_does_not_lose_what_the_object_knows() {
    let (mut relay, _) = many();
    let wrong = key(&relay, OFFERED + 1);
    relay.index.get_mut(&wrong).unwrap().sha256 = Sha256Digest::of(&[b"another"]);
    check(&mut relay, 1, 2, COUNT + 1);
}

#[test]
fn an_index_that_was_wrong_once_is_not_asked_again() {
    let mut relay = Relay::sealing_at_once();
    let count = OFFERED * 2 + 5;
    relay.seal_each(&(1..=count).map(|number| vec![event(number)]).collect::<Vec<_>>());
    let wrong = key(&relay, OFFERED + 1);
    relay.index.get_mut(&wrong).unwrap().bytes += 1;
    let reading = relay.read(&connect(Dialect::Ndjson, Start::Earliest));
    assert_eq!(reading.lines[1..], lines_after(&events(1..=count), 0));
    assert_eq!(reading.steps.iter().filter(|step| *step == "list").count(), 1);
}

#[test]
fn entries_that_overlap_are_used_once() {
    let (mut relay, segments) = many();
    let place = OFFERED as usize;
    let mut overlapping = segments[place].clone();
    overlapping.first = Seq::new(OFFERED);
    let other = format!("{}x", key(&relay, OFFERED + 1));
    relay.index.insert(other, overlapping);
    check(&mut relay, 1, 1, COUNT);
}

#[test]
fn an_entry_that_ends_before_it_begins_is_not_used() {
    let (mut relay, _) = many();
    let wrong = key(&relay, OFFERED + 1);
    relay.index.get_mut(&wrong).unwrap().last = Seq::new(OFFERED);
    check(&mut relay, 1, 2, COUNT);
}

#[test]
fn positions_behind_the_listed_ones_are_found_by_the_next_listing() {
    let mut relay = Relay::sealing_at_once();
    // Segments on both sides of a border of the index's prefixes.
    let batch = |first: u64, last: u64| -> Vec<_> {
        (first..=last).map(|number| crate::support::event_of_kind(number, "A.b")).collect()
    };
    let mut batches: Vec<_> = (1..=OFFERED).map(|number| batch(number, number)).collect();
    batches.push(batch(OFFERED + 1, 9_000));
    batches.push(batch(9_001, 10_500));
    batches.push(batch(10_501, 10_600));
    relay.seal_each(&batches);
    let reading =
        relay.read(&connect(Dialect::Ndjson, Start::Cursor(cursor(OFFERED - 1).to_string())));
    assert_eq!(reading.lines.len(), 1 + 10_600 - (OFFERED as usize - 1));
    let reading = relay.read(&connect(Dialect::Ndjson, Start::Earliest));
    assert_eq!(reading.lines.len(), 10_601);
    assert_eq!(reading.lines[1..], lines_after(&batches.concat(), 0));
    assert_eq!(
        reading.steps[OFFERED as usize..],
        ["list", "fetch 33", "fetch 9001", "list", "fetch 10501", "ask"]
    );
}
