//! Goal: a segment gives back exactly the records that went in, from any position, in bounded
//! memory; and an object that is not what its entry says gives an error and never a wrong record.
//!
//! Method: every reading is compared with the list that was pushed. Damage is tried with the
//! digest of the sound bytes, and with a digest that was made to fit, so that each check behind it
//! is reached. A golden file pins the bytes.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

mod bounds;
mod damage;
mod golden;
mod round_trip;

use relay_durable::{EncodedSegment, SegmentEncoder, SegmentError, SegmentReader};
use relay_schemas::{SegmentEntry, Seq, Sha256Digest};

fn encode(first: u64, records: &[impl AsRef<str>]) -> EncodedSegment {
    let mut encoder = SegmentEncoder::new(Seq::new(first));
    records.iter().for_each(|record| encoder.push(record.as_ref()));
    encoder.finish().unwrap()
}

/// Everything after a position until the end or an error.
fn read_after(
    bytes: &[u8],
    entry: &SegmentEntry,
    after: u64,
) -> (Vec<(u64, String)>, Option<SegmentError>) {
    let mut found = Vec::new();
    let mut reader = match SegmentReader::new(bytes.to_vec(), entry) {
        Ok(reader) => reader,
        Err(error) => return (found, Some(error)),
    };
    reader.skip_to(Seq::new(after));
    loop {
        match reader.next() {
            Ok(Some((seq, record))) => found.push((seq.get(), record.to_owned())),
            Ok(None) => return (found, None),
            Err(error) => {
                assert_eq!(reader.next(), Err(error), "an error stays");
                return (found, Some(error));
            }
        }
    }
}

/// The entry with the length and the digest of other bytes.
fn fitted(entry: &SegmentEntry, bytes: &[u8]) -> SegmentEntry {
    let (length, sha256) = (bytes.len() as u64, Sha256Digest::of(&[bytes]));
    SegmentEntry { bytes: length, sha256, ..entry.clone() }
}

/// Some records of different lengths, the shortest of them empty.
fn some_records(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number} é ").repeat(number * number % 97)).collect()
}
