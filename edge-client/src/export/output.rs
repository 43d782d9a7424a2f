use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    batch::{Batch, Written},
    transfer::Input,
};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Why a batch can't be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutputFault {
    /// The reader is gone.
    Closed,
    /// Anything else, for people.
    Failed(String),
}

/// The thread that decodes and writes, so that a slow reader holds up neither downloads nor
/// signals.
#[derive(Debug)]
pub(super) struct Output {
    batches: Sender<Batch>,
    is_interrupted: Arc<AtomicBool>,
    results: UnboundedReceiver<Result<Written, OutputFault>>,
}

impl Output {
    /// Writes to `output`.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (batches, waiting) = channel();
        let (sender, results) = unbounded_channel();
        let is_interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_interrupted);
        let write = move || write_all(output, &waiting, &flag, &sender);
        thread::Builder::new().name("output".into()).spawn(write)?;
        Ok(Self { batches, is_interrupted, results })
    }

    pub(super) fn write(&self, batch: Batch) {
        // When the thread is gone, `next` says so.
        let _ = self.batches.send(batch);
    }

    pub(super) fn interrupt(&self) {
        self.is_interrupted.store(true, Ordering::Relaxed);
    }

    /// What became of a batch. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Input {
        match self.results.recv().await {
            Some(Ok(written)) => Input::Written(written),
            Some(Err(fault)) => Input::WriteFailed(fault),
            None => Input::WriteFailed(OutputFault::Failed("its thread has ended".into())),
        }
    }
}

fn write_all(
    output: impl Write,
    waiting: &Receiver<Batch>,
    is_interrupted: &AtomicBool,
    results: &UnboundedSender<Result<Written, OutputFault>>,
) {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    while let Ok(batch) = waiting.recv() {
        let written = batch.write(&mut output, is_interrupted);
        // The bytes of a segment are freed before the next one may begin.
        drop(batch);
        let result = written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => OutputFault::Closed,
            _ => OutputFault::Failed(error.to_string()),
        });
        let has_failed = result.is_err();
        let _ = results.send(result);
        if has_failed {
            break;
        }
    }
    // What is left in the buffer after a failure must not be written by its drop.
    let (_, _unwritten) = output.into_parts();
}
