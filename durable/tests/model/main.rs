//! Goal: whatever happens in whatever order, a stream's log is what was appended, once and
//! without holes, and every reader receives exactly what comes after its start, in order, once,
//! or is told what is missing, within its credit.
//!
//! Method: random operations, storage faults and evictions on a stream, against a plain `Vec`.
//! Readers are told only what a socket would carry. The seed is fixed; counters prove that the
//! rare things did happen.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

#[path = "../support/mod.rs"]
mod support;

mod operation;
mod oracle;
mod reader;
mod world;

use proptest::{
    collection,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::world::{Coverage, World};

const CASES: u32 = 300;

#[test]
fn readers_receive_what_was_appended() {
    let coverage = run(CASES);
    println!("{coverage:?}");
    let Coverage { faults_lost, faults_landed, .. } = coverage;
    assert!(faults_lost > 50 && faults_landed > 50, "{coverage:?}");
    assert!(coverage.duplicates > 500 && coverage.trims > 50, "{coverage:?}");
    assert!(coverage.webhooks > 5_000 && coverage.stalls > 50, "{coverage:?}");
    assert!(coverage.gaps_at_start > 50 && coverage.gaps_later > 5, "{coverage:?}");
    assert!(coverage.byes > 50 && coverage.reloads > 500, "{coverage:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(20), run(20));
}

fn run(cases: u32) -> Coverage {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let coverage = std::cell::RefCell::new(Coverage::default());
    TestRunner::new_with_rng(config, rng)
        .run(&collection::vec(operation::operations(), 1..120), |operations| {
            let mut world = World::new();
            operations.iter().for_each(|operation| world.step(operation));
            world.finish();
            coverage.borrow_mut().add(&world.coverage);
            Ok(())
        })
        .unwrap();
    coverage.into_inner()
}
