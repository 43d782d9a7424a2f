//! The queue's consumer. Its steps, and why each may be repeated:
//!
//! 1. Decode: pure.
//! 2. Read a body that was too large for the queue: a read.
//! 3. Route and group: pure.
//! 4. Append, one call per stream: the stream recognises what it has.
//! 5. Acknowledge what was stored, give back what was not: a message that is delivered again is
//!    found to be a duplicate in step 4.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::join_all;
use js_sys::{ArrayBuffer, Uint8Array};
use relay_durable::{Rule, route};
use relay_schemas::{
    Append, AppendReply, Counter, DeadLetter, Disposition, Envelope, Histogram, NewEvent,
    QueueMessage, Record, RecordParts, StreamKey, Subject, UnixMillis,
    limits::{APPEND_BYTES_MAX, DELIVERY_ATTEMPTS_MAX},
};
use serde_json::json;
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use worker::Env;
use worker_sys::{Context as ContextSys, Message as MessageSys, MessageBatch as MessageBatchSys};

use crate::{
    dead_letters, host,
    log::{self, Level},
    metrics,
    stream_client::{self, AppendFailure},
    webhook::send_text,
};

const RETRY_DELAY_S_MAX: u32 = 1_800;

/// Records of a batch that are in memory at once, of an isolate's 128 MB. Bodies that were too
/// large for the queue can make a batch of 100 as large as 500 MB.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The platform's entry point. Exported by hand, because the library's own drops the handle of a
/// message that it can't decode, which is then taken as processed, and hides `attempts`.
#[wasm_bindgen]
pub async fn queue(batch: MessageBatchSys, env: Env, _context: ContextSys) -> Result<(), JsValue> {
    // A handler that returns has acknowledged what it did not touch: without the messages it must
    // throw.
    let name: String = batch.queue()?.into();
    let messages: Vec<Delivery> = batch.messages()?.iter().map(Delivery::new).collect();
    if name.contains("dead-letters") {
        dead_letters::keep(messages, &env).await;
    } else {
        consume(messages, &env).await;
    }
    if metrics::is_flush_due() {
        metrics::flush(&env).await;
    }
    Ok(())
}

/// One message of a batch, with its handle.
pub(crate) struct Delivery {
    inner: MessageSys,
    /// Its text; what is neither text nor bytes is written as JSON.
    pub(crate) text: String,
}

impl Delivery {
    fn new(value: JsValue) -> Self {
        let inner: MessageSys = value.unchecked_into();
        let body = inner.body().unwrap_or(JsValue::UNDEFINED);
        let text = body
            .as_string()
            .or_else(|| text_of_bytes(&body))
            .or_else(|| js_sys::JSON::stringify(&body).ok().map(Into::into));
        Self { text: text.unwrap_or_default(), inner }
    }

    /// The queue's id for it.
    pub(crate) fn id(&self) -> String {
        self.inner.id().map(Into::into).unwrap_or_default()
    }

    /// How often it has been delivered, this time included.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and whole")]
    pub(crate) fn attempts(&self) -> u32 {
        let attempts = js_sys::Reflect::get(&self.inner, &"attempts".into()).ok();
        attempts.and_then(|value| value.as_f64()).unwrap_or(1.0) as u32
    }

    /// When the queue took it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds")]
    pub(crate) fn sent_at(&self) -> UnixMillis {
        UnixMillis::new(self.inner.timestamp().map_or(0.0, |date| date.get_time()) as u64)
    }

    /// Takes the message off the queue.
    pub(crate) fn acknowledge(&self) {
        let _ = self.inner.ack();
    }

    /// Gives the message back, for later.
    pub(crate) fn retry(&self) {
        self.retry_after(2_u32.saturating_pow(self.attempts()).min(RETRY_DELAY_S_MAX));
    }

    fn retry_after(&self, delay_s: u32) {
        let options = js_sys::Object::new();
        let _ = js_sys::Reflect::set(&options, &"delaySeconds".into(), &delay_s.into());
        let _ = self.inner.retry(options.into());
        metrics::add(Counter::Retried, 1);
    }
}

/// Bytes as text, so that a dead letter keeps what came: as it is where it is UTF-8, else as
/// base64 with that word in front.
fn text_of_bytes(body: &JsValue) -> Option<String> {
    let bytes = match (body.dyn_ref::<ArrayBuffer>(), body.dyn_ref::<Uint8Array>()) {
        (Some(buffer), _) => Uint8Array::new(buffer).to_vec(),
        (None, Some(array)) => array.to_vec(),
        (None, None) => return None,
    };
    let text = String::from_utf8(bytes);
    Some(text.unwrap_or_else(|error| format!("base64:{}", STANDARD.encode(error.as_bytes()))))
}

