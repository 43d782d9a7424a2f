use relay_schemas::{
    DeadLetterId, DeadLettersQuery, ErrorCode, KeptLetter, LetterSummary, Problem, PutBackQuery,
    UnixMillis,
};
use serde_json::json;
use worker::{Object, Response};

use crate::{
    call::Call,
    dead_letters::{self, Found, LoadError},
    log::{self, Level},
    respond,
    webhook::send_text,
};

/// `GET /admin/dead-letters`: one page, oldest day first. A reason is looked for in the page only,
/// so that each page costs one call to the bucket, however rare the reason.
pub(crate) async fn list(call: &mut Call) -> Result<Response, Problem> {
    let query = DeadLettersQuery::parse(pairs(&call.query()))?;
    let listed =
        dead_letters::list(&call.env, &query).await.map_err(|error| unavailable(call, &error))?;
    let objects = listed.objects();
    let letters: Vec<LetterSummary> = objects
        .iter()
        .filter_map(summary)
        .filter(|letter| query.reason.as_ref().is_none_or(|word| letter.may_have_reason(word)))
        .collect();
    let mut from_the_last = objects.iter().rev().filter(|_| listed.truncated());
    let cursor = from_the_last.find_map(|object| DeadLetterId::of_key(&object.key()));
    respond::json(200, &json!({ "dead_letters": letters, "cursor": cursor }))
}

/// `GET /admin/dead-letters/{id}`: all of it.
pub(crate) async fn show(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let id = parse_id(id)?;
    let letter = load(call, &id).await?.letter;
    let mut shown = serde_json::to_value(&letter).map_err(|_| respond::unavailable())?;
    shown["id"] = json!(id);
    shown["put_back_at"] = json!(letter.put_back_at);
    respond::json(200, &shown)
}

/// `POST /admin/dead-letters/{id}/put-back`: sends the message to its queue again.
pub(crate) async fn put_back(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let query = PutBackQuery::parse(pairs(&call.query()))?;
    let id = parse_id(id)?;
    let found = load(call, &id).await?;
    if let Some(at) = found.letter.put_back_at.filter(|_| !query.again) {
        return answer_put_back(&id, at, false);
    }
    renew_body(call, &found.letter).await?;
    send(call, &id, &found.letter).await?;
    mark(call, &found).await?;
    answer_put_back(&id, call.now, true)
}

/// `DELETE /admin/dead-letters/{id}`.
pub(crate) async fn discard(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let id = parse_id(id)?;
    let was_there =
        dead_letters::delete(&call.env, &id).await.map_err(|error| unavailable(call, &error))?;
    if !was_there {
        return Err(no_such_letter());
    }
    log::line(Level::Info, "dead_letter_discarded", &call.request_id, json!({ "id": id }));
    respond::json(200, &json!({ "id": id, "discarded": true }))
}

fn pairs(query: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    query.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// `None` for an object that the relay did not put there.
fn summary(object: &Object) -> Option<LetterSummary> {
    let id = DeadLetterId::of_key(&object.key())?;
    let metadata = object.custom_metadata().unwrap_or_default();
    let value = |name: &str| metadata.get(name).map(String::as_str);
    Some(LetterSummary::new(id, object.size(), value))
}

fn parse_id(text: &str) -> Result<DeadLetterId, Problem> {
    text.parse().map_err(|_| no_such_letter())
}

fn no_such_letter() -> Problem {
    Problem::new(ErrorCode::DeadLetterUnknown, "no dead letter with this id is kept")
}

async fn load(call: &Call, id: &DeadLetterId) -> Result<Found, Problem> {
    let found = dead_letters::load(&call.env, id).await.map_err(|error| match error {
        LoadError::Bucket(error) => unavailable(call, &error),
        LoadError::Letter(error) => {
            let fields = json!({ "id": id, "error": error.to_string() });
            log::line(Level::Error, "dead_letter_unreadable", &call.request_id, fields);
            Problem::new(ErrorCode::Internal, error.to_string())
        }
    })?;
    found.ok_or_else(no_such_letter)
}

/// A message that points at nothing would only come back. The body is kept from now on for as long
/// as a letter, which is written anew when the message fails again.
async fn renew_body(call: &Call, letter: &KeptLetter) -> Result<(), Problem> {
    let Some(stored) = letter.stored_body() else { return Ok(()) };
    let is_there = dead_letters::renew(&call.env, &stored.key).await;
    if is_there.map_err(|error| unavailable(call, &error))? {
        return Ok(());
    }
    let message = "the webhook's body was too large for the queue, and is gone from the bucket";
    Err(Problem::new(ErrorCode::DeadLetterBodyMissing, message).with("stored_body", stored.key))
}

async fn send(call: &Call, id: &DeadLetterId, letter: &KeptLetter) -> Result<(), Problem> {
    send_text(&call.env, "EVENTS", &letter.put_back_text()).await.map_err(|error| {
        log::platform_error("dead_letter_not_put_back", &call.request_id, &error);
        Problem::new(ErrorCode::QueueUnavailable, "the queue did not take it; try again")
    })?;
    log::line(Level::Info, "dead_letter_put_back", &call.request_id, json!({ "id": id }));
    Ok(())
}

/// Marks a letter as put back, after it was sent. A crash between the two leaves it without the
/// mark, so that at worst it is sent twice, which its stream recognises. The other way round it
/// would stand there as put back and be nowhere.
///
/// A letter that has changed since it was read is left as it is: the message has failed again and
/// was kept anew, which the mark would hide, or it was discarded, or marked by somebody else.
async fn mark(call: &Call, found: &Found) -> Result<(), Problem> {
    let mut marked = found.letter.clone();
    marked.put_back_at = Some(call.now);
    dead_letters::replace(&call.env, found, &marked)
        .await
        .map_err(|error| unavailable(call, &error))?;
    Ok(())
}

fn answer_put_back(id: &DeadLetterId, at: UnixMillis, is_sent: bool) -> Result<Response, Problem> {
    respond::json(200, &json!({ "id": id, "put_back_at": at, "sent": is_sent }))
}

fn unavailable(call: &Call, error: &worker::Error) -> Problem {
    log::platform_error("bucket_unavailable", &call.request_id, error);
    respond::unavailable()
}
