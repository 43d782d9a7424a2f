//! Goal: a copied refresh token is noticed as soon as both who have it have shown what they got; an
//! answer that was lost, once or a hundred times, is never taken for a copy.
//!
//! Method: scripts of who shows which generation, to refresh or to read; and every order of five acts
//! of two who have the same tokens.

use relay_durable::{Edge, EndReason, RefreshRefusal, refresh};
use relay_schemas::{
    ErrorCode, PersonCheck, TokenError, UnixMillis,
    limits::{ACCESS_TOKEN_MS, REFRESH_TOKEN_MS},
};

use crate::{HOUR_MS, NOW, machine, show};

const REUSED: RefreshRefusal = RefreshRefusal::Ended(EndReason::RefreshReused);
const DAY_MS: u64 = 24 * HOUR_MS;

/// Reads with the access token of a generation; tells whether the machine is still good.
fn read(edge: &mut Edge, generation: u64, now: UnixMillis) -> bool {
    edge.shown(generation, now);
    edge.is_active(now)
}

/// Whether reading with the access token of a generation would be no news.
fn is_no_news(edge: &Edge, generation: u64) -> bool {
    let mut read = edge.clone();
    !read.shown(generation, NOW + DAY_MS) && read == *edge
}

/// A machine whose first refresh was asked for so often, and who has shown nothing since.
fn asked(times: u64) -> Edge {
    let mut edge = machine();
    for time in 1..=times {
        assert_eq!(show(&mut edge, 1, NOW + time), Ok(time + 1));
    }
    edge
}

#[test]
fn answers_may_be_lost_any_number_of_times_and_days_apart() {
    let mut edge = machine();
    let (mut shown, mut newest, mut now) = (1, 1, NOW);
    for lost in [0, 1, 2, 100, 3] {
        let mut last = edge.access_claims(now).unwrap();
        for _ in 0..lost {
            now = now + DAY_MS / 2;
            newest += 1;
            assert_eq!(show(&mut edge, shown, now), Ok(newest), "each is a pair of its own");
            let next = edge.access_claims(now).unwrap();
            assert!(next.iat > last.iat);
            assert_eq!(next.exp, (now + ACCESS_TOKEN_MS).get() / 1000, "good for an hour");
            assert_eq!(edge.expires_at, now + REFRESH_TOKEN_MS);
            last = next;
        }
        newest += 1;
        assert_eq!(show(&mut edge, shown, now), Ok(newest));
        shown = newest;
    }
    // What was lost on the way is whoever's took it there.
    assert_eq!(show(&mut edge, shown, now), Ok(newest + 1));
    assert_eq!(show(&mut edge, shown - 1, now), Err(REUSED));
}

#[test]
fn any_of_the_answers_may_be_the_one_that_arrived() {
    for arrived in 2..=4 {
        for others in 2..=4 {
            // It reads with it first, or refreshes at once.
            let (mut reads, mut refreshes) = (asked(3), asked(3));
            assert!(read(&mut reads, arrived, NOW + HOUR_MS));
            assert_eq!(reads.machine.as_ref().unwrap().used_at, Some(NOW + HOUR_MS));
            assert!(is_no_news(&reads, arrived));
            assert_eq!(show(&mut refreshes, arrived, NOW + HOUR_MS), Ok(5));
            for mut edge in [reads, refreshes] {
                if others == arrived {
                    assert!(show(&mut edge, others, NOW + DAY_MS).is_ok());
                    continue;
                }
                assert!(!read(&mut edge.clone(), others, NOW + DAY_MS), "{arrived} {others}");
                assert_eq!(show(&mut edge, others, NOW + DAY_MS), Err(REUSED));
            }
        }
    }
}

#[test]
fn a_thief_who_is_first_and_reads_is_noticed_when_the_machine_comes() {
    let mut edge = machine();
    assert_eq!(show(&mut edge, 1, NOW + 10), Ok(2));
    assert!(read(&mut edge, 2, NOW + 20));
    let noticed_at = NOW + HOUR_MS;
    assert_eq!(show(&mut edge, 1, noticed_at), Err(REUSED));
    let ended = (edge.revoked_at, edge.ended_by);
    assert_eq!(ended, (Some(noticed_at), Some(EndReason::RefreshReused)));
    assert!(edge.is_end_untold());
    // From then on neither of the two gets anything, and the reason stays.
    for shown in [1, 2, 3] {
        assert_eq!(show(&mut edge, shown, noticed_at + 10), Err(REUSED));
        assert!(is_no_news(&edge, shown));
    }
    assert_eq!(edge.revoked_at, Some(noticed_at));
    assert_eq!(REUSED.problem().code, ErrorCode::RefreshReused);
    assert!(edge.streams_told() && !edge.is_end_untold());
}

