//! Goal: a crash between any two steps loses nothing and repeats only what was not stored. Method:
//! open the file again after each step.

use std::{
    fs,
    path::{Path, PathBuf},
};

use edgerelay::{
    Batch, Dispatch, Handled, Restored, Store, StoreError, StreamIdentity,
    limits::{OUTBOX_EVICTED, OUTBOX_REPORTS_MAX, RECENT_IDS_MAX},
};
use proptest::prelude::*;
use relay_schemas::{ActivityRequest, ReportStatus};

use crate::{
    events::{cursor, event_id},
    harness::state,
};

fn identity(edge: &str) -> StreamIdentity {
    StreamIdentity {
        relay: "https://relay".into(),
        organization: "org-1".parse().unwrap(),
        user: "u-1".parse().unwrap(),
        edge: edge.parse().unwrap(),
        channel: None,
    }
}

fn identity_of(user: &str) -> StreamIdentity {
    StreamIdentity { user: user.parse().unwrap(), ..identity("edge_1") }
}

fn well(seq: u64) -> Handled {
    Handled::well(event_id(seq))
}

fn report(seq: u64, status: ReportStatus) -> Dispatch {
    Dispatch::Status(relay_schemas::Report::new(event_id(seq), status))
}

#[test]
fn what_is_committed_is_there_again_and_nothing_else() {
    let (_directory, path) = state();
    let (mut store, restored) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(restored, Restored::default());
    let batch = Batch {
        cursor: Some(cursor(3)),
        handled: vec![well(3), Handled::given_up(event_id(5), 2)],
        dispatches: vec![report(3, ReportStatus::Processing), report(3, ReportStatus::Completed)],
    };
    store.commit(&batch).unwrap();
    // A batch without a cursor leaves it.
    store.commit(&Batch { handled: vec![well(6)], ..Batch::default() }).unwrap();
    drop(store);

    let (mut store, restored) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(restored.cursor, Some(cursor(3)));
    assert_eq!(restored.handled, [well(3), Handled::given_up(event_id(5), 2), well(6)]);
    let waiting = store.outbox(10).unwrap();
    let told: Vec<Dispatch> = waiting.iter().map(|waiting| waiting.dispatch.clone()).collect();
    assert_eq!(told, batch.dispatches);
    assert_eq!(store.outbox(1).unwrap().len(), 1);
    store.forget_waiting(&[waiting[0].number]).unwrap();
    drop(store);

    let (mut store, _) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(store.outbox(10).unwrap(), waiting[1..]);
    store.reset().unwrap();
    drop(store);

    let (store, restored) = Store::open(&path, &identity("edge_1")).unwrap();
    assert_eq!(restored, Restored::default());
    assert_eq!(store.outbox_length().unwrap(), 1, "a reset forgets no report");
}

#[test]
fn people_organizations_relays_and_channels_have_cursors_of_their_own() {
    let (_directory, path) = state();
    let identities = [
        identity("edge_1"),
        identity_of("u-2"),
        StreamIdentity { organization: "org-2".parse().unwrap(), ..identity("edge_1") },
        StreamIdentity { relay: "https://other".into(), ..identity("edge_1") },
        StreamIdentity { channel: "org".parse().ok(), ..identity("edge_1") },
    ];
    for (seq, identity) in (1..).zip(&identities) {
        let (mut store, restored) = Store::open(&path, identity).unwrap();
        assert_eq!(restored, Restored::default());
        let batch = Batch {
            cursor: Some(cursor(seq)),
            handled: vec![well(seq)],
            dispatches: vec![report(seq, ReportStatus::Completed)],
        };
        store.commit(&batch).unwrap();
    }
    for (seq, identity) in (1..).zip(&identities) {
        let (store, restored) = Store::open(&path, identity).unwrap();
        assert_eq!((restored.cursor, restored.handled), (Some(cursor(seq)), vec![well(seq)]));
        assert_eq!(store.outbox(10).unwrap().len(), 1);
    }
}

