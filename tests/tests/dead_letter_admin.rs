//! Goal: an operator finds every dead letter, sees it whole, and puts it back or discards it; what
//! is put back reaches its stream once, or lies there again under its old name.
//! Method: letters that the relay kept by itself, and some that lie in the bucket as of other days,
//! through the operators' routes on workerd; then what the stream, the bucket and the log hold.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use relay_durable::samples::sized_body;
use relay_schemas::{
    DeadLetter, Dialect, Envelope, ErrorCode, KeptLetter, QueueMessage, StoredBody, UnixMillis,
};
use relay_tests::{
    ADMIN_TOKEN, Answer, EnrolledEdge, FrameReader, Relay, RelayOptions, now_ms, until,
};
use reqwest::Method;
use serde_json::{Value, json};

const LETTERS: &str = "/admin/dead-letters";
const USER: &str = "user-letters";
const DAY_MS: u64 = 24 * 3_600_000;
/// 2026-11-18T00:00:00Z
const FIRST_DAY_MS: u64 = 1_794_960_000_000;

async fn ask(relay: &Relay, method: Method, path: &str) -> Answer {
    Answer::to(relay.as_operator(method, &format!("{LETTERS}{path}"))).await
}

async fn list(relay: &Relay, query: &str) -> Value {
    ask(relay, Method::GET, &format!("?{query}")).await.ok()
}

async fn show(relay: &Relay, id: &str) -> Value {
    ask(relay, Method::GET, &format!("/{id}")).await.ok()
}

async fn put_back(relay: &Relay, id: &str, query: &str) -> Value {
    ask(relay, Method::POST, &format!("/{id}/put-back{query}")).await.ok()
}