/// Why a message has not reached its stream.
#[derive(Clone)]
enum Failure {
    /// It never will.
    Permanent(String),
    /// It may next time.
    Passing(String),
    /// It may once a store is back: the longest wait each time, five hours in all.
    Lasting(String),
}

/// An event on its way, with the message that it came in.
struct Routed {
    message: usize,
    event: NewEvent,
    rule: Rule,
    request_id: String,
}

/// Appends as it goes when the bodies of a batch are many and large: they are all in memory.
async fn consume(messages: Vec<Delivery>, env: &Env) {
    let started_at = host::now();
    let mut streams: BTreeMap<StreamKey, Vec<Routed>> = BTreeMap::new();
    let mut bytes = 0;
    for (index, message) in messages.iter().enumerate() {
        match read(message, index, env).await {
            Ok((stream, routed)) => {
                let waited_ms = started_at.since_ms(routed.event.received_at);
                metrics::record(|delta| delta.observe(Histogram::QueueLatency, waited_ms));
                bytes += routed.event.record.len();
                streams.entry(stream).or_default().push(routed);
            }
            Err(failure) => give_up_or_retry(message, failure, env).await,
        }
        if bytes > BATCH_BYTES_MAX {
            append_all(std::mem::take(&mut streams), &messages, env).await;
            bytes = 0;
        }
    }
    append_all(streams, &messages, env).await;
}

async fn append_all(streams: BTreeMap<StreamKey, Vec<Routed>>, messages: &[Delivery], env: &Env) {
    let appends = streams.into_iter().flat_map(|(stream, routed)| split(stream, routed));
    join_all(appends.map(|(stream, routed)| append(stream, routed, messages, env))).await;
}

/// Steps 1 to 3 for one message.
async fn read(message: &Delivery, index: usize, env: &Env) -> Result<(StreamKey, Routed), Failure> {
    let (header, inline_body) = QueueMessage::decode(&message.text)
        .map_err(|error| Failure::Permanent(format!("undecodable: {error}")))?;
    metrics::add(Counter::Webhooks("accepted"), u64::from(message.attempts() == 1));
    let stored_body = match &header.stored_body {
        Some(stored) => Some(load_body(env, &stored.key).await?),
        None => None,
    };
    let body = stored_body.as_deref().unwrap_or(inline_body.as_bytes());
    let envelope = Envelope::parse(body)
        .map_err(|error| Failure::Permanent(format!("undecodable: {error}")))?;
    let decision = route(&envelope);
    let kind = envelope.kind.to_string();
    let record = Record::new(&RecordParts {
        id: header.id,
        received_at: header.received_at,
        kind: &kind,
        organization: &decision.stream.organization,
        channel: &decision.stream.channel,
        delivery: header.delivery.as_deref(),
        headers: &header.headers,
        subject: Subject::default(),
        own: false,
        body: envelope.body(),
    });
    let event = NewEvent {
        id: header.id,
        kind,
        received_at: header.received_at,
        record: record.into_string(),
    };
    let (rule, request_id) = (decision.rule, header.request_id);
    Ok((decision.stream, Routed { message: index, event, rule, request_id }))
}

async fn load_body(env: &Env, key: &str) -> Result<Vec<u8>, Failure> {
    let passing = |error: worker::Error| Failure::Passing(format!("bucket_unavailable: {error}"));
    let object =
        env.bucket("BUCKET").map_err(passing)?.get(key).execute().await.map_err(passing)?;
    let object = object.ok_or_else(|| Failure::Permanent("body_missing".into()))?;
    let body = object.body().ok_or_else(|| Failure::Permanent("body_missing".into()))?;
    body.bytes().await.map_err(passing)
}

/// One call per stream, unless the bodies together are too large for one.
fn split(stream: StreamKey, routed: Vec<Routed>) -> Vec<(StreamKey, Vec<Routed>)> {
    let mut groups: Vec<(StreamKey, Vec<Routed>)> = Vec::new();
    let mut bytes = usize::MAX;
    for event in routed {
        bytes = bytes.saturating_add(event.event.record.len());
        match groups.last_mut() {
            Some((_, group)) if bytes <= APPEND_BYTES_MAX => group.push(event),
            _ => {
                bytes = event.event.record.len();
                groups.push((stream.clone(), vec![event]));
            }
        }
    }
    groups
}

