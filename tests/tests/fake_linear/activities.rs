//! What the app reads and writes over GraphQL, and what it is refused.

use relay_tests::linear::{LinearOptions, RepeatedId};
use serde_json::{Value, json};

use crate::stage::{BEN, CREATE_ACTIVITY, Stage};

const ID: &str = "0b5c3f0e-6a0d-4d5c-9a3e-2f6a4b1c7d88";

fn thought(session: &str, more: Value) -> Value {
    let mut input = json!({
        "agentSessionId": session, "content": {"type": "thought", "body": "On it."},
    });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    input
}

#[tokio::test]
async fn a_person_is_read_with_their_teams() {
    let stage = Stage::new().await;
    let query = "query Who($id: String!) { user(id: $id) {
        id name email active admin teams(first: 10) { nodes { id key name private } } } }";
    let ben = stage.linear.user_id(BEN).unwrap();
    let data = stage.data(&stage.app_token(), query, json!({"id": ben})).await;
    let user = &data["user"];
    assert_eq!((user["email"].as_str(), user["admin"].as_bool()), (Some(BEN), Some(false)));
    assert_eq!(user["active"], true);
    assert_eq!(user["teams"]["nodes"][0]["key"], "ENG");
    assert_eq!(user["teams"]["nodes"][0]["private"], true);
    stage.linear.set_active(BEN, false).unwrap();
    let data = stage.data(&stage.app_token(), query, json!({"id": ben})).await;
    assert_eq!(data["user"]["active"], false);
}

#[tokio::test]
async fn the_same_id_makes_one_thing() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    let input = thought(&session, json!({"id": ID}));
    let first = stage.act(&token, input.clone()).await.unwrap();
    assert_eq!(first["agentActivity"]["id"], ID);
    let second = stage.act(&token, input).await.unwrap();
    assert_eq!((&second["success"], &second["agentActivity"]["id"]), (&json!(true), &json!(ID)));
    assert_eq!(stage.linear.session(&session).unwrap().activities.len(), 1);

    let comment = "mutation($input: CommentCreateInput!) {
        commentCreate(input: $input) { success comment { id body user { app } } } }";
    let variables = json!({"input": {"id": ID, "issueId": "ENG-1", "body": "Of another type."}});
    for _ in 0..2 {
        let data = stage.data(&token, comment, variables.clone()).await;
        assert_eq!(data["commentCreate"]["comment"]["id"], ID);
    }
    let said = stage.linear.comments("ENG-1").unwrap();
    assert_eq!(said.iter().filter(|body| *body == "Of another type.").count(), 1);
}

#[tokio::test]
async fn a_repeated_id_may_be_refused_instead() {
    let options = LinearOptions { repeated_id: RepeatedId::Refused, ..LinearOptions::default() };
    let stage = Stage::with(options).await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    let input = thought(&session, json!({"id": ID}));
    stage.act(&token, input.clone()).await.unwrap();
    let error = stage.act(&token, input).await.unwrap_err();
    assert_eq!(error["extensions"]["code"], "INPUT_ERROR");
    assert!(error["message"].as_str().unwrap().contains("already exists"), "{error}");
}

#[tokio::test]
async fn what_is_not_an_activity_is_an_input_error() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    let content = |content: Value| thought(&session, json!({"content": content}));
    let refused = [
        content(json!({"type": "thought"})),
        content(json!({"type": "elicitation", "body": ""})),
        content(json!({"type": "response", "text": "no body"})),
        content(json!({"type": "error"})),
        content(json!({"type": "action", "action": "Read"})),
        content(json!({"type": "action", "parameter": "src"})),
        content(json!({"type": "prompt", "body": "Only people do."})),
        content(json!({"type": "song", "body": "La"})),
        content(json!(["thought"])),
        thought(&session, json!({"content": {"type": "response", "body": "x"}, "ephemeral": true})),
        thought(&session, json!({"id": "not-a-uuid"})),
        thought(&session, json!({"id": "0b5c3f0e-6a0d-1d5c-9a3e-2f6a4b1c7d88"})),
        thought("5f2b3c4d-0000-4000-8000-000000000000", json!({})),
    ];
    for input in refused {
        let error = stage.act(&token, input.clone()).await.expect_err(&input.to_string());
        let extensions = &error["extensions"];
        assert_eq!(extensions["type"], "invalid input", "{input}");
        assert_eq!(extensions["code"], "INPUT_ERROR");
        assert_eq!(
            (&extensions["statusCode"], &extensions["userError"]),
            (&json!(400), &json!(true))
        );
        assert!(extensions["userPresentableMessage"].is_string());
    }
    assert_eq!(stage.linear.session(&session).unwrap().activities.len(), 0);
}

