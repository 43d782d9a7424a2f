//! Goal: sealing moves events into segments and loses, repeats and changes none, whichever step is
//! the last before a reset; duplicates, positions and starts are found across both tiers.
//!
//! Method: a stream over a bucket in memory, stopped at every step and loaded again; every write
//! made to fail in both ways; hot tail and segments together against the plain list.

use relay_durable::{LogStorage, Resolved, SealPlan, StreamSettings};
use relay_schemas::{
    Dialect,
    Disposition::{Appended, Duplicate},
    NewEvent, SegmentEntry, Seq, Start, UnixMillis, index_key,
    limits::{DEDUPLICATION_WINDOW_MS, LOG_ROW_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_EVENTS_MAX},
};

use crate::support::{
    NOW, RETENTION_MS, Relay, all_contents, connect, contents, cursor, event, event_of_kind,
    event_of_size, event_received, events, id, lines_after, load, new_log, numbered, open_line,
    row_of, rows,
};

/// The last thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    BeforePlan,
    Plan { lands: bool },
    BeforePut,
    BeforeIndex,
    BeforeComplete,
    Segment { lands: bool },
    Rows { lands: bool },
    After,
}

const CRASHES: [Crash; 11] = [
    Crash::BeforePlan,
    Crash::Plan { lands: false },
    Crash::Plan { lands: true },
    Crash::BeforePut,
    Crash::BeforeIndex,
    Crash::BeforeComplete,
    Crash::Segment { lands: false },
    Crash::Segment { lands: true },
    Crash::Rows { lands: false },
    Crash::Rows { lands: true },
    Crash::After,
];

const COUNT: u64 = 6;

/// Three rows, of which the newest is small enough to grow.
fn batches() -> [Vec<NewEvent>; 3] {
    [row_of(1..=2), row_of(3..=4), events(5..=COUNT)]
}

/// A relay whose first seal went as far as this.
fn crashed(crash: Crash) -> Relay {
    let mut relay = Relay::sealing_at_once();
    batches().iter().for_each(|batch| assert_eq!(relay.append(batch), []));
    if crash == Crash::BeforePlan {
        return relay;
    }
    if let Crash::Plan { lands } = crash {
        relay.storage.fail_after(0, lands);
        assert!(relay.stream.seal_next(NOW).is_err());
        return relay;
    }
    let job = relay.stream.seal_next(NOW).unwrap().unwrap();
    let (key, entry) = (job.key(), job.segment.entry);
    if crash == Crash::BeforePut {
        return relay;
    }
    relay.bucket.insert(key, job.segment.bytes);
    if crash == Crash::BeforeIndex {
        return relay;
    }
    relay.index.insert(index_key(&job.stream, job.epoch, entry.first), entry.clone());
    match crash {
        Crash::BeforeComplete => return relay,
        Crash::Segment { lands } => relay.storage.fail_after(0, lands),
        Crash::Rows { lands } => relay.storage.fail_after(1, lands),
        _ => {
            assert_eq!(relay.stream.seal_done(&entry), Ok(true));
            return relay;
        }
    }
    assert!(relay.stream.seal_done(&entry).is_err(), "{crash:?}");
    relay
}

fn is_sealed_by(crash: Crash) -> bool {
    matches!(crash, Crash::Segment { lands: true } | Crash::Rows { .. } | Crash::After)
}

fn is_planned_by(crash: Crash) -> bool {
    !is_sealed_by(crash) && !matches!(crash, Crash::BeforePlan | Crash::Plan { lands: false })
}

fn check_contents(relay: &Relay, source: &[NewEvent], context: &str) {
    assert_eq!(all_contents(relay), numbered(source, 0), "{context}");
    let log = relay.stream.log();
    assert_eq!(log.tail(), Seq::new(source.len() as u64), "{context}");
    for (number, event) in (1..).zip(source) {
        assert_eq!(log.position_of(event.id), Ok(Some(Seq::new(number))), "{context}");
    }
}

/// A reader at each position receives what comes after it, once.
fn check_readers(relay: &mut Relay, source: &[NewEvent], context: &str) {
    let tail = source.len() as u64;
    for after in 0..=tail {
        let start = Start::Cursor(cursor(after).to_string());
        let reading = relay.read(&connect(Dialect::Ndjson, start));
        let mut expected = vec![open_line(Dialect::Ndjson, after, 0, tail)];
        expected.extend(lines_after(source, after));
        assert_eq!(reading.lines, expected, "{context}: after {after}");
        assert_eq!(reading.segments_lost, 0);
    }
}

