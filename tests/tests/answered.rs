//! Goal: Linear is answered, in time, once, and by whoever has the session, whether a machine is on
//! or not.
//!
//! Method: a Linear of one's own sends signed webhooks to the real Worker on workerd, and shows what
//! its users see; machines are plain readers, or the real client.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use relay_schemas::ErrorCode;
use relay_tests::{
    Answer, EnrolledEdge, HttpReader, RelayOptions, Scene,
    linear::{FaultKind, LinearOptions, SessionStatus, SessionView},
    until,
};
use reqwest::Method;
use serde_json::{Value, json};

/// A scene with a team and an issue of Bob's.
async fn scene() -> Scene {
    let scene = Scene::installed().await;
    prepare(&scene);
    scene
}

fn prepare(scene: &Scene) {
    let members = [scene.ada.as_str(), &scene.bob];
    scene.linear.add_team(&scene.acme, ("ENG", "Engineering"), &members, false).unwrap();
    scene.linear.add_issue("ENG", &scene.bob, ("It stops", "After a restart.")).unwrap();
}

fn session(scene: &Scene) -> SessionView {
    scene.linear.session("ENG-1").unwrap()
}

/// What the app has said: type and text, in order.
fn said(scene: &Scene) -> Vec<(String, String)> {
    let theirs = session(scene).activities.into_iter().filter(|one| one.kind != "prompt");
    theirs.map(|one| (one.kind, one.text)).collect()
}

async fn until_said(scene: &Scene, kind: &str, part: &str) {
    until(&format!("{kind}: {part}"), async || {
        said(scene).iter().any(|(found, text)| found == kind && text.contains(part)).then_some(())
    })
    .await;
}

async fn report(scene: &Scene, edge: &EnrolledEdge, body: Value) -> Answer {
    Answer::to(scene.relay.as_edge(edge, Method::POST, "/events/status").json(&body)).await
}

async fn activity(scene: &Scene, edge: &EnrolledEdge, id: &str, activity: Value) -> Answer {
    let body = json!({ "eventId": id, "activity": activity });
    Answer::to(scene.relay.as_edge(edge, Method::POST, "/events/activity").json(&body)).await
}

/// The next event of a kind.
async fn event(reader: &mut HttpReader, kind: &str) -> Value {
    loop {
        let webhook = reader.frame("webhook").await;
        if webhook["kind"] == kind {
            return webhook;
        }
    }
}

/// A machine of Bob's that reads.
async fn machine(scene: &Scene) -> (EnrolledEdge, HttpReader) {
    let edge = scene.edge(&scene.bob, "laptop").await;
    let mut reader = HttpReader::ndjson(&scene.relay, &edge, "").await;
    reader.frame("open").await;
    (edge, reader)
}

/// The same, and the event of a session that was just delegated.
async fn machine_with_work(scene: &Scene) -> (EnrolledEdge, HttpReader, Value) {
    let (edge, mut reader) = machine(scene).await;
    scene.linear.delegate("ENG-1", &scene.bob).unwrap();
    let created = event(&mut reader, "AgentSessionEvent.created").await;
    (edge, reader, created)
}

#[tokio::test]
async fn without_a_machine_the_relay_says_that_the_work_waits() {
    let scene = scene().await;
    scene.linear.delegate("ENG-1", &scene.bob).unwrap();
    until_said(&scene, "thought", "No machine").await;
    let session = session(&scene);
    assert!(!session.unresponsive && session.first_response_ms.unwrap() < 10_000, "{session:?}");

    // The machine comes later, and finds the work.
    let edge = scene.edge(&scene.bob, "laptop").await;
    let mut reader = HttpReader::ndjson(&scene.relay, &edge, "cursor=earliest").await;
    reader.frame("open").await;
    let created = event(&mut reader, "AgentSessionEvent.created").await;
    assert_eq!(created["session"], session.id.as_str());
    let body = json!({ "eventId": created["id"], "status": "completed", "message": "Done." });
    report(&scene, &edge, body.clone()).await.ok();
    until_said(&scene, "response", "Done.").await;
    report(&scene, &edge, body).await.ok();
    assert_eq!(said(&scene).len(), 2, "{:?}", said(&scene));
    assert_eq!(scene.linear.session("ENG-1").unwrap().status, SessionStatus::Complete);
}