#[tokio::test]
async fn documents_and_variables_keep_to_the_schema() {
    let stage = Stage::new().await;
    let token = stage.app_token();
    let cases = [
        ("{ viewer { nickname } }", json!({})),
        ("{ viewer { id }", json!({})),
        ("", json!({})),
        (CREATE_ACTIVITY, json!({})),
        (CREATE_ACTIVITY, json!({"input": {"content": {}}})),
        (CREATE_ACTIVITY, json!({"input": {"sessionId": "s", "content": {}}})),
        (CREATE_ACTIVITY, json!({"input": {"agentSessionId": 1, "content": {}}})),
        (
            CREATE_ACTIVITY,
            json!({"input": {"agentSessionId": "s", "content": {}, "signal": "sing"}}),
        ),
    ];
    for (query, variables) in cases {
        let (status, error) = stage.error(&token, query, variables.clone()).await;
        assert_eq!(status, 400, "{query} {variables}");
        assert_eq!(error["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED");
    }
}

#[tokio::test]
async fn a_session_takes_links_and_a_plan_of_any_form() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    let update = "mutation($id: String!, $input: AgentSessionUpdateInput!) {
        agentSessionUpdate(id: $id, input: $input) {
            success agentSession { plan externalLinks { label url } } } }";
    let plan = json!([{"content": "Look", "status": "inProgress"}]);
    let link = |name: &str| json!({"label": name, "url": format!("https://{name}.example")});
    let inputs = [
        (
            json!({"plan": plan, "externalUrls": [link("a"), link("b")]}),
            json!([link("a"), link("b")]),
        ),
        (json!({"addedExternalUrls": [link("c")]}), json!([link("a"), link("b"), link("c")])),
        (json!({"removedExternalUrls": ["https://b.example"]}), json!([link("a"), link("c")])),
        (json!({"externalUrls": []}), json!([])),
    ];
    for (input, expected) in inputs {
        let data = stage.data(&token, update, json!({"id": session, "input": input})).await;
        let session = &data["agentSessionUpdate"]["agentSession"];
        assert_eq!((&session["externalLinks"], &session["plan"]), (&expected, &plan));
    }
}

#[tokio::test]
async fn a_session_is_read_with_its_activities_page_by_page() {
    let stage = Stage::new().await;
    let (token, session) = (stage.app_token(), stage.issue_session());
    stage.act(&token, thought(&session, json!({}))).await.unwrap();
    let action = json!({"type": "action", "action": "Read", "parameter": "src", "result": "ok"});
    stage.act(&token, thought(&session, json!({"content": action}))).await.unwrap();
    let query = "query($id: String!, $after: String) { agentSession(id: $id) {
        status creator { name } issue { identifier team { key } }
        activities(first: 1, after: $after) {
            pageInfo { hasNextPage endCursor }
            nodes { content { __typename
                ... on AgentActivityThoughtContent { body }
                ... on AgentActivityActionContent { action parameter result } } } } } }";
    let data = stage.data(&token, query, json!({"id": session})).await["agentSession"].clone();
    assert_eq!((&data["status"], &data["creator"]["name"]), (&json!("active"), &json!("Ben")));
    assert_eq!(data["issue"], json!({"identifier": "ENG-1", "team": {"key": "ENG"}}));
    assert_eq!(data["activities"]["nodes"][0]["content"]["body"], "On it.");
    let page = &data["activities"]["pageInfo"];
    assert_eq!(page["hasNextPage"], true);
    let variables = json!({"id": session, "after": page["endCursor"]});
    let data = stage.data(&token, query, variables).await["agentSession"]["activities"].clone();
    assert_eq!(data["nodes"][0]["content"]["__typename"], "AgentActivityActionContent");
    assert_eq!(data["nodes"][0]["content"]["result"], "ok");
    assert_eq!(data["pageInfo"]["hasNextPage"], false);
}

