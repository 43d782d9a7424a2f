//! The queue's consumer. Its steps, and why each may be repeated:
//!
//! 1. Decode: pure.
//! 2. Read a body that was too large for the queue: a read.
//! 3. Ask the organization's directory where its events go, one call for each organization: it
//!    remembers what it has decided, so that a message that comes again goes the same way.
//! 4. Append, one call for each stream; an event can have several: a stream recognises what it has.
//! 5. Tell the organization's installation what Linear waits for, one call for each organization: it
//!    recognises what it was told. An event is told of when one of its streams has it, because a
//!    machine may answer it from then on.
//! 6. Acknowledge what is in all of its streams, give back what is not: a message that is delivered
//!    again is found to be a duplicate in step 4 where it was stored.

mod answers;
mod append;
mod decoded;
mod directory;

use std::collections::{BTreeMap, BTreeSet};

use relay_schemas::{DeadLetter, Histogram, limits::DELIVERY_ATTEMPTS_MAX};
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};
use worker::Env;
use worker_sys::{Context as ContextSys, MessageBatch as MessageBatchSys};

use self::{
    answers::Attended,
    append::{Group, append},
    decoded::Decoded,
};
use crate::{dead_letters, delivery::Delivery, host, log, metrics, webhook::send_text};

/// Bodies of a batch that are in memory at once, and records that are, of an isolate's 128 MB.
/// Bodies that were too large for the queue can make a batch of 100 as large as 500 MB.
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
        consume(&messages, &env).await;
    }
    if metrics::is_flush_due() {
        metrics::flush(&env).await;
    }
    Ok(())
}

/// Why a message has not reached its streams.
#[derive(Clone)]
enum Failure {
    /// It never will.
    Permanent(String),
    /// It may next time.
    Passing(String),
    /// It may once a store is back: the longest wait each time, five hours in all.
    Lasting(String),
}

/// Goes on as it reads when the bodies of a batch are many and large: they are all in memory.
async fn consume(messages: &[Delivery], env: &Env) {
    let started_at = host::now();
    let mut events = Vec::new();
    let mut bytes = 0;
    for message in messages {
        match Decoded::read(message, env).await {
            Ok(event) => {
                if event.header.reroute.is_none() {
                    let waited_ms = started_at.since_ms(event.header.received_at);
                    metrics::record(|delta| delta.observe(Histogram::QueueLatency, waited_ms));
                }
                bytes += event.body.len();
                events.push(event);
            }
            Err(failure) => give_up_or_retry(message, failure, env).await,
        }
        if bytes > BATCH_BYTES_MAX {
            store(std::mem::take(&mut events), env).await;
            bytes = 0;
        }
    }
    store(events, env).await;
}

/// Steps 3 to 6.
async fn store(events: Vec<Decoded<'_>>, env: &Env) {
    let mut routed = Vec::new();
    for (event, answer) in directory::route(events, env).await {
        match answer {
            Ok(answer) => routed.push((event, answer)),
            Err(failure) => give_up_or_retry(event.message, failure, env).await,
        }
    }
    let mut failures: BTreeMap<usize, Failure> = BTreeMap::new();
    let mut attended: BTreeMap<usize, Attended> = BTreeMap::new();
    let mut stored = BTreeSet::new();
    for wave in waves(append::group(&routed)) {
        let appends = wave.iter().map(|group| append(group, &routed, env));
        let outcomes = futures::future::join_all(appends).await;
        for (group, outcome) in wave.iter().zip(outcomes) {
            match outcome {
                Ok(attendances) => {
                    stored.extend(group.places.iter().map(|place| place.event));
                    for attendance in attendances {
                        let place = &group.places[attendance.index];
                        attended.entry(place.event).or_default().add(&attendance);
                    }
                }
                Err(failure) => {
                    let places = group.places.iter();
                    failures.extend(places.map(|place| (place.event, failure.clone())));
                }
            }
        }
    }
    let stored = stored.into_iter().map(|index| (&routed[index].0, attended.remove(&index)));
    let stored = stored.collect();
    let untold = answers::announce(stored, env).await;
    for (index, (event, _)) in routed.iter().enumerate() {
        let untold = untold.get(&event.organization).filter(|_| event.is_answered());
        match failures.remove(&index).or_else(|| untold.cloned()) {
            None => event.message.acknowledge(),
            Some(failure) => give_up_or_retry(event.message, failure, env).await,
        }
    }
}

/// Groups that are appended at once: their records are all in memory.
fn waves(groups: Vec<Group>) -> Vec<Vec<Group>> {
    let mut waves: Vec<Vec<Group>> = Vec::new();
    let mut bytes = usize::MAX;
    for group in groups {
        bytes = bytes.saturating_add(group.bytes);
        match waves.last_mut() {
            Some(wave) if bytes <= BATCH_BYTES_MAX => wave.push(group),
            _ => {
                bytes = group.bytes;
                waves.push(vec![group]);
            }
        }
    }
    waves
}

/// A message that can't succeed, or has been tried often enough, goes to the dead letters with
/// its reason. If even that fails, the platform moves it there by itself after the last retry.
async fn give_up_or_retry(message: &Delivery, failure: Failure, env: &Env) {
    let (reason, is_last) = match failure {
        Failure::Permanent(reason) => (reason, true),
        Failure::Passing(reason) => (reason, message.attempts() >= DELIVERY_ATTEMPTS_MAX),
        Failure::Lasting(reason) if message.attempts() >= DELIVERY_ATTEMPTS_MAX => (reason, true),
        Failure::Lasting(_) => return message.retry_late(),
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
