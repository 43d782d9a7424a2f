use std::fmt;

// Cloudflare's list prices on the Workers Paid plan in November 2026, in dollars for a million,
// from the pricing pages under developers.cloudflare.com: workers, queues, durable-objects, kv, r2.
// What the plan includes each month is not taken off.
const WORKER_REQUEST: f64 = 0.30;
pub(crate) const WORKER_CPU_MS: f64 = 0.02;
const QUEUE_OPERATION: f64 = 0.40;
const OBJECT_REQUEST: f64 = 0.15;
/// For 128 MB: 12.50 for a million GB-s.
const OBJECT_SECOND: f64 = 12.50 * 0.128;
const ROW_WRITTEN: f64 = 1.00;
const R2_WRITE: f64 = 4.50;
const R2_READ: f64 = 0.36;
const KV_WRITE: f64 = 5.00;
const KV_LIST: f64 = 5.00;
/// For a million GB-months.
const R2_GB_MONTH: f64 = 15_000.0;

const RETENTION_MONTHS: f64 = 62.0 / 30.0;

/// Of seconds that an object is busy, which no local run can tell.
const OBJECT_S_A_CALL: f64 = 0.020;
const OBJECT_S_A_SEGMENT: f64 = 0.300;

/// What was not counted.
pub(crate) const ASSUMPTIONS: &str = "assumed, not counted:\nan object is busy for 20 ms a call and \
     300 ms a segment; 200 people share the counts' object; CPU is all that workerd used,\nits own \
     queue, R2 and KV included";

/// What one event needs, on average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) webhooks: f64,
    pub(crate) cpu_ms: f64,
    pub(crate) queue_operations: f64,
    pub(crate) batches: f64,
    pub(crate) routings: f64,
    pub(crate) appends: f64,
    pub(crate) alarms: f64,
    pub(crate) reports: f64,
    pub(crate) log_rows: f64,
    pub(crate) directory_rows: f64,
    pub(crate) alarm_rows: f64,
    pub(crate) count_rows: f64,
    pub(crate) segments: f64,
    pub(crate) segment_gb: f64,
}

/// A shape's name, lines and target.
pub(crate) struct Bill {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) target: Option<f64>,
}

impl Bill {
    /// What it is, how many an event, and dollars for a million.
    fn lines(&self) -> [(&'static str, f64, f64); 15] {
        let needs = &self.needs;
        let calls = needs.routings + needs.appends + needs.alarms + needs.reports;
        let busy_s = calls * OBJECT_S_A_CALL + needs.segments * OBJECT_S_A_SEGMENT;
        [
            ("webhook requests", needs.webhooks, WORKER_REQUEST),
            ("Worker CPU, ms", needs.cpu_ms, WORKER_CPU_MS),
            ("queue operations", needs.queue_operations, QUEUE_OPERATION),
            ("consumer runs", needs.batches, WORKER_REQUEST),
            ("object: routing", needs.routings, OBJECT_REQUEST),
            ("object: appends", needs.appends, OBJECT_REQUEST),
            ("object: alarms", needs.alarms, OBJECT_REQUEST),
            ("object: counts", needs.reports, OBJECT_REQUEST),
            ("object seconds", busy_s, OBJECT_SECOND),
            ("rows: log", needs.log_rows, ROW_WRITTEN),
            ("rows: directory", needs.directory_rows, ROW_WRITTEN),
            ("rows: alarms set", needs.alarm_rows, ROW_WRITTEN),
            ("rows: counts", needs.count_rows, ROW_WRITTEN),
            ("R2 and KV puts", needs.segments, R2_WRITE + KV_WRITE),
            ("R2 for 62 days", needs.segment_gb * RETENTION_MONTHS, R2_GB_MONTH),
        ]
        .map(|(name, count, price)| (name, count, count * price))
    }

    /// Dollars for a million events.
    pub(crate) fn total(&self) -> f64 {
        self.lines().iter().map(|(_, _, dollars)| dollars).sum()
    }
}

/// Lines by shapes: how many an event, and dollars for a million events.
pub(crate) fn print_table(bills: &[Bill]) {
    print!("\n{:<18}", "");
    bills.iter().for_each(|bill| print!(" {:>18}", bill.name));
    println!();
    let columns: Vec<_> = bills.iter().map(Bill::lines).collect();
    for (place, (name, _, _)) in columns[0].iter().enumerate() {
        print!("{name:<18}");
        for column in &columns {
            let (_, count, dollars) = column[place];
            let count = if count > 0.0 && count < 1e-4 {
                format!("{count:.0e}")
            } else {
                format!("{count:.4}")
            };
            print!(" {count:>9} {dollars:>8.3}");
        }
        println!();
    }
    print!("{:<18}", "together, $");
    bills.iter().for_each(|bill| print!(" {:>18.2}", bill.total()));
    print!("\n{:<18}", "to be at most, $");
    for bill in bills {
        let target = bill.target.map_or("-".to_owned(), |target| format!("{target:.2}"));
        print!(" {target:>18}");
    }
    println!("\n");
}

/// What one reader's catching up needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CatchUpNeeds {
    pub(crate) object_requests: u64,
    pub(crate) segments_read: u64,
    pub(crate) listings: u64,
}

impl CatchUpNeeds {
    /// Dollars for a million times.
    pub(crate) fn price(&self) -> f64 {
        WORKER_REQUEST
            + self.object_requests as f64 * (OBJECT_REQUEST + OBJECT_S_A_CALL * OBJECT_SECOND)
            + self.segments_read as f64 * R2_READ
            + self.listings as f64 * KV_LIST
    }
}

impl fmt::Display for CatchUpNeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object_requests, segments_read, listings } = self;
        write!(
            f,
            "1 request, {object_requests} to the object, {segments_read} R2 gets, {listings} KV lists"
        )
    }
}

/// What one agent session needs, from its event to the deletion of its last row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionNeeds {
    pub(crate) worker_requests: u64,
    pub(crate) queue_operations: u64,
    pub(crate) object_requests: u64,
    pub(crate) rows: u64,
    pub(crate) alarm_rows: u64,
    pub(crate) graphql_calls: u64,
}

impl SessionNeeds {
    /// Dollars for a million of them, without processor time and segments.
    pub(crate) fn price(&self) -> f64 {
        self.worker_requests as f64 * WORKER_REQUEST
            + self.queue_operations as f64 * QUEUE_OPERATION
            + self.object_requests as f64 * (OBJECT_REQUEST + OBJECT_S_A_CALL * OBJECT_SECOND)
            + (self.rows + self.alarm_rows) as f64 * ROW_WRITTEN
    }
}

impl fmt::Display for SessionNeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} Worker requests, {} queue operations, {} requests to objects, {} rows and {} for \
             alarms, {} calls to Linear",
            self.worker_requests,
            self.queue_operations,
            self.object_requests,
            self.rows,
            self.alarm_rows,
            self.graphql_calls
        )
    }
}
