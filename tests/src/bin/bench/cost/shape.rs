use relay_durable::StreamSettings;
use relay_schemas::UnixMillis;

use super::{
    bill::{Bill, Needs},
    local::Observed,
    model::Model,
};
use crate::traffic::Traffic;

const BEGIN: UnixMillis = UnixMillis::new(1_790_000_000_000);
const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600 * SECOND_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

const DAYS: u64 = 31;
const BURSTS_A_DAY: u64 = 6;
const BURST_EVENTS: u64 = 20;
const FLOOD_EVENTS: u64 = 60_000;
const FLOOD_PER_SECOND: u64 = 500;

/// People whose events the one object of the counts hears of.
const PEOPLE: f64 = 200.0;
/// It is told at most once a second, and writes at most once a minute.
const COUNTS_WRITTEN_S: f64 = 60.0;

/// How a person's events come.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    target: Option<f64>,
    /// Appends: after how long, and with how many events.
    appends: Vec<(u64, u64)>,
    cpu_ms: f64,
    /// Reports of counts and rows of them for one event.
    reports: (f64, f64),
}

impl Shape {
    /// One event an hour. All are alone in their batch; the counts of all people come together.
    pub(crate) fn hourly(observed: &Observed) -> Self {
        let seconds_between = 3_600.0 / PEOPLE;
        Self {
            name: "1 event an hour",
            target: Some(4.00),
            appends: vec![(HOUR_MS, 1); usize::try_from(DAYS * 24).expect("few")],
            cpu_ms: observed.processor_us_per_event() / 1e3,
            reports: (1.0, (seconds_between / COUNTS_WRITTEN_S).min(1.0)),
        }
    }

    /// Bursts of twenty, each in the batches that workerd made of such a burst.
    pub(crate) fn of_bursts(observed: &Observed) -> Self {
        let sizes: Vec<u64> = observed.appends().collect();
        let mut sizes = sizes.into_iter().cycle();
        let mut appends = Vec::new();
        for _ in 0..DAYS * BURSTS_A_DAY {
            let mut left = BURST_EVENTS;
            let mut pause_ms = DAY_MS / BURSTS_A_DAY;
            while left > 0 {
                let size = sizes.next().expect("at least one append").min(left);
                appends.push((pause_ms, size));
                left -= size;
                pause_ms = 50;
            }
        }
        Self {
            name: "bursts of 20",
            target: Some(2.50),
            appends,
            cpu_ms: observed.processor_us_per_event() / 1e3,
            // A burst is over within a second or two, and the next comes later than a minute.
            reports: (2.0 / BURST_EVENTS as f64, 1.0 / BURST_EVENTS as f64),
        }
    }

    /// Five hundred a second, in the batches that workerd made of them.
    pub(crate) fn of_flood(observed: &Observed) -> Self {
        let sizes: Vec<u64> = observed.appends().collect();
        let mut appends = Vec::new();
        let mut left = FLOOD_EVENTS;
        for size in sizes.into_iter().cycle() {
            let size = size.min(left);
            appends.push((size * SECOND_MS / FLOOD_PER_SECOND, size));
            left -= size;
            if left == 0 {
                break;
            }
        }
        let per_second = FLOOD_PER_SECOND as f64;
        Self {
            name: "500 a second",
            target: None,
            appends,
            cpu_ms: observed.processor_us_per_event() / 1e3,
            reports: (1.0 / per_second, 1.0 / per_second / COUNTS_WRITTEN_S),
        }
    }

    /// The stream after its last event, with all that is kept.
    pub(crate) fn with_history(&self) -> Model {
        let mut model = Model::new(StreamSettings::default(), BEGIN);
        let mut traffic = Traffic::of("cost", "reader");
        let mut now = BEGIN;
        for (pause_ms, size) in &self.appends {
            now = now + *pause_ms;
            model.append((0..*size).map(|_| traffic.next_event(now)).collect(), now);
        }
        model
    }

    /// A whole life: every event is stored, sealed, and gone after retention.
    pub(crate) fn bill(&self) -> Bill {
        let mut model = self.with_history();
        model.advance_to(BEGIN + (DAYS + 62 + 3) * DAY_MS);
        assert_eq!(model.kept(), 0, "retention takes all");
        model.clear_directory();
        let (counts, log_rows) = (model.counts, model.log_rows());
        let each = |count: u64| count as f64 / counts.events as f64;
        let needs = Needs {
            webhooks: 1.0,
            cpu_ms: self.cpu_ms,
            queue_operations: each(counts.queue_operations),
            batches: each(counts.appends),
            routings: each(counts.appends),
            appends: each(counts.appends),
            alarms: each(counts.alarms),
            reports: self.reports.0,
            log_rows: each(log_rows),
            directory_rows: each(model.directory_rows()),
            alarm_rows: each(counts.alarm_rows),
            count_rows: self.reports.1,
            segments: each(counts.segments),
            segment_gb: each(counts.segment_bytes) / 1e9,
        };
        Bill { name: self.name, needs, target: self.target }
    }
}
