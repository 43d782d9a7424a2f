//! An app is taken away: which one, since when, and who is to be told.

use relay_durable::InstallationRow;
use relay_schemas::{AppState, Granted, RevokedReply, ToldOfEnd};

use crate::desk::{Desk, NOW, created, granted};

fn states(desk: &Desk) -> Vec<AppState> {
    desk.status().apps.iter().map(|app| app.state).collect()
}

/// A second app, whose tokens are no good.
fn install_other(desk: &mut Desk) {
    let other = Granted {
        app: "other".into(),
        app_user: "other-user".parse().unwrap(),
        ..granted("gone", Some("gone"))
    };
    desk.core.granted(&other, desk.now, &mut || [9; 16]).unwrap();
}

#[test]
fn a_revoked_app_loses_its_tokens_and_its_calls() {
    for name in ["client-id", "app-uuid", "not yet heard of"] {
        let mut desk = Desk::new();
        let ask = |desk: &mut Desk, number: u8| {
            let client = (name == "app-uuid").then(|| name.to_owned());
            let session = format!("s{number}");
            desk.announce(relay_schemas::Announcement {
                app: client,
                ..created(number, &session, &[])
            });
        };
        ask(&mut desk, 1);
        let call = desk.effect();
        ask(&mut desk, 2);
        desk.revoked(name);
        assert_eq!(states(&desk), [AppState::Revoked]);
        assert!(!desk.storage.dump().contains("nonce"), "no token is left");
        desk.perform(&call);
        assert!(desk.effects().is_empty());
        let codes: Vec<String> =
            desk.core.given_up(desk.now).unwrap().calls.into_iter().map(|call| call.code).collect();
        assert_eq!(codes, ["revoked"]);
        desk.announce(created(3, "s3", &[]));
        assert_eq!(desk.status().outbox.waiting, 0);
    }
}

#[test]
fn another_app_s_events_and_end_are_not_this_one_s() {
    let mut desk = Desk::new();
    desk.announce(created(1, "s1", &[]));
    let other = created(2, "theirs", &[]);
    desk.announce(relay_schemas::Announcement { app_user: Some("other-user".into()), ..other });
    desk.revoked("other-uuid");
    desk.drain();
    assert_eq!(desk.linear.made.len(), 1);
    assert_eq!(states(&desk), [AppState::Ready]);
    assert_eq!(desk.linear.refreshes, 0);
}

#[test]
fn a_revocation_that_fits_nobody_makes_every_app_prove_itself() {
    let mut desk = Desk::new();
    install_other(&mut desk);
    desk.revoked("unheard of");
    desk.drain();
    assert_eq!(states(&desk), [AppState::Ready, AppState::NeedsSignIn]);
}

#[test]
fn an_end_from_before_the_installation_is_no_end_of_it() {
    for name in ["client-id", "not yet heard of"] {
        let mut desk = Desk::new();
        desk.wait(1_000);
        desk.revoked(name);
        desk.wait(1_000);
        desk.install();
        // The same word, late, or for the second time; also after a refresh.
        for _ in 0..2 {
            let reply = desk.revoked_at(name, NOW + 1_000);
            assert_eq!(reply, RevokedReply::default());
            desk.announce(created(1, "s1", &[]));
            desk.drain();
            assert_eq!((states(&desk), desk.linear.made.len()), (vec![AppState::Ready], 1));
            desk.reload();
            desk.wait(20 * 3_600_000);
            desk.drain();
        }
        assert_eq!(desk.linear.refreshes, 2);
        assert!(desk.revoked("client-id").is_uninstalled);
        assert_eq!(states(&desk), [AppState::Revoked]);
    }
}

#[test]
fn nobody_is_told_of_an_end_while_an_app_is_left() {
    let mut desk = Desk::empty();
    assert_eq!(desk.revoked("client-id"), RevokedReply::default());
    desk.install();
    install_other(&mut desk);
    assert!(!desk.revoked("unheard of").is_uninstalled);
    assert!(!desk.revoked("client-id").is_uninstalled);
    assert!(desk.revoked("other").is_uninstalled);
}

#[test]
fn who_was_told_of_the_end_is_remembered_until_the_next() {
    let mut desk = Desk::new();
    assert_eq!(desk.revoked("client-id").told_up_to, None);
    let told = ToldOfEnd { up_to: "org-1/user:b".into() };
    desk.core.told_of_end(&told).unwrap();
    desk.reload();
    let reply = desk.revoked("client-id");
    assert_eq!((reply.is_uninstalled, reply.told_up_to), (true, Some(told.up_to)));
    desk.install();
    assert_eq!(desk.storage.count(InstallationRow::ToldOfEnd), 0);
    let reply = desk.revoked("client-id");
    assert_eq!((reply.is_uninstalled, reply.told_up_to), (true, None));
}
