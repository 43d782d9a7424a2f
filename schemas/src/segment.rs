//! Segments: sealed, immutable runs of events in R2, and the entries of their index.
//!
//! A segment's object holds records, one a line, each line ended by a line break, compressed with
//! brotli. Its name follows from what it holds. Version 1 of the format; a golden file in
//! `durable/tests/segment` pins it byte for byte.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    cursor::{Epoch, Seq},
    identifier::StreamKey,
    limits::SEGMENT_EVENTS_MAX,
    signature::Sha256Digest,
    time::UnixMillis,
};

/// Digits of a position in a name: enough for 2^53 − 1, so that names sort like positions.
const SEQ_DIGITS: usize = 16;

/// Where a segment was sealed, when its stream was rebuilt since: its object keeps its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentOrigin {
    /// The incarnation that sealed it.
    pub epoch: Epoch,
    /// Position of its first event there.
    pub first: Seq,
}

/// What is known of a segment without reading it. In KV this is the metadata of the key
/// [`index_key`], and of the 1,024 bytes allowed there it takes less than 300.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Position of the first event.
    pub first: Seq,
    /// Position of the last event.
    pub last: Seq,
    /// The earliest receipt among its events; the hour in the object's name.
    pub received_at_min: UnixMillis,
    /// The latest receipt among its events.
    pub received_at_max: UnixMillis,
    /// Bytes of the object, compressed.
    pub bytes: u64,
    /// Bytes of the records and their line breaks.
    pub raw_bytes: u64,
    /// SHA-256 of the object's bytes, as they lie.
    pub sha256: Sha256Digest,
    /// Where it was sealed, if not in this incarnation at this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<SegmentOrigin>,
}

impl SegmentEntry {
    /// How many events it holds; at least 1.
    pub fn count(&self) -> u64 {
        self.last.distance_from(self.first) + 1
    }

    /// The name of its object in R2, in a stream whose incarnation is `epoch`.
    pub fn key(&self, stream: &StreamKey, epoch: Epoch) -> String {
        let (epoch, first) = self.origin.map_or((epoch, self.first), |at| (at.epoch, at.first));
        SegmentName {
            stream: stream.clone(),
            epoch,
            first,
            last: first.plus(self.count() - 1),
            received_at_min: self.received_at_min,
        }
        .to_string()
    }
}

/// The name of a segment's object in R2:
/// `segments/{stream}/{epoch}/{yyyy}/{mm}/{dd}/{hh}/{first}-{last}.ndjson.br`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentName {
    /// Whose events.
    pub stream: StreamKey,
    /// The incarnation that sealed it.
    pub epoch: Epoch,
    /// Position of the first event there.
    pub first: Seq,
    /// Position of the last event there.
    pub last: Seq,
    /// The earliest receipt; only its hour is in the name.
    pub received_at_min: UnixMillis,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hour = self.received_at_min.to_string()[..13].replace(['-', 'T'], "/");
        write!(
            f,
            "{}{}/{hour}/{:0SEQ_DIGITS$}-{:0SEQ_DIGITS$}.ndjson.br",
            segments_prefix(&self.stream),
            self.epoch,
            self.first.get(),
            self.last.get()
        )
    }
}

impl SegmentName {
    /// Reads a name; `None` for any other key.
    pub fn parse(key: &str) -> Option<Self> {
        let rest = key.strip_prefix("segments/")?;
        let [organization, channel, epoch, year, month, day, hour, name] =
            <[&str; 8]>::try_from(rest.split('/').collect::<Vec<_>>()).ok()?;
        let (first, last) = name.strip_suffix(".ndjson.br")?.split_once('-')?;
        let parsed = Self {
            stream: format!("{organization}/{channel}").parse().ok()?,
            epoch: epoch.parse().ok()?,
            first: seq(first)?,
            last: seq(last)?,
            received_at_min: UnixMillis::parse_rfc3339(&format!(
                "{year}-{month}-{day}T{hour}:00:00Z"
            ))?,
        };
        (parsed.first <= parsed.last && parsed.to_string() == key).then_some(parsed)
    }
}

fn seq(digits: &str) -> Option<Seq> {
    let position = digits.parse().ok().filter(|position| *position > 0)?;
    (digits.len() == SEQ_DIGITS).then_some(Seq::new(position))
}