#[test]
fn a_thief_who_holds_back_holds_another_pair_than_the_machine() {
    // The thief shows the first token and waits; the machine gets a pair of its own, and uses it.
    let mut edge = machine();
    let (thief, machines) =
        (show(&mut edge, 1, NOW).unwrap(), show(&mut edge, 1, NOW + 5).unwrap());
    assert_ne!(thief, machines);
    assert!(read(&mut edge, machines, NOW + 6));
    assert_eq!(show(&mut edge.clone(), thief, NOW + 7), Err(REUSED));
    assert_eq!(show(&mut edge.clone(), 1, NOW + 7), Err(REUSED));
    let mut reader = edge.clone();
    assert!(!read(&mut reader, thief, NOW + 7), "nor does it read");
    assert_eq!(reader.ended_by, Some(EndReason::RefreshReused));
    assert!(reader.is_end_untold());
    assert!(is_no_news(&reader, thief), "it is counted once");

    // The machine's next refresh changes nothing, used or not: the thief still comes too late.
    let next = show(&mut edge, machines, NOW + HOUR_MS).unwrap();
    for is_used in [false, true] {
        let mut edge = edge.clone();
        if is_used {
            assert!(read(&mut edge, next, NOW + HOUR_MS + 1));
        }
        assert!(!read(&mut edge.clone(), thief, NOW + HOUR_MS + 2));
        assert_eq!(show(&mut edge, thief, NOW + HOUR_MS + 2), Err(REUSED));
    }
}

#[test]
fn a_thief_who_only_reads_is_noticed_when_the_machine_reads_or_refreshes() {
    // Whoever of the two gets a pair first: the machine's is 2 or 3, and so is the thief's.
    for (thief, machines) in [(2, 3), (3, 2)] {
        let mut edge = asked(2);
        assert!(read(&mut edge, thief, NOW + 10));
        assert!(!read(&mut edge.clone(), machines, NOW + 20));
        assert_eq!(show(&mut edge, machines, NOW + HOUR_MS), Err(REUSED));
    }
    // Before the machine was answered at all.
    let mut edge = asked(1);
    assert!(read(&mut edge, 2, NOW + 10));
    assert_eq!(show(&mut edge, 1, NOW + 20), Err(REUSED));
}

#[test]
fn a_thief_in_a_hurry_is_noticed_when_the_machine_refreshes() {
    // The access token of the machine's pair is told apart from two arrivals back. A thief who
    // refreshes faster than that is not noticed before the machine has to refresh, within its hour.
    let mut edge = asked(2);
    let (machines, thief) = (2, 3);
    for generation in thief..thief + 3 {
        assert!(!read(&mut edge.clone(), machines, NOW + 10) || generation == thief);
        assert_eq!(show(&mut edge, generation, NOW + 10), Ok(generation + 1));
    }
    assert!(is_no_news(&edge, machines));
    assert_eq!(show(&mut edge, machines, NOW + HOUR_MS), Err(REUSED));
}

#[test]
fn a_connection_of_the_pair_before_reads_on_for_its_hour() {
    let mut edge = machine();
    assert!(read(&mut edge, 1, NOW));
    for generation in 1..10 {
        let now = NOW + generation * HOUR_MS;
        assert_eq!(show(&mut edge, generation, now), Ok(generation + 1));
        // It shows nothing about the next pair, whose answer may be lost.
        assert!(is_no_news(&edge, generation));
        // Nor does it end the machine when that is in use.
        assert!(read(&mut edge, generation + 1, now + 1));
        for earlier in 1..=generation {
            assert!(is_no_news(&edge, earlier), "{earlier} of {generation}");
        }
    }
}

#[test]
fn a_request_that_arrives_again_is_a_copy_once_the_next_pair_is_in_use() {
    let mut edge = machine();
    assert_eq!(show(&mut edge, 1, NOW), Ok(2));
    assert_eq!(show(&mut edge, 1, NOW), Ok(3), "sent twice, and the second answer is dropped");
    assert!(read(&mut edge, 2, NOW + 1));
    assert_eq!(show(&mut edge.clone(), 2, NOW + HOUR_MS), Ok(4));
    assert_eq!(show(&mut edge, 1, NOW + 2), Err(REUSED), "nothing tells it from a thief's");

    // Also when the next pair was shown by refreshing only.
    let mut edge = asked(1);
    assert_eq!(show(&mut edge, 2, NOW + 2), Ok(3));
    assert_eq!(show(&mut edge, 1, NOW + 3), Err(REUSED));
}

#[test]
fn a_copy_is_noticed_also_while_nobody_can_ask_for_the_person() {
    let unavailable = PersonCheck::Unavailable(ErrorCode::Unavailable);
    let mut edge = asked(1);
    let before = edge.clone();
    let late = NOW + 30 * HOUR_MS;
    assert!(matches!(
        refresh(&mut edge, 2, &unavailable, late),
        Err(RefreshRefusal::Unconfirmed(_))
    ));
    assert_eq!(edge, before, "a refusal leaves every pair as it was");
    assert!(read(&mut edge, 2, late));
    assert_eq!(refresh(&mut edge, 1, &unavailable, late), Err(REUSED));
}

