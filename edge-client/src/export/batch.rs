use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use relay_schemas::{Cursor, Epoch, Seq, write_webhook_frame};

use super::{
    download::{Damage, Download},
    page::Page,
};

/// Events that may be written: those after `after` up to `until`.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) epoch: Epoch,
    pub(super) after: Seq,
    pub(super) until: Seq,
    /// Events that the export has written before.
    pub(super) written_before: u64,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Segment(Download),
    Page(Page),
}

/// How far a batch was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Everything up to here is flushed. After a whole batch its end, also when a gap is there.
    pub(super) up_to: Seq,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl Batch {
    /// Writes lines until the batch ends or `is_interrupted`, and flushes. After an error nothing
    /// of the batch counts as written, because nobody knows how much of it was.
    pub(super) fn write(
        &self,
        output: &mut impl Write,
        is_interrupted: &AtomicBool,
    ) -> io::Result<Written> {
        let mut written = Written { up_to: self.after, events: 0, bytes: 0 };
        let mut line = String::new();
        let mut is_whole = true;
        self.content.for_each(|seq, record| {
            if seq <= self.after {
                return Ok(true);
            }
            is_whole = seq > self.until || !is_interrupted.load(Ordering::Relaxed);
            if seq > self.until || !is_whole {
                return Ok(false);
            }
            self.write_frame(seq, self.written_before + written.events + 1, record, &mut line);
            output.write_all(line.as_bytes())?;
            written.add(seq, line.len());
            Ok(true)
        })?;
        output.flush()?;
        if is_whole {
            written.up_to = self.until;
        }
        Ok(written)
    }

    fn write_frame(&self, seq: Seq, n: u64, record: &str, line: &mut String) {
        line.clear();
        write_webhook_frame(Cursor { epoch: self.epoch, seq }, n, record, line);
        line.push('\n');
    }
}

impl Written {
    fn add(&mut self, seq: Seq, bytes: usize) {
        self.up_to = seq;
        self.events += 1;
        self.bytes += bytes as u64;
    }
}

impl Content {
    /// Until one of the calls gives `false`.
    fn for_each(&self, mut write: impl FnMut(Seq, &str) -> io::Result<bool>) -> io::Result<()> {
        match self {
            Self::Segment(download) => {
                let mut records = download.records();
                let mut seq = download.segment().first;
                while let Some(record) = records.next().map_err(io::Error::from)? {
                    if !write(seq, record)? {
                        break;
                    }
                    seq = Seq::new(seq.get() + 1);
                }
            }
            Self::Page(page) => {
                for (seq, record) in &page.records {
                    if !write(*seq, record)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> Self {
        Self::new(io::ErrorKind::InvalidData, damage)
    }
}