fn ids(page: &Value) -> Vec<String> {
    let letters = page["dead_letters"].as_array().unwrap().iter();
    letters.map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

/// The letters by their ids, once there are so many.
async fn letters(relay: &Relay, count: usize) -> BTreeMap<String, Value> {
    let page = until("the dead letters", async || {
        let page = list(relay, "limit=1000").await;
        (page["dead_letters"].as_array().unwrap().len() >= count).then_some(page)
    })
    .await;
    let letters: BTreeMap<String, Value> =
        ids(&page).into_iter().zip(page["dead_letters"].as_array().unwrap().clone()).collect();
    assert_eq!(letters.len(), count, "{page}");
    letters
}

/// The only letter's id.
async fn only_letter(relay: &Relay) -> String {
    letters(relay, 1).await.into_keys().next().unwrap()
}

async fn send(relay: &mut Relay, queue: &str, content_type: &str, body: &str) {
    let message = json!({ "contentType": content_type, "body": body });
    let send = json!({ "op": "queue_send_batch", "queue": queue, "messages": [message] });
    relay.ask(send).await;
}

/// Puts a letter into the bucket as the relay does, with or without what lists show of it.
async fn store(relay: &mut Relay, letter: &KeptLetter, with_metadata: bool) {
    let metadata = if with_metadata { json!(letter.metadata()) } else { Value::Null };
    store_object(relay, &letter.id().key(), &letter.encode(), &metadata).await;
}

async fn store_object(relay: &mut Relay, key: &str, body: &[u8], metadata: &Value) {
    let body = STANDARD.encode(body);
    let mut put = json!({ "op": "r2_put", "key": key, "body": body });
    if !metadata.is_null() {
        put["metadata"] = metadata.clone();
    }
    relay.ask(put).await;
}

fn letter(message: &str, day: u64, reason: &str, body: &str) -> KeptLetter {
    let first_seen_at = UnixMillis::new(FIRST_DAY_MS + day * DAY_MS);
    let letter = DeadLetter::new(message.into(), reason.into(), 11, first_seen_at);
    KeptLetter::new(letter, first_seen_at + 5_000, body)
}

/// A webhook's body, and its queue message as of `age_ms` ago.
fn message(organization: &str, index: u64, age_ms: u64) -> (QueueMessage, String) {
    let received_at = now_ms() - age_ms;
    let body = sized_body(organization, USER, index, received_at, 0);
    let id = Envelope::parse(body.as_bytes()).unwrap().event_id();
    (QueueMessage::new(id, UnixMillis::new(received_at), "request".into()), body)
}

async fn open(relay: &Relay, edge: &EnrolledEdge) -> FrameReader {
    FrameReader::open(relay, edge, Dialect::Ndjson, "cursor=earliest").await.0
}

/// Waits until the consumer has seen so many events, duplicates included.
async fn wait_for_events(relay: &Relay, count: f64) {
    until("the events to be consumed", async || (consumed(relay).await >= count).then_some(()))
        .await;
}

async fn consumed(relay: &Relay) -> f64 {
    let appended = relay.metric("edgerelay_events_appended_total").await;
    appended + relay.metric("edgerelay_events_duplicate_total").await
}

/// Two letters of the first day, then one of each day; the last was put back, the one before it
/// has no metadata.
async fn store_five(relay: &mut Relay) {
    store(relay, &letter("b2", 0, "body_missing", "x"), true).await;
    store(relay, &letter("a1", 0, "undecodable: no header line", "x"), true).await;
    store(relay, &letter("c3", 1, "undecodable: header line: \u{1f4a1}", "x"), true).await;
    store(relay, &letter("d4", 2, "stream_unavailable: x", "x"), false).await;
    let mut last = letter("e5", 3, "retries_exhausted", "x");
    last.put_back_at = Some(UnixMillis::new(FIRST_DAY_MS));
    store(relay, &last, true).await;
    // Nothing but a letter is listed as one.
    for key in [
        "dead-letters/2026/11/17/a/b.json",
        "dead-letters/2026/11/18/b2.json.old",
        "dead-letters/readme",
        "bodies/2026/11/18/a",
    ] {
        store_object(relay, key, b"x", &Value::Null).await;
    }
}

const FIVE: [&str; 5] =
    ["2026-11-18-a1", "2026-11-18-b2", "2026-11-19-c3", "2026-11-20-d4", "2026-11-21-e5"];

#[tokio::test]
async fn letters_are_listed_page_by_page() {
    let mut relay = Relay::start().await;
    assert_eq!(list(&relay, "").await, json!({ "dead_letters": [], "cursor": null }));
    store_five(&mut relay).await;
    let all = list(&relay, "").await;
    assert_eq!((ids(&all), &all["cursor"]), (FIVE.map(String::from).to_vec(), &Value::Null));
    let shown = letter("a1", 0, "undecodable: no header line", "x");
    let expected = json!({
        "id": FIVE[0], "reason": "undecodable: no header line", "attempts": 11,
        "first_seen_at": FIRST_DAY_MS, "kept_at": FIRST_DAY_MS + 5_000, "put_back_at": null,
        "bytes": shown.encode().len(),
    });
    assert_eq!(all["dead_letters"][0], expected);
    assert_eq!(all["dead_letters"][2]["reason"], "undecodable: header line: ?");
    assert_eq!(all["dead_letters"][3]["reason"], Value::Null);
    assert_eq!(all["dead_letters"][4]["put_back_at"], FIRST_DAY_MS);

    // Objects that are no letters take places.
    let two: [&[&str]; 5] = [&FIVE[..1], &FIVE[1..2], &FIVE[2..3], &FIVE[3..], &[]];
    assert_eq!(pages(&relay, "limit=2").await, two);
    assert_eq!(pages(&relay, "limit=1000").await, [&FIVE[..]]);
    let undecodable: [&[&str]; 3] = [&FIVE[..1], &FIVE[2..4], &[]];
    assert_eq!(pages(&relay, "limit=4&reason=undecodable").await, undecodable);
    assert_eq!(pages(&relay, "reason=body_missing").await, [&[FIVE[1], FIVE[3]][..]]);

    // A page goes on although its cursor's letter was discarded meanwhile.
    let first = list(&relay, "limit=3").await;
    assert_eq!(first["cursor"], FIVE[1]);
    ask(&relay, Method::DELETE, &format!("/{}", FIVE[1])).await.ok();
    assert_eq!(ids(&list(&relay, &format!("cursor={}", FIVE[1])).await), &FIVE[2..]);
}

async fn pages(relay: &Relay, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = list(relay, &format!("{query}{cursor}")).await;
        pages.push(ids(&page));
        let Some(next) = page["cursor"].as_str() else { return pages };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test]
async fn a_letter_is_shown_byte_for_byte_and_in_no_log() {
    let mut relay = Relay::start().await;
    let not_utf8 = b"\xff\x00MARKBYTES";
    let awkward = "MARKTEXT \"quoted\" \\ \r\n\t\u{7f}\u{2028}\u{1f4a1} MARKTEXT";
    let (header, body) = message("org-shown", 1, 0);
    let future = header.encode(&body).replace("\"version\":1", "\"version\":2");
    for text in ["", &future] {
        send(&mut relay, "EVENTS", "text", text).await;
    }
    for bytes in [awkward.as_bytes(), not_utf8] {
        send(&mut relay, "EVENTS", "bytes", &STANDARD.encode(bytes)).await;
    }
    let mut bodies = Vec::new();
    for (id, listed) in letters(&relay, 4).await {
        let mut shown = show(&relay, &id).await;
        let body = shown["body"].take().as_str().unwrap().to_owned();
        let stored = relay.ask(json!({ "op": "r2_list", "prefix": shown_key(&shown, &id) })).await;
        assert_eq!(stored["objects"][0]["size_bytes"], listed["bytes"]);
        assert_eq!(shown["version"], 1);
        for name in ["id", "reason", "attempts", "first_seen_at", "kept_at", "put_back_at"] {
            assert_eq!(shown[name], listed[name], "{name}");
        }
        assert!(listed["reason"].as_str().unwrap().starts_with("undecodable"), "{listed}");
        bodies.push(body);
    }
    let mut expected =
        [awkward.into(), String::new(), future, format!("base64:{}", STANDARD.encode(not_utf8))];
    bodies.sort();
    expected.sort();
    assert_eq!(bodies, expected);
    let log = relay.log();
    assert!(log.contains("dead_letter_kept") && !log.contains("MARK"), "{log}");
}

fn shown_key(shown: &Value, id: &str) -> String {
    let (day, message) = (id[..10].replace('-', "/"), shown["message"].as_str().unwrap());
    format!("dead-letters/{day}/{message}.json")
}

/// Days after its receipt, and with the stream's object loaded anew: nothing on the way refuses it
/// for its age, and its stream knows it the second time.
#[tokio::test]
async fn what_is_put_back_reaches_its_stream_once() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-put-back", USER).await;
    let (header, body) = message("org-put-back", 1, 5 * DAY_MS);
    send(&mut relay, "DEAD_LETTERS", "text", &header.encode(&body)).await;
    let id = only_letter(&relay).await;
    let mut reader = open(&relay, &edge).await;

    let first = put_back(&relay, &id, "").await;
    assert_eq!((&first["id"], &first["sent"]), (&json!(id), &json!(true)));
    let put_back_at = first["put_back_at"].as_u64().unwrap();
    assert!(put_back_at.abs_diff(now_ms()) < 60_000, "{first}");
    let frame = reader.frame("webhook").await;
    assert_eq!(frame.body(), body.as_bytes());
    assert_eq!(frame.json()["timestamp"], header.received_at.to_string());
    assert_eq!(show(&relay, &id).await["put_back_at"], put_back_at);
    assert_eq!(letters(&relay, 1).await[&id]["put_back_at"], put_back_at);

    relay.evict_stream(&edge.stream()).await;
    for query in ["", "?again=false"] {
        let second = put_back(&relay, &id, query).await;
        assert_eq!(second, json!({ "id": id, "put_back_at": put_back_at, "sent": false }));
    }
    let again = put_back(&relay, &id, "?again=true").await;
    assert_eq!(again["sent"], true);
    assert!(again["put_back_at"].as_u64().unwrap() > put_back_at, "{again}");
    assert_eq!(show(&relay, &id).await["put_back_at"], again["put_back_at"]);

    // The queue hands on in order, so that this comes after all that was put back.
    let (_, marker) = message("org-put-back", 2, 0);
    relay.deliver(&marker, "d").await;
    wait_for_events(&relay, 3.0).await;
    assert!((relay.metric("edgerelay_events_duplicate_total").await - 1.0).abs() < 0.5);
    assert_eq!(relay.stream_length(&edge.stream()).await, 2);
    let mut reader = open(&relay, &edge).await;
    for expected in [&body, &marker] {
        assert_eq!(reader.frame("webhook").await.body(), expected.as_bytes());
    }
    assert_eq!(relay.log().matches("\"dead_letter_put_back\"").count(), 2);
}

