//! The contents of a segment's object: records, one a line, each line ended by a line break,
//! compressed with brotli and nothing else. Version 1 of the format, for as long as the names end
//! in `.ndjson.br`; a golden file in `durable/tests/segment` pins it byte for byte.
//!
//! Out of scope: what a segment is called and what its index says of it (`schemas`), and where its
//! bytes lie.

mod decoder;
mod encoder;
mod reader;

pub use encoder::{EncodedSegment, SegmentEncoder};
pub use reader::SegmentReader;

/// A segment isn't what its entry says. Nothing that comes after this error is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The object is longer or shorter than its entry says.
    #[error("the segment has {found} bytes, and {expected} in its entry")]
    Length {
        /// Bytes in the entry.
        expected: u64,
        /// Bytes of the object.
        found: u64,
    },
    /// The object's bytes are others than those that were sealed.
    #[error("the segment's bytes don't have the digest in its entry")]
    Digest,
    /// The bytes are those that were sealed, and yet not the records of the entry.
    #[error("the segment is corrupt: {0}")]
    Corrupt(&'static str),
}
