use relay_durable::Page;
use relay_schemas::{Cursor, Epoch, Gap, Order, PageQuery};

use crate::{
    oracle::{Expected, Incarnation},
    platform::Platform,
    witness::{check_gap, frame},
};

/// Walks along a page, and finds nothing left out, repeated or bent. Upwards a position says up
/// to where everything was given; downwards, from where on.
pub(crate) struct PageCheck<'a> {
    stream: usize,
    query: &'a PageQuery,
    platform: &'a Platform,
    expected: Expected,
    epoch: Epoch,
    position: u64,
}

impl<'a> PageCheck<'a> {
    pub(crate) fn new(
        stream: usize,
        query: &'a PageQuery,
        expected: Expected,
        platform: &'a Platform,
    ) -> Self {
        let (epoch, position) = (expected.epoch, expected.after);
        Self { stream, query, platform, expected, epoch, position }
    }

    /// The positions of the page's events.
    pub(crate) fn check(mut self, page: &Page) -> Vec<u64> {
        let mut gap = page.gap.as_ref();
        if let Some((reason, requested)) = self.expected.fault.clone() {
            let told = gap.take().expect("a gap that was not told");
            assert_eq!((told.reason, &told.requested), (reason, &requested));
            assert_eq!(told.resumed_from.seq.get(), self.position);
        }
        let mut positions = Vec::new();
        for (event, n) in page.events.iter().zip(1..) {
            let rest = event.get().strip_prefix(r#"{"type":"webhook","cursor":""#);
            let cursor = rest.expect("a webhook")[..Cursor::WIDTH].parse().expect("a cursor");
            if let Some(told) = gap.filter(|gap| self.is_behind(gap, cursor)) {
                self.pass_gap(told);
                gap = None;
            }
            self.take(cursor, n, event.get());
            positions.push(cursor.seq.get());
        }
        if let Some(told) = gap {
            self.pass_gap(told);
        }
        self.end(page.cursor);
        positions
    }

    fn incarnation(&self) -> &'a Incarnation {
        self.platform.oracles[self.stream].of(self.epoch)
    }

    fn is_behind(&self, gap: &Gap, event: Cursor) -> bool {
        let told: Cursor = gap.requested.parse().expect("a position that was told");
        event.epoch != told.epoch
            || match self.query.order {
                Order::Asc => event.seq > told.seq,
                Order::Desc => event.seq <= told.seq,
            }
    }

    fn pass_gap(&mut self, gap: &Gap) {
        let requested: Cursor = gap.requested.parse().expect("a position that was told");
        self.end(requested);
        check_gap(self.stream, gap, requested, self.platform);
        self.epoch = gap.resumed_from.epoch;
        self.position = gap.resumed_from.seq.get();
    }

    fn take(&mut self, cursor: Cursor, n: u64, line: &str) {
        let seq = cursor.seq.get();
        let (from, incarnation) = (self.position, self.incarnation());
        assert_eq!(cursor.epoch, self.epoch, "another epoch without a gap");
        match self.query.order {
            Order::Asc => assert!(seq > from, "{seq} again, or before the start"),
            Order::Desc => assert!(seq <= from, "{seq} again, or after the start"),
        }
        let reached = if self.query.order == Order::Asc { seq - 1 } else { seq };
        self.end(Cursor { seq: relay_schemas::Seq::new(reached), ..cursor });
        let event = incarnation.event(seq);
        assert!(self.query.kinds.passes(&event.kind), "{seq} was not asked for");
        let expected = frame(incarnation, seq, n, self.query.body);
        assert!(line == expected, "{line:.300}\n{expected:.300}");
        self.position = if self.query.order == Order::Asc { seq } else { seq - 1 };
    }

    /// Nothing that is wanted lies between. A start by time may be told as its segment's bound.
    fn end(&mut self, reached: Cursor) {
        let (from, to) = (self.position, reached.seq.get());
        let incarnation = self.incarnation();
        assert_eq!(reached.epoch, self.epoch, "another epoch without a gap");
        let mut passed = match self.query.order {
            Order::Asc => from + 1..=to,
            Order::Desc => to + 1..=from,
        };
        let is_back = match self.query.order {
            Order::Asc => to < from,
            Order::Desc => to > from,
        };
        assert!(!is_back || !self.expected.is_exact, "back from {from} to {to}");
        let left_out = passed.find(|seq| self.query.kinds.passes(&incarnation.event(*seq).kind));
        assert_eq!(left_out, None, "left out between {from} and {to}");
        if !is_back {
            self.position = to;
        }
    }
}
