//! Readers of pages, upwards and downwards, page after page.

use relay_durable::{Fetched, Page, PageFill, PagePart, PageStep, SegmentObject, Stream};
use relay_schemas::{
    BodyMode, GapReason, KindFilter, OnGap, Order, PageCommand, PageQuery, Start,
    limits::PAGE_SEGMENTS_MAX,
};

use crate::{
    coverage::Mark,
    oracle::Expected,
    page_check::PageCheck,
    platform::{CallError, Platform},
};

#[derive(Debug)]
enum Next {
    Step,
    Answered(Box<PagePart>),
    Fetched(SegmentObject, Fetched),
}

#[derive(Debug)]
pub(crate) struct PageReader {
    pub(crate) stream: usize,
    query: PageQuery,
    fill: PageFill,
    next: Next,
    /// Where the page must begin, once the object has been asked.
    expected: Option<Expected>,
    pub(crate) is_done: bool,
    pub(crate) is_of_everything: bool,
    segments: usize,
    /// Positions that were read, for who wants to know whether all were.
    pub(crate) seen: Vec<u64>,
}

impl PageReader {
    pub(crate) fn new(stream: usize, query: PageQuery, platform: &Platform) -> Self {
        let fill = PageFill::new(command(stream, &query, platform));
        Self {
            stream,
            query,
            fill,
            next: Next::Step,
            expected: None,
            is_done: false,
            is_of_everything: false,
            segments: 0,
            seen: Vec::new(),
        }
    }

    pub(crate) fn of_everything(stream: usize, order: Order, platform: &Platform) -> Self {
        let start = if order == Order::Asc { Start::Earliest } else { Start::Now };
        let kinds = KindFilter::default();
        let (body, on_gap) = (BodyMode::Data, OnGap::Resume);
        let limit = if platform.incarnation(stream).tail() > 200 { 500 } else { 7 };
        let query = PageQuery {
            start,
            kinds,
            limit,
            order,
            body,
            on_gap,
            channel: None,
            own: false,
            app: None,
        };
        Self { is_of_everything: true, ..Self::new(stream, query, platform) }
    }

    pub(crate) fn step(&mut self, platform: &mut Platform) {
        match std::mem::replace(&mut self.next, Next::Step) {
            Next::Step => match self.fill.next_step() {
                PageStep::Ask(command) => self.ask(&command, platform),
                PageStep::Fetch(object) => {
                    if let Some(fetched) = platform.fetch(&object) {
                        self.next = Next::Fetched(object, fetched);
                    }
                }
                PageStep::Done => self.finish(platform),
            },
            Next::Answered(part) => self.fill.answered(*part),
            Next::Fetched(object, fetched) => {
                self.segments += 1;
                self.fill.fetched(&object.entry, fetched);
            }
        }
    }

    fn ask(&mut self, command: &PageCommand, platform: &mut Platform) {
        if platform.lose_call().is_err() {
            return;
        }
        let run = |stream: &mut Stream<_>, _| Ok((stream.page(command)?, Vec::new()));
        match platform.call(self.stream, &[], run) {
            Ok(_) if platform.lose_answer().is_err() => {}
            Ok(mut part) => {
                let incarnation = platform.incarnation(self.stream);
                self.expected.get_or_insert_with(|| match self.query.order {
                    Order::Asc => incarnation.resolve(&self.query.start),
                    Order::Desc => incarnation.resolve_downwards(&self.query.start),
                });
                part.history = part.history.map(|offer| platform.shorten(&offer));
                self.next = Next::Answered(Box::new(part));
            }
            Err(CallError::Failed) => {}
            Err(CallError::Refused(problem)) => {
                assert_eq!(command.query.on_gap, OnGap::Error, "refused: {problem:?}");
                let expected = platform.incarnation(self.stream).resolve(&self.query.start);
                assert!(expected.fault.is_some(), "refused: {problem:?}");
                platform.mark(Mark::StartRefused);
                self.query.on_gap = OnGap::Resume;
                self.begin(platform);
            }
        }
    }

    fn begin(&mut self, platform: &Platform) {
        self.fill = PageFill::new(command(self.stream, &self.query, platform));
        self.next = Next::Step;
        self.expected = None;
        self.segments = 0;
    }

    /// A page is complete: it is checked, and the next begins where it says.
    fn finish(&mut self, platform: &mut Platform) {
        let fill = PageFill::new(command(self.stream, &self.query, platform));
        let page = std::mem::replace(&mut self.fill, fill).into_page().expect("it is done");
        assert!(page.events.len() <= self.query.limit, "more than was asked for");
        let expected = self.expected.take().expect("the object was asked");
        let is_downwards = self.query.order == Order::Desc;
        let text = serde_json::to_string(&page).expect("a page is JSON");
        platform.trace.note(format_args!("{} page {text}", self.stream));
        platform.mark(if is_downwards { Mark::PageDownwards } else { Mark::PageUpwards });
        platform.mark_if(self.segments > 1, Mark::PageOverSegments);
        platform.mark_if(page.gap.is_some(), Mark::PageGap);
        assert!(self.segments <= 3 * PAGE_SEGMENTS_MAX, "a page has an end");
        let check = PageCheck::new(self.stream, &self.query, expected, platform);
        self.seen.extend(check.check(&page));
        self.turn(&page, platform);
    }

    fn turn(&mut self, page: &Page, platform: &Platform) {
        self.is_done = !page.has_more;
        self.query.start = Start::Cursor(page.cursor.to_string());
        self.begin(platform);
        // Who reads downwards, and is told that the rest is gone, begins no second time.
        let is_rest_gone = page.gap.as_ref().is_some_and(|gap| gap.reason != GapReason::Lost);
        self.is_done |= self.query.order == Order::Desc && is_rest_gone;
    }
}

fn command(stream: usize, query: &PageQuery, platform: &Platform) -> PageCommand {
    PageCommand {
        stream: platform.objects[stream].key.clone(),
        edge: "edge_1".parse().expect("an edge"),
        allowed: KindFilter::default(),
        query: query.clone(),
        events: 0,
        bytes: 0,
    }
}