#[test]
fn a_machine_that_its_person_signs_in_anew_goes_on_where_it_was() {
    let (_directory, path) = state();
    let (mut store, _) = Store::open(&path, &identity("edge_1")).unwrap();
    let batch = Batch {
        cursor: Some(cursor(3)),
        handled: vec![well(5)],
        dispatches: vec![report(3, ReportStatus::Completed)],
    };
    store.commit(&batch).unwrap();
    drop(store);
    let (store, restored) = Store::open(&path, &identity("edge_2")).unwrap();
    assert_eq!((restored.cursor, restored.handled), (Some(cursor(3)), vec![well(5)]));
    assert_eq!(store.outbox_length().unwrap(), 1, "what was to be told is told");
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

/// The same state in another file.
fn copy_of(path: &Path) -> PathBuf {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    copy
}

/// As the version before channels and activities wrote it.
#[test]
fn the_state_of_an_earlier_version_goes_on() {
    let (_directory, path) = state();
    let earlier = rusqlite::Connection::open(&path).unwrap();
    let report = format!(r#"{{"eventId":"{}","status":"failed","error":"e"}}"#, event_id(3));
    earlier
        .execute_batch(&format!(
            "CREATE TABLE stream (key INTEGER PRIMARY KEY, relay TEXT NOT NULL, edge TEXT NOT NULL,
                 cursor TEXT, UNIQUE (relay, edge)) STRICT;
             CREATE TABLE handled (stream INTEGER NOT NULL, slot INTEGER NOT NULL,
                 number INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY (stream, slot))
                 STRICT, WITHOUT ROWID;
             CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT,
                 stream INTEGER NOT NULL, report TEXT NOT NULL) STRICT;
             INSERT INTO stream VALUES (7, 'https://relay', 'edge_1', '{}');
             INSERT INTO outbox VALUES (1, 7, '{report}');
             PRAGMA application_id = 1164202597;
             PRAGMA user_version = 1;",
            cursor(3)
        ))
        .unwrap();
    drop(earlier);
    // Nobody inherits it but the person whose machine wrote it, on whichever machine then.
    for other in [identity_of("u-2"), identity("edge_2")] {
        let stranger = StreamIdentity { edge: "edge_2".parse().unwrap(), ..other };
        assert_eq!(Store::open(&copy_of(&path), &stranger).unwrap().1, Restored::default());
    }
    drop(Store::open(&path, &identity("edge_1")).unwrap());
    let (store, restored) = Store::open(&path, &identity("edge_3")).unwrap();
    assert_eq!(restored.cursor, Some(cursor(3)));
    let failed = relay_schemas::Report {
        error: Some("e".into()),
        ..relay_schemas::Report::new(event_id(3), ReportStatus::Failed)
    };
    assert_eq!(store.outbox(10).unwrap()[0].dispatch, Dispatch::Status(failed));
    drop(store);
    let team = StreamIdentity { channel: "team:t".parse().ok(), ..identity("edge_1") };
    assert_eq!(Store::open(&path, &team).unwrap().1, Restored::default());
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
    let handled = (0..RECENT_IDS_MAX as u64 + 10).map(well).collect();
    let reports: Vec<Dispatch> =
        (0..1_000).map(|seq| report(seq, ReportStatus::Completed)).collect();
    store.commit(&Batch { cursor: None, handled, dispatches: vec![] }).unwrap();
    for _ in 0..OUTBOX_REPORTS_MAX / reports.len() + 2 {
        let batch = Batch { dispatches: reports.clone(), ..Batch::default() };
        store.commit(&batch).unwrap();
    }
    let length = store.outbox_length().unwrap();
    assert!(length <= OUTBOX_REPORTS_MAX as u64, "{length}");
    assert!(length >= (OUTBOX_REPORTS_MAX - OUTBOX_EVICTED) as u64, "{length}");
}

/// What a handler says without end costs no event its end.
#[test]
fn activities_make_room_for_reports() {
    let (mut store, _) = Store::open_in_memory(&identity("edge_1")).unwrap();
    let commit = |store: &mut Store, dispatches| {
        store.commit(&Batch { dispatches, ..Batch::default() }).unwrap();
    };
    let activity = edgerelay::read_activity(br#"{"type":"thought","body":"hm"}"#).unwrap();
    let shown = Dispatch::Activity(ActivityRequest { event_id: event_id(2), activity });
    commit(&mut store, vec![report(1, ReportStatus::Completed)]);
    commit(&mut store, vec![shown.clone(); OUTBOX_REPORTS_MAX]);
    commit(&mut store, vec![report(2, ReportStatus::Completed)]);
    let waiting = store.outbox(OUTBOX_REPORTS_MAX).unwrap();
    assert!(waiting.len() < OUTBOX_REPORTS_MAX);
    let is_shown = |waiting: &&edgerelay::Waiting| waiting.dispatch == shown;
    assert_eq!(waiting.iter().filter(is_shown).count(), waiting.len() - 2);
    assert_eq!(waiting[0].dispatch, report(1, ReportStatus::Completed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The ring keeps the newest ids, however they come.
    #[test]
    fn the_newest_ids_are_restored(sizes in prop::collection::vec(0usize..4_000, 1..8)) {
        let (_directory, path) = state();
        let mut model: Vec<Handled> = Vec::new();
        for size in sizes {
            let (mut store, _) = Store::open(&path, &identity("edge_1")).unwrap();
            let first = model.len() as u64;
            let handled: Vec<_> = (first..first + size as u64).map(well).collect();
            model.extend(&handled);
            store.commit(&Batch { handled, ..Batch::default() }).unwrap();
            drop(store);
            let (_, restored) = Store::open(&path, &identity("edge_1")).unwrap();
            let oldest = model.len().saturating_sub(RECENT_IDS_MAX);
            prop_assert_eq!(&restored.handled, &model[oldest..]);
        }
    }
}
