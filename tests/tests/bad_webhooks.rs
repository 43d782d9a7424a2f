//! Goal: a webhook that must not be taken is refused with its own code and leaves nothing behind;
//! an odd one that is right is taken byte for byte; one that the queue refuses is not lost.
//! Method: one table of requests to the Worker on workerd; after the refused ones no object and no
//! bucket holds anything, and what is taken next is the first event ever.

#![allow(clippy::unwrap_used)]

use futures::StreamExt;
use relay_durable::samples::sized_body;
use relay_schemas::{
    ErrorCode,
    limits::{BODY_BYTES_MAX, BODY_DEPTH_MAX, QUEUE_BODY_BYTES_MAX, RETRY_AGE_DEFAULT_S},
};
use relay_tests::{
    Answer, EnrolledEdge, FrameReader, Relay, RelayOptions, SECRET_PREVIOUS, SignedWebhook, now_ms,
};
use reqwest::Method;
use serde_json::{Value, json};

const ORGANIZATION: &str = "org-bad-webhooks";
const USER: &str = "user-bad-webhooks";
const SECRET_RETIRED: &str = "lin_whs_retired";

/// What a request gets.
#[derive(Clone, Copy)]
enum Expected {
    Refused(ErrorCode),
    Taken,
    Unrouted,
}
use Expected::{Refused, Taken, Unrouted};

struct Row {
    name: &'static str,
    method: Method,
    webhook: SignedWebhook,
    length: Length,
    expected: Expected,
}

/// How a request says how long its body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Said,
    /// And the body is not sent: the answer must come before it.
    SaidOnly,
    Unsaid,
}

fn row(name: &'static str, webhook: SignedWebhook, expected: Expected) -> Row {
    Row { name, method: Method::POST, webhook, length: Length::Said, expected }
}

async fn check(relay: &Relay, row: &Row) {
    let mut request = relay.http.request(row.method.clone(), format!("{}/webhook", relay.url));
    for (name, value) in &row.webhook.headers {
        request = request.header(name, value);
    }
    let body = row.webhook.body.clone();
    let (start, end) = body.split_at(body.len() / 2);
    let halves = [start, end].map(|half| Ok::<_, std::io::Error>(half.to_vec()));
    let halves = futures::stream::iter(halves);
    let answer = Answer::to(match row.length {
        Length::Said => request.body(body),
        Length::SaidOnly => request
            .header("Content-Length", body.len())
            .body(reqwest::Body::wrap_stream(halves.take(0).chain(futures::stream::pending()))),
        Length::Unsaid => request.body(reqwest::Body::wrap_stream(halves)),
    });
    let answer = answer.await;
    match row.expected {
        Refused(code) => {
            answer.refused(row.name, code);
            let allows = (code == ErrorCode::MethodNotAllowed).then_some("POST");
            assert_eq!(answer.header("Allow"), allows, "{}", row.name);
        }
        // Linear takes nothing but 200 for a success.
        Taken | Unrouted => {
            assert_eq!((row.name, answer.status, answer.text().as_str()), (row.name, 200, TAKEN));
        }
    }
}

const TAKEN: &str = r#"{"received":true}"#;

fn good(index: u64) -> String {
    sized_body(ORGANIZATION, USER, index, now_ms(), 0)
}

fn with(index: u64, from: &str, to: &str) -> Vec<u8> {
    let (body, now) = (good(index), now_ms());
    // The stamp is of another millisecond each time.
    let body = body.replace(&body[stamp_of(&body)], &format!("\"webhookTimestamp\":{now}"));
    let from = from.replace("NOW", &now.to_string());
    assert!(body.contains(&from), "{from}");
    body.replacen(&from, to, 1).into_bytes()
}

fn stamp_of(body: &str) -> std::ops::Range<usize> {
    let start = body.find("\"webhookTimestamp\":").unwrap();
    start..start + body[start..].find(',').unwrap()
}

fn stamped(index: u64, stamp: &str) -> Vec<u8> {
    with(index, "\"webhookTimestamp\":NOW,", stamp)
}

fn sent(body: impl Into<Vec<u8>>) -> SignedWebhook {
    SignedWebhook::new(body, "delivery")
}

fn signed_as(change: impl FnOnce(&str) -> Option<String>) -> SignedWebhook {
    let webhook = sent(good(1));
    let signature = webhook.header("Linear-Signature").unwrap().to_owned();
    webhook.with_header("Linear-Signature", change(&signature).as_deref())
}

