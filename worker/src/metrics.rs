//! Counts in this isolate, reported to the operations object at most once a second, and when
//! connections end; never once per event.

use std::cell::RefCell;

use relay_schemas::{Counter, MetricsDelta, UnixMillis};
use worker::Env;

use crate::{call::Call, host, log, stream_client::post_to_object};

const FLUSH_INTERVAL_MS: u64 = 1_000;

/// The name of the one operations object.
pub(crate) const OPERATIONS_NAME: &str = "operations";

#[derive(Default)]
struct Buffer {
    delta: MetricsDelta,
    flushed_at: UnixMillis,
}

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::default();
}

/// Counts once.
pub(crate) fn add(counter: Counter, count: u64) {
    BUFFER.with_borrow_mut(|buffer| buffer.delta.add(counter, count));
}

/// Changes the counts.
pub(crate) fn record(change: impl FnOnce(&mut MetricsDelta)) {
    BUFFER.with_borrow_mut(|buffer| change(&mut buffer.delta));
}

/// Whether it is time to report.
pub(crate) fn is_flush_due() -> bool {
    BUFFER.with_borrow(|buffer| {
        !buffer.delta.is_empty() && host::now().since_ms(buffer.flushed_at) >= FLUSH_INTERVAL_MS
    })
}

/// Reports what was counted, after the answer, if it is time to.
pub(crate) fn flush_if_due(call: &Call) {
    if is_flush_due() {
        let env = call.env.clone();
        call.context.wait_until(async move { flush(&env).await });
    }
}

/// Reports what was counted. What can't be reported is kept for the next time.
pub(crate) async fn flush(env: &Env) {
    let delta = BUFFER.with_borrow_mut(|buffer| {
        buffer.flushed_at = host::now();
        std::mem::take(&mut buffer.delta)
    });
    if delta.is_empty() {
        return;
    }
    let Ok(body) = serde_json::to_string(&delta) else { return };
    if let Err(error) = post_to_object(env, "OPERATIONS", OPERATIONS_NAME, "/report", body).await {
        log::platform_error("metrics_not_reported", "", &error);
        BUFFER.with_borrow_mut(|buffer| buffer.delta.merge(delta));
    }
}
