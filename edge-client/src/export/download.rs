use std::{fmt, sync::Arc};

use relay_schemas::Sha256Digest;

use super::{plan::Segment, records::Records};

/// A segment's compressed bytes, as far as they have come.
pub(super) struct Download {
    segment: Arc<Segment>,
    bytes: Vec<u8>,
}

/// What came is not the segment that the plan names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("something on the way has decoded it: it did not come with Content-Encoding: br")]
    Decoded,
    #[error("more than {0} bytes came")]
    TooLong(u64),
    #[error("its SHA-256 is {0}, not {1}")]
    Digest(Sha256Digest, Sha256Digest),
    #[error("it can't be decoded: {0}")]
    NotBrotli(String),
    #[error("it holds something other than records")]
    NotRecords,
    #[error("it holds {0} events, not {1}")]
    Count(u64, u64),
    #[error("it is {0} bytes decoded, not {1}")]
    Length(u64, u64),
}

impl Download {
    /// Nothing has come yet.
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, bytes: Vec::new() }
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// How many bytes have come.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn is_whole(&self) -> bool {
        self.length() == self.segment.bytes
    }

    /// Forgets what has come.
    pub(super) fn restart(&mut self) {
        self.bytes.clear();
    }

    /// Adds what came. More than the plan promised is not kept.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Damage> {
        if self.length() + chunk.len() as u64 > self.segment.bytes {
            return Err(Damage::TooLong(self.segment.bytes));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// Compares a whole download with the plan. It is decoded here and once more when it is
    /// written: so nothing of a bad one is written, and no decoded one is held.
    pub(super) fn verify(&self) -> Result<(), Damage> {
        let Segment { sha256, count, uncompressed_bytes, .. } = *self.segment;
        let digest = Sha256Digest::of(&[&self.bytes]);
        if digest != sha256 {
            return Err(Damage::Digest(digest, sha256));
        }
        let mut records = self.records();
        let mut events = 0;
        while records.next()?.is_some() {
            events += 1;
            if events > count || records.decoded_bytes() > uncompressed_bytes {
                break;
            }
        }
        if events != count {
            return Err(Damage::Count(events, count));
        }
        if records.decoded_bytes() != uncompressed_bytes {
            return Err(Damage::Length(records.decoded_bytes(), uncompressed_bytes));
        }
        Ok(())
    }

    pub(super) fn records(&self) -> Records<'_> {
        Records::new(&self.bytes)
    }
}

/// Without the bytes: payloads are in no log.
impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Download({}, {} bytes)", self.segment.url, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::transfer::samples, *};

    fn check(change: impl FnOnce(&mut Segment, &mut Vec<u8>), expected: Option<Damage>) {
        let (mut segment, mut bytes) = samples::segment(3, 5);
        change(&mut segment, &mut bytes);
        let mut download = Download::new(Arc::new(segment));
        let result = bytes.chunks(7).try_for_each(|chunk| download.push(chunk));
        assert_eq!(result.and_then(|()| download.verify()).err(), expected);
    }

    #[test]
    fn what_the_plan_names_passes() {
        check(|_, _| {}, None);
    }

    #[test]
    fn each_difference_from_the_plan_is_named() {
        let (segment, bytes) = samples::segment(3, 5);
        let damaged = |bytes: &mut Vec<u8>| {
            bytes[5] ^= 1;
            Sha256Digest::of(&[bytes])
        };
        let digest = damaged(&mut bytes.clone());
        let expected = Damage::Digest(digest, segment.sha256);
        check(|_, bytes| _ = damaged(bytes), Some(expected));
        check(|segment, _| segment.bytes -= 1, Some(Damage::TooLong(segment.bytes - 1)));
        check(|segment, _| segment.count = 2, Some(Damage::Count(3, 2)));
        check(|segment, _| segment.count = 4, Some(Damage::Count(3, 4)));
        let length = segment.uncompressed_bytes;
        let longer = |segment: &mut Segment, _: &mut Vec<u8>| segment.uncompressed_bytes += 1;
        check(longer, Some(Damage::Length(length, length + 1)));
    }

    #[test]
    fn what_is_no_segment_is_refused_even_when_the_digest_fits() {
        for (text, expected) in [
            ("{\"id\":1}\n{\"id\":2}", Damage::NotRecords),
            ("{\"id\":1}\n[]\n", Damage::NotRecords),
            ("{\"id\":1\n", Damage::NotRecords),
            ("{\"id\":1}\r\n", Damage::NotRecords),
        ] {
            let replace = |segment: &mut Segment, bytes: &mut Vec<u8>| {
                *bytes = samples::compress(text.as_bytes());
                segment.bytes = bytes.len() as u64;
                segment.sha256 = Sha256Digest::of(&[bytes]);
            };
            check(replace, Some(expected));
        }
        let plain = |segment: &mut Segment, bytes: &mut Vec<u8>| {
            *bytes = b"{\"id\":1}\n".to_vec();
            segment.bytes = bytes.len() as u64;
            segment.sha256 = Sha256Digest::of(&[bytes]);
        };
        let (mut segment, mut bytes) = samples::segment(3, 5);
        plain(&mut segment, &mut bytes);
        let mut download = Download::new(Arc::new(segment));
        download.push(&bytes).unwrap();
        assert!(matches!(download.verify(), Err(Damage::NotBrotli(_))));
    }
}
