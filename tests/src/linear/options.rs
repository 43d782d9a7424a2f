use std::fmt;

use serde::Deserialize;

use super::world::{Id, new_id};

/// Where and how webhooks are sent.
#[derive(Clone)]
pub struct WebhookOptions {
    /// Where to; nowhere, if none.
    pub url: Option<String>,
    /// What signs them.
    pub secret: String,
    /// What the pauses before the three retries (a minute, an hour, six hours) are multiplied by.
    pub time_scale: f64,
    /// What a retry looks like; Linear doesn't say.
    pub retry_stamp: RetryStamp,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// After so many deliveries in a row that failed to the last retry, no more are sent.
    pub failures_max: u32,
    /// The types that are sent; the app's own end, `OAuthApp`, always is.
    pub resource_types: Vec<String>,
}

/// What `webhookTimestamp` is on a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryStamp {
    /// The body is the first one, byte for byte.
    Kept,
    /// The body carries the time of the retry, and a signature of its own.
    Renewed,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        let types = ["AgentSessionEvent", "AppUserNotification", "Comment", "Issue"];
        let types = types.into_iter().chain(["OAuthAuthorization", "PermissionChange", "Reaction"]);
        Self {
            url: None,
            secret: "lin_whs_fake-webhook-secret".to_owned(),
            time_scale: 1.0,
            retry_stamp: RetryStamp::Kept,
            timeout_ms: 5_000,
            failures_max: 3,
            resource_types: types.map(str::to_owned).collect(),
        }
    }
}

/// How a fake Linear is started.
#[derive(Clone)]
pub struct LinearOptions {
    /// The port; 0 for a free one.
    pub port: u16,
    /// The app's client id.
    pub client_id: String,
    /// The app's client secret.
    pub client_secret: String,
    /// The app's id in webhooks, `oauthClientId`.
    pub client_uuid: Id,
    /// The app's name, and that of its users.
    pub app_name: String,
    /// Where a person may be sent back to, to the letter.
    pub redirect_uris: Vec<String>,
    /// `grant_type=client_credentials` is allowed.
    pub client_credentials: bool,
    /// Token answers carry the scope as an array, as for apps made before 2023-12-01.
    pub scope_as_array: bool,
    /// How long an access token lives, in seconds.
    pub access_token_s: u64,
    /// Requests in an hour for each user of the app.
    pub requests_per_hour: u32,
    /// Points of complexity in an hour for each user of the app.
    pub complexity_per_hour: u32,
    /// What a second creation with the same id gets; Linear doesn't say.
    pub repeated_id: RepeatedId,
    /// Sessions that the app begins itself are announced, too.
    pub announce_own_sessions: bool,
    /// How webhooks are sent.
    pub webhook: WebhookOptions,
}

/// What a creation gets whose id was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatedId {
    /// The first one, as a success.
    Returned,
    /// `INPUT_ERROR` with HTTP status 200.
    Refused,
}

impl Default for LinearOptions {
    fn default() -> Self {
        Self {
            port: 0,
            client_id: "fake-client-id".to_owned(),
            client_secret: "fake-client-secret".to_owned(),
            client_uuid: new_id(),
            app_name: "Relay".to_owned(),
            redirect_uris: vec!["http://localhost:8787/oauth/callback".to_owned()],
            client_credentials: true,
            scope_as_array: false,
            access_token_s: 86_399,
            requests_per_hour: 5_000,
            complexity_per_hour: 2_000_000,
            repeated_id: RepeatedId::Returned,
            announce_own_sessions: true,
            webhook: WebhookOptions::default(),
        }
    }
}

impl fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for LinearOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinearOptions").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