#[test]
fn a_crash_at_any_step_loses_and_repeats_nothing() {
    for crash in CRASHES {
        let mut source = batches().concat();
        let mut relay = crashed(crash);
        relay.reload();
        check_contents(&relay, &source, &format!("{crash:?}"));
        check_readers(&mut relay, &source, &format!("{crash:?}"));
        let hidden =
            Crash::Segment { lands: true } == crash || crash == Crash::Rows { lands: false };
        assert_eq!(rows(&relay.storage).is_empty(), is_sealed_by(crash) && !hidden, "{crash:?}");
        let log = relay.stream.log();
        assert_eq!((log.hot_bytes(), log.hot_since()) == (0, None), is_sealed_by(crash));

        // The others go on, before and after the repetition.
        relay.append(&events(7..=7));
        source.extend(events(7..=7));
        check_contents(&relay, &source, &format!("{crash:?} and an append"));
        check_readers(&mut relay, &source, &format!("{crash:?} and an append"));
        assert!(!relay.seal().is_empty());
        check_contents(&relay, &source, &format!("{crash:?} and a seal"));
        relay.append(&events(8..=8));
        source.extend(events(8..=8));
        check_readers(&mut relay, &source, &format!("{crash:?} and a seal"));
        assert_eq!(relay.seal().len(), 1);
        relay.reload();
        check_contents(&relay, &source, &format!("{crash:?} and another seal"));
        check_readers(&mut relay, &source, &format!("{crash:?} and another seal"));
        assert_eq!(rows(&relay.storage), [], "{crash:?}: nothing is left over");
    }
}

#[test]
fn a_repetition_makes_the_same_object() {
    let expected = crashed(Crash::After).bucket;
    for appends in [false, true] {
        for crash in CRASHES.into_iter().filter(|crash| !is_sealed_by(*crash)) {
            let mut relay = crashed(crash);
            relay.reload();
            let plan = SealPlan { first: Seq::new(1), last: Seq::new(COUNT) };
            assert_eq!(
                relay.stream.log().plan(),
                is_planned_by(crash).then_some(plan),
                "{crash:?}"
            );
            if appends && is_planned_by(crash) {
                relay.append(&events(7..=9));
                relay.reload();
            }
            relay.now = NOW + 1_000;
            let job = relay.stream.seal_next(relay.now).unwrap().unwrap();
            assert_eq!(expected.get(&job.key()), Some(&job.segment.bytes), "{crash:?} {appends}");
            assert_eq!(relay.stream.seal_done(&job.segment.entry), Ok(true));
            assert_eq!(relay.stream.log().sealed(), Seq::new(COUNT));
            assert_eq!(relay.stream.log().plan(), None);
        }
    }
}

#[test]
fn rows_that_are_being_sealed_do_not_grow() {
    for reloads in [false, true] {
        let mut relay = Relay::sealing_at_once();
        relay.append(&events(1..=2));
        let job = relay.stream.seal_next(NOW).unwrap().unwrap();
        if reloads {
            relay.reload();
        }
        let positions = |relay: &Relay| -> Vec<(u64, u64)> {
            rows(&relay.storage).into_iter().map(|row| (row.0, row.1)).collect()
        };
        relay.append(&events(3..=3));
        assert_eq!(positions(&relay), [(1, 2), (3, 3)]);
        if reloads {
            relay.reload();
        }
        relay.append(&events(4..=4));
        assert_eq!(positions(&relay), [(1, 2), (3, 4)]);
        if reloads {
            relay.reload();
        }
        assert_eq!(relay.stream.seal_done(&job.segment.entry), Ok(true));
        assert_eq!(positions(&relay), [(3, 4)]);
        relay.append(&events(5..=5));
        assert_eq!(positions(&relay), [(3, 5)]);
        assert_eq!(contents(relay.stream.log()), numbered(&events(1..=5), 2));
    }
}

