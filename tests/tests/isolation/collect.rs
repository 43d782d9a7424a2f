//! Everything that a machine gets by asking for what is its own; each byte is kept.

use std::{cell::RefCell, collections::BTreeSet};

use relay_durable::SegmentReader;
use relay_schemas::{Cursor, Dialect, ErrorCode, Frame, Scope};
use relay_tests::{Answer, FrameReader, ReadFrame, SentEvent, planned_entry};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::world::{Reader, SCOPES_NARROW, Sent, World};

/// How often a reader may be sent from history to its object and back.
const CONNECTIONS_MAX: usize = 10;

/// Something that somebody got.
pub(crate) struct Found {
    pub(crate) who: usize,
    pub(crate) what: String,
    /// What the request itself named.
    pub(crate) said: String,
    pub(crate) text: String,
}

#[derive(Default)]
pub(crate) struct Collected(RefCell<Vec<Found>>);

impl Collected {
    pub(crate) fn keep(&self, who: usize, what: &str, said: &str, text: String) {
        let (what, said) = (what.to_owned(), said.to_owned());
        self.0.borrow_mut().push(Found { who, what, said, text });
    }

    /// Keeps an answer, and gives it back. What a body holds in another form is kept as well.
    pub(crate) async fn answer(
        &self,
        who: usize,
        what: &str,
        said: &str,
        request: RequestBuilder,
    ) -> Answer {
        let answer = Answer::to(request).await;
        let body = String::from_utf8_lossy(&answer.body);
        self.keep(who, what, said, format!("{:?}\n{body}", answer.headers));
        answer
    }

    /// Nobody has got a word that is somebody else's.
    pub(crate) fn check(&self, world: &World) {
        let (mut bytes, mut leaks) = (0, Vec::new());
        let found = self.0.borrow();
        for one in found.iter() {
            bytes += one.text.len();
            for word in world.leaks(one.who, &one.text, &one.said) {
                leaks.push(format!("{word} came to {} by {}", describe(world, one.who), one.what));
            }
        }
        println!("{} answers and connections, {bytes} bytes", found.len());
        leaks.sort();
        leaks.dedup();
        let some: Vec<&String> = leaks.iter().take(10).collect();
        assert!(leaks.is_empty(), "{} leaks, such as {some:#?}", leaks.len());
    }
}

fn describe(world: &World, who: usize) -> String {
    match world.readers.get(who) {
        Some(reader) => format!("{} of {}", reader.name, reader.stream(&reader.channels[0])),
        None => format!("an operator of {}", world.organizations[who - world.readers.len()]),
    }
}

/// A channel of a reader, and a way to read it.
pub(crate) struct Way<'a> {
    pub(crate) world: &'a World,
    pub(crate) collected: &'a Collected,
    pub(crate) who: usize,
    pub(crate) channel: &'a str,
}

