//! Dead letters in R2, and the consumer that keeps them there, each with its reason. The key comes
//! from the message's first id, so keeping one twice is keeping it once.

use std::collections::HashMap;

use relay_schemas::{
    Counter, DEAD_LETTERS_PREFIX, DeadLetter, DeadLetterId, DeadLettersQuery, KeptLetter,
    KeptLetterError,
};
use serde_json::json;
use worker::{Conditional, Env, Include, Object, Objects};

use crate::{
    delivery::Delivery,
    host,
    log::{self, Level},
    metrics,
};

/// Keeps a batch.
pub(crate) async fn keep(messages: Vec<Delivery>, env: &Env) {
    for message in &messages {
        let (letter, original) = DeadLetter::decode(&message.text).unwrap_or_else(|| {
            let moved = DeadLetter::moved_by_platform(message.id(), message.sent_at());
            (moved, message.text.as_str())
        });
        let kept = KeptLetter::new(letter.clone(), host::now(), original);
        match put(env, &kept, None).await {
            Ok(_) => {
                metrics::add(Counter::DeadLettered, 1);
                message.acknowledge();
                log_kept(&kept.id(), &letter);
            }
            Err(error) => {
                log::platform_error("dead_letter_not_kept", "", &error);
                message.retry();
            }
        }
    }
}

fn log_kept(id: &DeadLetterId, letter: &DeadLetter) {
    // What follows the first word may quote the message.
    let reason = letter.reason.split(':').next();
    log::line(
        Level::Error,
        "dead_letter_kept",
        "",
        json!({
            "id": id,
            "message": letter.message,
            "reason": reason,
            "attempts": letter.attempts,
        }),
    );
}

/// A letter as it was read, and which state of the object that was.
pub(crate) struct Found {
    pub(crate) letter: KeptLetter,
    etag: String,
}

/// Why a letter can't be read.
pub(crate) enum LoadError {
    Bucket(worker::Error),
    Letter(KeptLetterError),
}

/// Reads a letter.
pub(crate) async fn load(env: &Env, id: &DeadLetterId) -> Result<Option<Found>, LoadError> {
    let Some((bytes, etag)) = read(env, &id.key()).await.map_err(LoadError::Bucket)? else {
        return Ok(None);
    };
    let letter = KeptLetter::decode(&bytes).map_err(LoadError::Letter)?;
    Ok(Some(Found { letter, etag }))
}

async fn read(env: &Env, key: &str) -> worker::Result<Option<(Vec<u8>, String)>> {
    let object = env.bucket("BUCKET")?.get(key).execute().await?;
    let Some((body, etag)) =
        object.as_ref().and_then(|object| Some((object.body()?, object.etag())))
    else {
        return Ok(None);
    };
    Ok(Some((body.bytes().await?, etag)))
}

/// Writes a letter over the one that was found; `false` if another is there by now, or none.
pub(crate) async fn replace(env: &Env, found: &Found, letter: &KeptLetter) -> worker::Result<bool> {
    let unchanged =
        Conditional { etag_matches: Some(found.etag.clone()), ..Conditional::default() };
    Ok(put(env, letter, Some(unchanged)).await?.is_some())
}

/// Deletes a letter; `false` if there was none.
pub(crate) async fn delete(env: &Env, id: &DeadLetterId) -> worker::Result<bool> {
    let is_there = is_stored(env, &id.key()).await?;
    if is_there {
        env.bucket("BUCKET")?.delete(id.key()).await?;
    }
    Ok(is_there)
}

/// Writes an object again, so that it is as old as if it were new; `false` if there is none.
pub(crate) async fn renew(env: &Env, key: &str) -> worker::Result<bool> {
    let Some((bytes, _)) = read(env, key).await? else { return Ok(false) };
    env.bucket("BUCKET")?.put(key, bytes).execute().await?;
    Ok(true)
}

/// Whether there is an object at a key.
async fn is_stored(env: &Env, key: &str) -> worker::Result<bool> {
    Ok(env.bucket("BUCKET")?.head(key).await?.is_some())
}

/// One page of letters, in the order of their keys, by one call to the bucket.
pub(crate) async fn list(env: &Env, query: &DeadLettersQuery) -> worker::Result<Objects> {
    let bucket = env.bucket("BUCKET")?;
    let list = bucket
        .list()
        .prefix(DEAD_LETTERS_PREFIX)
        .limit(u32::try_from(query.limit).unwrap_or(u32::MAX))
        .include(vec![Include::CustomMetadata]);
    match &query.cursor {
        Some(cursor) => list.start_after(cursor.key()).execute().await,
        None => list.execute().await,
    }
}

async fn put(
    env: &Env,
    letter: &KeptLetter,
    only_if: Option<Conditional>,
) -> worker::Result<Option<Object>> {
    let metadata = letter.metadata().into_iter();
    let metadata: HashMap<String, String> =
        metadata.map(|(name, value)| (name.to_owned(), value)).collect();
    let bucket = env.bucket("BUCKET")?;
    let put = bucket.put(letter.id().key(), letter.encode()).custom_metadata(metadata);
    match only_if {
        Some(condition) => put.only_if(condition).execute().await,
        None => put.execute().await,
    }
}