#[test]
fn what_is_known_of_the_hot_tail_survives_a_seal_and_a_reload() {
    let mut relay = Relay::sealing_at_once();
    let known = |relay: &Relay| {
        let log = relay.stream.log();
        (log.hot_bytes(), log.hot_since(), log.oldest_appended_at(), log.sealed(), log.tail())
    };
    let record_bytes = event(1).record.len() as u64;
    relay.append(&events(1..=1));
    relay.now = NOW + 5;
    relay.append(&events(2..=2));
    let job = relay.stream.seal_next(relay.now).unwrap().unwrap();
    relay.now = NOW + 9;
    relay.append(&events(3..=3));
    relay.now = NOW + 11;
    relay.append(&events(4..=4));
    assert_eq!(relay.stream.seal_done(&job.segment.entry), Ok(true));
    let expected = (2 * record_bytes + 1, Some(NOW + 9), Some(NOW + 5), Seq::new(2), Seq::new(4));
    assert_eq!(known(&relay), expected);
    relay.reload();
    assert_eq!(known(&relay), expected);
}

/// The numbers of events in the segments that become of rows with so many events, and their bytes.
fn check_bounds(row_events: &[NewEvent], row_sizes: &[usize], expected: &[u64]) {
    let mut relay = Relay::sealing_at_once();
    let mut rest = row_events;
    for size in row_sizes {
        let (row, others) = rest.split_at(*size);
        relay.append(row);
        rest = others;
    }
    assert_eq!(rows(&relay.storage).len(), row_sizes.len());
    let sealed = relay.seal();
    let counts: Vec<u64> = sealed.iter().map(SegmentEntry::count).collect();
    assert_eq!(counts, expected);
    let of_one_row = |entry: &SegmentEntry| row_sizes.contains(&(entry.count() as usize));
    for entry in &sealed {
        assert!(entry.raw_bytes <= SEGMENT_BYTES_MAX || of_one_row(entry), "{entry:?}");
        assert!(entry.count() <= SEGMENT_EVENTS_MAX);
    }
    assert_eq!(all_contents(&relay), numbered(row_events, 0));
}

#[test]
fn a_segment_has_a_greatest_size() {
    let of_sizes = |sizes: &[usize]| -> Vec<NewEvent> {
        (1..).zip(sizes).map(|(number, size)| event_of_size(number, *size)).collect()
    };
    // With its line break each takes a sixteenth of a segment.
    let sixteenth = LOG_ROW_BYTES_MAX - 1;
    assert_eq!(16 * (sixteenth as u64 + 1), SEGMENT_BYTES_MAX);
    check_bounds(&of_sizes(&[sixteenth; 17]), &[1; 17], &[16, 1]);
    let mut too_large = [sixteenth; 17];
    too_large[15] += 1;
    check_bounds(&of_sizes(&too_large), &[1; 17], &[15, 2]);
    let larger_than_a_segment = SEGMENT_BYTES_MAX as usize + 1_000_000;
    check_bounds(&of_sizes(&[300, larger_than_a_segment, 300]), &[1; 3], &[1, 1, 1]);
}

#[test]
fn a_segment_has_a_greatest_number_of_events() {
    let source: Vec<NewEvent> =
        (1..=10_002).map(|number| event_of_kind(number, "Issue.update")).collect();
    let mut exact = [1_000; 11];
    exact[10] = 1;
    check_bounds(&source[..10_001], &exact, &[10_000, 1]);
    let mut over = [1_000; 11];
    (over[9], over[10]) = (999, 2);
    check_bounds(&source[..10_001], &over, &[9_999, 2]);
}

#[test]
fn a_duplicate_of_a_sealed_event_is_known_for_the_window() {
    for (age_ms, expected) in [
        (1, Duplicate),
        (DEDUPLICATION_WINDOW_MS, Duplicate),
        (DEDUPLICATION_WINDOW_MS + 1, Appended),
    ] {
        for reloads in [false, true] {
            let mut relay = Relay::sealing_at_once();
            relay.seal_each(&[events(1..=2), events(3..=3)]);
            relay.now = NOW + age_ms;
            if reloads {
                relay.reload();
            }
            let again: Vec<NewEvent> =
                (1..=3).map(|number| event_received(number, relay.now)).collect();
            let (reply, _) = relay.try_append(&again).unwrap();
            assert_eq!(reply.dispositions, [expected; 3], "{age_ms} {reloads}");
        }
    }
}

#[test]
fn of_a_sealed_event_that_was_appended_again_the_newer_place_counts() {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=2)]);
    relay.now = NOW + DEDUPLICATION_WINDOW_MS + 1;
    relay.append(&[event_received(1, relay.now)]);
    let long_after = relay.now + DEDUPLICATION_WINDOW_MS * 2;
    for log in [relay.stream.log(), &load(&relay.storage, NOW), &load(&relay.storage, long_after)] {
        assert_eq!(log.position_of(id(1)), Ok(Some(Seq::new(3))));
        assert_eq!(log.position_of(id(2)), Ok(Some(Seq::new(2))));
    }
}