/// The stream had taken it, and the queue did not learn of it.
#[tokio::test]
async fn what_its_stream_had_already_is_not_stored_again() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-had", USER).await;
    let (header, body) = message("org-had", 1, 0);
    relay.deliver(&body, "d").await;
    relay.wait_for_length(&edge.stream(), 1).await;
    send(&mut relay, "DEAD_LETTERS", "text", &header.encode(&body)).await;
    let id = only_letter(&relay).await;
    assert_eq!(put_back(&relay, &id, "").await["sent"], true);
    wait_for_events(&relay, 2.0).await;
    assert_eq!(relay.stream_length(&edge.stream()).await, 1);
}

/// However often they are put back. All at once, so that some are kept anew before the mark of the
/// request that put them back: it must not hide that they have come back.
#[tokio::test]
async fn what_can_not_be_read_comes_back_under_its_old_name() {
    let mut relay = Relay::start().await;
    let mut texts: Vec<String> = (0..20).map(|index| format!("garbage {index}")).collect();
    let (header, body) = message("org-comes-back", 1, 0);
    texts.push(header.encode(&body).replace("\"version\":1", "\"version\":2"));
    for text in &texts {
        send(&mut relay, "EVENTS", "text", text).await;
    }
    send(&mut relay, "EVENTS", "bytes", &STANDARD.encode(b"\xffbytes")).await;
    let mut before = letters(&relay, texts.len() + 1).await;
    let mut bodies = BTreeMap::new();
    for id in before.keys() {
        bodies.insert(id.clone(), show(&relay, id).await["body"].clone());
    }
    for _ in 0..3 {
        let requests = before.keys().map(|id| put_back(&relay, id, ""));
        for answer in futures::future::join_all(requests).await {
            assert_eq!(answer["sent"], true, "{answer}");
        }
        before = until("the letters to come back", async || {
            let now = letters(&relay, before.len()).await;
            let has_come_back = |(id, letter): (&String, &Value)| {
                letter["put_back_at"].is_null()
                    && letter["kept_at"].as_u64() > before[id]["kept_at"].as_u64()
            };
            now.iter().all(has_come_back).then_some(now)
        })
        .await;
    }
    for (id, body) in &bodies {
        let shown = show(&relay, id).await;
        assert_eq!((&shown["body"], &shown["attempts"]), (body, &json!(1)));
        assert!(shown["reason"].as_str().unwrap().starts_with("undecodable: "), "{shown}");
    }
}

