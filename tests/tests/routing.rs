//! Goal: an event goes where the strategy, the sessions, the teams and the operator say, once, and
//! operators see where and why. Method: the built Worker on real workerd, Linear's payloads, and
//! what the streams hold afterwards.

#![allow(clippy::unwrap_used)]

use relay_durable::samples::{
    agent_session_created, agent_session_prompted, sized_body, unrouted_samples,
};
use relay_schemas::ErrorCode;
use relay_tests::{Answer, ClientProcess, EnrolledEdge, Relay, RelayOptions, now_ms, until};
use reqwest::Method;
use serde_json::{Value, json};

fn strategy(name: &str) -> RelayOptions {
    RelayOptions { vars: vec![("ROUTING_STRATEGY", name.to_owned())], ..RelayOptions::default() }
}

/// A payload with other values at some paths, such as `agentSession.creatorId`.
fn altered(body: &str, changes: &[(&str, Value)]) -> String {
    let mut body: Value = serde_json::from_str(body).unwrap();
    for (path, value) in changes {
        *path.split('.').fold(&mut body, |object, key| &mut object[key]) = value.clone();
    }
    body.to_string()
}

/// An update of an issue of a team, which is assigned to a person.
fn issue_update(organization: &str, assignee: &str, issue: &str, number: u64) -> String {
    let body = sized_body(organization, assignee, number, now_ms(), 0);
    altered(&body, &[("data.id", issue.into()), ("data.teamId", "team-t".into())])
}

/// A cycle that concerns nobody in particular.
fn nobodys(organization: &str, number: u64) -> String {
    json!({
        "type": "Cycle", "action": "update", "organizationId": organization,
        "webhookTimestamp": now_ms(), "data": {"id": format!("cycle-{number}"), "teamId": "team-t"},
    })
    .to_string()
}

async fn deliver(relay: &Relay, body: &str) {
    relay.deliver(body, "delivery").await;
}

