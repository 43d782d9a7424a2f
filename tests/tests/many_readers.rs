//! Goal: two hundred readers at once each get everything, in order, once.
//! Method: readers of all dialects on the streams of several people, one burst of events to each.

#![allow(clippy::unwrap_used)]

use futures::future::join_all;
use relay_durable::samples::sized_body;
use relay_schemas::Dialect;
use relay_tests::{FrameReader, Relay, now_ms};

const ORGANIZATION: &str = "org-many";
const PEOPLE: usize = 10;
const READERS: usize = 200;
const EVENTS: u64 = 20;

async fn read_all(mut reader: FrameReader) -> Vec<(u64, String)> {
    let mut read = Vec::new();
    while read.len() < EVENTS as usize {
        let frame = reader.frame("webhook").await.json();
        assert_eq!(frame["organization"], ORGANIZATION);
        read.push((frame["n"].as_u64().unwrap(), frame["id"].to_string()));
    }
    read
}

#[tokio::test]
async fn two_hundred_readers_each_get_everything() {
    let relay = Relay::start().await;
    let people: Vec<String> = (0..PEOPLE).map(|person| format!("user-{person}")).collect();
    let edges = join_all(people.iter().map(|user| relay.enrol(ORGANIZATION, user))).await;
    let mut readers = Vec::new();
    for index in 0..READERS {
        let dialect = Dialect::ALL[index / PEOPLE % Dialect::ALL.len()];
        let edge = &edges[index % PEOPLE];
        readers.push(FrameReader::open(&relay, edge, dialect, "").await.0);
    }
    let reading: Vec<_> =
        readers.into_iter().map(|reader| tokio::spawn(read_all(reader))).collect();
    for index in 0..EVENTS {
        let posts = people.iter().map(|user| {
            let body = sized_body(ORGANIZATION, user, index, now_ms(), 1_000);
            let relay = &relay;
            async move { relay.deliver(&body, &format!("many-{user}-{index}")).await }
        });
        join_all(posts).await;
    }
    let mut by_person: Vec<Option<Vec<(u64, String)>>> = vec![None; PEOPLE];
    for (index, reading) in reading.into_iter().enumerate() {
        let read = reading.await.unwrap();
        assert!(read.iter().map(|(n, _)| *n).eq(1..=EVENTS));
        let expected = by_person[index % PEOPLE].get_or_insert_with(|| read.clone());
        assert_eq!(*expected, read, "readers of one stream see one order");
    }
}