/// As it would be if giving up on it a second time failed, and the platform moved it by itself.
#[tokio::test]
async fn what_the_platform_moves_again_keeps_its_name() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-moved", USER).await;
    let (header, body) = message("org-moved", 1, DAY_MS);
    let kept = letter("a1", 0, "undecodable: x", &header.encode(&body));
    store(&mut relay, &kept, true).await;
    send(&mut relay, "DEAD_LETTERS", "text", &kept.put_back_text()).await;
    until("the letter to come back", async || {
        let listed = &letters(&relay, 1).await[FIVE[0]];
        (listed["reason"] == "retries_exhausted").then_some(())
    })
    .await;
    let shown = show(&relay, FIVE[0]).await;
    assert_eq!((&shown["body"], &shown["message"]), (&json!(header.encode(&body)), &json!("a1")));
    put_back(&relay, FIVE[0], "").await;
    assert_eq!(open(&relay, &edge).await.frame("webhook").await.body(), body.as_bytes());
}

#[tokio::test]
async fn a_body_that_is_gone_is_said_before_anything_is_sent() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-pointer", USER).await;
    let (mut header, body) = message("org-pointer", 1, 3 * DAY_MS);
    let key = "bodies/2026/11/18/gone";
    header.stored_body = Some(StoredBody { key: key.into(), bytes: body.len() });
    send(&mut relay, "EVENTS", "text", &header.encode("")).await;
    let id = only_letter(&relay).await;
    for query in ["", "?again=true"] {
        let refused = ask(&relay, Method::POST, &format!("/{id}/put-back{query}")).await;
        let error = refused.refused(query, ErrorCode::DeadLetterBodyMissing);
        assert_eq!(error["stored_body"], key);
    }
    assert_eq!(show(&relay, &id).await["put_back_at"], Value::Null);
    assert!(!relay.log().contains("dead_letter_put_back"));

    store_object(&mut relay, key, body.as_bytes(), &Value::Null).await;
    let get = json!({ "op": "r2_get", "key": key });
    let before = relay.ask(get.clone()).await;
    assert_eq!(put_back(&relay, &id, "").await["sent"], true);
    // Or the bucket's lifecycle would remove it before the letter of its next failure.
    let after = relay.ask(get).await;
    assert_eq!(after["body"], before["body"]);
    assert_ne!(after["object"]["version"], before["object"]["version"], "it is written anew");
    assert_eq!(open(&relay, &edge).await.frame("webhook").await.body(), body.as_bytes());
    assert!(show(&relay, &id).await["put_back_at"].is_u64());
}