#[tokio::test]
async fn a_machine_that_works_is_heard_and_one_that_is_silent_is_named() {
    let vars = vec![("ANSWER_AFTER_MS", "1500".to_owned())];
    let options = RelayOptions { vars, ..RelayOptions::default() };
    let scene = Scene::installed_with(options, LinearOptions::default()).await;
    prepare(&scene);
    let (edge, mut reader, created) = machine_with_work(&scene).await;
    let id = created["id"].as_str().unwrap();
    report(&scene, &edge, json!({ "eventId": id, "status": "processing" })).await.ok();
    until_said(&scene, "thought", "laptop").await;

    let steps = json!([{ "content": "Look", "status": "completed" }, { "content": "Mend", "status": "inProgress" }]);
    activity(&scene, &edge, id, json!({ "type": "plan", "steps": steps })).await.ok();
    let action = json!({ "type": "action", "action": "Read", "parameter": "log.rs" });
    activity(&scene, &edge, id, action).await.ok();
    let urls = json!([{ "label": "Branch", "url": "https://example.com/branch" }]);
    activity(&scene, &edge, id, json!({ "type": "urls", "urls": urls })).await.ok();
    let options = json!([{ "value": "yes" }, { "value": "no" }]);
    let question = json!({ "type": "elicitation", "body": "Shall I?", "options": options });
    activity(&scene, &edge, id, question).await.ok();
    until_said(&scene, "elicitation", "Shall I?").await;
    until_said(&scene, "action", "Read log.rs").await;
    until("the plan and the link", async || {
        let session = session(&scene);
        let is_there = session.plan[1]["content"] == "Mend" && session.urls.len() == 1;
        is_there.then_some(())
    })
    .await;
    let elicitation = session(&scene).activities.into_iter().find(|one| one.kind == "elicitation");
    assert_eq!(elicitation.unwrap().signal.as_deref(), Some("select"));
    assert!(said(&scene).iter().all(|(_, text)| !text.contains("Waiting")), "{:?}", said(&scene));

    // The next prompt is met with silence.
    let before = said(&scene).len();
    scene.linear.prompt(&session(&scene).id, &scene.bob, "Yes.").unwrap();
    event(&mut reader, "AgentSessionEvent.prompted").await;
    until_said(&scene, "thought", "Waiting for `laptop`").await;
    assert_eq!(said(&scene).len(), before + 1);
}

#[tokio::test]
async fn a_stop_is_answered_by_the_relay_when_its_machine_is_gone() {
    let scene = scene().await;
    let (edge, mut reader, created) = machine_with_work(&scene).await;
    let started = json!({ "eventId": created["id"], "status": "processing" });
    report(&scene, &edge, started).await.ok();
    until_said(&scene, "thought", "laptop").await;

    scene.linear.stop(&session(&scene).id, &scene.bob).unwrap();
    let signal = reader.frame("signal").await;
    assert_eq!((&signal["signal"], &signal["session"]), (&json!("stop"), &created["session"]));
    let prompted = event(&mut reader, "AgentSessionEvent.prompted").await;
    assert_eq!(signal["id"], prompted["id"]);
    let stopped = json!({ "eventId": prompted["id"], "status": "completed", "message": "stopped" });
    report(&scene, &edge, stopped).await.ok();
    until_said(&scene, "response", "stopped").await;

    drop(reader);
    let stream = edge.stream();
    until("no connection", async || {
        let state = scene.relay.stream_state(&stream).await;
        state["connections"].as_array()?.is_empty().then_some(())
    })
    .await;
    scene.linear.stop(&session(&scene).id, &scene.bob).unwrap();
    until_said(&scene, "response", "isn't connected").await;
}

#[tokio::test]
async fn what_linear_refuses_for_good_is_given_up_and_shown() {
    let scene = scene().await;
    let (edge, _reader, created) = machine_with_work(&scene).await;
    scene.linear.fail_next("agentActivityCreate", FaultKind::InputError, 1);
    let body = json!({ "eventId": created["id"], "status": "processing" });
    report(&scene, &edge, body).await.ok();
    let path = format!("/admin/outbox?organization={}", scene.acme);
    let given_up = until("a call that was given up", async || {
        let list = Answer::to(scene.relay.as_operator(Method::GET, &path)).await.ok();
        list["calls"].get(0).cloned()
    })
    .await;
    assert_eq!((&given_up["code"], &given_up["attempts"]), (&json!("INPUT_ERROR"), &json!(1)));
    let status = scene.installation(&scene.acme).await;
    assert_eq!(status["outbox"]["given_up"], 1);
    // What passes is tried again.
    for fault in [FaultKind::ServerError, FaultKind::DropBefore, FaultKind::DropAfter] {
        scene.linear.fail_next("agentActivityCreate", fault, 1);
    }
    let id = created["id"].as_str().unwrap();
    activity(&scene, &edge, id, json!({ "type": "thought", "body": "Still here." })).await.ok();
    until_said(&scene, "thought", "Still here.").await;
    let times = said(&scene).iter().filter(|(_, text)| text == "Still here.").count();
    assert_eq!(times, 1);
}

