use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, enc::StandardAlloc};

use super::SegmentError;

/// Bytes that are decoded in one go.
const CHUNK_BYTES: usize = 64 * 1024;

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Decodes an object bit by bit, and no further than to the length that it is to have.
pub(super) struct Decoder {
    state: Box<State>,
    input: Vec<u8>,
    consumed: usize,
    bytes_left: u64,
    is_finished: bool,
}

impl Decoder {
    /// Decodes `input`, which must give `raw_bytes`.
    pub(super) fn new(input: Vec<u8>, raw_bytes: u64) -> Self {
        // Strict: brotli as it is standardised, whose window has at most 16 MiB.
        let allocator = StandardAlloc::default;
        let state = Box::new(State::new_strict(allocator(), allocator(), allocator()));
        Self { state, input, consumed: 0, bytes_left: raw_bytes, is_finished: false }
    }

    /// Whether all is decoded and the length was right.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Appends at most a chunk to `buffer`.
    pub(super) fn decode_into(&mut self, buffer: &mut Vec<u8>) -> Result<(), SegmentError> {
        let start = buffer.len();
        // One byte more than there may be, to learn that there is one.
        let room =
            usize::try_from(self.bytes_left + 1).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        buffer.resize(start + room, 0);
        let (result, decoded) = self.decode(&mut buffer[start..]);
        buffer.truncate(start + decoded);
        let Some(bytes_left) = self.bytes_left.checked_sub(decoded as u64) else {
            return Err(SegmentError::Corrupt("it holds more bytes than its entry says"));
        };
        self.bytes_left = bytes_left;
        match result {
            BrotliResult::NeedsMoreOutput => Ok(()),
            BrotliResult::ResultSuccess => self.finish(),
            BrotliResult::NeedsMoreInput => Err(SegmentError::Corrupt("it ends early")),
            BrotliResult::ResultFailure => Err(SegmentError::Corrupt("it is not brotli")),
        }
    }

    fn decode(&mut self, output: &mut [u8]) -> (BrotliResult, usize) {
        let mut available_in = self.input.len() - self.consumed;
        let (mut available_out, mut decoded, mut total) = (output.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut self.consumed,
            &self.input,
            &mut available_out,
            &mut decoded,
            output,
            &mut total,
            &mut self.state,
        );
        (result, decoded)
    }

    fn finish(&mut self) -> Result<(), SegmentError> {
        if self.consumed != self.input.len() {
            return Err(SegmentError::Corrupt("something follows its end"));
        }
        if self.bytes_left > 0 {
            return Err(SegmentError::Corrupt("it holds fewer bytes than its entry says"));
        }
        self.is_finished = true;
        Ok(())
    }
}
