//! What a fake in another process offers: pages, its state, steps; and scenarios.

use relay_tests::linear::{
    FakeLinear, SessionStatus, WebhookOptions,
    scenario::{Step, read_scenario},
};
use serde_json::{Value, json};

use crate::stage::{BEN, Stage};

const DELEGATED: &str = include_str!("../../scenarios/delegated-issue.json");
const PEOPLE: &str = include_str!("../../scenarios/people.json");

async fn step(stage: &Stage, step: Value) -> (u16, Value) {
    let url = format!("{}/fake/do", stage.linear.url());
    let answer = stage.http.post(url).json(&step).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn page(stage: &Stage, path: &str) -> (u16, String) {
    let answer = stage.http.get(format!("{}{path}", stage.linear.url())).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn steps_are_taken_one_by_one() {
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    let (status, answer) =
        step(&stage, json!({"do": "delegate", "issue": "ENG-1", "by": BEN})).await;
    assert_eq!((status, &answer["ok"]), (200, &json!(true)));
    let session = answer["result"].as_str().unwrap();
    step(&stage, json!({"do": "stop", "session": session, "by": BEN})).await;
    step(&stage, json!({"do": "advance", "ms": 1_800_000})).await;
    receiver.wait_for(3).await;
    let view = stage.linear.session(session).unwrap();
    assert_eq!((view.status, view.activities.len()), (SessionStatus::Stale, 1));
    let fault = json!({"do": "fault", "target": "graphql", "kind": "server_error"});
    assert_eq!(step(&stage, fault).await.0, 200);
    assert_eq!(stage.query(&stage.app_token(), "{ viewer { id } }", json!({})).await.status(), 500);
    for wrong in [
        json!({"do": "sing"}),
        json!({"do": "delegate", "issue": "ENG-1"}),
        json!({"do": "delegate", "issue": "ENG-404", "by": BEN}),
    ] {
        assert_eq!(step(&stage, wrong).await.0, 400);
    }
}

#[tokio::test]
async fn pages_and_state_show_a_session_and_no_secret() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    let content = json!({"type": "thought", "body": "Is 1 < 2 & 3?"});
    stage.act(&token, json!({"agentSessionId": session, "content": content})).await.unwrap();
    let update = "mutation($id: String!, $input: AgentSessionUpdateInput!) {
        agentSessionUpdate(id: $id, input: $input) { success } }";
    let urls = json!([
        {"label": "Log", "url": "https://log.example"},
        {"label": "Trap", "url": "javascript:alert(1)"},
    ]);
    let plan = json!([{"content": "Look around", "status": "inProgress"}]);
    let input = json!({"plan": plan, "externalUrls": urls});
    stage.data(&token, update, json!({"id": session, "input": input})).await;
    for path in ["/", "/issues/ENG-1"] {
        let (status, html) = page(&stage, path).await;
        assert_eq!(status, 200);
        for text in [
            "The stream stops",
            "thought",
            "Is 1 &lt; 2 &amp; 3?",
            "active",
            "Look around",
            "inProgress",
            "href=\"https://log.example\"",
            "Trap",
        ] {
            assert!(html.contains(text), "{path}: {text}: {html}");
        }
        assert!(!html.contains("javascript:"));
    }
    assert_eq!(page(&stage, "/issues/ENG-404").await.0, 404);
    let (_, text) = page(&stage, "/fake/state").await;
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["sessions"][0]["activities"][0]["text"], "Is 1 < 2 & 3?");
    assert_eq!(state["requests"][0]["operation"], "agentActivityCreate");
    for secret in [token.as_str(), "lin_whs_", "fake-client-secret"] {
        assert!(!text.contains(secret));
    }
}

#[tokio::test]
async fn the_example_plays() {
    let linear = FakeLinear::start().await;
    let mut steps = read_scenario(DELEGATED).unwrap();
    assert!(steps.iter().any(|step| step.at_ms > 0));
    steps.iter_mut().for_each(|step| step.at_ms = step.at_ms.min(20));
    linear.play(&steps).await.unwrap();
    let session = linear.session("ENG-1").unwrap();
    assert_eq!(session.activities.last().unwrap().signal.as_deref(), Some("stop"));
    assert!(!read_scenario(PEOPLE).unwrap().is_empty());
}

#[test]
fn a_scenario_is_a_list_or_lines() {
    let lines = "{\"do\":\"hold\"}\n\n{\"at_ms\":5,\"do\":\"release\",\"reversed\":true}\n";
    let steps = read_scenario(lines).unwrap();
    assert!(matches!(steps[0].step, Step::Hold) && steps[1].at_ms == 5);
    assert!(matches!(steps[1].step, Step::Release { reversed: true }));
    assert!(read_scenario("{\"do\":\"hold\"}\n{}").unwrap_err().starts_with("line 2"));
    let secret = "[{\"do\":\"webhook\",\"secret\":\"hush\"}]";
    assert!(!format!("{:?}", read_scenario(secret).unwrap()).contains("hush"));
}
