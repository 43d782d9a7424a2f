//! Goal: a machine keeps its access as long as it should, and no longer.
//!
//! Method: scripts. A machine is approved, shows tokens, and time is moved by argument.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

mod copies;

use relay_durable::{
    ApproveMachine, Edge, EndReason, EnrolRequest, RefreshRefusal, approve, enrol, refresh,
};
use relay_schemas::{
    Channel, ConfirmedPerson, ConfirmedTeam, ErrorCode, PersonCheck, Scope, UnixMillis,
    limits::{
        ACCESS_TOKEN_MS, EDGES_PER_ORGANIZATION_MAX, ENDED_EDGE_LISTED_MS, MACHINES_PER_PERSON_MAX,
        PERSON_BELIEVED_MS, REFRESH_TOKEN_MS,
    },
};

const NOW: UnixMillis = UnixMillis::new(1_790_000_000_000);
const HOUR_MS: u64 = 3_600_000;

fn request(channels: &[&str]) -> ApproveMachine {
    ApproveMachine {
        edge: "edge_1".parse().unwrap(),
        organization: "org".parse().unwrap(),
        user: "ada".parse().unwrap(),
        name: "laptop".into(),
        scopes: Scope::DEFAULT.to_vec(),
        channels: channels.iter().map(|text| text.parse().unwrap()).collect(),
        location: Some("weur".into()),
    }
}

fn machine() -> Edge {
    approve(request(&[]), &[], NOW).unwrap()
}

fn person() -> ConfirmedPerson {
    ConfirmedPerson { active: true, name: "Ada".into(), guest: Some(false), teams: Vec::new() }
}

fn confirmed() -> PersonCheck {
    PersonCheck::Confirmed(person())
}

fn generation(edge: &Edge) -> u64 {
    edge.refresh_claims().unwrap().generation
}

/// Shows a token of a generation; gives the next one's generation.
fn show(edge: &mut Edge, shown: u64, now: UnixMillis) -> Result<u64, RefreshRefusal> {
    refresh(edge, shown, &confirmed(), now).map(|()| generation(edge))
}

#[test]
fn a_machine_is_refreshed_from_pair_to_pair() {
    let mut edge = machine();
    let (mut now, mut shown) = (NOW, generation(&edge));
    for round in 1..=100 {
        now = now + HOUR_MS;
        let before = edge.access_claims(now).unwrap();
        shown = show(&mut edge, shown, now).unwrap();
        assert_eq!(shown, round + 1);
        let (access, next) = (edge.access_claims(now).unwrap(), edge.refresh_claims().unwrap());
        assert!(access.iat > before.iat);
        assert_eq!(access.exp, (now.get() + ACCESS_TOKEN_MS) / 1000);
        assert_eq!(next.exp, (now.get() + REFRESH_TOKEN_MS) / 1000, "it slides");
        assert_eq!((access.sub, access.org), (next.sub, next.org));
    }
}

#[test]
fn streams_are_told_of_a_revocation_until_all_know() {
    let mut edge = approve(request(&["team:t"]), &[], NOW).unwrap();
    assert!(!edge.streams_told(), "it is not revoked");
    edge.end(EndReason::Owner, NOW);
    assert_eq!(edge.streams_to_tell().len(), 2);
    assert!(edge.streams_told() && !edge.streams_told());
    assert_eq!(edge.streams_to_tell(), []);
    let stored: Edge = serde_json::from_str(&serde_json::to_string(&edge).unwrap()).unwrap();
    assert_eq!(stored.streams_to_tell(), []);
}

#[test]
fn a_token_that_was_never_given_out_is_nobodys() {
    let mut edge = machine();
    assert_eq!(show(&mut edge, 2, NOW), Err(RefreshRefusal::Unknown));
    assert_eq!(edge.revoked_at, None);
    let enrolled = EnrolRequest {
        organization: "org".parse().unwrap(),
        user: "ada".parse().unwrap(),
        name: None,
        scopes: None,
        channels: Vec::new(),
        expires_in_s: None,
    };
    let mut edge = enrol(enrolled, "edge_2".parse().unwrap(), 0, NOW).unwrap();
    assert_eq!(show(&mut edge, 1, NOW), Err(RefreshRefusal::Unknown));
    assert_eq!((edge.access_claims(NOW), edge.refresh_claims()), (None, None));
}

