use std::{ops::Range, str};

use memchr::memchr;
use relay_schemas::{SegmentEntry, Seq, Sha256Digest};

use super::{SegmentError, decoder::Decoder};

/// Bytes that the buffer keeps when a longer record has left it.
const BUFFER_BYTES_KEPT: usize = 256 * 1024;

/// Reads a segment's records in order, decoding no more than the next one needs.
///
/// Beside the object itself it holds the decoder's window, a record and a chunk of 64 KiB.
pub struct SegmentReader {
    decoder: Decoder,
    first: Seq,
    count: u64,
    /// How many lines were taken from the buffer.
    taken: u64,
    /// How many lines nobody wants, counted from the first.
    unwanted: u64,
    buffer: Vec<u8>,
    line_start: usize,
    searched: usize,
    failure: Option<SegmentError>,
}

impl SegmentReader {
    /// Checks that the object is the one of the entry, before anything is decoded.
    pub fn new(bytes: Vec<u8>, entry: &SegmentEntry) -> Result<Self, SegmentError> {
        let found = bytes.len() as u64;
        if found != entry.bytes {
            return Err(SegmentError::Length { expected: entry.bytes, found });
        }
        if Sha256Digest::of(&[&bytes]) != entry.sha256 {
            return Err(SegmentError::Digest);
        }
        Ok(Self {
            decoder: Decoder::new(bytes, entry.raw_bytes),
            first: entry.first,
            count: entry.count(),
            taken: 0,
            unwanted: 0,
            buffer: Vec::new(),
            line_start: 0,
            searched: 0,
            failure: None,
        })
    }

    /// Passes over the records at and before `after`. Those that were read already stay read.
    pub fn skip_to(&mut self, after: Seq) {
        if after >= self.first {
            self.unwanted = self.unwanted.max(after.distance_from(self.first) + 1);
        }
    }

    /// The next record; `None` once all were given and the segment holds what its entry says.
    /// After an error there is only that error.
    #[expect(clippy::should_implement_trait, reason = "what it gives is borrowed from it")]
    pub fn next(&mut self) -> Result<Option<(Seq, &str)>, SegmentError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.next_line() {
            Ok(None) => Ok(None),
            Ok(Some((seq, line))) => match str::from_utf8(&self.buffer[line]) {
                Ok(record) => Ok(Some((seq, record))),
                Err(_) => Err(*self.failure.insert(SegmentError::Corrupt("a record is not UTF-8"))),
            },
            Err(error) => Err(*self.failure.insert(error)),
        }
    }

    /// Bytes of memory that the buffer takes.
    #[cfg(feature = "test-util")]
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn next_line(&mut self) -> Result<Option<(Seq, Range<usize>)>, SegmentError> {
        while let Some(line) = self.take_line()? {
            let index = self.taken;
            self.taken += 1;
            if index >= self.count {
                return Err(SegmentError::Corrupt("it holds more records than its entry says"));
            }
            if index >= self.unwanted {
                return Ok(Some((self.first.plus(index), line)));
            }
        }
        if self.taken < self.count {
            return Err(SegmentError::Corrupt("it holds fewer records than its entry says"));
        }
        Ok(None)
    }

    /// Takes a line, without its line break, off the buffer.
    fn take_line(&mut self) -> Result<Option<Range<usize>>, SegmentError> {
        loop {
            if let Some(length) = memchr(b'\n', &self.buffer[self.searched..]) {
                let line = self.line_start..self.searched + length;
                self.searched = line.end + 1;
                self.line_start = self.searched;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.decoder.is_finished() {
                return self.check_last_line();
            }
            self.fill()?;
        }
    }

    fn check_last_line(&self) -> Result<Option<Range<usize>>, SegmentError> {
        if self.line_start < self.buffer.len() {
            return Err(SegmentError::Corrupt("its last record has no end"));
        }
        Ok(None)
    }

    /// Decodes another chunk behind what is still needed of the buffer. What is kept is the
    /// beginning of one line, and moves to the front once: then it is there.
    fn fill(&mut self) -> Result<(), SegmentError> {
        if self.taken < self.unwanted {
            self.line_start = self.searched;
        }
        if self.line_start > 0 {
            self.buffer.drain(..self.line_start);
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
            self.searched -= self.line_start;
            self.line_start = 0;
        }
        self.decoder.decode_into(&mut self.buffer)
    }
}
