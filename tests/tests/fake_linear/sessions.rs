//! A session's states and clocks.

use std::time::Duration;

use relay_tests::linear::{
    LinearOptions,
    SessionStatus::{self, Active, AwaitingInput, Complete, Error, Pending, Stale},
    WebhookOptions,
};
use serde_json::{Value, json};

use crate::stage::{ADA, BEN, Stage};

const UPDATE: &str = "mutation($id: String!, $input: AgentSessionUpdateInput!) {
    agentSessionUpdate(id: $id, input: $input) { success } }";

async fn say(stage: &Stage, token: &str, session: &str, content: Value) {
    let input = json!({"agentSessionId": session, "content": content});
    stage.act(token, input).await.unwrap();
}

fn status(stage: &Stage, session: &str) -> SessionStatus {
    stage.linear.session(session).unwrap().status
}

#[tokio::test]
async fn the_state_follows_from_the_last_activity() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    assert_eq!(status(&stage, &session), Pending);
    let body = |kind: &str| json!({"type": kind, "body": format!("My {kind}")});
    let action = json!({"type": "action", "action": "Read", "parameter": "src"});
    for (content, expected) in [
        (body("thought"), Active),
        (body("elicitation"), AwaitingInput),
        (action, Active),
        (body("error"), Error),
        (body("response"), Complete),
    ] {
        say(&stage, &token, &session, content).await;
        assert_eq!(status(&stage, &session), expected);
    }
    stage.linear.prompt(&session, BEN, "Once more").unwrap();
    assert_eq!(status(&stage, &session), Active);
    let comments = stage.linear.comments("ENG-1").unwrap();
    let said: Vec<&str> = comments.iter().skip(1).map(String::as_str).collect();
    assert_eq!(said, ["My elicitation", "My error", "My response", "Once more"]);
}

#[tokio::test]
async fn half_an_hour_of_silence_is_stale_until_the_next_activity() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    let thought = json!({"type": "thought", "body": "Working."});
    say(&stage, &token, &session, thought.clone()).await;
    stage.linear.advance(Duration::from_secs(29 * 60));
    assert_eq!(status(&stage, &session), Active);
    stage.linear.advance(Duration::from_secs(60));
    assert_eq!(status(&stage, &session), Stale);
    say(&stage, &token, &session, thought).await;
    assert_eq!(status(&stage, &session), Active);
    say(&stage, &token, &session, json!({"type": "response", "body": "Done."})).await;
    stage.linear.advance(Duration::from_secs(3600));
    assert_eq!(status(&stage, &session), Complete, "what is done does not grow stale");
}

#[tokio::test]
async fn what_is_ephemeral_disappears() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    for (body, ephemeral) in [("First", true), ("Second", true), ("Third", false)] {
        let content = json!({"type": "thought", "body": body});
        let input = json!({"agentSessionId": session, "content": content, "ephemeral": ephemeral});
        stage.act(&token, input).await.unwrap();
        let shown = stage.linear.session(&session).unwrap().activities;
        let texts: Vec<&str> = shown.iter().map(|activity| activity.text.as_str()).collect();
        assert_eq!(texts, [body]);
    }
}

#[tokio::test]
async fn the_first_answer_must_come_within_ten_seconds() {
    for (wait_s, late) in [(9, false), (11, true)] {
        let (stage, _receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
        let (token, session) = (stage.app_token(), stage.issue_session());
        stage.linear.settled().await;
        stage.linear.advance(Duration::from_secs(wait_s));
        let view = stage.linear.session(&session).unwrap();
        assert_eq!((view.first_response_ms, view.unresponsive), (None, late));
        let plan = json!({"id": session, "input": {"plan": []}});
        stage.data(&token, UPDATE, plan).await;
        assert_eq!(stage.linear.session(&session).unwrap().first_response_ms, None);
        let urls = json!([{"label": "Log", "url": "https://log.example"}]);
        stage.data(&token, UPDATE, json!({"id": session, "input": {"externalUrls": urls}})).await;
        let view = stage.linear.session(&session).unwrap();
        let took_ms = view.first_response_ms.unwrap();
        assert!((wait_s * 1000..wait_s * 1000 + 900).contains(&took_ms), "{took_ms}");
        assert_eq!(view.unresponsive, late);
        let thought = json!({"type": "thought", "body": "Too late to count."});
        say(&stage, &token, &session, thought).await;
        assert_eq!(stage.linear.session(&session).unwrap().first_response_ms, Some(took_ms));
    }
}

#[tokio::test]
async fn people_drive_a_session_and_their_payloads_say_so() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    let session = stage.linear.delegate("ENG-1", BEN).unwrap();
    stage.linear.prompt("ENG-1", ADA, "Hurry").unwrap();
    stage.linear.stop(&session, BEN).unwrap();
    let arrived = receiver.wait_for(5).await;
    let expected = [
        "Issue.update",
        "AgentSessionEvent.created",
        "Comment.create",
        "AgentSessionEvent.prompted",
        "AgentSessionEvent.prompted",
    ];
    assert_eq!(receiver.kinds(), expected);
    let (ada, ben) = (stage.linear.user_id(ADA).unwrap(), stage.linear.user_id(BEN).unwrap());
    let bodies: Vec<Value> = arrived.iter().map(|webhook| webhook.body()).collect();
    let app_user = &bodies[1]["appUserId"];
    assert_eq!(bodies[0]["data"]["delegateId"], *app_user);
    assert_eq!(bodies[0]["updatedFrom"]["delegateId"], Value::Null);
    assert_eq!(bodies[0]["actor"]["id"], ben);
    let created = &bodies[1]["agentSession"];
    assert_eq!((&created["id"], &created["creatorId"]), (&json!(session), &json!(ben)));
    assert_eq!((&created["status"], &created["appUserId"]), (&json!("pending"), app_user));
    assert_eq!(created["issue"]["team"]["key"], "ENG");
    let prompted = &bodies[3]["agentActivity"];
    assert_eq!(prompted["content"], json!({"type": "prompt", "body": "Hurry"}));
    assert_eq!((&prompted["userId"], &prompted["signal"]), (&json!(ada), &Value::Null));
    assert_eq!(bodies[4]["agentActivity"]["signal"], "stop");
    for body in &bodies {
        assert_eq!(body["organizationId"], stage.organization);
        assert_eq!(body["webhookId"], bodies[0]["webhookId"]);
    }
}

