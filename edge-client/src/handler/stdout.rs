use std::{
    io::{self, BufWriter, Write},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use super::{Completion, Handler};
use crate::{event::Event, session::Outcome};

/// Bytes gathered before they are written, while more lines are waiting.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes each event's line, verbatim. The writing has a thread of its own, so that a slow reader
/// never holds up heartbeats and signals; an event is handled when its line is flushed.
#[derive(Debug)]
pub struct WriteHandler {
    lines: Sender<(Event, Completion)>,
}

impl WriteHandler {
    /// Writes to `output`, such as standard output.
    pub fn new(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = channel();
        thread::Builder::new().name("output".into()).spawn(move || write_all(output, &waiting))?;
        Ok(Self { lines })
    }
}

impl Handler for WriteHandler {
    fn start(&mut self, event: Event, _attempt: u32, completion: Completion) {
        // When the thread is gone, the completion falls with the message.
        let _ = self.lines.send((event, completion));
    }

    async fn abandon(&mut self) {}
}

fn write_all(output: impl Write, waiting: &Receiver<(Event, Completion)>) {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(crate::limits::OUTPUT_LINES_MAX));
        let written = write_batch(&mut output, &batch);
        for (_, completion) in batch {
            completion.finish(outcome(&written));
        }
        if written.is_err() {
            // What is left in the buffer would be written again by a later flush.
            let (_, _unwritten) = output.into_parts();
            return;
        }
    }
}

fn write_batch(output: &mut impl Write, batch: &[(Event, Completion)]) -> io::Result<()> {
    for (event, _) in batch {
        output.write_all(event.line().as_bytes())?;
        output.write_all(b"\n")?;
    }
    output.flush()
}

/// A line may be half written, so no error of an output is tried again.
fn outcome(written: &io::Result<()>) -> Outcome {
    if written.is_ok() { Outcome::Succeeded } else { Outcome::Closed }
}