fn signatures() -> Vec<Row> {
    let invalid = Refused(ErrorCode::SignatureInvalid);
    let malformed = Refused(ErrorCode::SignatureMalformed);
    let mut tampered = sent(good(1));
    tampered.body.push(b' ');
    let retired = SignedWebhook::signed_with(SECRET_RETIRED, good(1), "d");
    let both = SignedWebhook::signed_with("lin_whs_current,lin_whs_previous", good(1), "d");
    vec![
        row("signature by a retired secret", retired, invalid),
        row("signature by the whole setting", both, invalid),
        row("body changed after signing", tampered, invalid),
        row("signature of zeros", signed_as(|_| Some("0".repeat(64))), invalid),
        row("no signature", signed_as(|_| None), Refused(ErrorCode::SignatureMissing)),
        row("empty signature", signed_as(|_| Some(String::new())), malformed),
        row("signature with a prefix", signed_as(|s| Some(format!("sha256={s}"))), malformed),
        row("truncated signature", signed_as(|s| Some(s[..63].into())), malformed),
        row("long signature", signed_as(|s| Some(format!("{s}0"))), malformed),
        row("upper-case signature", signed_as(|s| Some(s.to_ascii_uppercase())), malformed),
        row("two signatures", signed_as(|s| Some(format!("{s}, {s}"))), malformed),
        row("not hexadecimal", signed_as(|s| Some(format!("g{}", &s[1..]))), malformed),
    ]
}

fn timestamps() -> Vec<Row> {
    let stale = stamped(1, &format!("\"webhookTimestamp\":{},", now_ms() - stale_ms()));
    let future = stamped(1, &format!("\"webhookTimestamp\":{},", now_ms() + 120_000));
    let text = stamped(1, &format!("\"webhookTimestamp\":\"{}\",", now_ms()));
    let fresh_header = sent(stale.clone()).with_header("Linear-Timestamp", Some(&now_text()));
    let missing = Refused(ErrorCode::TimestampMissing);
    let invalid = Refused(ErrorCode::TimestampInvalid);
    vec![
        row("stale", sent(stale), Refused(ErrorCode::TimestampStale)),
        row("stale, fresh header", fresh_header, Refused(ErrorCode::TimestampStale)),
        row("in seconds", sent(stamped(1, SECONDS)), Refused(ErrorCode::TimestampStale)),
        row("in the future", sent(future), Refused(ErrorCode::TimestampFuture)),
        row("timestamp as string", sent(text), invalid),
        row("negative", sent(stamped(1, "\"webhookTimestamp\":-1,")), invalid),
        row("too great", sent(stamped(1, "\"webhookTimestamp\":1e300,")), invalid),
        row("an array", sent(stamped(1, "\"webhookTimestamp\":[1],")), invalid),
        row("no timestamp", sent(stamped(1, "")), missing),
        row("null", sent(stamped(1, "\"webhookTimestamp\":null,")), missing),
    ]
}

const SECONDS: &str = "\"webhookTimestamp\":1790000000,";

fn stale_ms() -> u64 {
    (RETRY_AGE_DEFAULT_S + 60) * 1000
}

fn now_text() -> String {
    now_ms().to_string()
}

fn bodies() -> Vec<Row> {
    let too_large = sized_body(ORGANIZATION, USER, 1, now_ms(), BODY_BYTES_MAX + 1);
    let deep = "[".repeat(BODY_DEPTH_MAX) + &"]".repeat(BODY_DEPTH_MAX);
    let deep = with(1, "{\"type\"", &format!("{{\"x\":{deep},\"type\""));
    let not_json = Refused(ErrorCode::BodyNotJson);
    let ambiguous = Refused(ErrorCode::BodyAmbiguous);
    let large = row("over the limit", sent(too_large.clone()), Refused(ErrorCode::BodyTooLarge));
    let unsaid = row("over the limit unsaid", sent(too_large), large.expected);
    vec![
        Row { length: Length::SaidOnly, ..large },
        Row { length: Length::Unsaid, ..unsaid },
        row("empty", sent(""), Refused(ErrorCode::BodyEmpty)),
        row("blank", sent(" \n"), not_json),
        row("not JSON", sent("payload=x"), not_json),
        row("cut off", sent(&good(1).as_bytes()[..200]), not_json),
        row("two objects", sent(good(1) + &good(2)), not_json),
        row("byte order mark", sent(format!("\u{feff}{}", good(1))), not_json),
        row("not UTF-8", sent(*b"{\"a\":\"\xff\"}"), not_json),
        row("raw NUL", sent(with(1, "\"description\":\"", "\"description\":\"\0")), not_json),
        row("an array", sent(format!("[{}]", good(1))), Refused(ErrorCode::BodyNotObject)),
        row("null", sent("null"), Refused(ErrorCode::BodyNotObject)),
        row("too deep", sent(deep), Refused(ErrorCode::BodyTooDeep)),
        row("type twice", sent(with(1, "{\"type\"", "{\"type\":\"Comment\",\"type\"")), ambiguous),
        row("key twice", sent(with(1, "{\"type\"", "{\"x\":1,\"\\u0078\":2,\"type\"")), ambiguous),
    ]
}

