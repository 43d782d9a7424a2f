//! Goal: an event is stored once, at the next position, in rows of bounded size.
//! Method: dispositions, positions and rows are looked at after each append and after a reload.

use proptest::prelude::*;
use relay_schemas::{
    Disposition::{self, Appended, Duplicate},
    NewEvent, Seq,
    limits::{DEDUPLICATION_WINDOW_MS, LOG_ROW_BYTES_MAX, LOG_ROW_EXTENDED_BYTES_MAX},
};

use crate::support::{
    NOW, contents, event, event_alone, event_of_size, event_received, id, load, new_log, rows,
};

fn check_rows(events: &[NewEvent], expected: &[(u64, u64, usize)]) {
    let (storage, mut log) = new_log();
    log.append(events, NOW).unwrap();
    assert_eq!(rows(&storage), expected);
    let records: Vec<_> = (1..).zip(events.iter().map(|event| event.record.clone())).collect();
    assert_eq!(contents(&log), records);
    assert_eq!(contents(&load(&storage, NOW)), records);
}

#[test]
fn positions_have_no_holes_and_a_reload_gives_the_same() {
    let (storage, mut log) = new_log();
    let batches: [&[u64]; 5] = [&[1], &[2, 3, 2, 1], &[], &[3, 4, 4, 5], &[5]];
    for batch in batches {
        let batch: Vec<NewEvent> = batch.iter().copied().map(event).collect();
        log.append(&batch, NOW).unwrap();
    }
    let expected: Vec<_> = (1..=5).map(|seq| (seq, event(seq).record)).collect();
    assert_eq!((log.tail(), contents(&log)), (Seq::new(5), expected.clone()));
    let reloaded = load(&storage, NOW + 1);
    assert_eq!((reloaded.tail(), contents(&reloaded)), (Seq::new(5), expected));
    assert_eq!(reloaded.cursor(Seq::new(5)), log.cursor(Seq::new(5)));
}

#[test]
fn duplicates_keep_the_place_they_have() {
    let (_, mut log) = new_log();
    let batch = [event(1), event(1), event(2)];
    assert_eq!(log.append(&batch, NOW), Ok(vec![Appended, Duplicate, Appended]));
    assert_eq!(log.append(&[event(3), event(1)], NOW), Ok(vec![Appended, Duplicate]));
    for (number, seq) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(log.position_of(id(number)), Ok(Some(Seq::new(seq))));
    }
}

#[test]
fn an_event_is_remembered_for_the_window_and_no_longer() {
    fn check(age_ms: u64, reloads: bool, expected: Disposition, tail: u64) {
        let (storage, mut log) = new_log();
        log.append(&[event(1)], NOW).unwrap();
        let later = NOW + age_ms;
        if reloads {
            log = load(&storage, later);
        }
        let again = event_received(1, later);
        assert_eq!(log.append(&[again], later), Ok(vec![expected]), "{age_ms} {reloads}");
        assert_eq!((log.tail(), contents(&log).len() as u64), (Seq::new(tail), tail));
    }
    for reloads in [false, true] {
        check(0, reloads, Duplicate, 1);
        check(DEDUPLICATION_WINDOW_MS, reloads, Duplicate, 1);
        check(DEDUPLICATION_WINDOW_MS + 1, reloads, Appended, 2);
    }
}

#[test]
fn an_event_that_comes_late_is_found_in_any_row_that_is_kept() {
    let (storage, mut log) = new_log();
    log.append(&[event(1)], NOW).unwrap();
    let later = NOW + 10 * DEDUPLICATION_WINDOW_MS;
    assert_eq!(log.append(&[event(1), event(2)], later), Ok(vec![Duplicate, Appended]));
    let mut log = load(&storage, later);
    assert_eq!(log.append(&[event(1)], later), Ok(vec![Duplicate]));
}

#[test]
fn of_an_event_in_two_rows_the_newer_place_counts() {
    let (storage, mut log) = new_log();
    let again = NOW + DEDUPLICATION_WINDOW_MS + 1;
    log.append(&[event(1), event_alone(2)], NOW).unwrap();
    log.append(&[event_received(1, again)], again).unwrap();
    assert_eq!(rows(&storage).len(), 2);
    // Another machine's clock is a little behind: both rows are within the window there.
    let mut log = load(&storage, again - 1);
    assert_eq!(log.position_of(id(1)), Ok(Some(Seq::new(3))));
    let batch = [event_received(1, again), event_received(2, again)];
    assert_eq!(log.append(&batch, again), Ok(vec![Duplicate, Appended]));
}