#[tokio::test]
async fn what_the_app_says_comes_back_with_itself_as_the_actor() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    say(&stage, &token, &session, json!({"type": "response", "body": "Done."})).await;
    let arrived = receiver.wait_for(3).await;
    let (created, comment) = (arrived[1].body(), arrived[2].body());
    assert_eq!(comment["data"]["body"], "Done.");
    assert_eq!(comment["data"]["parentId"], created["agentSession"]["commentId"]);
    assert_eq!(
        (&comment["actor"]["id"], &comment["data"]["userId"]),
        (&created["appUserId"], &created["appUserId"])
    );
}

#[tokio::test]
async fn everything_else_people_do_is_sent_too() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    let linear = &stage.linear;
    linear.assign("ENG-1", ADA, Some(BEN)).unwrap();
    linear.assign("ENG-1", ADA, None).unwrap();
    let comment = linear.comment("ENG-1", ADA, "Why?", None).unwrap();
    let reply = linear.comment("ENG-1", BEN, "Because.", Some(&comment)).unwrap();
    linear.react("ENG-1", ADA, "tada", Some(&reply)).unwrap();
    linear.notify("issueNewComment", "ENG-1", BEN, Some(&reply)).unwrap();
    let session = linear.mention("ENG-1", BEN, "@relay please").unwrap();
    linear.change_team_access(&["ENG"], &[]).unwrap();
    linear.undelegate("ENG-1", BEN).unwrap();
    linear.uninstall("acme").unwrap();
    linear.comment("ENG-1", BEN, "Nobody hears this.", None).unwrap();
    let arrived = receiver.wait_for(12).await;
    linear.settled().await;
    let expected = [
        "Issue.update",
        "Issue.update",
        "Comment.create",
        "Comment.create",
        "Reaction.create",
        "AppUserNotification.issueNewComment",
        "Comment.create",
        "AgentSessionEvent.created",
        "PermissionChange.teamAccessChanged",
        "Issue.update",
        "AppUserNotification.issueUnassignedFromYou",
        "OAuthApp.revoked",
    ];
    assert_eq!(receiver.kinds(), expected);
    let (ada, ben) = (linear.user_id(ADA).unwrap(), linear.user_id(BEN).unwrap());
    assert_eq!(arrived[1].body()["updatedFrom"]["assigneeId"], ben);
    assert_eq!(arrived[3].body()["data"]["parent"]["userId"], ada);
    let notification = arrived[5].body();
    assert_eq!(notification["notification"]["userId"], notification["appUserId"]);
    assert_eq!(notification["notification"]["parentComment"]["userId"], ada);
    let created = arrived[7].body()["agentSession"].clone();
    assert_eq!(
        (&created["id"], &created["comment"]["body"]),
        (&json!(session), &json!("@relay please"))
    );
    linear.delegate("ENG-1", BEN).unwrap_err();
}

#[tokio::test]
async fn the_relay_can_read_every_payload() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    let session = stage.linear.delegate("ENG-1", BEN).unwrap();
    stage.linear.prompt(&session, BEN, "Go").unwrap();
    stage.linear.notify("issueMention", "ENG-1", BEN, None).unwrap();
    let ben = stage.linear.user_id(BEN).unwrap();
    for webhook in receiver.wait_for(5).await {
        let envelope = relay_schemas::Envelope::parse(&webhook.bytes).unwrap();
        assert_eq!(envelope.kind.to_string(), webhook.kind());
        let facts = relay_durable::RouteFacts::of(&envelope);
        let person = facts.candidates.first().map(|candidate| candidate.user.as_str());
        let is_agents = webhook.kind().starts_with("AgentSessionEvent");
        assert!(!is_agents || person == Some(&ben), "{} {person:?}", webhook.kind());
    }
}

#[tokio::test]
async fn sessions_that_the_app_begins_may_be_announced() {
    for (announce, expected) in [(true, 1), (false, 0)] {
        let options = LinearOptions { announce_own_sessions: announce, ..LinearOptions::default() };
        let stage = Stage::with(options).await;
        stage.linear.set_webhook(|webhook| webhook.url = Some("http://127.0.0.1:9/".into()));
        let begin =
            "mutation { agentSessionCreateOnIssue(input: {issueId: \"ENG-1\"}) { success } }";
        stage.data(&stage.app_token(), begin, json!({})).await;
        assert_eq!(stage.linear.deliveries().len(), expected);
    }
}
