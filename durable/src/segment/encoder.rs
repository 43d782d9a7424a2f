use std::io::Write;

use brotli::{
    CompressorWriter,
    enc::{BrotliEncoderInitParams, BrotliEncoderParams},
};
use relay_schemas::{SegmentEntry, Seq, Sha256Digest, UnixMillis, record_received_at};

/// The level. By the table of `cargo xtask bench codec` in `docs/segments.md`, 9 makes segments that
/// are 2 % smaller at most, in more than twice the time and with four times the memory; 4 leaves
/// them a seventh to a third larger.
const QUALITY: i32 = 5;

/// The window, 1 MiB, in bits. Four times as much gains nothing (the same table), and every reader
/// would hold it.
const WINDOW_BITS: i32 = 20;

/// What the compressor is told of the length. From one byte more than 4 MiB on it looks for matches
/// of five bytes instead of four; with four, a segment of 4 MiB becomes more than half as large
/// again (the same table). A constant, because otherwise the length of the first piece written
/// decides.
const SIZE_HINT: usize = (1 << 22) + 1;

const OUTPUT_BUFFER_BYTES: usize = 16 * 1024;

/// A segment as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedSegment {
    /// What the index says of it.
    pub entry: SegmentEntry,
    /// The object.
    pub bytes: Vec<u8>,
}

/// Makes a segment of records, which are compressed as they come. The same records give the same
/// bytes.
pub struct SegmentEncoder {
    first: Seq,
    count: u64,
    raw_bytes: u64,
    received_at: Option<(UnixMillis, UnixMillis)>,
    compressor: CompressorWriter<Vec<u8>>,
}

impl SegmentEncoder {
    /// Begins a segment whose first event stands at `first`.
    pub fn new(first: Seq) -> Self {
        let compressor =
            CompressorWriter::with_params(Vec::new(), OUTPUT_BUFFER_BYTES, &parameters());
        Self { first, count: 0, raw_bytes: 0, received_at: None, compressor }
    }

    /// How many records were pushed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of the records pushed, and of their line breaks.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Adds the record of the next event.
    pub fn push(&mut self, record: &str) {
        assert!(!record.contains('\n'), "a record is one line");
        self.write(record.as_bytes());
        self.write(b"\n");
        self.count += 1;
        if let Some(at) = record_received_at(record) {
            let (earliest, latest) = self.received_at.unwrap_or((at, at));
            self.received_at = Some((earliest.min(at), latest.max(at)));
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.compressor.write_all(bytes).expect("a vector takes everything");
        self.raw_bytes += bytes.len() as u64;
    }

    /// The segment; `None` if nothing was pushed. Without a receipt in any record both are zero.
    pub fn finish(self) -> Option<EncodedSegment> {
        let last = self.first.plus(self.count.checked_sub(1)?);
        let (received_at_min, received_at_max) = self.received_at.unwrap_or_default();
        let bytes = self.compressor.into_inner();
        let entry = SegmentEntry {
            first: self.first,
            last,
            received_at_min,
            received_at_max,
            bytes: bytes.len() as u64,
            raw_bytes: self.raw_bytes,
            sha256: Sha256Digest::of(&[&bytes]),
            origin: None,
        };
        Some(EncodedSegment { entry, bytes })
    }
}

fn parameters() -> BrotliEncoderParams {
    BrotliEncoderParams {
        quality: QUALITY,
        lgwin: WINDOW_BITS,
        size_hint: SIZE_HINT,
        ..BrotliEncoderInitParams()
    }
}
