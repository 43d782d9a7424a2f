use std::borrow::Cow;

use relay_durable::{RouteFacts, Target};
use relay_schemas::{
    Announcement, Counter, Envelope, EnvelopeError, NewEvent, OrganizationId, QueueMessage, Record,
    RecordParts, Revoked, StreamKey,
};
use worker::Env;

use super::Failure;
use crate::{delivery::Delivery, metrics};

/// Attempts to read a large body that follow each other quickly.
const QUICK_ATTEMPTS: u32 = 5;

/// An event on its way, with the message that it came in.
pub(super) struct Decoded<'a> {
    pub(super) message: &'a Delivery,
    pub(super) header: QueueMessage,
    pub(super) organization: OrganizationId,
    pub(super) facts: RouteFacts,
    signal: Option<String>,
    /// What Linear waits for, if it does.
    pub(super) announcement: Option<Announcement>,
    /// Which app was taken out of the organization, if that is what the event tells.
    pub(super) uninstalled: Option<Revoked>,
    pub(super) body: Cow<'a, str>,
}

impl<'a> Decoded<'a> {
    /// Steps 1 and 2.
    pub(super) async fn read(message: &'a Delivery, env: &Env) -> Result<Self, Failure> {
        let (header, inline_body) = QueueMessage::decode(&message.text)
            .map_err(|error| Failure::Permanent(format!("undecodable: {error}")))?;
        let is_new = message.attempts() == 1 && header.reroute.is_none();
        metrics::add(Counter::Webhooks("accepted"), u64::from(is_new));
        let body = match &header.stored_body {
            Some(stored) => {
                let text =
                    String::from_utf8(load_body(env, &stored.key, message.attempts()).await?);
                Cow::Owned(text.map_err(|_| undecodable(&EnvelopeError::NotJson))?)
            }
            None => Cow::Borrowed(inline_body),
        };
        let envelope = Envelope::parse(body.as_bytes()).map_err(|error| undecodable(&error))?;
        let (facts, signal) = (RouteFacts::of(&envelope), envelope.signal());
        // What an operator routes again was answered when it came.
        let is_new = header.reroute.is_none();
        let announcement = Announcement::of(&envelope, header.id).filter(|_| is_new);
        let uninstalled = Revoked::of(&envelope).filter(|_| is_new);
        let organization = envelope.organization;
        Ok(Self { message, header, organization, facts, signal, announcement, uninstalled, body })
    }

    /// Whether the installation has to be told of it.
    pub(super) fn is_answered(&self) -> bool {
        self.announcement.is_some() || self.uninstalled.is_some()
    }

    /// The event as it stands in one of its streams.
    pub(super) fn event_for(&self, stream: &StreamKey, target: &Target, own: bool) -> NewEvent {
        let record = Record::new(&RecordParts {
            id: self.header.id,
            received_at: self.header.received_at,
            kind: &self.facts.kind,
            organization: &stream.organization,
            channel: &stream.channel,
            delivery: self.header.delivery.as_deref(),
            headers: &self.header.headers,
            subject: self.facts.subject(target.rule),
            own,
            body: &self.body,
        });
        NewEvent {
            id: self.header.id,
            kind: self.facts.kind.clone(),
            received_at: self.header.received_at,
            signal: self.signal.clone(),
            record: record.into_string(),
        }
    }
}

fn undecodable(error: &EnvelopeError) -> Failure {
    Failure::Permanent(format!("undecodable: {error}"))
}

/// A bucket that doesn't answer for some minutes may not for hours.
async fn load_body(env: &Env, key: &str, attempts: u32) -> Result<Vec<u8>, Failure> {
    let passing = |error: worker::Error| {
        let reason = format!("bucket_unavailable: {error}");
        if attempts < QUICK_ATTEMPTS { Failure::Passing(reason) } else { Failure::Lasting(reason) }
    };
    let object =
        env.bucket("BUCKET").map_err(passing)?.get(key).execute().await.map_err(passing)?;
    let object = object.ok_or_else(|| Failure::Permanent("body_missing".into()))?;
    let body = object.body().ok_or_else(|| Failure::Permanent("body_missing".into()))?;
    body.bytes().await.map_err(passing)
}