#[tokio::test]
async fn the_app_reacts_updates_issues_and_begins_sessions() {
    let stage = Stage::new().await;
    let token = stage.app_token();
    let react = "mutation { reactionCreate(input: {issueId: \"ENG-1\", emoji: \"eyes\"}) {
        success reaction { emoji user { app } } } }";
    let data = stage.data(&token, react, json!({})).await;
    assert_eq!(data["reactionCreate"]["reaction"], json!({"emoji": "eyes", "user": {"app": true}}));
    let begin = "mutation { agentSessionCreateOnIssue(input: {issueId: \"ENG-1\"}) {
        agentSession { id status creator { id } } } }";
    let data = stage.data(&token, begin, json!({})).await;
    let session = &data["agentSessionCreateOnIssue"]["agentSession"];
    assert_eq!((&session["status"], &session["creator"]), (&json!("pending"), &Value::Null));
    let states = "{ issue(id: \"ENG-1\") { team { states { nodes { id type } } } } }";
    let data = stage.data(&token, states, json!({})).await;
    let states = data["issue"]["team"]["states"]["nodes"].as_array().unwrap().clone();
    let started = states.iter().find(|state| state["type"] == "started").unwrap();
    let update =
        "mutation($state: String!) { issueUpdate(id: \"ENG-1\", input: {stateId: $state}) {
        issue { state { type } title } } }";
    let data = stage.data(&token, update, json!({"state": started["id"]})).await;
    assert_eq!(data["issueUpdate"]["issue"]["state"]["type"], "started");
    assert_eq!(data["issueUpdate"]["issue"]["title"], "The stream stops");
}

#[tokio::test]
async fn nothing_of_another_organization_is_there() {
    let stage = Stage::new().await;
    let session = stage.issue_session();
    stage.linear.add_organization("other", "Other");
    let token = stage.linear.app_tokens("other").unwrap().access_token;
    let ben = stage.linear.user_id(BEN).unwrap();
    let error = stage.act(&token, thought(&session, json!({}))).await.unwrap_err();
    assert_eq!(error["message"], "Entity not found: AgentSession");
    for query in [
        format!("{{ user(id: \"{ben}\") {{ id }} }}"),
        format!("{{ agentSession(id: \"{session}\") {{ id }} }}"),
        "{ issue(id: \"ENG-1\") { id } }".to_owned(),
    ] {
        let (status, error) = stage.error(&token, &query, json!({})).await;
        assert_eq!((status, &error["extensions"]["code"]), (200, &json!("INPUT_ERROR")), "{query}");
    }
}

#[tokio::test]
async fn writing_needs_a_scope_for_it() {
    let stage = Stage::new().await;
    let scoped = async |scope: &str| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", "fake-client-id"),
            ("client_secret", "fake-client-secret"),
            ("scope", scope),
        ];
        let (_, answer) = stage.token_request(&fields).await;
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let comment =
        "mutation { commentCreate(input: {issueId: \"ENG-1\", body: \"Hi\"}) { success } }";
    let react =
        "mutation { reactionCreate(input: {issueId: \"ENG-1\", emoji: \"eyes\"}) { success } }";
    let (_, error) = stage.error(&scoped("read").await, comment, json!({})).await;
    assert_eq!(error["extensions"]["code"], "FORBIDDEN");
    let token = scoped("read,comments:create").await;
    stage.data(&token, comment, json!({})).await;
    let (_, error) = stage.error(&token, react, json!({})).await;
    assert_eq!(error["extensions"]["code"], "FORBIDDEN");
}
