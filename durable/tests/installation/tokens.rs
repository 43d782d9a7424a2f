//! Tokens: kept sealed, refreshed once at a time, never lost to a crash.

use relay_durable::{Effect, InstallationRow, RefreshForm, TokenKeys};
use relay_schemas::{AppState, SecretText, linear_api::LinearAnswer};

use crate::desk::{DAY_MS, Desk, KEY_A, KEY_B, created, granted};

fn form(effect: &Effect) -> RefreshForm {
    match effect {
        Effect::Refresh { form, .. } => form.clone(),
        other => panic!("no refresh: {other:?}"),
    }
}

fn with_token(token: &str) -> RefreshForm {
    RefreshForm::RefreshToken(SecretText::new(token))
}

fn state(desk: &Desk) -> AppState {
    desk.status().apps[0].state
}

/// A session waits to be answered.
fn ask_for_an_answer(desk: &mut Desk, number: u8) {
    desk.announce(created(number, &format!("s{number}"), &[]));
}

#[test]
fn no_token_is_stored_or_printed_in_the_clear() {
    let mut desk = Desk::new();
    ask_for_an_answer(&mut desk, 1);
    desk.wait(20 * 3_600_000);
    let effects = desk.effects();
    let printed = format!(
        "{effects:?}{:?}{:?}",
        desk.status(),
        granted("lin_access_9", Some("lin_refresh_9"))
    );
    for text in [desk.storage.dump(), printed] {
        assert!(!text.contains("lin_access") && !text.contains("lin_refresh"), "{text}");
    }
    assert_eq!(desk.storage.count(InstallationRow::Grant), 1);
}

#[test]
fn a_token_is_refreshed_after_four_fifths_of_its_life() {
    let mut desk = Desk::new();
    desk.wait(86_399_000 / 5 * 4 - 1);
    assert!(desk.effects().is_empty());
    desk.wait(1);
    assert_eq!(desk.core.next_alarm(desk.now), Some(desk.now));
    let refresh = desk.effect();
    assert_eq!(form(&refresh), with_token("lin_refresh_1"));
    desk.perform(&refresh);
    assert!(desk.effects().is_empty());
}

#[test]
fn a_refresh_token_is_not_burnt_by_two_at_once() {
    let mut desk = Desk::new();
    desk.linear.expire_access();
    for number in 0..10 {
        ask_for_an_answer(&mut desk, number);
        desk.announce(relay_schemas::Announcement {
            session: Some(format!("t{number}")),
            ..created(100 + number, "", &[])
        });
    }
    // Every call is refused, in whatever order the answers come.
    let calls = desk.effects();
    let mut refreshes = Vec::new();
    for call in calls.iter().rev() {
        desk.perform(call);
        refreshes.extend(desk.effects());
    }
    assert_eq!(refreshes.len(), 1, "{refreshes:?}");
    // The answer is lost, and so is the object: the same is asked for again.
    desk.ask(&refreshes[0]);
    desk.reload();
    desk.drain();
    assert_eq!(desk.linear.refreshes, 1);
    assert_eq!(desk.linear.made.len(), 20);
    assert_eq!(state(&desk), AppState::Ready);
}

#[test]
fn refreshing_works_more_than_once() {
    let mut desk = Desk::new();
    for day in 0..30 {
        ask_for_an_answer(&mut desk, day);
        desk.drain();
        desk.wait(DAY_MS);
        if day % 3 == 0 {
            desk.reload();
        }
    }
    assert_eq!(desk.linear.made.len(), 30);
    assert!(desk.linear.refreshes >= 28, "{}", desk.linear.refreshes);
    assert_eq!(state(&desk), AppState::Ready);
}

#[test]
fn a_refresh_outlives_a_crash_at_every_step() {
    // What is lost: the request, its answer, the storing of the answer (or only the word that it
    // was stored), what is in memory afterwards.
    for step in 0..6 {
        let mut desk = Desk::new();
        ask_for_an_answer(&mut desk, 1);
        desk.drain();
        desk.linear.expire_access();
        ask_for_an_answer(&mut desk, 2);
        let call = desk.effect();
        desk.perform(&call);
        if step == 5 {
            desk.reload();
            desk.linear.expire_access();
        }
        let refresh = if step == 5 { None } else { Some(desk.effect()) };
        if let Some(refresh) = &refresh {
            match step {
                0 => {}
                1 => drop(desk.ask(refresh)),
                2 | 3 => {
                    let answer = desk.ask(refresh);
                    desk.storage.fail_after(0, step == 3);
                    let Effect::Refresh { request, app, .. } = refresh else { panic!() };
                    let stored =
                        desk.core.refreshed((app, *request), Some(&answer), desk.now, &mut || {
                            [step; 16]
                        });
                    assert!(stored.is_err());
                }
                _ => desk.perform(refresh),
            }
        }
        desk.reload();
        desk.wait(25 * 60_000);
        desk.drain();
        assert_eq!(desk.linear.made.len(), 2, "step {step}");
        assert_eq!((state(&desk), desk.linear.refreshes), (AppState::Ready, 1), "step {step}");
    }
}

