//! Goal: row writes stay at the price that the design promises.
//! Method: storage counts rows written, deletes included, as the platform bills them.

use relay_durable::Log;
use relay_schemas::{NewEvent, UnixMillis};

use crate::support::{DAY_MS, HOUR_MS, NOW, event_alone, event_of_size, events, load, new_log};

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
    log.append(&[event_alone(u64::MAX)], NOW + 2 * DAY_MS).unwrap();
    let before = storage.rows_written();
    assert_eq!(log.trim_until(NOW + DAY_MS), Ok(vec![]));
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
fn single_events_share_the_row_that_is_deleted() {
    let singles = |record_bytes| -> Vec<Vec<NewEvent>> {
        (1..=50).map(|number| vec![event_of_size(number, record_bytes)]).collect()
    };
    assert_eq!(row_writes(&singles(300)), (50, 1));
    assert_eq!(row_writes(&singles(6_000)), (50, 5), "ten in a row");
    assert_eq!(row_writes(&singles(40_000)), (50, 50), "each alone: two over its life");
}

/// Appends events of 6 kB at these instants, seals them, and trims the segment: the row writes of
/// all that. The object is evicted before each step, as it would be.
fn writes_over_a_life(appends: &[(UnixMillis, u64)]) -> u64 {
    let (storage, mut log) = new_log();
    log.make_used().unwrap();
    let before = storage.rows_written();
    let mut number = 0;
    for (at, count) in appends {
        let next = |_| {
            number += 1;
            event_of_size(number, 6_000)
        };
        let batch: Vec<NewEvent> = (0..*count).map(next).collect();
        load(&storage, *at).append(&batch, *at).unwrap();
    }
    let sealed_at = NOW + DAY_MS;
    let planned = load(&storage, sealed_at).next_segment().unwrap().unwrap();
    log = load(&storage, sealed_at);
    let segment = log.next_segment().unwrap().unwrap();
    assert_eq!(segment, planned);
    assert_eq!(log.complete_seal(&segment.entry), Ok(true));
    assert_eq!((log.tail().get(), log.sealed()), (number, log.tail()));
    // An event that is kept stands in for a stream in use.
    let mut log: Log<_> = load(&storage, sealed_at + DAY_MS);
    let sealed = storage.rows_written() - before;
    log.append(&[event_alone(u64::MAX)], sealed_at + DAY_MS).unwrap();
    let before = storage.rows_written();
    assert_eq!(log.trim_until(sealed_at), Ok(vec![segment.entry]));
    sealed + (storage.rows_written() - before)
}

#[test]
fn an_event_an_hour_costs_less_than_two_row_writes() {
    let appends: Vec<_> = (0..24).map(|hour| (NOW + hour * HOUR_MS, 1)).collect();
    // 24 events, 3 rows deleted, the plan, the segment, and the segment deleted.
    assert_eq!(writes_over_a_life(&appends), 24 + 3 + 3);
}

#[test]
fn one_event_sealed_alone_costs_five_row_writes() {
    // A stream doesn't do so: a hot tail that is small is left to retention, at two.
    assert_eq!(writes_over_a_life(&[(NOW, 1)]), 5);
}

#[test]
fn a_batch_of_a_hundred_costs_a_tenth_of_a_row_write_for_each() {
    // Three rows, three deleted, the plan, the segment, and the segment deleted.
    assert_eq!(writes_over_a_life(&[(NOW, 100)]), 3 + 3 + 3);
}

#[test]
fn a_burst_of_twenty_single_events_costs_less_than_two_each() {
    let appends: Vec<_> = (0..20).map(|second| (NOW + second * 1000, 1)).collect();
    // 20 events, 2 rows deleted, the plan, the segment, and the segment deleted.
    assert_eq!(writes_over_a_life(&appends), 20 + 2 + 3);
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
    assert_eq!(log.trim_until(NOW - 1), Ok(vec![]));
    assert_eq!(storage.rows_written(), before);
}

#[test]
fn a_log_that_becomes_empty_costs_one_more() {
    let (storage, mut log) = new_log();
    log.append(&events(1..=5), NOW).unwrap();
    let before = storage.rows_written();
    assert_eq!(log.trim_until(NOW), Ok(vec![]));
    assert_eq!(storage.rows_written() - before, 2, "a row deleted, and the head");
    assert_eq!(log.trim_until(NOW), Ok(vec![]));
    assert_eq!(storage.rows_written() - before, 2);
}