impl Way<'_> {
    pub(crate) fn reader(&self) -> &Reader {
        &self.world.readers[self.who]
    }

    fn expected(&self) -> Vec<&Sent> {
        self.world.expected(self.reader(), self.channel)
    }

    fn case(&self, how: &str) -> String {
        format!("{how} {} by {}", self.reader().stream(self.channel), self.reader().name)
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.world.relay.as_edge(&self.reader().edge, method, path)
    }

    /// Reads a stream to its end and up to a sign of life after it: exactly what is the reader's.
    pub(crate) async fn read_stream(&self, dialect: Dialect, query: &str) {
        let case = self.case(&format!("{dialect:?} {query}"));
        let expected = self.expected();
        let mut read = Vec::new();
        let mut cursor = "earliest".to_owned();
        for _ in 0..CONNECTIONS_MAX {
            let query = format!("heartbeat=5&channel={}&cursor={cursor}{query}", self.channel);
            let edge = &self.reader().edge;
            let mut connection = FrameReader::dial(&self.world.relay, edge, dialect, &query).await;
            let headers = format!("{:?}", connection.headers);
            self.collected.keep(self.who, &case, "", headers);
            if self.follow(&mut connection, expected.len(), &mut read, &mut cursor).await {
                return check_exact(&case, &read, &expected);
            }
        }
        panic!("{case} was sent away too often");
    }

    /// Follows a connection; `true` when everything has come, `false` when it ends before.
    async fn follow(
        &self,
        connection: &mut FrameReader,
        count: usize,
        read: &mut Vec<SentEvent>,
        cursor: &mut String,
    ) -> bool {
        let what = self.case(&format!("{:?}", connection.dialect));
        let is_socket = connection.dialect == Dialect::WebSocket;
        let (mut n, mut has_asked) = (0, false);
        loop {
            if is_socket && !has_asked && read.len() >= count {
                connection.socket().send("ping").await;
                has_asked = true;
            }
            let Ok(frame) = connection.next().await else { return false };
            self.keep_frame(&what, &frame);
            if frame.line == "pong" {
                return true;
            }
            match Frame::parse(&frame.line).unwrap() {
                Frame::Webhook(webhook) => {
                    n += 1;
                    assert_eq!(webhook.n, n, "{what}");
                    *cursor = webhook.cursor.to_string();
                    read.push(SentEvent::of_line(&frame.line));
                }
                Frame::Heartbeat(_) if !is_socket && read.len() >= count => return true,
                Frame::Bye(bye) => *cursor = bye.cursor.to_string(),
                Frame::Gap(_) => panic!("{what}: {frame:?}"),
                Frame::Open(_) | Frame::Heartbeat(_) | Frame::Signal(_) | Frame::Unknown => {}
            }
        }
    }

    fn keep_frame(&self, what: &str, frame: &ReadFrame) {
        let text = format!("{:?} {:?} {}", frame.name, frame.id, frame.line);
        self.collected.keep(self.who, what, "", text);
        if let Ok(Frame::Webhook(webhook)) = Frame::parse(&frame.line) {
            let body = webhook.body_bytes().unwrap();
            self.collected.keep(self.who, what, "", String::from_utf8_lossy(&body).into_owned());
        }
    }

    /// Reads every page.
    pub(crate) async fn read_pages(&self, order: &str, limit: usize) {
        let case = self.case(&format!("pages {order}"));
        let mut read = Vec::new();
        let mut cursor = String::new();
        loop {
            let query = format!("order={order}&limit={limit}&channel={}{cursor}", self.channel);
            let request = self.ask(Method::GET, &format!("/events?{query}"));
            let page = self.collected.answer(self.who, &case, "", request).await;
            let page: relay_durable::Page = serde_json::from_slice(&page.body).unwrap();
            read.extend(page.events.iter().map(|event| SentEvent::of_line(event.get())));
            if !page.has_more {
                break;
            }
            cursor = format!("&cursor={}", page.cursor);
        }
        if order == "desc" {
            read.reverse();
        }
        check_exact(&case, &read, &self.expected());
    }

    /// Reads the plan and every segment that it names; what isn't sealed comes in pages.
    pub(crate) async fn read_segments(&self) {
        let case = self.case("segments");
        let path = format!("/events/segments?channel={}", self.channel);
        let plan = self.collected.answer(self.who, &case, "", self.ask(Method::GET, &path)).await;
        if !self.reader().has(Scope::ReadEvents) {
            plan.refused(&case, ErrorCode::ScopeMissing);
            return;
        }
        let plan = plan.ok();
        assert_eq!(plan["has_more"], false, "{case}: {plan}");
        let rest: Cursor = plan["rest"].as_str().unwrap().parse().unwrap();
        let mut read = Vec::new();
        for segment in plan["segments"].as_array().unwrap() {
            let path = format!("{}?channel={}", segment["url"].as_str().unwrap(), self.channel);
            let request = self.ask(Method::GET, &path);
            let answer = self.collected.answer(self.who, &case, "", request).await;
            assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            let mut records = SegmentReader::new(answer.body, &planned_entry(segment)).unwrap();
            while let Some((seq, record)) = records.next().unwrap() {
                self.collected.keep(self.who, &case, "", record.to_owned());
                let cursor = Cursor { epoch: rest.epoch, seq };
                read.push(SentEvent { cursor, record: record.to_owned() });
            }
        }
        let path = format!("/events?limit=1000&cursor={rest}&channel={}", self.channel);
        let page = self.collected.answer(self.who, &case, "", self.ask(Method::GET, &path)).await;
        let page: relay_durable::Page = serde_json::from_slice(&page.body).unwrap();
        read.extend(page.events.iter().map(|event| SentEvent::of_line(event.get())));
        check_exact(&case, &read, &self.expected());
    }

    /// Reports on each of some events, then looks at it.
    pub(crate) async fn read_events(&self, count: usize) {
        let case = self.case("single events");
        let expected = self.expected();
        let step = (expected.len() / count).max(1);
        for sent in expected.iter().step_by(step) {
            let channel = self.channel;
            if self.reader().has(Scope::WriteStatus) {
                let report = json!({ "eventId": sent.id, "status": "completed" });
                let path = format!("/events/status?channel={channel}");
                let request = self.ask(Method::POST, &path).json(&report);
                self.collected.answer(self.who, &case, &sent.id, request).await.ok();
            }
            let path = format!("/events/{}?channel={channel}", sent.id);
            let request = self.ask(Method::GET, &path);
            let event: Value = self.collected.answer(self.who, &case, "", request).await.ok();
            assert_eq!(event["event"]["id"], sent.id, "{case}");
        }
    }
}

/// These events and no others, each at a position of its own.
fn check_exact(case: &str, read: &[SentEvent], expected: &[&Sent]) {
    let seqs: Vec<u64> = read.iter().map(SentEvent::seq).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{case}: {seqs:?}");
    let bodies: BTreeSet<String> = read.iter().map(SentEvent::body).collect();
    let sent: BTreeSet<String> = expected.iter().map(|sent| sent.body.clone()).collect();
    assert_eq!((read.len(), bodies.len()), (sent.len(), sent.len()), "{case}");
    assert!(bodies == sent, "{case}: other events than those sent to it");
    if !SCOPES_NARROW {
        assert_eq!(seqs.last().copied().unwrap_or(0), sent.len() as u64, "{case}");
    }
}
