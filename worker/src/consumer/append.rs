use std::collections::BTreeMap;

use relay_durable::Rule;
use relay_schemas::{
    Append, AppendReply, Attendance, Channel, Counter, Disposition, Histogram, StreamKey,
    limits::APPEND_BYTES_MAX,
};
use serde_json::json;
use worker::Env;

use super::{Decoded, Failure};
use crate::{
    directory_object::RouteAnswer,
    host,
    log::{self, Level},
    metrics,
    stream_client::{self, AppendFailure},
};

/// Bytes of a record around its body, roughly.
const RECORD_BYTES: usize = 1_024;

/// An event and where it goes.
pub(super) type Routed<'a> = (Decoded<'a>, RouteAnswer);

/// The place of an event in a stream.
pub(super) struct Place {
    /// Which of the routed events.
    pub(super) event: usize,
    /// Which of its targets.
    target: usize,
}

/// What is appended to a stream in one call.
pub(super) struct Group {
    stream: StreamKey,
    pub(super) places: Vec<Place>,
    pub(super) bytes: usize,
}

/// One group for each stream, unless the bodies together are too large for one call.
pub(super) fn group(routed: &[Routed<'_>]) -> Vec<Group> {
    let mut streams: BTreeMap<StreamKey, Vec<Place>> = BTreeMap::new();
    for (index, (event, answer)) in routed.iter().enumerate() {
        for (place, target) in answer.targets.iter().enumerate() {
            let organization = event.organization.clone();
            let stream = StreamKey { organization, channel: target.channel.clone() };
            streams.entry(stream).or_default().push(Place { event: index, target: place });
        }
    }
    streams.into_iter().flat_map(|(stream, places)| split(&stream, places, routed)).collect()
}

fn split(stream: &StreamKey, places: Vec<Place>, routed: &[Routed<'_>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for place in places {
        let bytes = routed[place.event].0.body.len() + RECORD_BYTES;
        match groups.last_mut().filter(|group| group.bytes + bytes <= APPEND_BYTES_MAX) {
            Some(group) => {
                group.bytes += bytes;
                group.places.push(place);
            }
            None => groups.push(Group { stream: stream.clone(), places: vec![place], bytes }),
        }
    }
    groups
}

/// Step 4 for one group. Answers which machines are there for its events, by their places.
pub(super) async fn append(
    group: &Group,
    routed: &[Routed<'_>],
    env: &Env,
) -> Result<Vec<Attendance>, Failure> {
    let stream = group.stream.to_string();
    let events = || group.places.iter().map(|place| (&routed[place.event], place.target));
    let append = Append {
        stream: group.stream.clone(),
        events: events()
            .map(|((event, answer), target)| {
                event.event_for(&group.stream, &answer.targets[target], answer.own)
            })
            .collect(),
    };
    let request_ids: Vec<&str> =
        events().map(|((event, _), _)| event.header.request_id.as_str()).collect();
    match stream_client::append(env, &append).await {
        Ok(mut reply) => {
            let counts = std::mem::take(&mut reply.counts);
            metrics::record(|delta| delta.merge(counts));
            count_appended(group, &reply, routed);
            let appended = appended(&reply);
            let fields = json!({
                "stream": stream,
                "events": appended,
                "duplicates": group.places.len() - appended,
                "tail": reply.tail.to_string(),
                "request_ids": request_ids,
            });
            log::line(Level::Info, "events_appended", "", fields);
            let is_known = |one: &Attendance| one.index < group.places.len();
            Ok(reply.attended.into_iter().filter(is_known).collect())
        }
        Err(failure) => {
            let (failure, text) = describe(&failure);
            let fields = json!({ "stream": stream, "error": text, "request_ids": request_ids });
            log::line(Level::Warn, "append_failed", "", fields);
            Err(failure)
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

fn appended(reply: &AppendReply) -> usize {
    reply.dispositions.iter().filter(|found| **found == Disposition::Appended).count()
}

fn count_appended(group: &Group, reply: &AppendReply, routed: &[Routed<'_>]) {
    let now = host::now();
    let appended = appended(reply) as u64;
    metrics::record(|delta| {
        delta.touch(&group.stream, reply.tail, now);
        delta.add(Counter::Appended, appended);
        delta.add(Counter::Duplicates, group.places.len() as u64 - appended);
        delta.add(Counter::Delivered, reply.delivered);
        delta.add(Counter::HeartbeatLosses, reply.heartbeat_losses);
        for (place, disposition) in group.places.iter().zip(&reply.dispositions) {
            if *disposition == Disposition::Duplicate {
                continue;
            }
            let (event, answer) = &routed[place.event];
            if event.header.reroute.is_none() {
                let waited_ms = now.since_ms(event.header.received_at);
                delta.observe(Histogram::WebhookToAppend, waited_ms);
            }
            delta.add(counter_of(&group.stream.channel, answer.targets[place.target].rule), 1);
            delta.add(Counter::Own, u64::from(answer.own));
        }
    });
}

fn counter_of(channel: &Channel, rule: Rule) -> Counter {
    match channel {
        Channel::Unrouted => Counter::Unroutable,
        Channel::User(_) | Channel::Team(_) | Channel::Organization => {
            Counter::Routed(rule.as_str())
        }
    }
}