#[test]
fn a_person_who_has_left_loses_access_at_the_next_refresh() {
    let mut edge = machine();
    let left = PersonCheck::Confirmed(ConfirmedPerson { active: false, ..person() });
    let inactive = RefreshRefusal::Ended(EndReason::PersonInactive);
    assert_eq!(refresh(&mut edge, 1, &left, NOW + HOUR_MS), Err(inactive.clone()));
    assert_eq!(inactive.problem().code, ErrorCode::PersonInactive);
    assert!(!edge.is_active(NOW + HOUR_MS));
    // Coming back to Linear doesn't bring the machine back.
    assert_eq!(show(&mut edge, 1, NOW + 2 * HOUR_MS), Err(inactive));
}

#[test]
fn while_linear_is_down_a_person_is_believed_for_a_day() {
    let down = PersonCheck::Unavailable(ErrorCode::NeedsSignIn);
    let mut edge = machine();
    let confirmed_at = NOW + HOUR_MS;
    assert_eq!(show(&mut edge, 1, confirmed_at), Ok(2));
    let almost = confirmed_at + PERSON_BELIEVED_MS - 1;
    assert_eq!(refresh(&mut edge, 2, &down, almost), Ok(()));
    let refused = RefreshRefusal::Unconfirmed(ErrorCode::NeedsSignIn);
    let before = edge.clone();
    assert_eq!(refresh(&mut edge, 3, &down, almost + 1), Err(refused.clone()));
    assert_eq!(edge, before, "the same token is still good");
    let problem = refused.problem();
    assert!(problem.code.is_retryable() && problem.code.status() == 503);
    assert_eq!(problem.details, [("reason", "needs_sign_in".to_owned())]);
    assert_eq!(show(&mut edge, 3, almost + 2), Ok(4));

    let gone = PersonCheck::NotInstalled;
    assert_eq!(refresh(&mut edge, 4, &gone, almost + 3), Err(RefreshRefusal::NotInstalled));
    assert_eq!(edge.revoked_at, None, "the app may be installed again");
}

#[test]
fn a_lost_membership_drops_the_channel() {
    let mut edge = approve(request(&["team:t", "team:u", "org"]), &[], NOW).unwrap();
    let team = |id: &str| ConfirmedTeam { id: id.into(), name: String::new() };
    let mut check = |shown: u64, teams: &[&str], guest: Option<bool>, expected: &[&str]| {
        let teams = teams.iter().map(|id| team(id)).collect();
        let person = PersonCheck::Confirmed(ConfirmedPerson { teams, guest, ..person() });
        refresh(&mut edge, shown, &person, NOW + shown * HOUR_MS).unwrap();
        let claims = edge.access_claims(NOW).unwrap();
        let channels: Vec<String> = claims.channels.iter().map(ToString::to_string).collect();
        assert_eq!(channels, expected);
        let told: Vec<String> = edge.streams_to_tell().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["org/user:ada", "org/team:t", "org/team:u", "org/org"]);
    };
    check(1, &["t", "u", "private"], Some(false), &["team:t", "team:u", "org"]);
    check(2, &["u"], Some(false), &["team:u", "org"]);
    check(3, &["u"], Some(true), &["team:u"]);
    check(4, &["t", "u"], None, &["team:t", "team:u"]);
    // What the person has approved comes back with the membership; more doesn't.
    check(5, &["t", "u", "v"], Some(false), &["team:t", "team:u", "org"]);
    let down = PersonCheck::Unavailable(ErrorCode::Unavailable);
    refresh(&mut edge, 6, &down, NOW + 6 * HOUR_MS).unwrap();
    assert_eq!(edge.channels.len(), 3, "nobody said otherwise");
}

#[test]
fn a_machine_that_was_off_too_long_signs_in_again() {
    let mut edge = machine();
    let end = edge.expires_at;
    assert_eq!(show(&mut edge, 1, end), Err(RefreshRefusal::Expired));
    assert_eq!(show(&mut edge, 1, end - 1), Ok(2));
    let claims = edge.access_claims(edge.expires_at - 1000).unwrap();
    assert_eq!(claims.exp, edge.expires_at.get() / 1000, "no access outlives the machine");
}

#[test]
fn approving_twice_makes_one_machine() {
    let first = machine();
    assert_eq!(first.machine.as_ref().unwrap().location.as_deref(), Some("weur"));
    let known = std::slice::from_ref(&first);
    let again = approve(request(&["org"]), known, NOW + 5).unwrap();
    assert_eq!(again, first);
    let other = ApproveMachine { user: "eve".parse().unwrap(), ..request(&[]) };
    let refused = approve(other, known, NOW).unwrap_err();
    assert_eq!(refused.code, ErrorCode::EdgeUnknown);
    let mut revoked = first.clone();
    revoked.end(EndReason::Owner, NOW + 5);
    assert!(approve(request(&[]), &[revoked], NOW + 6).is_err());
    for channel in [Channel::Unrouted, Channel::User("eve".parse().unwrap())] {
        let request = ApproveMachine { channels: vec![channel], ..request(&[]) };
        assert!(approve(request, &[], NOW).is_err());
    }
}

