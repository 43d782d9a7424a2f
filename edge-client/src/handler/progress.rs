//! What a command writes on its progress descriptor: a JSON line for each activity.

mod flow;
mod lines;
mod pipe;

use std::{io, time::Duration};

use relay_schemas::{Activity, EventId};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::warn;

pub(super) use self::pipe::ProgressPipe;
use self::{flow::Flow, lines::ProgressLines};
use crate::{activity::read_activity, clock::Clock};

/// Bytes read at once; the pipe itself holds 64 KiB.
const READ_BYTES: usize = 4 * 1024;

/// What the pipe may hold when the command ends. More was written after that, by something that it
/// has left in the background, at a pace that nobody holds back any more.
const PIPE_BYTES: usize = 64 * 1024;

/// What is read after the command's end.
struct Rest {
    until: Instant,
    bytes: usize,
}

/// What a command has written so far, on its way.
struct Passage<T> {
    tell: T,
    flow: Flow,
    clock: Clock,
    lines_bad: u64,
}

impl<T: FnMut(Activity)> Passage<T> {
    fn take(&mut self, line: Option<&[u8]>) {
        match line.and_then(read_activity) {
            Some(activity) => self.flow.take(activity, self.clock.now()),
            None => self.lines_bad += 1,
        }
        self.pass_on();
    }

    fn pass_on(&mut self) {
        while let Some(activity) = self.flow.next(self.clock.now()) {
            (self.tell)(activity);
        }
    }
}

/// Reads a command's progress to its end, and passes it on at its pace. `ended` says that the
/// command is done: what it has written by then goes on at once, and nothing is waited for longer
/// than `patience`.
pub(super) async fn read(
    mut pipe: Receiver,
    event: EventId,
    tell: impl FnMut(Activity),
    mut ended: oneshot::Receiver<()>,
    patience: Duration,
) {
    let (clock, flow) = (Clock::start(), Flow::default());
    let mut passage = Passage { tell, flow, clock, lines_bad: 0 };
    let (mut lines, mut rest) = (ProgressLines::default(), None::<Rest>);
    let mut chunk = [0; READ_BYTES];
    loop {
        passage.pass_on();
        let length_max = rest.as_ref().map_or(READ_BYTES, |rest| rest.bytes.min(READ_BYTES));
        if length_max == 0 {
            break;
        }
        let wake_at = passage.flow.poll_timeout().map(|at| passage.clock.instant(at));
        let wake_at = rest.as_ref().map(|rest| rest.until).or(wake_at);
        let read: io::Result<usize> = tokio::select! {
            biased;
            _ = &mut ended, if rest.is_none() => {
                rest = Some(Rest { until: Instant::now() + patience, bytes: PIPE_BYTES });
                passage.flow.open();
                continue;
            }
            read = pipe.read(&mut chunk[..length_max]), if passage.flow.has_room() => read,
            () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {
                if rest.is_some() {
                    break;
                }
                continue;
            }
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                lines.push(&chunk[..length], |line| passage.take(line));
                if let Some(rest) = &mut rest {
                    rest.bytes -= length;
                }
            }
        }
    }
    lines.finish(|line| passage.take(line));
    passage.flow.open();
    passage.pass_on();
    if passage.lines_bad > 0 {
        let lines_bad = passage.lines_bad;
        warn!("{lines_bad} lines of progress about {event} are no activities: passed over");
    }
}