#[test]
fn the_pair_before_is_kept_until_the_new_one_has_worked() {
    let mut desk = Desk::new();
    ask_for_an_answer(&mut desk, 1);
    desk.drain();
    desk.wait(20 * 3_600_000);
    let refresh = desk.effect();
    desk.perform(&refresh);
    // The new access token is no good, for whatever reason.
    desk.linear.expire_access();
    ask_for_an_answer(&mut desk, 2);
    let call = desk.effect();
    desk.perform(&call);
    let again = desk.effect();
    assert_eq!(form(&again), with_token("lin_refresh_1"), "the one before, within its 30 minutes");
    // That didn't help: then the current one.
    desk.perform(&again);
    let call = desk.effect();
    desk.perform(&call);
    desk.wait(2_000);
    let refresh = desk.effect();
    assert_eq!(form(&refresh), with_token("lin_refresh_2"));
    desk.perform(&refresh);
    desk.wait(2_000);
    desk.drain();
    assert_eq!(desk.linear.made.len(), 2);
    // It has worked: the one before is forgotten, and the next refusal takes the current one.
    desk.linear.expire_access();
    ask_for_an_answer(&mut desk, 3);
    let call = desk.effect();
    desk.perform(&call);
    assert_eq!(form(&desk.effect()), with_token("lin_refresh_3"));
}

/// The first access token after a refresh is refused: the pair before is shown again.
fn refused_after_refresh() -> (Desk, Effect) {
    let mut desk = Desk::new();
    desk.wait(20 * 3_600_000);
    let refresh = desk.effect();
    desk.perform(&refresh);
    desk.linear.expire_access();
    ask_for_an_answer(&mut desk, 1);
    let call = desk.effect();
    desk.perform(&call);
    let again = desk.effect();
    (desk, again)
}

#[test]
fn a_dead_token_is_no_end_while_the_one_before_is_repeated() {
    let (mut desk, again) = refused_after_refresh();
    assert_eq!(form(&again), with_token("lin_refresh_1"));
    desk.answer(&again, None);
    desk.wait(2_000);
    assert_eq!(form(&desk.effect()), with_token("lin_refresh_1"), "nothing was said about it");
}

#[test]
fn invalid_grant_waits_for_a_person() {
    let mut desk = Desk::new();
    desk.linear.revoke_refresh();
    desk.linear.expire_access();
    ask_for_an_answer(&mut desk, 1);
    desk.drain();
    assert_eq!(state(&desk), AppState::NeedsSignIn);
    assert_eq!(desk.status().apps[0].refresh_error.as_deref(), Some("invalid_grant"));
    desk.reload();
    assert_eq!(state(&desk), AppState::NeedsSignIn);
    desk.wait(3_600_000);
    assert!(desk.effects().is_empty());
    assert_eq!(desk.status().outbox.waiting, 1);
    desk.install();
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);
    assert_eq!(state(&desk), AppState::Ready);
}

#[test]
fn a_token_is_used_to_its_end_while_a_person_is_asked_to_sign_in() {
    let mut desk = Desk::new();
    desk.linear.revoke_refresh();
    desk.wait(20 * 3_600_000);
    desk.drain();
    assert_eq!(state(&desk), AppState::NeedsSignIn);
    desk.reload();
    ask_for_an_answer(&mut desk, 1);
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);
    desk.wait(4 * 3_600_000);
    ask_for_an_answer(&mut desk, 2);
    assert_eq!(desk.effects(), []);
    // And what is refused before is not tried with every call.
    let mut desk = Desk::new();
    desk.linear.revoke_refresh();
    desk.linear.expire_access();
    ask_for_an_answer(&mut desk, 1);
    desk.drain();
    desk.reload();
    ask_for_an_answer(&mut desk, 2);
    assert_eq!(desk.effects(), []);
}

#[test]
fn an_app_whose_refresh_token_is_dead_asks_for_a_token_of_its_own() {
    let mut desk = Desk::new();
    desk.settings.has_client_credentials = true;
    desk.reload();
    desk.linear.revoke_refresh();
    desk.wait(20 * 3_600_000);
    let refresh = desk.effect();
    desk.perform(&refresh);
    let own = desk.effect();
    assert_eq!(form(&own), RefreshForm::ClientCredentials { scope: "read,write".into() });
    // Unless it may not have one.
    let dead = LinearAnswer::new(400, r#"{"error":"invalid_grant"}"#);
    desk.answer(&own, Some(&dead));
    assert_eq!((state(&desk), desk.effects()), (AppState::NeedsSignIn, vec![]));
    desk.install();
    desk.linear.revoke_refresh();
    desk.wait(20 * 3_600_000);
    desk.drain();
    assert_eq!(state(&desk), AppState::Ready);
    desk.wait(4 * 3_600_000);
    ask_for_an_answer(&mut desk, 1);
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);
}