/// What the names of a stream's segments begin with.
pub fn segments_prefix(stream: &StreamKey) -> String {
    format!("segments/{stream}/")
}

/// KV key of a segment's entry: `seg/{stream}/{epoch}/{first}`. Written once, with an empty value
/// and a [`SegmentEntry`] as metadata. That a key is missing never means that there is no segment.
pub fn index_key(stream: &StreamKey, epoch: Epoch, first: Seq) -> String {
    format!("seg/{stream}/{epoch}/{:0SEQ_DIGITS$}", first.get())
}

/// What the index keys begin with of segments whose first event lies near `first`: one listing
/// of at most [`SEGMENT_EVENTS_MAX`] keys finds it and those that follow.
pub fn index_prefix(stream: &StreamKey, epoch: Epoch, first: Seq) -> String {
    let mut key = index_key(stream, epoch, first);
    key.truncate(key.len() - SEGMENT_EVENTS_MAX.ilog10() as usize);
    key
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_hex(&text)
            .ok_or_else(|| serde::de::Error::custom("a digest has 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(first: u64, last: u64) -> SegmentEntry {
        SegmentEntry {
            first: Seq::new(first),
            last: Seq::new(last),
            received_at_min: UnixMillis::parse_rfc3339("2026-11-20T05:06:07Z").unwrap(),
            received_at_max: UnixMillis::new(Seq::MAX.get()),
            bytes: u64::MAX >> 12,
            raw_bytes: u64::MAX >> 12,
            sha256: Sha256Digest::of(&[b"x"]),
            origin: None,
        }
    }

    fn stream() -> StreamKey {
        "org-1/user:u-1".parse().unwrap()
    }

    fn epoch(salt: u32) -> Epoch {
        Epoch::new(UnixMillis::new(1_790_000_000_000), salt)
    }

    #[test]
    fn names_are_pinned() {
        let name = entry(1, 24).key(&stream(), epoch(7));
        let epoch_text = epoch(7).to_string();
        assert_eq!(
            name,
            format!(
                "segments/org-1/user:u-1/{epoch_text}/2026/11/20/05/\
                 0000000000000001-0000000000000024.ndjson.br"
            )
        );
        assert_eq!(
            index_key(&stream(), epoch(7), Seq::new(1)),
            format!("seg/org-1/user:u-1/{epoch_text}/0000000000000001")
        );
        assert_eq!(
            index_prefix(&stream(), epoch(7), Seq::new(1_234_567)),
            format!("seg/org-1/user:u-1/{epoch_text}/000000000123")
        );
    }

    #[test]
    fn a_rebuilt_stream_finds_its_segments_where_they_were_sealed() {
        let origin = SegmentOrigin { epoch: epoch(7), first: Seq::new(101) };
        let rebuilt = SegmentEntry { origin: Some(origin), ..entry(1, 24) };
        assert_eq!(rebuilt.key(&stream(), epoch(8)), entry(101, 124).key(&stream(), epoch(7)));
    }

    #[test]
    fn an_entry_fits_the_metadata_of_a_key() {
        let origin = Some(SegmentOrigin { epoch: epoch(7), first: Seq::MAX });
        let entry = SegmentEntry { origin, ..entry(Seq::MAX.get() - 9, Seq::MAX.get()) };
        let text = serde_json::to_string(&entry).unwrap();
        assert!(text.len() < 400, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<SegmentEntry>(&text).unwrap(), entry);
    }

    proptest! {
        #[test]
        fn names_round_trip_and_sort(first in 1u64..1 << 50, more in 0u64..10_000) {
            let key = entry(first, first + more).key(&stream(), epoch(7));
            let name = SegmentName::parse(&key).unwrap();
            prop_assert_eq!((name.first.get(), name.last.get()), (first, first + more));
            prop_assert_eq!((name.stream, name.epoch), (stream(), epoch(7)));
            prop_assert!(key < entry(first + 1, first + more + 1).key(&stream(), epoch(7)));
            let prefix = index_prefix(&stream(), epoch(7), Seq::new(first));
            prop_assert!(index_key(&stream(), epoch(7), Seq::new(first)).starts_with(&prefix));
        }

        #[test]
        fn arbitrary_keys_never_panic(text in any::<String>()) {
            prop_assert_eq!(SegmentName::parse(&text), None);
            prop_assert_eq!(SegmentName::parse(&format!("segments/o/user:u/{text}")), None);
        }
    }
}
