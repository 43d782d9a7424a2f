//! Goal: row writes stay at the price that the design promises.
//! Method: storage counts rows written, deletes included, as the platform bills them.

use relay_schemas::NewEvent;

use crate::support::{DAY_MS, NOW, event, event_of_size, events, new_log};

/// Row writes of storing these batches a second apart, and of trimming them all but the last.
fn row_writes(batches: &[Vec<NewEvent>]) -> (u64, u64) {
    let (storage, mut log) = new_log();
    log.make_used().unwrap();
    let before = storage.rows_written();
    for (batch, at) in batches.iter().zip((0..).map(|second| NOW + second * 1000)) {
        log.append(batch, at).unwrap();
    }
    let stored = storage.rows_written() - before;
    // An event that is kept stands in for a stream in use.
    let kept = event(u64::MAX);
    log.append(&[kept], NOW + 2 * DAY_MS).unwrap();
    let before = storage.rows_written();
    assert_eq!(log.trim_until(NOW + DAY_MS), Ok(true));
    (stored, storage.rows_written() - before)
}

#[test]
fn the_head_is_written_once() {
    let (storage, mut log) = new_log();
    assert!(!log.is_used());
    log.append(&events(1..=1), NOW).unwrap();
    assert!(log.is_used());
    assert_eq!(storage.rows_written(), 2);
    log.append(&events(2..=2), NOW).unwrap();
    log.make_used().unwrap();
    assert_eq!(storage.rows_written(), 3);
}

#[test]
fn a_single_event_costs_two_row_writes_over_its_life() {
    let batches: Vec<Vec<NewEvent>> = (1..=50).map(|number| vec![event(number)]).collect();
    assert_eq!(row_writes(&batches), (50, 50));
}

#[test]
fn a_hundred_events_in_a_batch_cost_at_most_ten() {
    assert_eq!(row_writes(&[events(1..=100)]), (1, 1));
    let typical: Vec<NewEvent> = (1..=100).map(|number| event_of_size(number, 6_000)).collect();
    assert_eq!(row_writes(&[typical]), (3, 3));
    let large: Vec<NewEvent> = (1..=100).map(|number| event_of_size(number, 12_000)).collect();
    assert_eq!(row_writes(&[large]), (5, 5));
}

#[test]
fn duplicates_and_reads_write_nothing() {
    let (storage, mut log) = new_log();
    log.append(&events(1..=5), NOW).unwrap();
    let before = storage.rows_written();
    log.append(&events(1..=5), NOW).unwrap();
    log.append(&[], NOW).unwrap();
    crate::support::contents(&log);
    assert_eq!(log.trim_until(NOW - 1), Ok(false));
    assert_eq!(storage.rows_written(), before);
}

#[test]
fn a_log_that_becomes_empty_costs_one_more() {
    let (storage, mut log) = new_log();
    log.append(&events(1..=5), NOW).unwrap();
    let before = storage.rows_written();
    assert_eq!(log.trim_until(NOW), Ok(true));
    assert_eq!(storage.rows_written() - before, 2, "a row deleted, and the head");
    assert_eq!(log.trim_until(NOW), Ok(false));
    assert_eq!(storage.rows_written() - before, 2);
}