#[test]
fn a_token_that_nothing_follows_ends_in_sight() {
    let mut desk = Desk::empty();
    let access = desk.linear.install(desk.now).0;
    desk.core.granted(&granted(&access, None), desk.now, &mut || [1; 16]).unwrap();
    let end = desk.now + 86_399_000;
    assert_eq!(desk.core.next_alarm(desk.now), Some(end));
    desk.now = end;
    desk.drain();
    assert_eq!((state(&desk), desk.core.next_alarm(end)), (AppState::NeedsSignIn, None));
}

#[test]
fn a_dead_pair_of_before_does_not_end_the_one_that_follows_it() {
    let (mut desk, before) = refused_after_refresh();
    assert_eq!(form(&before), with_token("lin_refresh_1"));
    desk.answer(&before, Some(&LinearAnswer::new(400, r#"{"error":"invalid_grant"}"#)));
    assert_eq!(form(&desk.effect()), with_token("lin_refresh_2"));
}

#[test]
fn a_refresh_that_fails_is_tried_again_later_and_later() {
    let mut desk = Desk::new();
    desk.wait(20 * 3_600_000);
    for (answer, pause_ms) in [
        (None, 1_000),
        (Some(LinearAnswer::new(503, "")), 2_000),
        (Some(LinearAnswer::new(429, "").with("retry-after", 30)), 30_000),
        (Some(LinearAnswer::new(401, r#"{"error":"invalid_client"}"#)), 8_000),
        (Some(LinearAnswer::new(503, "").with("retry-after", 31_536_000)), 300_000),
        (Some(LinearAnswer::new(503, "").with("retry-after", 0)), 1_000),
    ] {
        let refresh = desk.effect();
        desk.answer(&refresh, answer.as_ref());
        assert_eq!(desk.core.next_alarm(desk.now), Some(desk.now + pause_ms));
        desk.wait(pause_ms - 1);
        assert!(desk.effects().is_empty());
        desk.wait(1);
    }
    assert_eq!(desk.status().apps[0].refresh_error.as_deref(), Some("linear_unavailable"));
    desk.drain();
    assert_eq!(desk.linear.refreshes, 1);
}

#[test]
fn what_was_installed_anew_is_not_touched_by_an_old_answer() {
    let mut desk = Desk::new();
    desk.wait(20 * 3_600_000);
    ask_for_an_answer(&mut desk, 1);
    let effects = desk.effects();
    desk.install();
    desk.answer(&effects[0], Some(&LinearAnswer::new(400, r#"{"error":"invalid_grant"}"#)));
    desk.answer(&effects[1], Some(&LinearAnswer::new(401, "")));
    assert_eq!(state(&desk), AppState::Ready);
    desk.drain();
    assert_eq!((desk.linear.made.len(), desk.linear.refreshes), (1, 0));
}

#[test]
fn a_late_refusal_of_an_old_token_is_no_refusal_of_the_new_one() {
    let mut desk = Desk::new();
    ask_for_an_answer(&mut desk, 1);
    let call = desk.effect();
    desk.wait(20 * 3_600_000);
    let refresh = desk.effect();
    desk.perform(&refresh);
    desk.answer(&call, Some(&LinearAnswer::new(401, "")));
    let again = desk.effect();
    assert!(matches!(again, Effect::Call { .. }), "{again:?}");
}

#[test]
fn keys_rotate_and_old_ones_can_be_taken_away() {
    let mut desk = Desk::new();
    for keys in [format!("{KEY_B},{KEY_A}"), KEY_B.to_owned()] {
        desk.settings.keys = TokenKeys::parse(&keys).unwrap();
        desk.reload();
        assert_eq!(state(&desk), AppState::Ready);
        assert!(!desk.storage.dump().contains(r#"\"key\":\"a\""#));
    }
    ask_for_an_answer(&mut desk, 1);
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);
    // Without its key a token is no token, but it is still there if the key comes back.
    desk.settings.keys = TokenKeys::parse(KEY_A).unwrap();
    desk.reload();
    desk.drain();
    assert_eq!(state(&desk), AppState::NeedsSignIn);
    desk.settings.keys = TokenKeys::parse(KEY_B).unwrap();
    desk.reload();
    assert_eq!(state(&desk), AppState::Ready);
}

#[test]
fn a_token_of_the_app_s_own_is_followed_by_another() {
    let mut desk = Desk::empty();
    let access = desk.linear.install(desk.now).0;
    desk.settings.has_client_credentials = true;
    desk.reload();
    let own = granted(&access, None);
    desk.core.granted(&own, desk.now, &mut || [1; 16]).unwrap();
    desk.wait(20 * 3_600_000);
    let refresh = desk.effect();
    assert_eq!(form(&refresh), RefreshForm::ClientCredentials { scope: "read,write".into() });
    desk.perform(&refresh);
    ask_for_an_answer(&mut desk, 1);
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);

    // Unless the operator doesn't want that.
    desk.settings.has_client_credentials = false;
    desk.reload();
    desk.wait(40 * DAY_MS);
    desk.drain();
    assert_eq!(state(&desk), AppState::NeedsSignIn);
}
