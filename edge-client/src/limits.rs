//! Every bound of the client in one place, with the arithmetic behind it.

use relay_schemas::limits::{
    ASSIGNED_PER_EDGE_MAX, BODY_BYTES_MAX, PAGE_BYTES_MAX, SEGMENT_BYTES_MAX,
};

/// Bytes of one line of a stream. A body that is not one line of JSON travels as a JSON string;
/// only `"`, `\` and line breaks are escaped, each with one byte more, so the line is at most twice
/// the greatest body, and its head (id, headers) fits 256 KiB.
pub const LINE_BYTES_MAX: usize = 2 * BODY_BYTES_MAX + 256 * 1024;

/// Events that are received and not yet handled. Beyond it, reading stops: one more line may come,
/// never a second, because lines are taken one by one. On a WebSocket reading goes on, without a
/// grant: the relay's credit (256 KiB) may still come, and nothing is dialed.
pub const EVENTS_HELD_MAX: usize = 4_096;

/// Bytes of the lines that are received and not yet handled. Beyond it, reading stops; the line
/// that crosses the bound is kept. On a WebSocket the credit of one connection may come on top.
pub const BYTES_HELD_MAX: usize = 1024 * 1024;

/// Events after the stored cursor, handled ones included. When one event holds the cursor back,
/// reading stops here, so that [`RECENT_IDS_MAX`] still knows every handled one after a restart; on
/// a WebSocket after what the credit lets through, a thousand at most: a frame has 250 bytes.
pub const WINDOW_EVENTS_MAX: usize = 8_192;

/// Event ids that are remembered, in memory and on disk: 16 bytes each.
pub const RECENT_IDS_MAX: usize = 10_000;

/// Reports and activities that wait for the relay. Activities go first, then reports, each the
/// oldest first: at two reports for each event this is days of work during which the relay took
/// events' reading but no report.
pub const OUTBOX_REPORTS_MAX: usize = 100_000;

/// How many of them go at once, so that the outbox is not looked through for each.
pub const OUTBOX_EVICTED: usize = 1_000;

/// Status reports that travel at the same time; those of one event never do.
pub const REPORTS_IN_FLIGHT_MAX: usize = 8;

/// Status reports taken from the outbox at once.
pub const REPORTS_PAGE: usize = 64;

/// Lines taken from a WebSocket before handlers get their turn.
pub const LINES_PER_READ_MAX: usize = 256;

/// Handlers that may run at the same time: each may be a process. The relay is told, and gives no
/// machine more.
pub const CONCURRENCY_MAX: usize = 256;

const _: () = assert!(CONCURRENCY_MAX <= ASSIGNED_PER_EDGE_MAX);

/// Lines on their way to standard output at the same time.
pub const OUTPUT_LINES_MAX: usize = 512;

/// First step of the backoff between dials; doubles up to [`DIAL_BACKOFF_CAP_MS`].
pub const DIAL_BACKOFF_BASE_MS: u64 = 500;

/// Longest wait between dials that the client chooses by itself.
pub const DIAL_BACKOFF_CAP_MS: u64 = 60_000;

/// Longest wait that a relay can ask for.
pub const RETRY_AFTER_MS_MAX: u64 = 3_600_000;

/// First step of the backoff between attempts of a handler; doubles up to
/// [`HANDLER_BACKOFF_CAP_MS`].
pub const HANDLER_BACKOFF_BASE_MS: u64 = 1_000;

/// Longest wait between attempts of a handler.
pub const HANDLER_BACKOFF_CAP_MS: u64 = 60_000;

/// A dial, and then the first frame, may take this long. Linear answers within 10 s, a sleeping
/// object in 1 s; the rest is for mobile networks.
pub const DIAL_TIMEOUT_MS: u64 = 30_000;

/// Between two writes of progress when handlers take microseconds: 50 commits a second at most.
pub const PERSIST_INTERVAL_MS: u64 = 20;

