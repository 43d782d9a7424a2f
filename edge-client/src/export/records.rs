use std::io::{BufRead, BufReader, Read};

use brotli_decompressor::Decompressor;

use super::download::Damage;
use crate::limits::LINE_BYTES_MAX;

/// Compressed bytes that are handed to the decoder at once.
const DECODER_BYTES: usize = 16 * 1024;

/// Decoded bytes that lie beside the line that is read.
const DECODED_BYTES: usize = 64 * 1024;

/// A segment's records, decoded one after another; the segment is never decoded as a whole.
pub(super) struct Records<'a> {
    reader: BufReader<Decompressor<&'a [u8]>>,
    line: Vec<u8>,
    decoded_bytes: u64,
}

impl<'a> Records<'a> {
    /// Decodes these bytes.
    pub(super) fn new(compressed: &'a [u8]) -> Self {
        let decoder = Decompressor::new(compressed, DECODER_BYTES);
        let reader = BufReader::with_capacity(DECODED_BYTES, decoder);
        Self { reader, line: Vec::new(), decoded_bytes: 0 }
    }

    /// The next record, without its line break.
    pub(super) fn next(&mut self) -> Result<Option<&str>, Damage> {
        self.line.clear();
        let mut bounded = self.reader.by_ref().take(LINE_BYTES_MAX as u64 + 1);
        let length = bounded
            .read_until(b'\n', &mut self.line)
            .map_err(|error| Damage::NotBrotli(error.to_string()))?;
        if length == 0 {
            return Ok(None);
        }
        self.decoded_bytes += length as u64;
        let record = self.line.strip_suffix(b"\n").ok_or(Damage::NotRecords)?;
        let record = std::str::from_utf8(record).map_err(|_| Damage::NotRecords)?;
        if !record.starts_with("{\"id\"") || !record.ends_with('}') {
            return Err(Damage::NotRecords);
        }
        Ok(Some(record))
    }

    /// Bytes decoded so far, with line breaks.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }
}
