//! What tests do to a fake that no user of Linear's could.

use std::time::Duration;

use super::{
    FakeLinear,
    faults::FaultKind,
    oauth::{TokenPair, parse_scope, secret},
    options::WebhookOptions,
    refusal::Refusal,
    request_log::RequestRecord,
    session::SessionView,
    webhook::Delivery,
    world::Id,
};

impl FakeLinear {
    /// Lets time pass: tokens expire, sessions grow stale, retries become due.
    pub fn advance(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap();
        self.act(|state| state.clock.advance(milliseconds));
        self.shared.changed();
    }

    /// The fake's time, in milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        self.act(|state| state.clock.now_ms())
    }

    /// A session by its id, or the last one on an issue.
    pub fn session(&self, reference: &str) -> Result<SessionView, Refusal> {
        self.act(|state| {
            let session = state.world.session(reference)?;
            Ok(state.world.view(session, state.clock.now_ms()))
        })
    }

    /// The bodies of an issue's comments, in their order.
    pub fn comments(&self, issue: &str) -> Result<Vec<String>, Refusal> {
        self.act(|state| {
            let issue = &state.world.issue(issue)?.id;
            let comments = state.world.comments.iter().filter(|row| row.issue == *issue);
            Ok(comments.map(|row| row.body.clone()).collect())
        })
    }

    /// The id of a person by e-mail address or name.
    pub fn user_id(&self, reference: &str) -> Result<Id, Refusal> {
        self.act(|state| Ok(state.world.user(reference)?.id.clone()))
    }

    /// The id of an issue by its identifier.
    pub fn issue_id(&self, reference: &str) -> Result<Id, Refusal> {
        self.act(|state| Ok(state.world.issue(reference)?.id.clone()))
    }

    /// A pair of tokens of the app's user, as its installation would give. Installs the app if it
    /// isn't yet.
    pub fn app_tokens(&self, organization: &str) -> Result<TokenPair, Refusal> {
        let app_user = self.install(organization)?;
        self.act(|state| {
            let organization = state.world.organization(organization)?.id.clone();
            let scope = parse_scope("write,app:assignable,app:mentionable");
            let grant = state.add_grant(&organization, &app_user, &app_user, scope);
            let (life_s, now_ms) = (state.options.access_token_s, state.clock.now_ms());
            Ok(state.authority.issue(&grant, true, life_s, now_ms))
        })
    }

    /// Ends every token of the app's user in an organization, and tells nobody.
    pub fn end_app_tokens(&self, organization: &str) -> Result<(), Refusal> {
        let app_user = self.install(organization)?;
        self.act(|state| {
            state.authority.revoke_user(&app_user);
            Ok(())
        })
    }

    /// How many access tokens are good now, whosever they are.
    pub fn good_tokens(&self) -> usize {
        self.act(|state| state.authority.good_tokens(state.clock.now_ms()))
    }

    /// Every request to `/graphql` and `/oauth/token` so far.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.act(|state| state.requests.clone())
    }

    /// Every webhook so far, with its attempts.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.act(|state| state.webhooks.deliveries.clone())
    }

    /// Waits until every webhook was delivered, or has failed and waits for its retry.
    pub async fn settled(&self) {
        self.shared.settled().await;
    }

    /// Changes how webhooks are sent from now on.
    pub fn set_webhook(&self, change: impl FnOnce(&mut WebhookOptions)) {
        self.act(|state| change(&mut state.webhooks.options));
    }

    /// Gives the webhook another secret; the one before signs nothing any more.
    pub fn rotate_webhook_secret(&self) -> String {
        let new = secret("lin_whs_");
        self.set_webhook(|options| options.secret.clone_from(&new));
        new
    }

    /// Whether webhooks are sent: not after too many failures in a row.
    pub fn webhook_enabled(&self) -> bool {
        self.act(|state| state.webhooks.enabled)
    }

    /// Sends webhooks again. What was dropped meanwhile is lost.
    pub fn enable_webhook(&self) {
        self.act(|state| {
            state.webhooks.enabled = true;
            state.webhooks.failures = 0;
        });
    }

    /// Keeps webhooks back until they are released.
    pub fn hold_webhooks(&self) {
        self.act(|state| state.webhooks.holding = true);
    }

    /// Sends what was kept back: in its order, or the last one first.
    pub fn release_webhooks(&self, reversed: bool) {
        let mut held = self.act(|state| state.webhooks.release());
        if reversed {
            held.reverse();
        }
        held.into_iter().for_each(|delivery| self.enqueue(delivery));
    }

    /// Sends each of the next webhooks twice.
    pub fn duplicate_next_webhooks(&self, count: u32) {
        self.act(|state| state.webhooks.duplicate_next = count);
    }

    /// Sends a webhook again, whatever became of it.
    pub fn redeliver(&self, delivery: &str) {
        self.enqueue(delivery.to_owned());
    }

    /// Lets webhooks claim to have been sent so long before they are.
    pub fn set_webhook_age(&self, age: Duration) {
        let age_ms = u64::try_from(age.as_millis()).unwrap();
        self.act(|state| state.webhooks.age_ms = age_ms);
    }

    /// Fails the next requests: to `/oauth/token` ([`TOKEN`](super::TOKEN)), to `/graphql`
    /// ([`GRAPHQL`](super::GRAPHQL)), or those with a root field or a name.
    pub fn fail_next(&self, target: &str, kind: FaultKind, count: u32) {
        self.act(|state| state.faults.add(target, kind, count));
    }

    /// Lets nothing fail any more of what [`fail_next`](Self::fail_next) has left.
    pub fn stop_failing(&self) {
        self.act(|state| state.faults.clear());
    }

    /// Answers every request to `/graphql` and `/oauth/token` so much later.
    pub fn set_latency(&self, latency: Duration) {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap();
        self.act(|state| state.faults.latency_ms = latency_ms);
    }

    /// Limits the requests in an hour of each user of the app.
    pub fn set_request_limit(&self, requests_per_hour: u32) {
        self.act(|state| state.limits.requests_per_hour = requests_per_hour);
    }

    /// Limits the points of complexity in an hour of each user of the app.
    pub fn set_complexity_limit(&self, complexity_per_hour: u32) {
        self.act(|state| state.limits.complexity_per_hour = complexity_per_hour);
    }

    /// Limits the requests in an hour for one root field.
    pub fn set_endpoint_limit(&self, root_field: &str, requests_per_hour: u32) {
        self.act(|state| state.limits.endpoints.insert(root_field.to_owned(), requests_per_hour));
    }

    fn enqueue(&self, delivery: Id) {
        self.shared.queue.send(delivery).unwrap();
    }
}