#[test]
fn an_event_that_comes_late_is_found_in_any_segment() {
    for reloads in [false, true] {
        let mut relay = Relay::sealing_at_once();
        relay.seal_each(&[events(1..=2), events(3..=3)]);
        relay.now = NOW + 10 * DEDUPLICATION_WINDOW_MS;
        if reloads {
            relay.reload();
        }
        let (reply, _) = relay.try_append(&[event(1), event(4), event(3)]).unwrap();
        assert_eq!(reply.dispositions, [Duplicate, Appended, Duplicate], "{reloads}");
    }
}

#[test]
fn only_what_is_being_sealed_can_be_completed() {
    let mut relay = Relay::sealing_at_once();
    relay.append(&events(1..=3));
    let job = relay.stream.seal_next(NOW).unwrap().unwrap();
    let entry = job.segment.entry;
    let shorter = SegmentEntry { last: Seq::new(2), ..entry.clone() };
    let later = SegmentEntry { first: Seq::new(2), ..entry.clone() };
    let before = relay.storage.rows_written();
    for stale in [&shorter, &later] {
        assert_eq!(relay.stream.seal_done(stale), Ok(false));
    }
    assert_eq!(relay.storage.rows_written(), before);
    assert_eq!(contents(relay.stream.log()).len(), 3);
    assert_eq!(relay.stream.seal_done(&entry), Ok(true));
    let before = relay.storage.rows_written();
    assert_eq!(relay.stream.seal_done(&entry), Ok(false), "it is done");
    relay.reload();
    assert_eq!(relay.stream.seal_done(&entry), Ok(false), "it is done");
    assert_eq!(relay.storage.rows_written(), before);

    let (storage, mut log) = new_log();
    log.append(&events(1..=3), NOW).unwrap();
    assert_eq!(log.complete_seal(&entry), Ok(false), "nothing is planned");
    assert_eq!(rows(&storage).len(), 1);
}

#[test]
fn what_retention_took_cannot_be_completed() {
    let mut relay = Relay::sealing_at_once();
    relay.append(&row_of(1..=2));
    relay.now = NOW + 1;
    relay.append(&row_of(3..=4));
    let job = relay.stream.seal_next(relay.now).unwrap().unwrap();
    relay.now = NOW + RETENTION_MS;
    assert_eq!(relay.alarm(), []);
    for reloads in [false, true] {
        if reloads {
            relay.reload();
        }
        assert_eq!(relay.stream.log().plan(), None);
        assert_eq!(relay.stream.seal_done(&job.segment.entry), Ok(false));
        assert_eq!(
            contents(relay.stream.log()),
            numbered(&[row_of(1..=2), row_of(3..=4)].concat(), 2)
        );
    }
    let [entry] = <[SegmentEntry; 1]>::try_from(relay.seal()).unwrap();
    assert_eq!((entry.first, entry.last), (Seq::new(3), Seq::new(4)));
}

#[test]
fn a_plan_goes_with_its_only_event() {
    let mut relay = Relay::sealing_at_once();
    relay.append(&row_of(1..=1));
    assert!(relay.stream.seal_next(NOW).unwrap().is_some());
    relay.now = NOW + RETENTION_MS;
    relay.alarm();
    assert_eq!(relay.stream.log().plan(), None);
    relay.append(&[event_received(2, relay.now)]);
    assert_eq!(relay.seal().len(), 1);
}

/// Two segments, then a row that is being sealed with the next, and one behind; ten apart in time.
fn with_everything() -> Relay {
    let mut relay = Relay::sealing_at_once();
    relay.seal_each(&[events(1..=2)]);
    relay.now = NOW + 10;
    relay.seal_each(&[events(3..=5)]);
    relay.now = NOW + 20;
    relay.append(&row_of(6..=7));
    relay.now = NOW + 30;
    relay.append(&row_of(8..=8));
    assert!(relay.stream.seal_next(relay.now).unwrap().is_some());
    relay
}

