//! What a stream's object does with history: names it, seals it, rebuilds it.

use std::{cell::Cell, rc::Rc};

use relay_durable::StreamError;
use relay_schemas::{ByeCode, EdgeId, OnGap, Start, StreamKey};
use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::{Error, Response};

use super::{Outcome, StreamObject, answer, bad_command};
use crate::{host, log, rebuild, respond, sealing};

/// Segments that one alarm seals at most.
const SEALED_AT_ONCE_MAX: usize = 100;

/// Asks for the first history from a start.
#[derive(Deserialize, Serialize)]
pub(crate) struct HistoryQuery {
    pub(crate) stream: StreamKey,
    pub(crate) edge: EdgeId,
    pub(crate) start: Start,
    pub(crate) on_gap: OnGap,
    pub(crate) count: usize,
}

/// Sealing, retention and a rebuild take turns: each awaits R2 with what it has read of history.
#[derive(Default)]
pub(super) struct HistoryLock {
    is_taken: Rc<Cell<bool>>,
}

pub(super) struct HistoryGuard(Rc<Cell<bool>>);

impl HistoryLock {
    pub(super) fn take(&self) -> Option<HistoryGuard> {
        let was_taken = self.is_taken.replace(true);
        (!was_taken).then(|| HistoryGuard(Rc::clone(&self.is_taken)))
    }
}

impl Drop for HistoryGuard {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl StreamObject {
    pub(super) fn history(&self, body: &str) -> Outcome<Response> {
        let query: HistoryQuery =
            serde_json::from_str(body).map_err(|error| bad_command(&error))?;
        self.with_core_of(&query.stream, |core| {
            let mut offer =
                core.stream.history(&query.stream, &query.edge, &query.start, query.on_gap)?;
            offer.segments.truncate(query.count);
            answer(respond::json(200, &offer))
        })
    }

    pub(super) fn known(&self) -> Outcome<Response> {
        self.with_core(|core| answer(respond::json(200, &core.stream.known_history()?)))
    }

    /// Reads every segment of the stream in R2 and begins a new incarnation with them.
    pub(super) async fn rebuild(&self, name: &str) -> Outcome<Response> {
        let stream: StreamKey = name.parse().map_err(|error| bad_command(&error))?;
        let _exclusive =
            self.history_lock.take().ok_or_else(|| StreamError::Refused(respond::unavailable()))?;
        let (found, damaged) = rebuild::find(&self.env, &stream).await?;
        let (now, salt) = (host::now(), u32::from_le_bytes(host::random_bytes()));
        let events: u64 = found.iter().map(|one| one.entry.count()).sum();
        let (rebuilt, ended) = self.with_core_of(&stream, |core| {
            let (rebuilt, commands) = core.stream.rebuild(&stream, found, now, salt)?;
            core.execute(commands);
            Ok((rebuilt, std::mem::take(&mut core.ended)))
        })?;
        // Loaded again, so that the alarm is set by what the new incarnation wants.
        self.core.replace(None);
        self.with_core(|core| {
            core.ended = ended;
            Ok(())
        })?;
        let report = json!({
            "epoch": rebuilt.epoch,
            "segments": rebuilt.segments.len(),
            "events": events,
            "damaged": damaged,
        });
        log::line(log::Level::Warn, "stream_rebuilt", "", report.clone());
        answer(respond::json(200, &report))
    }

    /// A rebuild that failed may have landed: no reader may go on at positions of before.
    pub(super) fn send_all_away(&self) {
        let code = ByeCode::Reconnect;
        for ws in self.state.get_websockets() {
            let _ = ws.serialize_attachment(());
            let _ = ws.close(Some(code.close_code()), Some(code.as_str()));
        }
    }

    /// Puts due segments into R2 and into the index, one after the other. `false` when what was
    /// done couldn't be stored: then memory was dropped, and the alarm is to come again.
    pub(super) async fn seal(&self) -> bool {
        // A long tail is sealed in several alarms, each within the platform's limits.
        for _ in 0..SEALED_AT_ONCE_MAX {
            let job = match self.with_core(|core| Ok(core.stream.seal_next(host::now())?)) {
                Ok(Some(job)) => job,
                Ok(None) => return true,
                Err(error) => return self.forget_core("seal_not_planned", &error),
            };
            let kept = sealing::keep(&self.env, &job).await;
            let outcome = self.with_core(|core| match kept {
                Ok(()) => Ok(core.stream.seal_done(&job.segment.entry)?),
                Err(()) => {
                    core.stream.seal_failed(host::now());
                    Ok(false)
                }
            });
            match outcome {
                Ok(true) => sealing::count_sealed(&job.segment),
                Ok(false) => return true,
                Err(error) => return self.forget_core("seal_not_stored", &error),
            }
        }
        true
    }

    pub(super) fn forget_core(&self, event: &str, error: &StreamError<Error>) -> bool {
        self.core.replace(None);
        log::platform_error(event, "", &Error::RustError(error.to_string()));
        false
    }
}
