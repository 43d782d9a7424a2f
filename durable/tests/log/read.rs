//! Goal: reading from any position gives exactly what lies there, however it is cut into pieces.
//! Method: properties over batches of random sizes, with a plain list as oracle.

use std::ops::ControlFlow;

use proptest::prelude::*;
use relay_durable::{Log, test_storage::MemoryStorage};
use relay_schemas::Seq;

use crate::support::{NOW, id, new_log, row_of};

/// A log of a row for each of these sizes; the first `trimmed` rows are gone.
fn log_of(batches: &[u64], trimmed: usize) -> (Log<MemoryStorage>, u64, u64) {
    let (_, mut log) = new_log();
    let mut last = 0;
    let mut floor = 0;
    for (place, size) in batches.iter().enumerate() {
        log.append(&row_of(last + 1..=last + size), NOW + place as u64).unwrap();
        last += size;
        if place < trimmed {
            floor = last;
        }
    }
    if trimmed > 0 {
        log.trim_until(NOW + trimmed as u64 - 1).unwrap();
    }
    (log, floor, last)
}

/// What one read shows, stopped after `count`.
fn piece(log: &Log<MemoryStorage>, from: Seq, count: usize, back: bool) -> Vec<u64> {
    let mut found = Vec::new();
    let mut visit = |seq: Seq, record: &str| {
        if found.len() == count {
            return ControlFlow::Break(());
        }
        assert!(record.contains(&id(seq.get()).to_string()), "{seq:?}");
        found.push(seq.get());
        ControlFlow::Continue(())
    };
    if back { log.read_back(from, &mut visit) } else { log.read(from, &mut visit) }.unwrap();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn pieces_tile_the_log_both_ways(
        batches in prop::collection::vec(1u64..5, 1..8),
        trimmed in 0usize..9,
        cuts in prop::collection::vec(1usize..6, 1..5),
        start in 0u64..40,
    ) {
        let (log, floor, last) = log_of(&batches, trimmed.min(batches.len()));
        let start = start.min(last);
        let mut cuts = cuts.iter().copied().cycle();

        let mut found = Vec::new();
        let mut position = Seq::new(start);
        while position < log.tail() {
            let piece = piece(&log, position, cuts.next().unwrap_or(1), false);
            position = Seq::new(piece.last().copied().unwrap_or(last));
            found.extend(piece);
        }
        prop_assert_eq!(found, (start.max(floor) + 1..=last).collect::<Vec<_>>());

        let mut found = Vec::new();
        let mut position = Seq::new(start);
        while position > log.trimmed() {
            let piece = piece(&log, position, cuts.next().unwrap_or(1), true);
            position = Seq::new(piece.last().map_or(floor, |seq| seq - 1));
            found.extend(piece);
        }
        prop_assert_eq!(found, (floor + 1..=start).rev().collect::<Vec<_>>());
    }
}

#[test]
fn the_ends_are_empty() {
    let (log, ..) = log_of(&[2, 3], 1);
    assert_eq!(piece(&log, Seq::new(5), 9, false), [0; 0]);
    assert_eq!(piece(&log, Seq::new(9), 9, false), [0; 0]);
    assert_eq!(piece(&log, Seq::new(2), 9, true), [0; 0]);
    assert_eq!(piece(&log, Seq::MAX, 9, true), [5, 4, 3]);
}
