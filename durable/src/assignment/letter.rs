use std::borrow::Cow;

use relay_schemas::{
    Channel, EventId, QueueMessage, Returned, Subject, record_is_own, record_received_at,
};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Stored<'a> {
    id: EventId,
    channel: Channel,
    #[serde(borrow, default)]
    delivery: Option<Cow<'a, str>>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
}

/// The message that a record came in, and the exact body; put back, it comes to this stream and to
/// no other, whatever would be decided by then. Which request brought it is no longer
/// known: the event's id stands in its place.
pub(crate) fn letter_of(record: &str) -> Option<(QueueMessage, String)> {
    let stored: Stored<'_> = serde_json::from_str(record).ok()?;
    let body = match (stored.data, stored.body) {
        (Some(data), _) => data.get().to_owned(),
        (None, Some(body)) => body.into_owned(),
        (None, None) => return None,
    };
    let received_at = record_received_at(record)?;
    let mut message = QueueMessage::new(stored.id, received_at, stored.id.to_string());
    message.delivery = stored.delivery.map(Cow::into_owned);
    message.headers = stored.headers;
    let routed_by = Subject::read(record)?.routed_by.map(Cow::into_owned);
    let own = record_is_own(record);
    message.returned = Some(Returned { channel: stored.channel, routed_by, own });
    Some((message, body))
}