/// Trims at this age with the write after so many failing, if there are so many, then again; in
/// between and afterwards everything is whole.
fn check_retention(age_ms: u64, floor: u64, fault: Option<(u64, bool)>) -> bool {
    let context = format!("{age_ms} {fault:?}");
    let source = [events(1..=5), row_of(6..=7), row_of(8..=8)].concat();
    let mut relay = with_everything();
    let kept_keys = |relay: &Relay| relay.bucket.keys().cloned().collect::<Vec<_>>();
    let all_keys = kept_keys(&relay);
    relay.now = NOW + RETENTION_MS + age_ms;
    let failed = match fault {
        Some((writes, lands)) => {
            relay.storage.fail_after(writes, lands);
            let failed = relay.stream.alarm(relay.now).is_err();
            relay.storage.fail_after(u64::MAX, false);
            failed
        }
        None => false,
    };
    relay.reload();
    let between = relay.stream.log().trimmed().get();
    assert!(between <= floor, "{context}");
    assert_eq!(all_contents(&relay), numbered(&source, between), "{context}");
    assert_eq!(relay.stream.log().tail(), Seq::new(8), "{context}");

    relay.alarm();
    for reloads in [false, true] {
        if reloads {
            relay.reload();
        }
        let log = relay.stream.log();
        assert_eq!((log.trimmed(), log.tail()), (Seq::new(floor), Seq::new(8)), "{context}");
        assert_eq!(all_contents(&relay), numbered(&source, floor), "{context}");
        assert_eq!(log.plan().is_some(), floor < 6, "{context}");
        let known = |number| log.position_of(id(number)).unwrap().is_some();
        assert!((1..=8).all(|number| known(number) == (number > floor)), "{context}");
    }
    if fault.is_none() {
        let gone = match floor {
            0 => 0,
            2 => 1,
            _ => 2,
        };
        assert_eq!(relay.discarded.iter().cloned().collect::<Vec<_>>(), all_keys[..gone]);
    }
    // Sealing and appending go on.
    relay.append(&[event_received(9, relay.now)]);
    relay.seal();
    relay.reload();
    let source = [source, vec![event_received(9, relay.now)]].concat();
    assert_eq!(all_contents(&relay), numbered(&source, floor), "{context}");
    failed
}

#[test]
fn retention_takes_segments_rows_and_the_plan_whatever_storage_does() {
    // The writes of a trim: rows, segments and reports, with the plan or the head before them.
    for (age_ms, floor, writes) in [(0, 2, 3), (10, 5, 3), (20, 7, 5), (29, 7, 5), (30, 8, 5)] {
        assert!(!check_retention(age_ms, floor, None));
        for lands in [false, true] {
            for write in 0..writes {
                assert!(check_retention(age_ms, floor, Some((write, lands))), "{age_ms} {write}");
            }
            assert!(!check_retention(age_ms, floor, Some((writes, lands))), "{age_ms}: {writes}");
        }
    }
}

#[test]
fn a_plan_that_retention_overtook_holds_nothing_up() {
    for lands in [false, true] {
        for write in 0..5 {
            let mut relay = Relay::sealing_at_once();
            relay.append(&row_of(1..=3));
            assert!(relay.stream.seal_next(NOW).unwrap().is_some());
            relay.now = NOW + RETENTION_MS;
            relay.storage.fail_after(write, lands);
            assert!(relay.stream.alarm(relay.now).is_err(), "write {write} was to fail");
            relay.reload();
            relay.append(&[event_received(4, relay.now)]);
            relay.alarm();
            relay.seal();
            assert_eq!(relay.stream.log().sealed(), Seq::new(4), "{write} {lands}");
            assert_eq!(relay.stream.next_alarm().map(|due| due > relay.now), Some(true));
            relay.reload();
            let source = [row_of(1..=3), vec![event_received(4, relay.now)]].concat();
            assert_eq!(all_contents(&relay), numbered(&source, 3), "{write} {lands}");
        }
    }
}

/// Segments 1 to 3 and 4 to 6, then 7 to 9 in the hot tail; received out of order.
fn received_out_of_order() -> (Relay, Vec<UnixMillis>) {
    let received: Vec<UnixMillis> =
        [10, 30, 20, 15, 25, 12, 40, 5, 50].into_iter().map(|after_ms| NOW + after_ms).collect();
    let source: Vec<NewEvent> =
        (1..).zip(&received).map(|(number, at)| event_received(number, *at)).collect();
    let mut relay = Relay::sealing_at_once();
    relay.now = NOW + 60;
    relay.seal_each(&[source[..3].to_vec(), source[3..6].to_vec()]);
    relay.append(&source[6..]);
    (relay, received)
}