/// So many edges of a person, with ids of their own.
fn edges_of(user: &str, count: usize) -> Vec<Edge> {
    let numbered = |number: usize| Edge {
        id: format!("edge_{user}_{number}").parse().unwrap(),
        user: user.parse().unwrap(),
        ..machine()
    };
    (0..count).map(numbered).collect()
}

#[test]
fn a_person_has_so_many_machines_and_an_organization_so_many_edges() {
    let check = |edges: &[Edge], is_full: bool| {
        let refused = approve(request(&[]), edges, NOW).err().map(|problem| problem.code);
        assert_eq!(refused, is_full.then_some(ErrorCode::EdgesTooMany));
    };
    let mut own = edges_of("ada", MACHINES_PER_PERSON_MAX);
    check(&own[1..], false);
    check(&own, true);
    // What an operator has enrolled, what has ended and what others have doesn't count.
    own[0].machine = None;
    check(&own, false);
    own = edges_of("ada", MACHINES_PER_PERSON_MAX);
    own[0].end(EndReason::Owner, NOW);
    check(&own, false);
    check(&edges_of("eve", EDGES_PER_ORGANIZATION_MAX - 1), false);
    check(&edges_of("eve", EDGES_PER_ORGANIZATION_MAX), true);
}

#[test]
fn a_revoked_machine_is_listed_for_a_month() {
    let mut edge = machine();
    edge.end(EndReason::Owner, NOW + 5);
    edge.end(EndReason::Operator, NOW + 9);
    assert_eq!((edge.revoked_at, edge.ended_by), (Some(NOW + 5), Some(EndReason::Owner)));
    assert!(!edge.is_forgotten(NOW + 4 + ENDED_EDGE_LISTED_MS));
    assert!(edge.is_forgotten(NOW + 5 + ENDED_EDGE_LISTED_MS));
    let expired = machine();
    assert!(!expired.is_forgotten(expired.expires_at + ENDED_EDGE_LISTED_MS - 1));
    assert!(expired.is_forgotten(expired.expires_at + ENDED_EDGE_LISTED_MS));
    // A credential from an operator is good until it expires: a stream that lost its storage has to
    // be told until then.
    let mut enrolled = Edge { machine: None, expires_at: NOW + 366 * 24 * HOUR_MS, ..machine() };
    enrolled.end(EndReason::Operator, NOW);
    assert!(!enrolled.is_forgotten(enrolled.expires_at - 1));
    assert!(enrolled.is_forgotten(enrolled.expires_at));
}

#[test]
fn a_rebuilt_stream_is_told_of_whoever_could_read_it_once() {
    let mut edge = approve(request(&["team:t"]), &[], NOW).unwrap();
    edge.channels.clear();
    edge.end(EndReason::Owner, NOW);
    assert!(edge.streams_told());
    assert_eq!(edge.streams_to_tell(), []);
    let ever: Vec<String> = edge.streams_ever().iter().map(ToString::to_string).collect();
    assert_eq!(ever, ["org/user:ada", "org/team:t"]);
}

#[test]
fn machines_are_renamed_within_bounds() {
    let mut edge = machine();
    edge.rename("Großer Läptop").unwrap();
    assert_eq!(edge.access_claims(NOW).unwrap().name.as_deref(), Some("Großer Läptop"));
    for name in ["", "two\nlines", &"x".repeat(101)] {
        let refused = edge.rename(name).unwrap_err();
        assert_eq!(refused.code, ErrorCode::ParameterInvalid);
    }
    assert_eq!(edge.name.as_deref(), Some("Großer Läptop"));
}

#[test]
fn a_directory_of_an_older_relay_is_read() {
    let stored = r#"{"id":"edge_1","organization":"org","user":"ada","name":null,
        "scopes":["read:events"],"created_at":1790000000000,"expires_at":1790000060000,
        "revoked_at":1790000000001}"#;
    let edge: Edge = serde_json::from_str(stored).unwrap();
    assert_eq!((edge.machine.clone(), edge.ended_by), (None, None));
    let newer = stored.replace("\"revoked_at\"", "\"ended_by\":\"fired\",\"revoked_at\"");
    let edge: Edge = serde_json::from_str(&newer).unwrap();
    assert_eq!(edge.ended_by, Some(EndReason::Unknown));
}
