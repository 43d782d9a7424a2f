//! Bulk history: the plan, and segments as they lie.

use relay_durable::{Fetched, SegmentObject, position_before};
use relay_schemas::{
    Cursor, Epoch, ErrorCode, Gap, GapReason, HistoryOffer, OnGap, PlanQuery, Problem,
    SegmentEntry, Seq, Start, StreamKey, Wanted, limits::SEGMENTS_OFFERED_MAX,
};
use serde::Serialize;
use worker::{EncodeBody, Headers, Response, ResponseBody, ResponseBuilder};

use crate::{call::Call, history, log, metrics, respond};

/// The answer of `GET /events/segments`.
#[derive(Serialize)]
struct Plan {
    stream: StreamKey,
    epoch: Epoch,
    from: Cursor,
    segments: Vec<PlannedSegment>,
    rest: Cursor,
    oldest: Cursor,
    tail: Cursor,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
}

#[derive(Serialize)]
struct PlannedSegment {
    first: Seq,
    last: Seq,
    count: u64,
    first_received_at: String,
    last_received_at: String,
    bytes: u64,
    uncompressed_bytes: u64,
    sha256: String,
    url: String,
}

impl PlannedSegment {
    fn new(epoch: Epoch, entry: &SegmentEntry) -> Self {
        Self {
            first: entry.first,
            last: entry.last,
            count: entry.count(),
            first_received_at: entry.received_at_min.to_string(),
            last_received_at: entry.received_at_max.to_string(),
            bytes: entry.bytes,
            uncompressed_bytes: entry.raw_bytes,
            sha256: entry.sha256.to_string(),
            url: format!(
                "/events/segments/{epoch}/{:016}-{:016}",
                entry.first.get(),
                entry.last.get()
            ),
        }
    }
}

/// `GET /events/segments`: which segments hold the history from a start on.
pub(crate) async fn plan(call: &mut Call) -> Result<Response, Problem> {
    let pairs = call.query();
    let query = PlanQuery::parse(
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        call.now,
    )?;
    let stream = call.stream(query.channel.as_ref())?;
    let start = (query.start, query.on_gap);
    let offer = match offer(call, &stream, start, SEGMENTS_OFFERED_MAX).await? {
        Ok(offer) => offer,
        Err(refusal) => return Ok(refusal),
    };
    respond::json(200, &Plan::new(call, stream, offer).await?)
}

impl Plan {
    async fn new(call: &Call, stream: StreamKey, mut offer: HistoryOffer) -> Result<Self, Problem> {
        let epoch = offer.after.epoch;
        let from = exact_start(call, &stream, &offer).await?;
        let lost_until = offer.bridge_hole(from.seq);
        let gap = offer.gap.or_else(|| {
            let resumed_from = Cursor { epoch, seq: lost_until? };
            let requested = from.to_string();
            Some(Gap { requested, resumed_from, oldest: offer.oldest, reason: GapReason::Lost })
        });
        let from = gap.as_ref().map_or(from, |gap| gap.resumed_from.max(from));
        let rest = offer.segments.last().map_or(from.seq, |entry| entry.last).max(from.seq);
        Ok(Self {
            stream,
            epoch,
            from,
            segments: offer
                .segments
                .iter()
                .map(|entry| PlannedSegment::new(epoch, entry))
                .collect(),
            rest: Cursor { epoch, seq: rest },
            oldest: offer.oldest,
            tail: offer.tail,
            has_more: rest < offer.sealed.seq,
            gap,
        })
    }
}

/// The start, found within its segment when it is an instant.
async fn exact_start(
    call: &Call,
    stream: &StreamKey,
    offer: &HistoryOffer,
) -> Result<Cursor, Problem> {
    let (Some(since), Some(entry)) = (offer.received_since, offer.segments.first()) else {
        return Ok(offer.after);
    };
    let object = SegmentObject { key: entry.key(stream, offer.after.epoch), entry: entry.clone() };
    let before = match history::fetch_for(&call.env, &object).await? {
        Fetched::Bytes(bytes) => position_before(bytes, entry, since).ok(),
        Fetched::Missing => None,
    };
    // A segment that can't be read is told to whoever fetches it.
    Ok(Cursor { seq: before.unwrap_or(offer.after.seq), ..offer.after })
}