#[test]
fn rows_are_filled_to_the_bound_and_a_larger_event_stands_alone() {
    let half = LOG_ROW_BYTES_MAX / 2;
    let fitting = [event_of_size(1, half), event_of_size(2, half - 1)];
    check_rows(&fitting, &[(1, 2, LOG_ROW_BYTES_MAX)]);
    check_rows(&[event_of_size(1, half), event_of_size(2, half)], &[(1, 1, half), (2, 2, half)]);
    let large = 5 * 1024 * 1024;
    check_rows(
        &[event_of_size(1, 200), event_of_size(2, large), event_of_size(3, 200)],
        &[(1, 1, 200), (2, 2, large), (3, 3, 200)],
    );
}

#[test]
fn of_an_event_twice_in_a_row_the_newer_place_counts() {
    let (storage, mut log) = new_log();
    let again = NOW + DEDUPLICATION_WINDOW_MS + 1;
    log.append(&[event(1), event(2)], NOW).unwrap();
    log.append(&[event_received(1, again)], again).unwrap();
    assert_eq!(rows(&storage).len(), 1);
    for log in [&log, &load(&storage, again), &load(&storage, again + DEDUPLICATION_WINDOW_MS * 2)]
    {
        assert_eq!(log.position_of(id(1)), Ok(Some(Seq::new(3))));
    }
}

/// Appends each alone, with or without a reload before it, and looks at the rows.
fn check_growth(sizes: &[usize], expected: &[(u64, u64, usize)]) {
    for reloads in [false, true] {
        let (storage, mut log) = new_log();
        let appended: Vec<NewEvent> =
            (1..).zip(sizes).map(|(number, size)| event_of_size(number, *size)).collect();
        for (event, at) in appended.iter().zip((0..).map(|after_ms| NOW + after_ms)) {
            if reloads && log.is_used() {
                log = load(&storage, at);
            }
            log.append(std::slice::from_ref(event), at).unwrap();
        }
        assert_eq!(rows(&storage), expected, "{sizes:?} {reloads}");
        let hot_bytes: usize = expected.iter().map(|row| row.2).sum();
        assert_eq!(log.hot_bytes(), hot_bytes as u64, "{sizes:?} {reloads}");
        assert_eq!(load(&storage, NOW).hot_bytes(), hot_bytes as u64);
        let records: Vec<_> = (1..).zip(appended.into_iter().map(|event| event.record)).collect();
        assert_eq!(contents(&log), records);
        assert_eq!(contents(&load(&storage, NOW)), records);
    }
}

#[test]
fn the_newest_row_grows_up_to_a_bound() {
    let bound = LOG_ROW_EXTENDED_BYTES_MAX;
    check_growth(&[300, 400, 500], &[(1, 3, 1_202)]);
    check_growth(&[bound / 2, bound / 2 - 1, 300], &[(1, 2, bound), (3, 3, 300)]);
    // The line breaks between three would be one byte too many.
    let rest = bound / 2 - 301;
    check_growth(&[bound / 2, 300, rest], &[(1, 2, bound / 2 + 301), (3, 3, rest)]);
    check_growth(&[bound / 2, 300, rest - 1], &[(1, 3, bound)]);
    check_growth(&[bound / 2, bound / 2], &[(1, 1, bound / 2), (2, 2, bound / 2)]);
    check_growth(&[300, bound, 300, 300], &[(1, 1, 300), (2, 2, bound), (3, 4, 601)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn rows_of_any_sizes_tile_and_are_bounded(sizes in prop::collection::vec(200usize..150_000, 1..12)) {
        let events: Vec<NewEvent> =
            (1..).zip(&sizes).map(|(number, size)| event_of_size(number, *size)).collect();
        let (storage, mut log) = new_log();
        log.append(&events, NOW).unwrap();
        let rows = rows(&storage);
        let mut next = 1;
        for (first, last, bytes) in &rows {
            prop_assert_eq!(*first, next);
            prop_assert!(*bytes <= LOG_ROW_BYTES_MAX);
            next = last + 1;
        }
        prop_assert_eq!(next, events.len() as u64 + 1);
        for pair in rows.windows(2) {
            let first_of_next = &events[pair[1].0 as usize - 1].record;
            prop_assert!(pair[0].2 + 1 + first_of_next.len() > LOG_ROW_BYTES_MAX, "row not filled");
        }
    }
}