fn check_start(relay: &Relay, start: &Start, after: u64, received_since: Option<UnixMillis>) {
    let expected = Resolved { after: Seq::new(after), received_since, fault: None };
    let long_after = relay.now + DEDUPLICATION_WINDOW_MS * 2;
    for log in [relay.stream.log(), &load(&relay.storage, long_after)] {
        assert_eq!(log.resolve(start), Ok(expected.clone()), "{start:?}");
    }
}

#[test]
fn every_start_is_found_in_both_tiers() {
    let (relay, _) = received_out_of_order();
    check_start(&relay, &Start::Earliest, 0, None);
    check_start(&relay, &Start::Now, 9, None);
    for count in 0..=10 {
        check_start(&relay, &Start::Tail(count), 9u64.saturating_sub(count), None);
    }
    for seq in 0..=9 {
        check_start(&relay, &Start::Cursor(cursor(seq).to_string()), seq, None);
    }
    for number in 1..=9 {
        check_start(&relay, &Start::Event(id(number)), number, None);
    }
}

#[test]
fn an_instant_in_a_segment_is_left_to_its_reader() {
    let (relay, received) = received_out_of_order();
    for after_ms in 0..=51 {
        let at = NOW + after_ms;
        let found = received.iter().position(|received| *received >= at);
        let (after, since) = match found {
            Some(index) if index < 3 => (0, Some(at)),
            Some(index) if index < 6 => (3, Some(at)),
            Some(index) => (index as u64, None),
            None => (9, None),
        };
        check_start(&relay, &Start::Time(at), after, since);
    }
}

#[test]
fn a_trimmed_segment_is_no_start() {
    let (mut relay, _) = received_out_of_order();
    // Only the segments go: the rows are of the same instant, so these are made younger.
    relay.now = NOW + 61;
    relay.append(&[event_received(10, NOW + 61)]);
    relay.now = NOW + 60 + RETENTION_MS;
    relay.alarm();
    assert_eq!(relay.stream.log().trimmed(), Seq::new(6));
    for start in [Start::Earliest, Start::Tail(9), Start::Time(NOW), Start::Time(NOW + 30)] {
        check_start(&relay, &start, 6, None);
    }
    check_start(&relay, &Start::Time(NOW + 41), 8, None);
}

#[test]
fn what_is_not_due_is_not_sealed() {
    let settings = StreamSettings { seal_bytes: 1_000, ..StreamSettings::default() };
    let mut relay = Relay::with_settings(settings);
    assert!(relay.stream.seal_next(NOW).unwrap().is_none(), "an unused stream has nothing");
    relay.append(&[event_of_size(1, 999)]);
    assert!(relay.stream.seal_next(NOW).unwrap().is_none());
    relay.append(&[event_of_size(2, 300)]);
    assert!(relay.stream.seal_next(NOW).unwrap().is_some());
}

#[test]
fn a_log_of_an_earlier_version_is_sealed_once_it_has_learnt_its_name() {
    for reads in [false, true] {
        let (storage, mut log) = new_log();
        log.append(&events(1..=3), NOW).unwrap();
        assert_eq!(storage.load_head().unwrap().unwrap().stream, None);
        let mut relay = Relay::sealing_at_once();
        relay.storage = storage;
        relay.reload();
        assert!(relay.stream.seal_next(NOW).unwrap().is_none(), "a segment needs a name");
        assert_eq!(relay.stream.log().plan(), None);
        assert!(relay.stream.next_alarm().unwrap() >= NOW + RETENTION_MS, "retention alone");
        let mut source = events(1..=3);
        if reads {
            relay.connect(1, &connect(Dialect::WebSocket, Start::Now));
        } else {
            relay.append(&events(4..=4));
            source.extend(events(4..=4));
        }
        assert_eq!(relay.stream.next_alarm(), Some(NOW));
        relay.reload();
        assert_eq!(relay.stream.log().epoch(), cursor(0).epoch, "it stays the same incarnation");
        let [entry] = <[SegmentEntry; 1]>::try_from(relay.seal()).unwrap();
        assert_eq!((entry.first.get(), entry.last.get()), (1, source.len() as u64));
        check_contents(&relay, &source, &format!("{reads}"));
        relay.reload();
        check_contents(&relay, &source, &format!("{reads} after a reload"));
    }
}