/// How far wall clock and monotonic clock may part before it is taken for sleep. Time
/// synchronisation slews by far less between two looks.
pub const SLEEP_DIVERGENCE_MS: u64 = 10_000;

/// Between two looks at the clocks.
pub const TICK_MS: u64 = 2_000;

/// Bytes of an error answer that are read.
pub const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a message about a failure, in reports and logs.
pub const MESSAGE_BYTES_MAX: usize = 500;

/// Segments of an export that may be fetched at the same time, and of which bytes are in memory.
pub const EXPORT_CONNECTIONS_MAX: usize = 32;

/// Compressed bytes of one segment that an export takes. A relay gathers
/// [`SEGMENT_BYTES_MAX`] bytes of records and ends with a row that may be as large as a line;
/// what can't be compressed grows by less than 64 KiB.
pub const EXPORT_SEGMENT_BYTES_MAX: u64 = SEGMENT_BYTES_MAX + LINE_BYTES_MAX as u64 + 64 * 1024;

/// Bytes of one page of events, or of one plan: as many as a page may have, or one line alone.
pub const EXPORT_ANSWER_BYTES_MAX: usize = PAGE_BYTES_MAX + LINE_BYTES_MAX + 64 * 1024;

/// Attempts at one request of an export without any progress. With the backoff below this is a
/// minute or two, unless the relay asks for longer waits.
pub const EXPORT_ATTEMPTS_MAX: u32 = 10;

/// First step of the backoff between the attempts of an export's request.
pub const EXPORT_BACKOFF_BASE_MS: u64 = 500;

/// Longest wait between them that the client chooses by itself.
pub const EXPORT_BACKOFF_CAP_MS: u64 = 30_000;

/// How long the line that is being written may take when an export is to end: a reader of
/// standard output may not read at all.
pub const EXPORT_STOP_GRACE_MS: u64 = 1_000;

/// An access token lives an hour; it is refreshed when less than this is left of it, so that a
/// clock that is a little wrong and a relay that is away for a moment don't matter.
pub const REFRESH_BEFORE_MS: u64 = 5 * 60 * 1_000;

/// Between two attempts to refresh a credential that still lasts. The relay takes the same refresh
/// token again as long as what it answered was not used.
pub const REFRESH_RETRY_MS: u64 = 30_000;

/// Bytes of one line of progress that a handler writes.
pub const ACTIVITY_LINE_BYTES_MAX: usize = 16 * 1024;

/// Between two thoughts, and between two plans, of one handler that says more: those in between
/// are passed over for the newest. People can't read faster, and Linear counts requests.
pub const ACTIVITY_INTERVAL_MS: u64 = 1_000;

/// Thoughts that something else has driven out before their time; more are passed over.
pub const ACTIVITY_BURST: u64 = 5;

/// Between two other activities of one handler, once [`ACTIVITY_BURST`] came at once: the handler
/// waits, none is passed over.
pub const ACTIVITY_PACE_MS: u64 = 100;

/// Bytes of a handler's last line in a report; as many as the relay takes.
pub const LAST_LINE_BYTES_MAX: usize = relay_schemas::limits::REPORT_TEXT_BYTES_MAX;

/// Sessions whose work was stopped, and whose stop has not come in its place yet. A stop is one
/// event, so this is as many as can be on their way.
pub const STOPS_MAX: usize = 1_024;

/// Added to the interval when the relay says `slow_down` (RFC 8628, 3.5).
pub const DEVICE_SLOW_DOWN_S: u64 = 5;

/// Longest interval between two questions whether a sign-in was approved.
pub const DEVICE_INTERVAL_MAX_S: u64 = 120;

/// Attempts of `edgerelay status` and `edgerelay activity`.
pub const TELL_ATTEMPTS_MAX: u32 = 5;

/// Longest wait between them. Whoever runs them waits, too.
pub const TELL_WAIT_CAP_MS: u64 = 5_000;

/// Bytes of an activity's text from standard input; more is more than the relay takes.
pub const ACTIVITY_INPUT_BYTES_MAX: u64 = 64 * 1024;
