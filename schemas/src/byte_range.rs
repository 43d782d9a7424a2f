use crate::error::{ErrorCode, Problem};

/// What a conditional request for immutable bytes is to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: the caller has them.
    Unchanged,
    /// All of them.
    Whole,
    /// A part.
    Part {
        /// Offset of its first byte.
        first: u64,
        /// Bytes; at least 1.
        length: u64,
    },
}

impl Wanted {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::Unchanged => 304,
            Self::Whole => 200,
            Self::Part { .. } => 206,
        }
    }

    /// Reads `Range`, `If-Range` and `If-None-Match` (RFC 9110, 13 and 14) for `bytes` bytes with
    /// a strong `etag`, quotes included. Several ranges, and units other than bytes, get the whole.
    pub fn read(
        bytes: u64,
        etag: &str,
        range: Option<&str>,
        if_range: Option<&str>,
        if_none_match: Option<&str>,
    ) -> Result<Self, Problem> {
        if if_none_match.is_some_and(|tags| names(tags, etag)) {
            return Ok(Self::Unchanged);
        }
        let is_same = if_range.is_none_or(|tag| tag.trim() == etag);
        match range.and_then(|range| range.trim().strip_prefix("bytes=")) {
            Some(range) if is_same && !range.contains(',') => Self::part(bytes, range.trim()),
            _ => Ok(Self::Whole),
        }
    }

    fn part(bytes: u64, range: &str) -> Result<Self, Problem> {
        let Some((first, last)) = range.split_once('-') else { return Ok(Self::Whole) };
        let (first, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(bytes)),
            (Ok(first), Err(_)) if last.is_empty() => (first, bytes),
            (Err(_), Ok(suffix)) if first.is_empty() => (bytes - suffix.min(bytes), bytes),
            // What can't be read is ignored, as if there were no such header.
            _ => return Ok(Self::Whole),
        };
        if first >= end {
            let message = format!("the segment has {bytes} bytes");
            return Err(Problem::new(ErrorCode::RangeUnsatisfiable, message).with("bytes", bytes));
        }
        Ok(Self::Part { first, length: end - first })
    }
}

/// Weak comparison: `W/` makes no difference for bytes that never change.
fn names(tags: &str, etag: &str) -> bool {
    let mut tags = tags.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETAG: &str = "\"abc\"";

    fn read(range: &str) -> Result<Wanted, ErrorCode> {
        Wanted::read(10, ETAG, Some(range), None, None).map_err(|problem| problem.code)
    }

    #[test]
    fn a_range_is_cut_to_what_there_is() {
        let part = |first, length| Ok(Wanted::Part { first, length });
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-9", part(0, 10)),
            ("bytes=3-", part(3, 7)),
            ("bytes=3-100", part(3, 7)),
            ("bytes=-4", part(6, 4)),
            ("bytes=-100", part(0, 10)),
            ("bytes=9-9", part(9, 1)),
            ("bytes=10-", Err(ErrorCode::RangeUnsatisfiable)),
            ("bytes=10-11", Err(ErrorCode::RangeUnsatisfiable)),
            ("bytes=-0", Err(ErrorCode::RangeUnsatisfiable)),
            ("bytes=5-3", Ok(Wanted::Whole)),
            ("bytes=0-1,3-4", Ok(Wanted::Whole)),
            ("bytes=x", Ok(Wanted::Whole)),
            ("lines=0-1", Ok(Wanted::Whole)),
        ] {
            assert_eq!(read(range), expected, "{range}");
        }
    }

    #[test]
    fn a_part_of_other_bytes_is_not_given() {
        let read = |if_range| Wanted::read(10, ETAG, Some("bytes=3-"), Some(if_range), None);
        assert_eq!(read(ETAG).unwrap(), Wanted::Part { first: 3, length: 7 });
        assert_eq!(read("\"other\"").unwrap(), Wanted::Whole);
        assert_eq!(read("W/\"abc\"").unwrap(), Wanted::Whole);
    }

    #[test]
    fn whoever_has_the_bytes_is_told_so() {
        let read = |tags| Wanted::read(10, ETAG, Some("bytes=3-"), None, Some(tags)).unwrap();
        for tags in [ETAG, "*", "\"x\", \"abc\"", "W/\"abc\""] {
            assert_eq!(read(tags), Wanted::Unchanged, "{tags}");
        }
        assert_eq!(read("\"x\""), Wanted::Part { first: 3, length: 7 });
    }

    proptest! {
        #[test]
        fn a_part_lies_within(range in any::<String>(), bytes in 1u64..100) {
            for range in [range.clone(), format!("bytes={range}")] {
                if let Ok(Wanted::Part { first, length }) =
                    Wanted::read(bytes, ETAG, Some(&range), None, None)
                {
                    prop_assert!(length > 0 && first + length <= bytes);
                }
            }
        }
    }
}
