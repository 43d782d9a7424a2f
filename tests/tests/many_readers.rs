//! Goal: two hundred readers at once each get everything, in order, once.
//! Method: readers of all dialects on the streams of several people, one burst of events to each.

#![allow(clippy::unwrap_used)]

use futures::future::join_all;
use relay_durable::samples::sized_body;
use relay_tests::{EnrolledEdge, HttpReader, Relay, SocketReader, now_ms};

const ORGANIZATION: &str = "org-many";
const PEOPLE: usize = 10;
const READERS: usize = 200;
const EVENTS: u64 = 20;

enum Reader {
    Ndjson(HttpReader),
    Socket(Box<SocketReader>),
}

impl Reader {
    async fn open(relay: &Relay, edge: &EnrolledEdge, index: usize) -> Self {
        if index.is_multiple_of(2) {
            let mut reader = HttpReader::ndjson(relay, edge, "").await;
            reader.frame("open").await;
            Self::Ndjson(reader)
        } else {
            let mut reader = SocketReader::open(relay, edge, "").await;
            reader.frame("open").await;
            Self::Socket(Box::new(reader))
        }
    }

    async fn read_all(mut self) -> Vec<(u64, String)> {
        let mut read = Vec::new();
        while read.len() < EVENTS as usize {
            let frame = match &mut self {
                Self::Ndjson(reader) => reader.frame("webhook").await,
                Self::Socket(reader) => reader.frame("webhook").await,
            };
            assert_eq!(frame["organization"], ORGANIZATION);
            read.push((frame["n"].as_u64().unwrap(), frame["id"].to_string()));
        }
        read
    }
}

#[tokio::test]
async fn two_hundred_readers_each_get_everything() {
    let relay = Relay::start().await;
    let people: Vec<String> = (0..PEOPLE).map(|person| format!("user-{person}")).collect();
    let edges = join_all(people.iter().map(|user| relay.enrol(ORGANIZATION, user))).await;
    let mut readers = Vec::new();
    for index in 0..READERS {
        readers.push(Reader::open(&relay, &edges[index % PEOPLE], index / PEOPLE).await);
    }
    let reading: Vec<_> =
        readers.into_iter().map(|reader| tokio::spawn(reader.read_all())).collect();
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