async fn offer(
    call: &Call,
    stream: &StreamKey,
    start: (Start, OnGap),
    count: usize,
) -> Result<Result<HistoryOffer, Response>, Problem> {
    let asked = history::offer(&call.env, stream, &call.claims().sub, start, count).await;
    asked.map_err(|error| {
        log::platform_error("object_unavailable", &call.request_id, &error);
        respond::unavailable()
    })
}

/// `GET /events/segments/{epoch}/{first}-{last}`: a segment's object. The stream's own object says
/// whether the caller may have it, and which it is.
pub(crate) async fn download(
    call: &mut Call,
    epoch: &str,
    name: &str,
) -> Result<Response, Problem> {
    let stream = call.stream_of_channel()?;
    let (before, last) = read_name(epoch, name).ok_or_else(unknown)?;
    let start = (Start::Cursor(before.to_string()), OnGap::Error);
    let offer = match offer(call, &stream, start, 1).await? {
        Ok(offer) => offer,
        Err(refusal) if refusal.status_code() == 401 => return Ok(refusal),
        Err(_) => return Err(unknown()),
    };
    let entry = offer.segments.first().filter(|entry| {
        entry.first == before.seq.next() && entry.last == last && offer.after == before
    });
    let entry = entry.ok_or_else(unknown)?;
    let etag = format!("\"{}\"", entry.sha256);
    let wanted = Wanted::read(
        entry.bytes,
        &etag,
        call.header("Range").as_deref(),
        call.header("If-Range").as_deref(),
        call.header("If-None-Match").as_deref(),
    )?;
    let key = entry.key(&stream, before.epoch);
    send(call, &key, entry, &etag, &wanted).await
}

fn read_name(epoch: &str, name: &str) -> Option<(Cursor, Seq)> {
    let position = |digits: &str| {
        let number: u64 = digits.parse().ok()?;
        (digits.len() == 16 && number > 0).then_some(Seq::new(number))
    };
    let (first, last) = name.split_once('-')?;
    let before = Seq::new(position(first)?.get() - 1);
    Some((Cursor { epoch: epoch.parse().ok()?, seq: before }, position(last)?))
}

fn unknown() -> Problem {
    Problem::new(ErrorCode::SegmentUnknown, "no segment with this name is in your stream")
}

/// The segment is gone or damaged.
pub(crate) fn lost() -> Problem {
    Problem::new(ErrorCode::SegmentLost, "the segment is gone or damaged in the store")
}

async fn send(
    call: &Call,
    key: &str,
    entry: &SegmentEntry,
    etag: &str,
    wanted: &Wanted,
) -> Result<Response, Problem> {
    let unavailable = |error: worker::Error| {
        log::platform_error("segment_unavailable", &call.request_id, &error);
        respond::unavailable()
    };
    let headers = headers_of(etag, entry.bytes, wanted).map_err(unavailable)?;
    let builder = ResponseBuilder::new()
        .with_headers(headers)
        .with_status(wanted.status())
        .with_encode_body(EncodeBody::Manual);
    if let Wanted::Unchanged = wanted {
        return Ok(builder.empty());
    }
    let bucket = call.env.bucket("BUCKET").map_err(unavailable)?;
    let mut get = bucket.get(key);
    if let Wanted::Part { first, length } = wanted {
        get = get.range(worker::Range::OffsetWithLength { offset: *first, length: *length });
    }
    let object = get.execute().await.map_err(unavailable)?;
    // Another length means other bytes than those that the ETag promises.
    let object = object.filter(|object| object.size() == entry.bytes).ok_or_else(lost)?;
    metrics::add(relay_schemas::Counter::SegmentsRead, 1);
    metrics::flush_if_due(call);
    let body: ResponseBody =
        object.body().ok_or_else(lost)?.response_body().map_err(unavailable)?;
    Ok(builder.body(body))
}

fn headers_of(etag: &str, bytes: u64, wanted: &Wanted) -> worker::Result<Headers> {
    let headers = Headers::new();
    headers.set("Content-Type", "application/x-ndjson")?;
    headers.set("Content-Encoding", "br")?;
    headers.set("Cache-Control", "private, immutable, max-age=31536000")?;
    headers.set("ETag", etag)?;
    headers.set("Accept-Ranges", "bytes")?;
    if let Wanted::Part { first, length } = wanted {
        let last = first + length - 1;
        headers.set("Content-Range", &format!("bytes {first}-{last}/{bytes}"))?;
    }
    Ok(headers)
}
