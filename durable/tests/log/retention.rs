//! Goal: what is older than the retention goes, nothing else does, and positions go on.
//! Method: trim at the edges of rows, and reload after each.

use relay_schemas::{Seq, Start};

use crate::support::{NOW, contents, event, events, id, load, new_log, row_of};

fn positions(log: &relay_durable::Log<relay_durable::test_storage::MemoryStorage>) -> Vec<u64> {
    contents(log).into_iter().map(|(seq, _)| seq).collect()
}

#[test]
fn rows_go_whole_when_their_time_has_come() {
    let (storage, mut log) = new_log();
    log.append(&row_of(1..=2), NOW).unwrap();
    log.append(&row_of(3..=5), NOW + 10).unwrap();
    log.append(&row_of(6..=6), NOW + 20).unwrap();
    for (at, floor) in [(NOW - 1, 0), (NOW, 2), (NOW + 9, 2), (NOW + 19, 5)] {
        assert_eq!(log.trim_until(at), Ok(vec![]), "no segment");
        for log in [&log, &load(&storage, NOW + 20)] {
            assert_eq!(log.trimmed(), Seq::new(floor), "{at}");
            assert_eq!(positions(log), (floor + 1..=6).collect::<Vec<_>>(), "{at}");
        }
    }
}

#[test]
fn a_row_is_kept_for_its_newest_event() {
    let (storage, mut log) = new_log();
    log.append(&events(1..=1), NOW).unwrap();
    log.append(&events(2..=2), NOW + 10).unwrap();
    for log in [&log, &load(&storage, NOW + 10)] {
        assert_eq!(log.oldest_appended_at(), Some(NOW + 10), "when retention begins");
        assert_eq!(log.hot_since(), Some(NOW), "when sealing begins");
    }
    log.trim_until(NOW + 9).unwrap();
    assert_eq!(positions(&log), [1, 2]);
    log.trim_until(NOW + 10).unwrap();
    assert_eq!(positions(&log), [0; 0]);
    assert_eq!((log.oldest_appended_at(), log.hot_since()), (None, None));
}

#[test]
fn positions_go_on_after_everything_was_trimmed() {
    for reloads in [false, true] {
        let (storage, mut log) = new_log();
        log.append(&events(1..=3), NOW).unwrap();
        assert_eq!(log.trim_until(NOW), Ok(vec![]));
        if reloads {
            log = load(&storage, NOW + 1);
        }
        assert_eq!((log.trimmed(), log.tail()), (Seq::new(3), Seq::new(3)));
        assert_eq!(positions(&log), [0; 0]);
        log.append(&events(4..=4), NOW + 1).unwrap();
        assert_eq!(contents(&log), [(4, event(4).record)]);
        assert_eq!(contents(&load(&storage, NOW + 1)), [(4, event(4).record)]);
    }
}

#[test]
fn a_trimmed_event_is_no_longer_known() {
    let (storage, mut log) = new_log();
    log.append(&row_of(1..=1), NOW).unwrap();
    log.append(&row_of(2..=2), NOW + 1).unwrap();
    log.trim_until(NOW).unwrap();
    for log in [&log, &load(&storage, NOW + 1)] {
        assert_eq!(log.position_of(id(1)), Ok(None));
        assert_eq!(log.position_of(id(2)), Ok(Some(Seq::new(2))));
        assert_eq!(log.resolve(&Start::Earliest).unwrap().after, Seq::new(1));
    }
}