fn fields() -> Vec<Row> {
    let organization =
        |to: &str| sent(with(1, &format!("\"organizationId\":\"{ORGANIZATION}\","), to));
    let long = format!("\"organizationId\":\"{}\",", "o".repeat(65));
    let (kind, invalid) =
        (Refused(ErrorCode::TypeInvalid), Refused(ErrorCode::OrganizationInvalid));
    let missing = Refused(ErrorCode::OrganizationMissing);
    vec![
        row("no type", sent(with(1, "\"type\":\"Issue\",", "")), kind),
        row("type not a string", sent(with(1, "\"type\":\"Issue\"", "\"type\":7")), kind),
        row("action not a string", sent(with(1, "\"action\":\"update\"", "\"action\":{}")), kind),
        row("no organization", organization(""), missing),
        row("organization null", organization("\"organizationId\":null,"), missing),
        row("organization a number", organization("\"organizationId\":7,"), invalid),
        row("organization an object", organization("\"organizationId\":{},"), invalid),
        row("organization a path", organization("\"organizationId\":\"a/user:b\","), invalid),
        row("organization empty", organization("\"organizationId\":\"\","), invalid),
        row("organization too long", organization(&long), invalid),
    ]
}

fn requests() -> Vec<Row> {
    let methods = [Method::GET, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let method = Refused(ErrorCode::MethodNotAllowed);
    let media_type = Refused(ErrorCode::ContentTypeUnsupported);
    let typed = |value| sent(good(1)).with_header("Content-Type", value);
    let mut rows: Vec<Row> = methods
        .into_iter()
        .map(|wrong| Row { method: wrong, ..row("method", sent(good(1)), method) })
        .collect();
    rows.push(row("no content type", typed(None), media_type));
    rows.push(row("text", typed(Some("text/plain")), media_type));
    rows.push(row("form", typed(Some("application/x-www-form-urlencoded")), media_type));
    rows.push(row("JSON of a kind", typed(Some("application/json+x")), media_type));
    rows
}

/// What looks wrong and isn't.
fn odd() -> Vec<Row> {
    let previous = SignedWebhook::signed_with(SECRET_PREVIOUS, good(20), "d");
    let hour_old = stamped(21, &format!("\"webhookTimestamp\":{},", now_ms() - 3_600_000));
    let surrogates = with(22, "\"description\":\"", r#""description":"\ud800 \udc00\u0000"#);
    let nested = with(23, "\"updatedFrom\":{", "\"updatedFrom\":{\"a\":1,\"a\":2,");
    let stale_header = sent(good(24)).with_header("Linear-Timestamp", Some("1"));
    let plain = sent(good(25)).with_header("Content-Type", Some("Application/JSON"));
    let indented: Value = serde_json::from_str(&good(26)).unwrap();
    let greatest = sized_body(ORGANIZATION, USER, 27, now_ms(), BODY_BYTES_MAX);
    let mut inline = sent(sized_body(ORGANIZATION, USER, 28, now_ms(), QUEUE_BODY_BYTES_MAX));
    for name in ["User-Agent", "Linear-Delivery", "Linear-Event", "Linear-Timestamp"] {
        inline = inline.with_header(name, Some(&"\"".repeat(256)));
    }
    let chunked = row("length unsaid", sent(good(29)), Taken);
    let unknown = with(30, "\"type\":\"Issue\"", "\"type\":\"Weather\"");
    vec![
        row("signature by the previous secret", previous, Taken),
        row("a retry an hour old", sent(hour_old), Taken),
        row("lone surrogates", sent(surrogates), Taken),
        row("key twice below", sent(nested), Taken),
        row("stale header, fresh body", stale_header, Taken),
        row("plain content type", plain, Taken),
        row("several lines", sent(format!("{indented:#}\r\n")), Taken),
        row("at the limit", sent(greatest), Taken),
        row("the largest message of the queue", inline, Taken),
        Row { length: Length::Unsaid, ..chunked },
        row("unknown type", sent(unknown), Unrouted),
    ]
}

async fn assert_nothing_is_stored(relay: &mut Relay) {
    let objects = relay.ask(json!({ "op": "objects", "class": "StreamObject" })).await;
    assert_eq!(objects["ids"], json!([]));
    let bucket = relay.ask(json!({ "op": "r2_list", "prefix": "" })).await;
    assert_eq!(bucket["objects"], json!([]));
}

/// The bodies of a stream, in order.
async fn stored(relay: &Relay, edge: &EnrolledEdge, count: usize) -> Vec<Vec<u8>> {
    let dialect = relay_schemas::Dialect::Ndjson;
    let (mut reader, open) = FrameReader::open(relay, edge, dialect, "cursor=earliest").await;
    assert_eq!(open["cursor"], open["oldest"]);
    reader.webhooks(count).await.iter().map(relay_tests::ReadFrame::body).collect()
}

#[tokio::test]
async fn every_bad_webhook_has_its_code_and_leaves_nothing() {
    let mut relay = Relay::start().await;
    let refused = [signatures(), timestamps(), bodies(), fields(), requests()];
    for row in refused.iter().flatten() {
        check(&relay, row).await;
    }
    let odd = odd();
    // The local queue is first in, first out: had a row been enqueued, it would be there before
    // the first of these.
    assert_nothing_is_stored(&mut relay).await;
    for row in &odd {
        check(&relay, row).await;
    }
    let edge = relay.enrol(ORGANIZATION, USER).await;
    let (unrouted, taken): (Vec<&Row>, Vec<&Row>) =
        odd.iter().partition(|row| matches!(row.expected, Unrouted));
    relay.wait_for_length(&format!("{ORGANIZATION}/unrouted"), unrouted.len() as u64).await;
    relay.wait_for_length(&edge.stream(), taken.len() as u64).await;
    assert_eq!(relay.stream_length(&edge.stream()).await, taken.len() as u64);
    for (body, row) in stored(&relay, &edge, taken.len()).await.iter().zip(taken) {
        assert!(*body == row.webhook.body, "{}", row.name);
    }
    let results = refused.iter().flatten().filter(|row| row.method == Method::POST).count();
    let refusals = relay.metric("edgerelay_webhooks_total{result=\"signature_malformed\"}").await;
    assert!(results > 40 && refusals >= 6.0, "{results} {refusals}");
}

#[tokio::test]
async fn what_the_queue_or_the_bucket_refuses_is_sent_again_and_arrives() {
    let unbound = vec!["EVENTS", "BUCKET"];
    let options = RelayOptions { unbound, ..RelayOptions::default() };
    let mut relay = Relay::start_with(options).await;
    let webhooks = [
        sent(good(40)),
        sent(sized_body(ORGANIZATION, USER, 41, now_ms(), QUEUE_BODY_BYTES_MAX + 1)),
    ];
    let refused = Refused(ErrorCode::QueueUnavailable);
    for webhook in &webhooks {
        check(&relay, &row("queue refuses", webhook.clone(), refused)).await;
    }
    let objects = relay.ask(json!({ "op": "objects", "class": "StreamObject" })).await;
    assert_eq!(objects["ids"], json!([]));
    let mut relay = relay.kill_and_restart_with(RelayOptions::default()).await;
    assert_nothing_is_stored(&mut relay).await;
    // Linear's retry may be the same bytes.
    for webhook in &webhooks {
        check(&relay, &row("retry", webhook.clone(), Taken)).await;
    }
    let edge = relay.enrol(ORGANIZATION, USER).await;
    relay.wait_for_length(&edge.stream(), 2).await;
    let stored = stored(&relay, &edge, 2).await;
    assert!(stored.iter().eq(webhooks.iter().map(|webhook| &webhook.body)));
}
