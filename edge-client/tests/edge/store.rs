//! Goal: a crash between any two steps loses nothing and repeats only what was not stored. Method:
//! open the file again after each step.

use std::fs;

use edgerelay::{
    Batch, Restored, Store, StoreError, StreamIdentity,
    limits::{OUTBOX_REPORTS_MAX, RECENT_IDS_MAX},
};
use proptest::prelude::*;
use relay_schemas::{EventId, Report, ReportStatus};

use crate::{
    events::{cursor, event_id},
    harness::state,
};

fn identity(edge: &str) -> StreamIdentity {
    StreamIdentity { relay: "https://relay".into(), edge: edge.parse().unwrap() }
}

fn report(seq: u64, status: ReportStatus) -> Report {
    Report { event_id: event_id(seq), status, error: None, message: None }
}

#[test]
fn what_is_committed_is_there_again_and_nothing_else() {
    let (_directory, path) = state();
    let (mut store, restored) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(restored, Restored::default());
    let batch = Batch {
        cursor: Some(cursor(3)),
        handled: vec![event_id(3), event_id(5)],
        reports: vec![report(3, ReportStatus::Processing), report(3, ReportStatus::Completed)],
    };
    store.commit(&batch).unwrap();
    // A batch without a cursor leaves it.
    store.commit(&Batch { handled: vec![event_id(6)], ..Batch::default() }).unwrap();
    drop(store);

    let (mut store, restored) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(restored.cursor, Some(cursor(3)));
    assert_eq!(restored.handled, [3, 5, 6].map(event_id));
    let waiting = store.reports(10).unwrap();
    let reports: Vec<Report> = waiting.iter().map(|waiting| waiting.report.clone()).collect();
    assert_eq!(reports, batch.reports);
    assert_eq!(store.reports(1).unwrap().len(), 1);
    store.forget_reports(&[waiting[0].number]).unwrap();
    drop(store);

    let (mut store, _) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(store.reports(10).unwrap(), waiting[1..]);
    store.reset().unwrap();
    drop(store);

    let (store, restored) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(restored, Restored::default());
    assert_eq!(store.reports_waiting().unwrap(), 1, "a reset forgets no report");
}

#[test]
fn edges_and_relays_have_cursors_of_their_own() {
    let (_directory, path) = state();
    let other_relay = StreamIdentity { relay: "https://other".into(), ..identity("edge_1") };
    let identities = [identity("edge_1"), identity("edge_2"), other_relay];
    for (seq, identity) in (1..).zip(&identities) {
        let (mut store, restored) = Store::open(&path, identity).unwrap();
        assert_eq!(restored, Restored::default());
        let batch = Batch {
            cursor: Some(cursor(seq)),
            handled: vec![event_id(seq)],
            reports: vec![report(seq, ReportStatus::Completed)],
        };
        store.commit(&batch).unwrap();
    }
    for (seq, identity) in (1..).zip(&identities) {
        let (store, restored) = Store::open(&path, identity).unwrap();
        assert_eq!((restored.cursor, restored.handled), (Some(cursor(seq)), vec![event_id(seq)]));
        assert_eq!(store.reports(10).unwrap().len(), 1);
    }
}

#[test]
fn a_second_one_is_refused_while_the_first_lives() {
    let (_directory, path) = state();
    let (store, _) = Store::open(&path, &identity("edge_1")).unwrap();
    let refused = Store::open(&path, &identity("edge_2")).unwrap_err();
    assert!(matches!(refused, StoreError::Locked), "{refused}");
    drop(store);
    Store::open(&path, &identity("edge_2")).unwrap();
}

#[test]
fn foreign_files_are_left_alone() {
    let (directory, path) = state();
    fs::write(
        &path,
        "a letter to nobody, and long enough to be one of SQLite's pages\n".repeat(99),
    )
    .unwrap();
    let refused = Store::open(&path, &identity("edge_1")).unwrap_err();
    assert!(matches!(refused, StoreError::Foreign(_)), "{refused}");
    assert!(fs::read_to_string(&path).unwrap().starts_with("a letter"));

    let path = directory.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE things (name TEXT)").unwrap();
    drop(other);
    let refused = Store::open(&path, &identity("edge_1")).unwrap_err();
    assert!(matches!(refused, StoreError::Foreign(_)), "{refused}");
}

#[test]
fn a_newer_state_is_not_touched() {
    let (_directory, path) = state();
    Store::open(&path, &identity("edge_1")).unwrap();
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let refused = Store::open(&path, &identity("edge_1")).unwrap_err();
    assert!(refused.to_string().contains("version 99"), "{refused}");
}

#[test]
fn the_outbox_and_the_handled_ids_are_bounded() {
    let (mut store, _) = Store::open_in_memory(&identity("edge_1")).unwrap();
    let handled = (0..RECENT_IDS_MAX as u64 + 10).map(event_id).collect();
    let reports: Vec<Report> = (0..1_000).map(|seq| report(seq, ReportStatus::Completed)).collect();
    store.commit(&Batch { cursor: None, handled, reports: vec![] }).unwrap();
    for _ in 0..OUTBOX_REPORTS_MAX / reports.len() + 2 {
        let batch = Batch { reports: reports.clone(), ..Batch::default() };
        store.commit(&batch).unwrap();
    }
    assert_eq!(store.reports_waiting().unwrap(), OUTBOX_REPORTS_MAX as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The ring keeps the newest ids, however they come.
    #[test]
    fn the_newest_ids_are_restored(sizes in prop::collection::vec(0usize..4_000, 1..8)) {
        let (_directory, path) = state();
        let mut model: Vec<EventId> = Vec::new();
        for size in sizes {
            let (mut store, _) = Store::open(&path, &identity("edge_1")).unwrap();
            let first = model.len() as u64;
            let handled: Vec<_> = (first..first + size as u64).map(event_id).collect();
            model.extend(&handled);
            store.commit(&Batch { handled, ..Batch::default() }).unwrap();
            drop(store);
            let (_, restored) = Store::open(&path, &identity("edge_1")).unwrap();
            let oldest = model.len().saturating_sub(RECENT_IDS_MAX);
            prop_assert_eq!(&restored.handled, &model[oldest..]);
        }
    }
}
