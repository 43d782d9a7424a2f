//! Goal: a failed write loses nothing and repeats nothing, whether it was lost or has landed.
//! Method: every write of an operation is made to fail in both ways; then reload and retry, as
//! the shell and the queue do. Each configured fault is seen to fire.

use relay_schemas::{NewEvent, Seq};

use crate::support::{NOW, contents, event, event_of_size, events, load, new_log, row_of};

/// Three rows: two of small events around a large one.
fn batch() -> Vec<NewEvent> {
    vec![event(1), event(2), event_of_size(3, 300_000), event(4)]
}

fn expected() -> Vec<(u64, String)> {
    (1..).zip(batch().into_iter().map(|event| event.record)).collect()
}

#[test]
fn an_append_that_failed_is_completed_by_its_retry() {
    for lands in [false, true] {
        for writes in 0..4 {
            let (storage, mut log) = new_log();
            storage.fail_after(writes, lands);
            assert!(log.append(&batch(), NOW).is_err(), "write {writes} was to fail");
            let mut log = load(&storage, NOW + 1);
            log.append(&batch(), NOW + 1).unwrap();
            assert_eq!(contents(&log), expected(), "{lands} {writes}");
            assert_eq!(contents(&load(&storage, NOW + 2)), expected(), "{lands} {writes}");
        }
        let (storage, mut log) = new_log();
        storage.fail_after(4, lands);
        assert!(log.append(&batch(), NOW).is_ok(), "an append of three rows has four writes");
    }
}

#[test]
fn a_later_append_goes_on_behind_what_landed() {
    for (lands, first) in [(false, 3), (true, 5)] {
        let (storage, mut log) = new_log();
        log.append(&events(1..=2), NOW).unwrap();
        storage.fail_after(0, lands);
        assert!(log.append(&events(3..=4), NOW).is_err());
        let mut log = load(&storage, NOW);
        log.append(&events(5..=5), NOW).unwrap();
        assert_eq!(contents(&log).last(), Some(&(first, event(5).record)));
    }
}

#[test]
fn the_epoch_stays_when_its_write_failed_but_landed() {
    for lands in [false, true] {
        let (storage, mut log) = new_log();
        let promised = log.cursor(Seq::ZERO);
        storage.fail_after(0, lands);
        assert!(log.make_used().is_err());
        let mut log = load(&storage, NOW);
        assert_eq!(log.cursor(Seq::ZERO) == promised, lands);
        log.make_used().unwrap();
        assert_eq!(load(&storage, NOW + 9).cursor(Seq::ZERO), log.cursor(Seq::ZERO));
    }
}

#[test]
fn a_trim_that_failed_gives_no_position_twice() {
    for lands in [false, true] {
        for (rows_kept, writes) in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)] {
            let (storage, mut log) = new_log();
            log.append(&row_of(1..=2), NOW).unwrap();
            log.append(&row_of(3..=3), NOW + rows_kept).unwrap();
            storage.fail_after(writes, lands);
            assert!(log.trim_until(NOW).is_err(), "write {writes} was to fail");

            let mut log = load(&storage, NOW);
            assert_eq!(log.tail(), Seq::new(3), "{lands} {rows_kept} {writes}");
            let mut kept = contents(&log);
            assert_eq!(kept.len() as u64, 3 - log.trimmed().get(), "what is left is whole");
            log.trim_until(NOW).unwrap();
            let floor = if rows_kept == 0 { 3 } else { 2 };
            assert_eq!(log.trimmed(), Seq::new(floor));

            log.append(&events(4..=4), NOW + 1).unwrap();
            kept.push((4, event(4).record));
            kept.retain(|(seq, _)| *seq > floor);
            assert_eq!(contents(&log), kept);
            assert_eq!(contents(&load(&storage, NOW + 1)), kept);
        }
    }
}