#[test]
fn the_first_pair_is_given_until_it_has_arrived() {
    let refused = Err(TokenError::InvalidGrant(None));
    let mut used = machine();
    assert_eq!(used.first_pair(NOW), Ok(()));
    used.shown(1, NOW);
    assert_eq!(used.first_pair(NOW), refused);
    let mut refreshed = machine();
    assert_eq!(show(&mut refreshed, 1, NOW), Ok(2));
    assert_eq!(refreshed.first_pair(NOW), refused);
    let mut revoked = machine();
    revoked.end(EndReason::Owner, NOW);
    assert_eq!(revoked.first_pair(NOW), refused);
    assert_eq!(machine().first_pair(machine().expires_at), refused);
}

/// One of two who begin with the same pair.
#[derive(Clone)]
struct Holder {
    generation: u64,
    before: u64,
    /// Whether it has shown a pair that only it was given.
    has_shown_own: bool,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Refresh,
    RefreshInVain,
    Read,
    ReadWithTheOneBefore,
}

const ACTS: [Act; 4] = [Act::Refresh, Act::RefreshInVain, Act::Read, Act::ReadWithTheOneBefore];

impl Holder {
    fn act(&mut self, edge: &mut Edge, act: Act) {
        match act {
            Act::Refresh => {
                if let Ok(next) = show(edge, self.generation, NOW) {
                    self.has_shown_own |= self.generation != 1;
                    (self.before, self.generation) = (self.generation, next);
                }
                return;
            }
            Act::RefreshInVain => _ = show(edge, self.generation, NOW),
            Act::Read => _ = edge.shown(self.generation, NOW),
            Act::ReadWithTheOneBefore => {
                edge.shown(self.before, NOW);
                return;
            }
        }
        self.has_shown_own |= self.generation != 1;
    }
}

/// Plays all that may follow, and gives how many plays ended the machine. `acted` are those who did.
fn play(edge: &Edge, holders: &[Holder; 2], acted: [bool; 2], acts_left: u32) -> u64 {
    if holders.iter().all(|holder| holder.has_shown_own) {
        assert!(edge.revoked_at.is_some(), "two hold a pair each");
    }
    if edge.revoked_at.is_some() {
        assert_eq!(acted, [true, true], "there is only one");
        return 1;
    }
    if acts_left == 0 {
        return 0;
    }
    let mut ended = 0;
    for (who, act) in [0, 1].into_iter().flat_map(|who| ACTS.map(|act| (who, act))) {
        let (mut edge, mut holders, mut acted) = (edge.clone(), holders.clone(), acted);
        holders[who].act(&mut edge, act);
        acted[who] = true;
        ended += play(&edge, &holders, acted, acts_left - 1);
    }
    ended
}

#[test]
fn two_are_told_apart_in_whatever_order_they_come_and_one_is_left_alone() {
    let holder = Holder { generation: 1, before: 1, has_shown_own: false };
    let ended = play(&machine(), &[holder.clone(), holder], [false, false], 5);
    assert!(ended > 1_000, "{ended}");
}

/// A machine as an earlier relay stored it, which gave one pair until that was used.
fn stored_earlier(generation: u64, is_used: bool) -> Edge {
    let mut edge = serde_json::to_value(machine()).unwrap();
    let machine = edge["machine"].as_object_mut().unwrap();
    machine.remove("arrived").unwrap();
    machine.insert("generation".into(), generation.into());
    machine.insert("is_used".into(), is_used.into());
    serde_json::from_value(edge).unwrap()
}

#[test]
fn machines_of_an_earlier_relay_go_on() {
    // Its newest pair is known to have arrived.
    let mut edge = stored_earlier(7, true);
    assert!(is_no_news(&edge, 7) && is_no_news(&edge, 6));
    assert_eq!(show(&mut edge.clone(), 6, NOW), Err(REUSED));
    assert_eq!(show(&mut edge, 7, NOW), Ok(8));
    // It is not: the one before is good until somebody shows it.
    let mut edge = stored_earlier(7, false);
    assert!(is_no_news(&edge, 6) && is_no_news(&edge, 5));
    assert_eq!(show(&mut edge.clone(), 5, NOW), Err(REUSED));
    assert_eq!(show(&mut edge, 6, NOW), Ok(8));
    assert!(read(&mut edge, 7, NOW));
    assert!(!read(&mut edge.clone(), 8, NOW));
    assert_eq!(show(&mut edge, 6, NOW), Err(REUSED));
    // It has been approved, and not come yet.
    assert_eq!(stored_earlier(1, false).first_pair(NOW), Ok(()));
    assert!(stored_earlier(1, true).first_pair(NOW).is_err());
}

#[test]
fn what_is_out_is_kept_when_the_machine_is_stored() {
    let mut edge = asked(3);
    assert!(read(&mut edge, 3, NOW));
    let stored = serde_json::to_value(&edge).unwrap();
    assert_eq!(stored["machine"]["generation"], 4);
    let arrived = serde_json::json!({ "generation": 3, "earlier": [1, 0], "newest": 4 });
    assert_eq!(stored["machine"]["arrived"], arrived);
    assert_eq!(serde_json::from_value::<Edge>(stored).unwrap(), edge);
}
