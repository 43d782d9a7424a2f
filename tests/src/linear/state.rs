use serde_json::{Value, json};

use super::{
    clock::{Clock, text},
    faults::Faults,
    oauth::Authority,
    options::LinearOptions,
    payload::{Event, with},
    rate_limit::RateLimits,
    refusal::Refusal,
    request_log::RequestRecord,
    webhook::Webhooks,
    world::World,
};

/// Everything that the fake knows. What happens within it is one stretch under one lock.
pub(super) struct State {
    pub(super) options: LinearOptions,
    pub(super) clock: Clock,
    pub(super) world: World,
    pub(super) authority: Authority,
    pub(super) limits: RateLimits,
    pub(super) faults: Faults,
    pub(super) requests: Vec<RequestRecord>,
    pub(super) webhooks: Webhooks,
    /// What happened and is not yet handed to the sender.
    pub(super) outbox: Vec<Event>,
}

impl State {
    pub(super) fn new(options: LinearOptions) -> Self {
        Self {
            clock: Clock::default(),
            world: World::default(),
            authority: Authority::default(),
            limits: RateLimits::new(options.requests_per_hour, options.complexity_per_hour),
            faults: Faults::default(),
            requests: Vec::new(),
            webhooks: Webhooks::new(options.webhook.clone()),
            outbox: Vec::new(),
            options,
        }
    }

    /// Sends an event of a type that the app has an envelope of its own for.
    pub(super) fn emit_to_app(
        &mut self,
        organization: &str,
        (kind, action): (&'static str, &str),
        fields: Value,
    ) -> Result<(), Refusal> {
        let app = json!({
            "appUserId": self.world.app_user(organization)?,
            "oauthClientId": self.options.client_uuid,
        });
        self.outbox.push(Event {
            organization: organization.to_owned(),
            kind,
            action: action.to_owned(),
            fields: with(app, fields),
            announces: None,
        });
        Ok(())
    }

    /// The body of an event, without the time of its sending.
    pub(super) fn body_of(&self, event: &Event) -> Result<Value, Refusal> {
        let organization = self.world.organizations.get(&event.organization)?;
        let common = json!({
            "type": event.kind, "action": event.action,
            "createdAt": text(self.clock.now_ms()), "organizationId": organization.id,
            "webhookId": organization.webhook,
        });
        Ok(with(common, event.fields.clone()))
    }
}
