//! An organization with people and an issue, the app's HTTP client, and its receiver of webhooks.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use relay_tests::{
    linear::{FakeLinear, LinearOptions, WebhookOptions},
    until,
};
use reqwest::Response;
use serde_json::{Value, json};

pub(crate) const ADA: &str = "ada@acme.example";
pub(crate) const BEN: &str = "ben@acme.example";
pub(crate) const REDIRECT_URI: &str = "http://localhost:8787/oauth/callback";
pub(crate) const CREATE_ACTIVITY: &str = "mutation Act($input: AgentActivityCreateInput!) {
    agentActivityCreate(input: $input) { success lastSyncId agentActivity { id } }
}";

/// A webhook as it arrived.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Arrived {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// `Type.action`.
    pub(crate) fn kind(&self) -> String {
        let body = self.body();
        [body["type"].as_str().unwrap(), body["action"].as_str().unwrap()].join(".")
    }
}

/// Takes webhooks and answers each with the next of the statuses given, or the last.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    statuses: Arc<Mutex<Vec<u16>>>,
}

impl Receiver {
    pub(crate) async fn start(statuses: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let statuses = Arc::new(Mutex::new(statuses.to_vec()));
        let receiver = Self { url, arrived: Arc::default(), statuses };
        let router = Router::new().route("/webhook", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.arrived().iter().map(Arrived::kind).collect()
    }

    /// Waits for so many webhooks.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Arrived> {
        until("webhooks", async || (self.arrived().len() >= count).then(|| self.arrived())).await
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, bytes: Bytes) -> StatusCode {
    receiver.arrived.lock().unwrap().push(Arrived { headers, bytes });
    let mut statuses = receiver.statuses.lock().unwrap();
    let status = if statuses.len() > 1 { statuses.remove(0) } else { statuses[0] };
    StatusCode::from_u16(status).unwrap()
}

/// The scene of a test.
pub(crate) struct Stage {
    pub(crate) linear: FakeLinear,
    pub(crate) http: reqwest::Client,
    pub(crate) organization: String,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(LinearOptions::default()).await
    }

    pub(crate) async fn with(options: LinearOptions) -> Self {
        let linear = FakeLinear::start_with(options).await;
        let organization = linear.add_organization("acme", "Acme");
        linear.add_user("acme", "Ada", ADA, true).unwrap();
        linear.add_user("acme", "Ben", BEN, false).unwrap();
        linear.add_team("acme", ("ENG", "Engineering"), &[ADA, BEN], true).unwrap();
        linear.add_issue("ENG", BEN, ("The stream stops", "After a restart.")).unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self { linear, http: http.build().unwrap(), organization }
    }

    /// With a receiver of webhooks that answers with these statuses; the app is installed.
    pub(crate) async fn receiving(webhook: WebhookOptions, statuses: &[u16]) -> (Self, Receiver) {
        let receiver = Receiver::start(statuses).await;
        let webhook = WebhookOptions { url: Some(receiver.url.clone()), ..webhook };
        let stage = Self::with(LinearOptions { webhook, ..LinearOptions::default() }).await;
        stage.linear.install("acme").unwrap();
        (stage, receiver)
    }

    pub(crate) fn app_token(&self) -> String {
        self.linear.app_tokens("acme").unwrap().access_token
    }

    pub(crate) fn issue_session(&self) -> String {
        self.linear.install("acme").unwrap();
        self.linear.delegate("ENG-1", BEN).unwrap()
    }

    pub(crate) async fn try_query(
        &self,
        token: &str,
        query: &str,
        variables: Value,
    ) -> Result<Response, reqwest::Error> {
        let body = json!({"query": query, "variables": variables});
        self.http.post(self.linear.graphql_url()).bearer_auth(token).json(&body).send().await
    }

    pub(crate) async fn query(&self, token: &str, query: &str, variables: Value) -> Response {
        self.try_query(token, query, variables).await.unwrap()
    }

    /// The data of an answer that must be without errors.
    pub(crate) async fn data(&self, token: &str, query: &str, variables: Value) -> Value {
        let answer = self.query(token, query, variables).await;
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["errors"], Value::Null);
        body["data"].clone()
    }

    /// The status and the first error of an answer.
    pub(crate) async fn error(&self, token: &str, query: &str, variables: Value) -> (u16, Value) {
        let answer = self.query(token, query, variables).await;
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap()["errors"][0].clone())
    }

    /// Creates an activity; the answer's data, or its first error.
    pub(crate) async fn act(&self, token: &str, input: Value) -> Result<Value, Value> {
        let answer = self.query(token, CREATE_ACTIVITY, json!({"input": input})).await;
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.unwrap();
        let error = body["errors"][0].clone();
        if error.is_null() { Ok(body["data"]["agentActivityCreate"].clone()) } else { Err(error) }
    }

    pub(crate) async fn token_request(&self, fields: &[(&str, &str)]) -> (u16, Value) {
        let request = self.http.post(format!("{}/oauth/token", self.linear.url()));
        let answer = request.form(fields).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}