#[tokio::test]
async fn what_is_discarded_is_gone() {
    let mut relay = Relay::start().await;
    store_five(&mut relay).await;
    let unreadable = "2026-11-22-f6";
    let key = "dead-letters/2026/11/22/f6.json";
    store_object(&mut relay, key, b"{\"MARK\":1}", &Value::Null).await;
    for (method, path) in [(Method::GET, ""), (Method::POST, "/put-back")] {
        let answer = ask(&relay, method, &format!("/{unreadable}{path}")).await;
        answer.refused(path, ErrorCode::Internal);
    }
    for id in [FIVE[2], unreadable] {
        let path = format!("/{id}");
        let discarded = ask(&relay, Method::DELETE, &path).await.ok();
        assert_eq!(discarded, json!({ "id": id, "discarded": true }));
        for (method, path) in [
            (Method::DELETE, path.clone()),
            (Method::GET, path.clone()),
            (Method::POST, format!("{path}/put-back")),
        ] {
            let answer = ask(&relay, method, &path).await;
            answer.refused(&path, ErrorCode::DeadLetterUnknown);
        }
    }
    assert_eq!(ids(&list(&relay, "").await), [FIVE[0], FIVE[1], FIVE[3], FIVE[4]]);
    let stored = relay.ask(json!({ "op": "r2_list", "prefix": "dead-letters/2026" })).await;
    let keys: Vec<&Value> =
        stored["objects"].as_array().unwrap().iter().map(|object| &object["key"]).collect();
    assert!(keys.len() == 6 && !keys.iter().any(|found| **found == key), "{keys:?}");
    assert_eq!(relay.log().matches("\"dead_letter_discarded\"").count(), 2);
    assert!(!relay.log().contains("MARK"));
}

/// Both at once, so often that some are discarded between being read and being marked: the mark
/// must not bring them back.
#[tokio::test]
async fn what_is_discarded_while_it_is_put_back_stays_gone() {
    let mut relay = Relay::start().await;
    let mut ids = Vec::new();
    for index in 0..40 {
        let (header, body) = message("org-at-once", index, 0);
        let kept = letter(&format!("m{index}"), 0, "x", &header.encode(&body));
        store(&mut relay, &kept, true).await;
        ids.push(format!("/{}", kept.id()));
    }
    futures::future::join_all(ids.iter().map(|id| put_back_and_discard(&relay, id))).await;
    assert_eq!(list(&relay, "").await["dead_letters"], json!([]));
}

async fn put_back_and_discard(relay: &Relay, id: &str) {
    let put_back_path = format!("{id}/put-back");
    let put_back = ask(relay, Method::POST, &put_back_path);
    let (_, discarded) = futures::join!(put_back, ask(relay, Method::DELETE, id));
    discarded.ok();
}

#[tokio::test]
async fn only_operators_get_anywhere() {
    let mut relay = Relay::start().await;
    let edge = relay.enrol("org-letters", USER).await;
    store_five(&mut relay).await;
    let one = format!("{LETTERS}/{}", FIVE[0]);
    let put_back = format!("{one}/put-back");
    let unknown = format!("{LETTERS}/2026-11-18-unknown");
    for (method, path) in [
        (Method::GET, LETTERS),
        (Method::GET, &one),
        (Method::GET, &unknown),
        (Method::POST, &put_back),
        (Method::DELETE, &one),
    ] {
        let bare = || relay.http.request(method.clone(), format!("{}{path}", relay.url));
        let name = format!("{method} {path}");
        Answer::to(bare()).await.refused(&name, ErrorCode::CredentialMissing);
        for token in [&*edge.credential, "operator-token-012345678", &ADMIN_TOKEN.to_uppercase()] {
            let answer = Answer::to(bare().bearer_auth(token)).await;
            answer.refused(&name, ErrorCode::CredentialInvalid);
        }
    }
    let shown = show(&relay, FIVE[0]).await;
    assert_eq!((&shown["body"], &shown["put_back_at"]), (&json!("x"), &Value::Null));
}

