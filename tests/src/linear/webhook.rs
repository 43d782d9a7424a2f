//! Webhooks in the making: what is to be sent, to where, and what became of it. Sending itself is
//! in `sender`.

use relay_schemas::sign;
use serde_json::Value;

use crate::now_ms;

use super::{
    options::{RetryStamp, WebhookOptions},
    payload::Event,
    refusal::Refusal,
    state::State,
    world::{Id, new_id},
};

/// The pauses before the first, second and third retry.
pub const RETRY_PAUSES_MS: [u64; 3] = [60_000, 3_600_000, 21_600_000];

/// One event on its way to the app.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// `Linear-Delivery`, the same for every attempt.
    pub id: Id,
    /// `Type.action`.
    pub kind: String,
    /// Whose event it is.
    pub organization: Id,
    /// The body of the last attempt.
    pub body: String,
    /// Each attempt so far.
    pub attempts: Vec<Attempt>,
    /// What became of it.
    pub outcome: Outcome,
    pub(super) announces: Option<Id>,
}

/// One request with a delivery.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When, in the fake's time.
    pub at_ms: u64,
    /// The answer's status, if one came in time.
    pub status: Option<u16>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kept back on request.
    Held,
    /// To be sent now.
    Queued,
    /// To be sent again later.
    Retrying,
    /// Answered with 200.
    Delivered,
    /// No attempt is left.
    Failed,
    /// The webhook is disabled.
    Dropped,
}

/// The app's webhook and everything that was sent to it.
pub(super) struct Webhooks {
    pub(super) options: WebhookOptions,
    pub(super) enabled: bool,
    pub(super) failures: u32,
    pub(super) holding: bool,
    pub(super) duplicate_next: u32,
    /// Webhooks claim to have been sent so long ago.
    pub(super) age_ms: u64,
    pub(super) deliveries: Vec<Delivery>,
}

/// A request, ready to be sent.
pub(super) struct Outgoing {
    pub(super) url: String,
    pub(super) body: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) timeout_ms: u64,
}

impl Webhooks {
    pub(super) fn new(options: WebhookOptions) -> Self {
        Self {
            options,
            enabled: true,
            failures: 0,
            holding: false,
            duplicate_next: 0,
            age_ms: 0,
            deliveries: Vec::new(),
        }
    }

    pub(super) fn find(&mut self, delivery: &str) -> Option<&mut Delivery> {
        self.deliveries.iter_mut().find(|row| row.id == delivery)
    }

    /// Takes all that was held back, in the order of its happening.
    pub(super) fn release(&mut self) -> Vec<Id> {
        self.holding = false;
        let held = self.deliveries.iter_mut().filter(|row| row.outcome == Outcome::Held);
        held.map(|row| {
            row.outcome = Outcome::Queued;
            row.id.clone()
        })
        .collect()
    }

    /// Notes an attempt's result: whether there is to be another, and after which pause.
    pub(super) fn note(&mut self, delivery: &str, attempt: Attempt) -> Option<u64> {
        let succeeded = attempt.status == Some(200);
        let row = self.deliveries.iter_mut().find(|row| row.id == delivery)?;
        row.attempts.push(attempt);
        if row.outcome == Outcome::Delivered {
            return None;
        }
        if succeeded {
            row.outcome = Outcome::Delivered;
            self.failures = 0;
            return None;
        }
        let Some(pause_ms) = RETRY_PAUSES_MS.get(row.attempts.len() - 1) else {
            row.outcome = Outcome::Failed;
            self.failures += 1;
            self.enabled &= self.failures < self.options.failures_max;
            return None;
        };
        row.outcome = Outcome::Retrying;
        Some((*pause_ms as f64 * self.options.time_scale) as u64)
    }
}

impl State {
    /// Turns what happened into deliveries; gives back those to be sent now, twice if so wished.
    pub(super) fn queue_deliveries(&mut self) -> Vec<Id> {
        let events = std::mem::take(&mut self.outbox);
        let mut queued = Vec::new();
        for event in events {
            if !self.is_sent(&event) {
                continue;
            }
            let Ok(delivery) = self.new_delivery(event) else { continue };
            if delivery.outcome == Outcome::Queued {
                queued.push(delivery.id.clone());
                if self.webhooks.duplicate_next > 0 {
                    self.webhooks.duplicate_next -= 1;
                    queued.push(delivery.id.clone());
                }
            }
            self.webhooks.deliveries.push(delivery);
        }
        queued
    }

    fn is_sent(&self, event: &Event) -> bool {
        let options = &self.webhooks.options;
        let authorized = || {
            let organization = self.world.organizations.get(&event.organization);
            organization.is_ok_and(|organization| organization.is_authorized)
        };
        let chosen = || options.resource_types.iter().any(|kind| kind == event.kind);
        options.url.is_some() && (event.kind == "OAuthApp" || (chosen() && authorized()))
    }

    fn new_delivery(&self, event: Event) -> Result<Delivery, Refusal> {
        let outcome = match (self.webhooks.enabled, self.webhooks.holding) {
            (false, _) => Outcome::Dropped,
            (true, true) => Outcome::Held,
            (true, false) => Outcome::Queued,
        };
        Ok(Delivery {
            id: new_id(),
            kind: format!("{}.{}", event.kind, event.action),
            organization: event.organization.clone(),
            body: self.body_of(&event)?.to_string(),
            attempts: Vec::new(),
            outcome,
            announces: event.announces,
        })
    }

    /// Prepares an attempt, unless the webhook is disabled by now.
    pub(super) fn outgoing(&mut self, delivery: &str) -> Option<Outgoing> {
        let fake_now_ms = self.clock.now_ms();
        let Webhooks { options, enabled, age_ms, .. } = &self.webhooks;
        // A receiver compares stamps with its own clock, which nobody moves.
        let (options, enabled, stamp_ms) = (options.clone(), *enabled, now_ms() - age_ms);
        let row = self.webhooks.find(delivery)?;
        let Some(url) = options.url.filter(|_| enabled) else {
            row.outcome = Outcome::Dropped;
            return None;
        };
        if row.attempts.is_empty() || options.retry_stamp == RetryStamp::Renewed {
            row.body = stamped(&row.body, stamp_ms);
        }
        let (body, id) = (row.body.clone(), row.id.clone());
        let event = row.kind.split('.').next().unwrap_or_default().to_owned();
        if let Some(session) = row.announces.clone()
            && let Ok(session) = self.world.sessions.get_mut(&session)
        {
            session.announced_ms.get_or_insert(fake_now_ms);
        }
        let headers = vec![
            ("Content-Type", "application/json; charset=utf-8".to_owned()),
            ("Accept-Charset", "utf-8".to_owned()),
            ("User-Agent", "Linear-Webhook".to_owned()),
            ("Linear-Delivery", id),
            ("Linear-Event", event),
            ("Linear-Signature", sign(options.secret.as_bytes(), body.as_bytes())),
            ("Linear-Timestamp", stamp_ms.to_string()),
        ];
        Some(Outgoing { url, body, headers, timeout_ms: options.timeout_ms })
    }
}

fn stamped(body: &str, stamp_ms: u64) -> String {
    let mut body: Value = serde_json::from_str(body).expect("a body is JSON of our own");
    body["webhookTimestamp"] = stamp_ms.into();
    body.to_string()
}
