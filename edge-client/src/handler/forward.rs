use std::time::Duration;

use relay_schemas::Webhook;
use reqwest::{
    Client, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use tokio::task::JoinSet;

use super::{Completion, Handler};
use crate::{connection::describe, event::Event, session::Outcome};

/// Belong to one connection, or are made anew for the body.
const NOT_FORWARDED: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Where events are posted to.
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// To there.
    pub url: Url,
    /// How long one answer may take.
    pub timeout: Duration,
}

/// Posts each event's exact bytes with the source's own headers, so that a receiver made for the
/// source's webhooks works unchanged, its check of the signature included. 2xx is success.
#[derive(Debug)]
pub struct ForwardHandler {
    client: Client,
    settings: ForwardSettings,
    runs: JoinSet<()>,
}

impl ForwardHandler {
    /// Posts there.
    pub fn new(settings: ForwardSettings) -> Result<Self, reqwest::Error> {
        let mut client = crate::relay::client_builder().timeout(settings.timeout);
        if settings.url.host_str().is_some_and(crate::local_server::is_loopback_host) {
            client = client.no_proxy();
        }
        Ok(Self { client: client.build()?, settings, runs: JoinSet::new() })
    }
}

impl Handler for ForwardHandler {
    fn start(&mut self, event: Event, _attempt: u32, completion: Completion) {
        while self.runs.try_join_next().is_some() {}
        let (client, url) = (self.client.clone(), self.settings.url.clone());
        self.runs.spawn(async move {
            let outcome = match post(&client, url, &event).await {
                Ok(()) => Outcome::Succeeded,
                Err(message) => Outcome::Failed(message),
            };
            completion.finish(outcome);
        });
    }

    async fn abandon(&mut self) {
        self.runs.shutdown().await;
    }
}

async fn post(client: &Client, url: Url, event: &Event) -> Result<(), String> {
    let webhook = event.webhook();
    let body = webhook.body_bytes().ok_or("the event has no readable body")?.into_owned();
    let headers = headers(&webhook, event);
    let response = client.post(url).headers(headers).body(body).send().await;
    match response {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(format!("the receiver answered {}", response.status())),
        Err(error) => Err(describe(&error)),
    }
}

fn headers(webhook: &Webhook<'_>, event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) else {
            continue;
        };
        if !NOT_FORWARDED.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    }
    if let Ok(id) = HeaderValue::from_str(&event.id().to_string()) {
        headers.insert("edgerelay-event-id", id);
    }
    headers
}
