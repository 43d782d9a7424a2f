use std::net::TcpListener;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    browser::Browser,
    edge::EnrolledEdge,
    linear::{FakeLinear, LinearOptions, WebhookOptions},
    relay::{Relay, RelayOptions, SECRET_CURRENT},
};

/// The key that encrypts Linear's tokens: 32 bytes in base64.
pub const TOKEN_KEY: &str = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// A relay and a Linear that know each other, with two organizations in it.
pub struct Scene {
    /// The relay.
    pub relay: Relay,
    /// The Linear that it answers.
    pub linear: FakeLinear,
    /// The first organization.
    pub acme: String,
    /// Who administers it.
    pub ada: String,
    /// Who works in it.
    pub bob: String,
    /// The second organization.
    pub other: String,
    /// Who administers that.
    pub eve: String,
}

impl Scene {
    /// Nothing is installed.
    pub async fn start() -> Self {
        Self::start_with(RelayOptions::default(), LinearOptions::default()).await
    }

    /// The same with other options. What lets the two find each other is added to them.
    pub async fn start_with(mut relay: RelayOptions, linear: LinearOptions) -> Self {
        // Each must know where the other is before it starts.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        relay.vars.extend(vars(port));
        let relay = Relay::start_with(relay).await;
        let redirect_uris = vec![format!("{}/oauth/callback", relay.url)];
        let webhook = WebhookOptions {
            url: Some(format!("{}/webhook", relay.url)),
            secret: SECRET_CURRENT.to_owned(),
            ..linear.webhook.clone()
        };
        let linear = LinearOptions { port, redirect_uris, webhook, ..linear };
        let linear = FakeLinear::start_with(linear).await;
        let acme = linear.add_organization("acme", "Acme & Sons");
        let other = linear.add_organization("other", "Other");
        let ada = linear.add_user(&acme, "Ada", "ada@acme.example", true).unwrap();
        let bob = linear.add_user(&acme, "Bob", "bob@acme.example", false).unwrap();
        let eve = linear.add_user(&other, "Eve", "eve@other.example", true).unwrap();
        Self { relay, linear, acme, ada, bob, other, eve }
    }

    /// The app is installed in the first organization, by an administrator in a browser.
    pub async fn installed() -> Self {
        Self::installed_with(RelayOptions::default(), LinearOptions::default()).await
    }

    /// The same with other options.
    pub async fn installed_with(relay: RelayOptions, linear: LinearOptions) -> Self {
        let scene = Self::start_with(relay, linear).await;
        scene.install(&scene.ada).await;
        scene
    }

    /// Lets an administrator install the app.
    pub async fn install(&self, administrator: &str) {
        let mut browser = Browser::new();
        let installed = browser.through_linear(self, "/oauth/authorize", administrator).await;
        assert_eq!(installed.status, 200, "{}", installed.text());
    }

    /// An address of the relay.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.relay.url)
    }

    /// What the relay answers to a form.
    pub async fn post_form(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        Answer::to(self.relay.http.post(self.url(path)).form(form)).await
    }

    /// A machine asks to be signed in; it is given its codes.
    pub async fn ask_for_machine(&self, request: Value) -> Value {
        Answer::to(self.relay.http.post(self.url("/device/code")).json(&request)).await.ok()
    }

    /// A machine asks whether it was approved.
    pub async fn poll(&self, code: &Value) -> Answer {
        let code = code["device_code"].as_str().unwrap();
        let grant = "urn:ietf:params:oauth:grant-type:device_code";
        self.post_form("/device/token", &[("grant_type", grant), ("device_code", code)]).await
    }

    /// A machine asks for its next tokens.
    pub async fn refresh(&self, token: &Value) -> Answer {
        let token = token.as_str().unwrap();
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        self.post_form("/device/token", &form).await
    }

    /// A machine that a person has signed in: the answer with its tokens.
    pub async fn machine(&self, browser: &mut Browser, name: &str) -> Value {
        let code = self.ask_for_machine(json!({ "client_name": name })).await;
        let decided = browser.decide(self, &code, "approve").await;
        assert_eq!(decided.status, 200, "{}", decided.text());
        self.poll(&code).await.ok()
    }

    /// A machine that a person has signed in, as one that can read.
    pub async fn edge(&self, user: &str, name: &str) -> EnrolledEdge {
        let mut browser = self.signed_in(user).await;
        let tokens = self.machine(&mut browser, name).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        EnrolledEdge {
            id: text(&tokens["edge"]["id"]),
            organization: text(&tokens["edge"]["organization"]),
            user: text(&tokens["edge"]["user"]),
            credential: text(&tokens["access_token"]),
        }
    }

    /// A browser in which a person has signed in with Linear.
    pub async fn signed_in(&self, user: &str) -> Browser {
        let mut browser = Browser::new();
        let back = browser.through_linear(self, "/oauth/sign-in?return=device", user).await;
        assert_eq!((back.status, back.header("location")), (302, Some("/device")));
        browser
    }

    /// A request with a machine's tokens.
    pub async fn as_machine(&self, method: Method, path: &str, tokens: &Value) -> Answer {
        let token = tokens["access_token"].as_str().unwrap();
        Answer::to(self.relay.http.request(method, self.url(path)).bearer_auth(token)).await
    }

    /// What operators see of an organization's installation.
    pub async fn installation(&self, organization: &str) -> Value {
        let path = format!("/oauth/status?organization={organization}");
        Answer::to(self.relay.as_operator(Method::GET, &path)).await.ok()
    }
}

fn vars(linear_port: u16) -> Vec<(&'static str, String)> {
    let usual = LinearOptions::default();
    let url = format!("http://127.0.0.1:{linear_port}");
    vec![
        ("LINEAR_CLIENT_ID", usual.client_id),
        ("LINEAR_CLIENT_SECRET", usual.client_secret),
        ("LINEAR_URL", url.clone()),
        ("LINEAR_API_URL", url),
        ("TOKEN_ENCRYPTION_KEY", TOKEN_KEY.to_owned()),
    ]
}
