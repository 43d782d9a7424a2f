//! A fake Linear: a real HTTP server that an app meets as it would meet Linear, and that its
//! tests drive as Linear's users would.
//!
//! In scope: OAuth (codes, PKCE, rotating refresh tokens, client credentials, revocation), the
//! part of the GraphQL API that `schema.graphql` names, agent sessions with their clocks, signed
//! webhooks with retries, rate limits, and faults on request. Everything is in memory. Time is
//! this machine's until a test moves it forward ([`FakeLinear::advance`]); only what a webhook
//! says of its own sending, and when a rate limit ends, are told in the receiver's time, which
//! nobody moves.
//!
//! Out of scope: the rest of Linear. Where Linear's behaviour is not documented there is a choice
//! in [`LinearOptions`]: `repeated_id`, `announce_own_sessions`, and `retry_stamp` of webhooks.
//! The consent page is shown every time.

mod actions;
mod authorize;
mod clock;
mod control;
mod execution;
mod faults;
mod graphql;
mod mutations;
mod nodes;
mod oauth;
mod options;
mod pages;
mod payload;
mod people;
mod rate_limit;
mod refusal;
mod remote;
mod request_log;
pub mod scenario;
mod schema;
mod sender;
mod session;
mod shared;
mod state;
mod token_endpoint;
mod webhook;
mod world;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

pub use faults::{FaultKind, GRAPHQL, TOKEN};
pub use oauth::{CODE_LIFETIME_MS, REFRESH_GRACE_MS, TokenPair, pkce_challenge};
pub use options::{LinearOptions, RepeatedId, RetryStamp, WebhookOptions};
pub use refusal::Refusal;
pub use request_log::RequestRecord;
pub use schema::{SCHEMA, missing_fields, schema_differences, validate_document};
pub use session::{ANSWER_LIMIT_MS, ActivityView, SILENCE_LIMIT_MS, SessionStatus, SessionView};
pub use webhook::{Attempt, Delivery, Outcome, RETRY_PAUSES_MS};
pub use world::Id;

use self::{shared::Shared, state::State};

/// A Linear of one's own. Clones are the same one; it ends with the last of them.
#[derive(Clone)]
pub struct FakeLinear {
    shared: Arc<Shared>,
    _running: Option<Arc<Running>>,
}

/// The server and the sender of webhooks.
struct Running(Vec<AbortHandle>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for FakeLinear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeLinear").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl FakeLinear {
    /// Starts on a free port, with nobody in it.
    pub async fn start() -> Self {
        Self::start_with(LinearOptions::default()).await
    }

    /// Starts with other options.
    pub async fn start_with(options: LinearOptions) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await.unwrap();
        let (queue, deliveries) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(State::new(options), queue));
        let address = listener.local_addr().unwrap();
        shared.url.set(format!("http://{address}")).unwrap();
        let router = routes(&shared);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let sender = tokio::spawn(sender::send_all(Arc::clone(&shared), deliveries));
        let running = [server, sender].iter().map(JoinHandle::abort_handle).collect();
        Self { shared, _running: Some(Arc::new(Running(running))) }
    }

    /// Where it listens, without a slash at the end. Everything is below it, which Linear has on
    /// two hosts: `/oauth/authorize` of `linear.app`, the rest of `api.linear.app`.
    pub fn url(&self) -> &str {
        self.shared.url()
    }

    /// The URL of the GraphQL API.
    pub fn graphql_url(&self) -> String {
        format!("{}/graphql", self.url())
    }

    fn act<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        self.shared.act(action)
    }
}

fn routes(shared: &Arc<Shared>) -> Router {
    let fake = FakeLinear { shared: Arc::clone(shared), _running: None };
    let remote = Router::new()
        .route("/fake/state", get(remote::state))
        .route("/fake/do", post(remote::perform))
        .with_state(fake);
    Router::new()
        .route("/oauth/authorize", get(authorize::show).post(authorize::decide))
        .route("/oauth/token", post(token_endpoint::token))
        .route("/oauth/revoke", post(token_endpoint::revoke))
        .route("/.well-known/oauth-authorization-server", get(authorize::metadata))
        .route("/graphql", post(graphql::graphql))
        .route("/", get(pages::workspace))
        .route("/issues/{identifier}", get(pages::issue))
        .with_state(Arc::clone(shared))
        .merge(remote)
}
