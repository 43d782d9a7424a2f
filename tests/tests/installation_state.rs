//! Goal: operators see when an installation needs an administrator, and what was given up.
//!
//! Method: a Linear of one's own takes the app's tokens away; then everything that operators look
//! at is asked: the installation's status, the state, and the metrics.

#![allow(clippy::unwrap_used)]

use relay_tests::{
    Answer, Scene,
    linear::{FaultKind, GRAPHQL},
    until,
};
use reqwest::Method;
use serde_json::{Value, json};

async fn state(scene: &Scene) -> Value {
    let path = format!("/state?organization={}", scene.acme);
    Answer::to(scene.relay.as_operator(Method::GET, &path)).await.ok()
}

fn gauge(scene: &Scene, name: &str) -> String {
    format!("edgerelay_installation_{name}{{organization=\"{}\"}}", scene.acme)
}

async fn until_metric(scene: &Scene, series: &str, expected: f64) {
    until(series, async || {
        ((scene.relay.metric(series).await - expected).abs() < 0.1).then_some(())
    })
    .await;
}

/// All three places say the same.
async fn check_state(scene: &Scene, expected: &str) {
    until(&format!("/oauth/status: {expected}"), async || {
        let status = scene.installation(&scene.acme).await;
        (status["apps"][0]["state"] == expected).then_some(())
    })
    .await;
    let apps = until(&format!("/state: {expected}"), async || {
        let installation = state(scene).await["installations"][0].clone();
        (installation["apps"][0]["state"] == expected).then_some(installation)
    })
    .await;
    assert_eq!((&apps["organization"], &apps["given_up"]), (&json!(scene.acme), &json!(0)));
    let needs = f64::from(u8::from(expected == "needs_sign_in"));
    until_metric(scene, &gauge(scene, "needs_sign_in"), needs).await;
}

fn prepare(scene: &Scene) {
    let members = [scene.ada.as_str(), &scene.bob];
    scene.linear.add_team(&scene.acme, ("ENG", "Engineering"), &members, false).unwrap();
    scene.linear.add_issue("ENG", &scene.bob, ("It stops", "After a restart.")).unwrap();
}

#[tokio::test]
async fn dead_tokens_are_seen_everywhere_until_the_app_is_installed_again() {
    let scene = Scene::installed().await;
    prepare(&scene);
    check_state(&scene, "ready").await;
    assert_eq!(state(&scene).await["installations_total"], 1);

    // Linear knows the tokens no longer: the next call is refused, and so is the refresh.
    scene.linear.end_app_tokens(&scene.acme).unwrap();
    scene.linear.delegate("ENG-1", &scene.bob).unwrap();
    check_state(&scene, "needs_sign_in").await;
    until_metric(&scene, "edgerelay_linear_refreshes_total{result=\"invalid_grant\"}", 1.0).await;
    until_metric(&scene, &gauge(&scene, "outbox_waiting"), 1.0).await;
    let other = Answer::to(scene.relay.as_operator(Method::GET, "/state?organization=other")).await;
    assert_eq!(other.ok()["installations"], json!([]));

    // Somebody installs it again: what waited is said.
    scene.install(&scene.ada).await;
    check_state(&scene, "ready").await;
    until_metric(&scene, &gauge(&scene, "outbox_waiting"), 0.0).await;
    until_metric(&scene, "edgerelay_linear_calls_total{result=\"accepted\"}", 1.0).await;
    until_metric(&scene, "edgerelay_linear_stand_ins_total{reason=\"no_machine\"}", 1.0).await;
    until_metric(&scene, "edgerelay_sign_ins_total{purpose=\"install\"}", 2.0).await;
    let session = scene.linear.session("ENG-1").unwrap();
    let in_time = !session.unresponsive;
    let series = format!("edgerelay_linear_first_activity_total{{in_time=\"{in_time}\"}}");
    until_metric(&scene, &series, 1.0).await;
}

#[tokio::test]
async fn what_was_given_up_and_taken_away_is_seen() {
    let scene = Scene::installed().await;
    prepare(&scene);
    scene.linear.fail_next(GRAPHQL, FaultKind::InputError, 1);
    scene.linear.delegate("ENG-1", &scene.bob).unwrap();
    until_metric(&scene, &gauge(&scene, "given_up"), 1.0).await;
    until_metric(&scene, "edgerelay_linear_calls_total{result=\"given_up\"}", 1.0).await;
    until_metric(&scene, "edgerelay_linear_first_activity_total{in_time=\"false\"}", 1.0).await;
    assert_eq!(state(&scene).await["installations"][0]["given_up"], 1);

    scene.linear.uninstall(&scene.acme).unwrap();
    until("/state: revoked", async || {
        let installation = state(&scene).await["installations"][0].clone();
        (installation["apps"][0]["state"] == "revoked").then_some(())
    })
    .await;
    until_metric(&scene, &gauge(&scene, "needs_sign_in"), 0.0).await;
}

#[tokio::test]
async fn machines_are_counted_from_their_sign_in_to_their_end() {
    let scene = Scene::installed().await;
    let mut browser = scene.signed_in(&scene.bob).await;
    let tokens = scene.machine(&mut browser, "laptop").await;
    let next = scene.refresh(&tokens["refresh_token"]).await.ok();
    // The new pair has arrived, so that the old token is a copy.
    let newer = scene.refresh(&next["refresh_token"]).await.ok();
    assert_ne!(newer["refresh_token"], next["refresh_token"]);
    scene.refresh(&tokens["refresh_token"]).await;
    for (series, expected) in [
        ("sign_ins_total{purpose=\"person\"}", 1.0),
        ("machine_logins_total", 1.0),
        ("machine_refreshes_total{result=\"refreshed\"}", 2.0),
        ("machine_refreshes_total{result=\"ended\"}", 1.0),
        ("edges_revoked_total{reason=\"refresh_reused\"}", 1.0),
    ] {
        until_metric(&scene, &format!("edgerelay_{series}"), expected).await;
    }
}