#[tokio::test]
async fn activities_that_are_none_are_told_apart() {
    let scene = scene().await;
    let (edge, _reader, created) = machine_with_work(&scene).await;
    let id = created["id"].as_str().unwrap();
    for wrong in [
        json!({ "type": "prompt", "body": "x" }),
        json!({ "type": "thought" }),
        json!({ "type": "response", "body": "" }),
        json!({ "type": "urls", "urls": [{ "label": "x", "url": "javascript:alert(1)" }] }),
        json!({ "type": "thought", "body": "x", "id": "not-a-uuid" }),
    ] {
        let answer = activity(&scene, &edge, id, wrong.clone()).await;
        answer.refused(&wrong.to_string(), ErrorCode::ActivityInvalid);
    }
    let other = scene.edge(&scene.ada, "desk").await;
    let thought = json!({ "type": "thought", "body": "x" });
    let foreign = activity(&scene, &other, id, thought).await;
    foreign.refused("another person's event", ErrorCode::EventUnknown);
}

#[tokio::test]
async fn classic_notifications_are_answered_with_a_reaction_and_a_comment() {
    let scene = scene().await;
    let (edge, mut reader) = machine(&scene).await;
    let comment = scene.linear.comment("ENG-1", &scene.bob, "Look here", None).unwrap();
    scene.linear.notify("issueCommentMention", "ENG-1", &scene.bob, Some(&comment)).unwrap();
    let notified = event(&mut reader, "AppUserNotification.issueCommentMention").await;
    let id = notified["id"].clone();
    let thought = json!({ "type": "thought", "body": "Hm." });
    let refused = activity(&scene, &edge, id.as_str().unwrap(), thought).await;
    refused.refused("there is no session", ErrorCode::SessionUnknown);
    report(&scene, &edge, json!({ "eventId": id, "status": "processing" })).await.ok();
    let body = json!({ "eventId": id, "status": "completed", "message": "I looked." });
    report(&scene, &edge, body).await.ok();
    until("the comment", async || {
        let comments = scene.linear.comments("ENG-1").unwrap();
        comments.iter().any(|body| body.contains("I looked.")).then_some(())
    })
    .await;
    let asked = scene.linear.requests();
    assert!(asked.iter().any(|one| one.operation.contains("reactionCreate")));
}

#[tokio::test]
async fn an_app_that_is_taken_away_takes_its_streams_with_it() {
    let scene = scene().await;
    let (_edge, mut reader) = machine(&scene).await;
    let desk = scene.edge(&scene.ada, "desk").await;
    let mut other = HttpReader::ndjson(&scene.relay, &desk, "").await;
    other.frame("open").await;
    scene.linear.uninstall(&scene.acme).unwrap();
    for reader in [&mut reader, &mut other] {
        let bye = reader.frame("bye").await;
        assert_eq!(bye["code"], "uninstalled");
    }
    until("no tokens", async || {
        let status = scene.installation(&scene.acme).await;
        (status["apps"][0]["state"] == "revoked").then_some(())
    })
    .await;
    // And comes back.
    scene.install(&scene.ada).await;
    scene.linear.delegate("ENG-1", &scene.bob).unwrap();
    until_said(&scene, "thought", "No machine").await;
}

/// A refresh token can be used once; Linear repeats its answer for half an hour only.
#[tokio::test]
async fn tokens_are_renewed_again_and_again_while_answers_go_on() {
    let linear = LinearOptions { access_token_s: 4, ..LinearOptions::default() };
    let scene = Scene::installed_with(RelayOptions::default(), linear).await;
    prepare(&scene);
    let (edge, _reader, created) = machine_with_work(&scene).await;
    let id = created["id"].as_str().unwrap();
    for number in 0..4 {
        scene.linear.advance(Duration::from_secs(5));
        let thoughts = (0..3).map(|part| {
            let body = format!("thought {number}.{part}");
            activity(&scene, &edge, id, json!({ "type": "thought", "body": body }))
        });
        futures::future::join_all(thoughts).await.iter().for_each(|answer| {
            answer.ok();
        });
        for part in 0..3 {
            until_said(&scene, "thought", &format!("thought {number}.{part}")).await;
        }
    }
    let refreshes = scene.linear.requests();
    let refreshes: Vec<_> =
        refreshes.iter().filter(|one| one.operation == "refresh_token").collect();
    assert!(refreshes.len() >= 4, "{}", refreshes.len());
    assert!(refreshes.iter().all(|one| one.error.is_none()), "{refreshes:?}");
}