async fn operator(relay: &Relay, method: Method, path: &str, body: Option<Value>) -> Answer {
    let request = relay.as_operator(method, path);
    Answer::to(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

/// The events of a stream, as operators read them, oldest first.
async fn events(relay: &Relay, stream: &str) -> Vec<Value> {
    let (organization, channel) = stream.split_once('/').unwrap();
    let path = format!("/admin/streams/{organization}/{channel}/events");
    let page = operator(relay, Method::GET, &path, None).await.ok();
    page["events"].as_array().unwrap().clone()
}

/// The decisions about an organization, newest first: kind, channels, reason.
async fn audit(relay: &Relay, organization: &str) -> Vec<(String, String, String)> {
    let path = format!("/admin/audit?organization={organization}");
    let page = operator(relay, Method::GET, &path, None).await.ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let decisions = page["decisions"].as_array().unwrap().iter();
    decisions
        .map(|decision| {
            let targets = decision["targets"].as_array().unwrap().iter();
            let channels: Vec<String> = targets.map(|target| text(&target["channel"])).collect();
            (text(&decision["kind"]), channels.join(" "), text(&decision["reason"]))
        })
        .collect()
}

/// Ann has a machine, Bob has none.
async fn check_strategy(name: &str, anns: &str, bobs: &str, session: &str) {
    let relay = Relay::start_with(strategy(name)).await;
    let organization = format!("org-strategy-{name}");
    let ann = relay.enrol(&organization, "ann").await;
    deliver(&relay, &issue_update(&organization, "ann", "i-1", 1)).await;
    deliver(&relay, &issue_update(&organization, "bob", "i-2", 2)).await;
    deliver(&relay, &agent_session_created(&organization, "ann", "s-1", now_ms())).await;
    let path = format!("/admin/audit?organization={organization}");
    until("three decisions", async || {
        let page = operator(&relay, Method::GET, &path, None).await.ok();
        (page["decisions"].as_array()?.len() >= 3).then_some(())
    })
    .await;
    let mut streams: Vec<(String, u64)> = Vec::new();
    for channel in [anns, bobs, session] {
        match streams.iter_mut().find(|(found, _)| found == channel) {
            Some((_, count)) => *count += 1,
            None => streams.push((channel.to_owned(), 1)),
        }
    }
    for channel in ["user:ann", "user:bob", "org", "unrouted"] {
        let expected = streams.iter().find(|(found, _)| found == channel).map_or(0, |of| of.1);
        let stream = format!("{organization}/{channel}");
        relay.wait_for_length(&stream, expected).await;
        assert_eq!(relay.stream_length(&stream).await, expected, "{name} {channel}");
    }
    let routing = format!("/admin/routing?organization={organization}");
    let shown = operator(&relay, Method::GET, &routing, None).await.ok();
    assert_eq!((&shown["strategy_in_force"], &shown["strategy"]), (&json!(name), &Value::Null));
    assert_eq!(shown["apps"].as_array().unwrap().len(), 1, "learnt from the session");
    assert_eq!(ann.organization, organization);
}

#[tokio::test]
async fn by_default_an_event_goes_to_its_person() {
    check_strategy("user", "user:ann", "user:bob", "user:ann").await;
}

#[tokio::test]
async fn under_org_all_events_go_to_the_organization() {
    check_strategy("org", "org", "org", "org").await;
}

#[tokio::test]
async fn under_hybrid_those_with_a_machine_have_their_own() {
    check_strategy("hybrid", "user:ann", "org", "user:ann").await;
}

/// Both have a machine. Bob prompts in Ann's session, in words that don't name her, and the issue
/// is his.
#[tokio::test]
async fn a_session_and_its_issue_stay_with_whom_they_began() {
    const ORGANIZATION: &str = "org-sticky";
    let relay = Relay::start().await;
    relay.enrol(ORGANIZATION, "ann").await;
    let bob = relay.enrol(ORGANIZATION, "bob").await;
    let created = agent_session_created(ORGANIZATION, "ann", "s-1", now_ms());
    let issue = serde_json::from_str::<Value>(&created).unwrap()["agentSession"]["issueId"]
        .as_str()
        .unwrap()
        .to_owned();
    deliver(&relay, &created).await;
    relay.wait_for_length("org-sticky/user:ann", 1).await;
    let prompted = agent_session_prompted(ORGANIZATION, "ann", "s-1", "a-1", now_ms());
    let nobody = ["creatorId", "creator", "comment"].map(|key| format!("agentSession.{key}"));
    let mut changes: Vec<(&str, Value)> =
        nobody.iter().map(|path| (path.as_str(), Value::Null)).collect();
    changes
        .extend([("agentActivity.userId", "bob".into()), ("agentActivity.signal", "stop".into())]);
    deliver(&relay, &altered(&prompted, &changes)).await;
    deliver(&relay, &issue_update(ORGANIZATION, "bob", &issue, 1)).await;
    deliver(&relay, &issue_update(ORGANIZATION, "bob", "another", 2)).await;
    relay.wait_for_length("org-sticky/user:ann", 3).await;
    relay.wait_for_length(&bob.stream(), 1).await;
    let anns = events(&relay, "org-sticky/user:ann").await;
    let rules: Vec<&str> = anns.iter().map(|event| event["routed_by"].as_str().unwrap()).collect();
    assert_eq!(rules, ["session_creator", "session_owner", "issue_owner"]);
    assert!(anns[..2].iter().all(|event| event["session"] == "s-1" && event["app"].is_string()));
    assert!(anns.iter().all(|event| event["issue"] == issue.as_str()));
    assert!(anns.iter().all(|event| event.get("own").is_none()));
    let by_rule = |rule: &str| format!("edgerelay_events_routed_total{{rule=\"{rule}\"}}");
    for rule in rules {
        assert!((relay.metric(&by_rule(rule)).await - 1.0).abs() < 0.1, "{rule}");
    }
}

#[tokio::test]
async fn what_the_app_itself_did_is_marked() {
    const ORGANIZATION: &str = "org-own";
    let relay = Relay::start().await;
    let created = agent_session_created(ORGANIZATION, "ann", "s-1", now_ms());
    let app_user = serde_json::from_str::<Value>(&created).unwrap()["appUserId"].clone();
    deliver(&relay, &created).await;
    relay.wait_for_length("org-own/user:ann", 1).await;
    let update = issue_update(ORGANIZATION, "bob", "i-1", 1);
    deliver(&relay, &altered(&update, &[("actor.id", app_user)])).await;
    relay.wait_for_length("org-own/user:bob", 1).await;
    let events = operator(
        &relay,
        Method::GET,
        &format!("/admin/audit?organization={ORGANIZATION}&limit=1"),
        None,
    )
    .await
    .ok();
    assert_eq!(events["decisions"][0]["own"], true);
    assert!(events["cursor"].is_string());
    until("the count", async || {
        (relay.metric("edgerelay_events_own_total").await > 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_team_channel_gets_what_is_about_the_team() {
    const ORGANIZATION: &str = "org-teams";
    let relay = Relay::start().await;
    deliver(&relay, &issue_update(ORGANIZATION, "bob", "i-1", 1)).await;
    relay.wait_for_length("org-teams/user:bob", 1).await;
    let request = json!({
        "organization": ORGANIZATION, "user": "ann", "channels": ["team:team-t"],
    });
    let ann: EnrolledEdge = relay.enrol_with(request).await;
    deliver(&relay, &issue_update(ORGANIZATION, "bob", "i-1", 2)).await;
    deliver(&relay, &nobodys(ORGANIZATION, 1)).await;
    relay.wait_for_length("org-teams/team:team-t", 2).await;
    relay.wait_for_length("org-teams/user:bob", 2).await;
    let page = relay.as_edge(&ann, Method::GET, "/events?channel=team:team-t");
    let page = Answer::to(page).await.ok();
    let read: Vec<(&Value, &Value)> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (&event["routed_by"], &event["channel"]))
        .collect();
    assert_eq!(read, [(&json!("team"), &json!("team:team-t")); 2]);
    assert_eq!(relay.stream_length("org-teams/unrouted").await, 0);
    let decisions = audit(&relay, ORGANIZATION).await;
    let of = |channels: &str, reason: &str| (channels.to_owned(), reason.to_owned());
    let found: Vec<(String, String)> =
        decisions.into_iter().map(|(_, channels, reason)| (channels, reason)).collect();
    assert!(found.contains(&of("user:bob team:team-t", "assignee")));
    assert!(found.contains(&of("team:team-t", "team unrouted")));
}

/// What the real client says of an event of a team's is kept with it there.
#[tokio::test]
async fn a_machine_that_reads_a_team_reports_on_its_events() {
    const ORGANIZATION: &str = "org-team-reports";
    let relay = Relay::start().await;
    let request = json!({
        "organization": ORGANIZATION, "user": "ann", "channels": ["team:team-t"],
    });
    let ann: EnrolledEdge = relay.enrol_with(request).await;
    deliver(&relay, &nobodys(ORGANIZATION, 1)).await;
    relay.wait_for_length("org-team-reports/team:team-t", 1).await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("edge.db");
    let arguments = ["--channel", "team:team-t", "--exec", "echo Seen."];
    let client = ClientProcess::listen(&relay, &ann, &state, &arguments);
    let page = relay.as_edge(&ann, Method::GET, "/events?channel=team:team-t");
    let id = Answer::to(page).await.ok()["events"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/events/{id}?channel=team:team-t");
    let told = until("both reports", async || {
        let event = Answer::to(relay.as_edge(&ann, Method::GET, &path)).await.ok();
        let reports = event["reports"].as_array()?.iter();
        let told: Vec<_> =
            reports.map(|report| json!([report["status"], report["message"]])).collect();
        (told.len() == 2).then_some(told)
    })
    .await;
    assert_eq!(told, [json!(["processing", null]), json!(["completed", "Seen."])]);
    client.kill().await;
}

/// The second delivery is decided under other circumstances, and has its place already.
#[tokio::test]
async fn a_redelivery_after_enrolment_goes_where_the_first_went() {
    const ORGANIZATION: &str = "org-redelivered";
    let relay = Relay::start_with(strategy("hybrid")).await;
    let body = issue_update(ORGANIZATION, "ann", "i-1", 1);
    deliver(&relay, &body).await;
    relay.wait_for_length("org-redelivered/org", 1).await;
    let ann = relay.enrol(ORGANIZATION, "ann").await;
    deliver(&relay, &body).await;
    until("the duplicate", async || {
        (relay.metric("edgerelay_events_duplicate_total").await > 0.5).then_some(())
    })
    .await;
    deliver(&relay, &issue_update(ORGANIZATION, "ann", "i-1", 2)).await;
    relay.wait_for_length(&ann.stream(), 1).await;
    assert_eq!(relay.stream_length(&ann.stream()).await, 1);
    assert_eq!(relay.stream_length("org-redelivered/org").await, 1);
    assert_eq!(audit(&relay, ORGANIZATION).await.len(), 2);
}

async fn reroute(relay: &Relay, organization: &str, body: Value) -> Value {
    let path = format!("/admin/streams/{organization}/unrouted/reroute");
    operator(relay, Method::POST, &path, Some(body)).await.ok()
}

/// Nine that found nobody, one of them too large for the queue; some lie in segments.
async fn play_rerouting(options: RelayOptions, organization: &str) {
    let relay = Relay::start_with(options).await;
    let unrouted = format!("{organization}/unrouted");
    for number in 0..8 {
        deliver(&relay, &nobodys(organization, number)).await;
        relay.wait_for_length(&unrouted, number + 1).await;
    }
    let large = altered(&nobodys(organization, 8), &[("data.name", "x".repeat(150_000).into())]);
    deliver(&relay, &large).await;
    relay.wait_for_length(&unrouted, 9).await;
    let before = events(&relay, &unrouted).await;
    assert_eq!(before.len(), 9);

    // Without a rule that changes anything they are where they were.
    let answer = reroute(&relay, organization, json!({ "to": null, "limit": 2 })).await;
    assert_eq!((&answer["rerouted"], &answer["has_more"]), (&json!(2), &json!(true)));
    until("two duplicates", async || {
        (relay.metric("edgerelay_events_duplicate_total").await > 1.5).then_some(())
    })
    .await;

    // The next call goes on behind these, now with a default.
    let path = format!("/admin/routing?organization={organization}");
    let rules = json!({ "default_channel": "user:dee" });
    let shown = operator(&relay, Method::PUT, &path, Some(rules)).await.ok();
    assert_eq!(shown["default_channel"], "user:dee");
    assert_eq!(shown["rerouted_until"], answer["cursor"]);
    deliver(&relay, &nobodys(organization, 9)).await;
    relay.wait_for_length(&format!("{organization}/user:dee"), 1).await;
    let answer = reroute(&relay, organization, json!({ "to": null })).await;
    assert_eq!((&answer["rerouted"], &answer["has_more"]), (&json!(7), &json!(false)));
    relay.wait_for_length(&format!("{organization}/user:dee"), 8).await;
    let answer = reroute(&relay, organization, json!({ "to": null })).await;
    assert_eq!(answer["rerouted"], 0);

    // From the beginning, to a channel of the operator's choice.
    let request = json!({ "to": "user:eve", "since": "earliest", "limit": 1000 });
    assert_eq!(reroute(&relay, organization, request).await["rerouted"], 9);
    let eves = format!("{organization}/user:eve");
    relay.wait_for_length(&eves, 9).await;
    let mut after = events(&relay, &eves).await;
    after.sort_by_key(|event| before.iter().position(|one| one["id"] == event["id"]));
    for (before, after) in before.iter().zip(&after) {
        for same in ["id", "kind", "timestamp", "delivery", "headers", "data"] {
            assert_eq!(before[same], after[same], "{same}");
        }
        assert_eq!(
            (&after["routed_by"], &after["channel"]),
            (&json!("operator"), &json!("user:eve"))
        );
    }
    assert_eq!(relay.stream_length(&unrouted).await, 9);
    until("the count", async || {
        (relay.metric("edgerelay_events_rerouted_total").await > 17.5).then_some(())
    })
    .await;
    let reasons: Vec<String> =
        audit(&relay, organization).await.into_iter().map(|(.., reason)| reason).collect();
    let count = |reason: &str| reasons.iter().filter(|found| *found == reason).count();
    assert_eq!((count("operator"), count("default unrouted")), (9, 8));
    assert_eq!(count("unrouted"), 11, "two of them twice");
}

#[tokio::test]
async fn what_found_nobody_is_routed_again() {
    play_rerouting(RelayOptions::unsealed(), "org-rerouted").await;
}

#[tokio::test]
async fn what_found_nobody_is_routed_again_from_history() {
    play_rerouting(RelayOptions::sealed_at(600), "org-rerouted-sealed").await;
}

#[tokio::test]
async fn operators_read_any_stream_and_others_none_of_it() {
    const ORGANIZATION: &str = "org-operator";
    let relay = Relay::start().await;
    let edge = relay.enrol(ORGANIZATION, "ann").await;
    let sample = &unrouted_samples(ORGANIZATION, "ann", now_ms())[1];
    deliver(&relay, &sample.body).await;
    relay.wait_for_length("org-operator/unrouted", 1).await;
    let read = events(&relay, "org-operator/unrouted").await;
    assert_eq!((read.len(), &read[0]["kind"]), (1, &json!("OAuthApp.revoked")));
    assert_eq!(read[0]["routed_by"], "organization_control");
    let page = "/admin/streams/org-operator/unrouted/events";
    for (path, code) in [
        (format!("{page}?channel=org"), ErrorCode::ParameterUnknown),
        (format!("{page}?limit=0"), ErrorCode::ParameterInvalid),
        ("/admin/streams/org-operator/x/events".into(), ErrorCode::NotFound),
        ("/admin/audit".into(), ErrorCode::ParameterInvalid),
        ("/admin/audit?organization=o&after=x".into(), ErrorCode::ParameterInvalid),
        ("/admin/routing".into(), ErrorCode::ParameterInvalid),
    ] {
        operator(&relay, Method::GET, &path, None).await.refused(&path, code);
    }
    let reroute = "/admin/streams/org-operator/unrouted/reroute";
    let routing = "/admin/routing?organization=org-operator";
    for (method, path, body) in [
        (Method::POST, reroute, json!({})),
        (Method::POST, reroute, json!({ "to": "unrouted" })),
        (Method::PUT, routing, json!({ "strategy": "all" })),
        (Method::PUT, routing, json!([])),
    ] {
        let answer = operator(&relay, method, path, Some(body)).await;
        answer.refused(path, ErrorCode::ParameterInvalid);
    }
    for (method, path) in [
        (Method::GET, page),
        (Method::GET, "/admin/audit?organization=org-operator"),
        (Method::GET, routing),
        (Method::PUT, routing),
        (Method::POST, reroute),
    ] {
        let answer = Answer::to(relay.as_edge(&edge, method, path)).await;
        assert_eq!(answer.status, 401, "{path}");
    }
}

/// Nothing is lost while the directory can't be asked, and nothing goes astray.
#[tokio::test]
async fn events_wait_for_a_directory_that_cannot_be_asked() {
    let options = RelayOptions { unbound: vec!["DIRECTORIES"], ..RelayOptions::default() };
    let relay = Relay::start_with(options).await;
    deliver(&relay, &issue_update("org-waiting", "ann", "i-1", 1)).await;
    until("a second attempt", async || {
        (relay.metric("edgerelay_queue_retries_total").await > 1.5).then_some(())
    })
    .await;
    assert_eq!(relay.stream_length("org-waiting/user:ann").await, 0);
    assert!((relay.metric("edgerelay_dead_letters_total").await).abs() < 0.1);
    assert!(relay.log().contains("routing_failed"));
}