#[tokio::test]
async fn what_can_not_be_asked_is_refused_by_name() {
    let mut relay = Relay::start().await;
    store_five(&mut relay).await;
    for id in ["2026-11-18-unknown", "unknown", "2026-11-18-a1.json", "..%2F..%2Fbodies", "%20"] {
        for (method, rest) in
            [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/put-back?again=true")]
        {
            let answer = ask(&relay, method, &format!("/{id}{rest}")).await;
            answer.refused(id, ErrorCode::DeadLetterUnknown);
        }
    }
    let put_back = format!("/{}/put-back", FIVE[0]);
    for (method, path, name) in [
        (Method::GET, "?limit=0".into(), "limit"),
        (Method::GET, "?limit=1001".into(), "limit"),
        (Method::GET, "?cursor=x".into(), "cursor"),
        (Method::GET, "?reason=undecodable%3A".into(), "reason"),
        (Method::POST, format!("{put_back}?again=1"), "again"),
    ] {
        let error = ask(&relay, method, &path).await.refused(&path, ErrorCode::ParameterInvalid);
        assert_eq!(error["parameter"], name, "{path}");
    }
    for (method, path) in [(Method::GET, "?order=desc"), (Method::POST, &*put_back)] {
        let path = format!("{path}{}unknown=1", if path.contains('?') { "&" } else { "?" });
        ask(&relay, method, &path).await.refused(&path, ErrorCode::ParameterUnknown);
    }
    let one = format!("/{}", FIVE[0]);
    for (method, path, allow) in [
        (Method::POST, "", "GET"),
        (Method::PUT, &*one, "GET, DELETE"),
        (Method::GET, &*put_back, "POST"),
    ] {
        let answer = ask(&relay, method, path).await;
        answer.refused(path, ErrorCode::MethodNotAllowed);
        assert_eq!(answer.header("Allow"), Some(allow), "{path}");
    }
    ask(&relay, Method::POST, &format!("{one}/else")).await.refused("else", ErrorCode::NotFound);
    assert_eq!(show(&relay, FIVE[0]).await["put_back_at"], Value::Null);
}

#[tokio::test]
async fn the_routes_are_listed() {
    let relay = Relay::start().await;
    let info = Answer::to(relay.http.get(format!("{}/", relay.url))).await.ok();
    for route in [
        "GET /admin/dead-letters",
        "GET /admin/dead-letters/{id}",
        "POST /admin/dead-letters/{id}/put-back",
        "DELETE /admin/dead-letters/{id}",
    ] {
        assert!(info["routes"][route].is_string(), "{route}");
    }
}

/// What was not sent must not be marked: nobody would send it again.
#[tokio::test]
async fn a_letter_that_the_queue_does_not_take_stays_as_it_was() {
    let options = RelayOptions { unbound: vec!["EVENTS"], ..RelayOptions::default() };
    let mut relay = Relay::start_with(options).await;
    store_five(&mut relay).await;
    for id in [FIVE[0], FIVE[4]] {
        let before = show(&relay, id).await;
        let answer = ask(&relay, Method::POST, &format!("/{id}/put-back?again=true")).await;
        answer.refused(id, ErrorCode::QueueUnavailable);
        assert_eq!(show(&relay, id).await, before);
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_is_said() {
    let options = RelayOptions { unbound: vec!["BUCKET"], ..RelayOptions::default() };
    let relay = Relay::start_with(options).await;
    let one = format!("/{}", FIVE[0]);
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, &*one),
        (Method::DELETE, &*one),
        (Method::POST, &*format!("{one}/put-back")),
    ] {
        ask(&relay, method, path).await.refused(path, ErrorCode::Unavailable);
    }
}