/// What is left to do for an event once its stream has answered.
struct Place {
    message: usize,
    rule: Rule,
    received_at: UnixMillis,
    request_id: String,
}

/// Steps 4 and 5 for one stream.
async fn append(stream: StreamKey, routed: Vec<Routed>, messages: &[Delivery], env: &Env) {
    let (places, events): (Vec<Place>, Vec<NewEvent>) = routed.into_iter().map(into_place).unzip();
    let append = Append { stream, events };
    let stream = append.stream.to_string();
    let request_ids: Vec<&str> = places.iter().map(|place| place.request_id.as_str()).collect();
    match stream_client::append(env, &append).await {
        Ok(reply) => {
            count_appended(&append.stream, &reply, &places);
            places.iter().for_each(|place| messages[place.message].acknowledge());
            let appended = appended(&reply);
            let fields = json!({
                "stream": stream,
                "events": appended,
                "duplicates": places.len() - appended,
                "tail": reply.tail.to_string(),
                "request_ids": request_ids,
            });
            log::line(Level::Info, "events_appended", "", fields);
        }
        Err(failure) => {
            let (failure, text) = describe(&failure);
            let fields = json!({ "stream": stream, "error": text, "request_ids": request_ids });
            log::line(Level::Warn, "append_failed", "", fields);
            for place in &places {
                give_up_or_retry(&messages[place.message], failure.clone(), env).await;
            }
        }
    }
}

/// What becomes of the messages, and what the log says.
fn describe(failure: &AppendFailure) -> (Failure, String) {
    match failure {
        AppendFailure::Full => {
            (Failure::Lasting("stream_full".into()), "the hot tail is full".into())
        }
        AppendFailure::Failed(error) => {
            let text: String = error.to_string().chars().take(200).collect();
            (Failure::Passing(format!("stream_unavailable: {text}")), text)
        }
    }
}

fn into_place(routed: Routed) -> (Place, NewEvent) {
    let Routed { message, event, rule, request_id } = routed;
    (Place { message, rule, received_at: event.received_at, request_id }, event)
}

fn appended(reply: &AppendReply) -> usize {
    reply.dispositions.iter().filter(|found| **found == Disposition::Appended).count()
}

fn count_appended(stream: &StreamKey, reply: &AppendReply, places: &[Place]) {
    let now = host::now();
    let appended = appended(reply) as u64;
    metrics::record(|delta| {
        delta.touch(stream, reply.tail, now);
        delta.add(Counter::Appended, appended);
        delta.add(Counter::Duplicates, places.len() as u64 - appended);
        delta.add(Counter::Delivered, reply.delivered);
        delta.add(Counter::HeartbeatLosses, reply.heartbeat_losses);
        for (place, disposition) in places.iter().zip(&reply.dispositions) {
            if *disposition == Disposition::Duplicate {
                continue;
            }
            delta.observe(Histogram::WebhookToAppend, now.since_ms(place.received_at));
            let counter = if place.rule.is_person() {
                Counter::Routed(place.rule.as_str())
            } else {
                Counter::Unroutable
            };
            delta.add(counter, 1);
        }
    });
}

/// A message that can't succeed, or has been tried often enough, goes to the dead letters with
/// its reason. If even that fails, the platform moves it there by itself after the last retry.
async fn give_up_or_retry(message: &Delivery, failure: Failure, env: &Env) {
    let (reason, is_last) = match failure {
        Failure::Permanent(reason) => (reason, true),
        Failure::Passing(reason) => (reason, message.attempts() >= DELIVERY_ATTEMPTS_MAX),
        Failure::Lasting(reason) if message.attempts() >= DELIVERY_ATTEMPTS_MAX => (reason, true),
        Failure::Lasting(_) => return message.retry_after(RETRY_DELAY_S_MAX),
    };
    if !is_last {
        message.retry();
        return;
    }
    let letter = DeadLetter::new(message.id(), reason, message.attempts(), message.sent_at());
    match send_text(env, "DEAD_LETTERS", &letter.encode(&message.text)).await {
        Ok(()) => message.acknowledge(),
        Err(error) => {
            log::platform_error("dead_letter_not_sent", "", &error);
            message.retry();
        }
    }
}
