//! Goal: pages tile the log in both directions, within their bounds, wherever the events lie;
//! single events and reports on them are found as long as they are kept.
//!
//! Method: pages followed by their own cursors until there are no more, against a plain list;
//! scripts for reports; a bucket in memory that loses and spoils objects.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

#[path = "../support/mod.rs"]
mod support;

mod history;
mod hot;
mod lost;

use relay_durable::{Fetched, Page, PageFill, PagePart, PageStep};
use relay_schemas::{BodyMode, Frame, OnGap, Order, PageQuery, Start};

use crate::support::{Relay, kinds, page_command};

pub(crate) fn query(start: Start, order: Order, limit: usize) -> PageQuery {
    PageQuery {
        start,
        kinds: kinds("Issue,Comment"),
        limit,
        order,
        body: BodyMode::Data,
        on_gap: OnGap::Resume,
        channel: None,
        own: false,
        app: None,
    }
}

pub(crate) fn lines(page: &Page) -> Vec<String> {
    page.events.iter().map(|event| event.get().to_owned()).collect()
}

pub(crate) fn positions(page: &Page) -> Vec<u64> {
    let read = |line: &String| match Frame::parse(line) {
        Ok(Frame::Webhook(webhook)) => webhook.cursor.seq.get(),
        other => panic!("{other:?}"),
    };
    lines(page).iter().map(read).collect()
}

/// A page as the Worker puts it together, and what it did for that.
pub(crate) fn filled(relay: &mut Relay, query: &PageQuery) -> (Page, Vec<String>) {
    let mut fill = PageFill::new(page_command(query));
    let mut steps = Vec::new();
    loop {
        match fill.next_step() {
            PageStep::Ask(command) => {
                steps.push("ask".to_owned());
                let part = relay.stream.page(&command).unwrap();
                fill.answered(as_sent(&part));
            }
            PageStep::Fetch(object) => {
                steps.push(format!("fetch {}", object.entry.first.get()));
                let bytes = relay.bucket.get(&object.key).cloned();
                fill.fetched(&object.entry, bytes.map_or(Fetched::Missing, Fetched::Bytes));
            }
            PageStep::Done => return (fill.into_page().unwrap(), steps),
        }
        assert!(steps.len() < 1_000, "no end: {steps:?}");
    }
}

/// The part as it comes out of the object's answer.
fn as_sent(part: &PagePart) -> PagePart {
    serde_json::from_str(&serde_json::to_string(part).unwrap()).unwrap()
}

/// Follows pages until there are no more.
pub(crate) fn follow(relay: &mut Relay, first: &PageQuery) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut query = first.clone();
    loop {
        let (page, _) = filled(relay, &query);
        query.start = Start::Cursor(page.cursor.to_string());
        let has_more = page.has_more;
        pages.push(page);
        if !has_more {
            return pages;
        }
        assert!(pages.len() < 1_000, "no end");
    }
}

/// The positions on these pages, in the order in which they come.
pub(crate) fn all_positions(pages: &[Page]) -> Vec<u64> {
    pages.iter().flat_map(positions).collect()
}
