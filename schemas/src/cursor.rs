use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{base32, time::UnixMillis};

const EPOCH_WIDTH: u32 = 12;
const SEQ_WIDTH: u32 = 11;
const EPOCH_BITS: u32 = EPOCH_WIDTH * 5;
const EPOCH_SALT_BITS: u32 = 18;

/// The incarnation of a stream's log: its creation time in the upper 42 bits and a salt in the
/// lower 18, so that a later incarnation sorts later and two within a millisecond differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch for a log created at `now`; of `salt` the lower 18 bits are used.
    pub fn new(now: UnixMillis, salt: u32) -> Self {
        let time = now.get() & ((1 << (EPOCH_BITS - EPOCH_SALT_BITS)) - 1);
        Self((time << EPOCH_SALT_BITS) | u64::from(salt & ((1 << EPOCH_SALT_BITS) - 1)))
    }
}

/// Twelve characters that sort like the epoch.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(EPOCH_WIDTH as usize);
        base32::encode_into(u128::from(self.0), EPOCH_WIDTH, &mut text);
        f.write_str(&text)
    }
}

impl FromStr for Epoch {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        decode_field(text, EPOCH_WIDTH).map(Self)
    }
}

/// Position of an event in its stream: 1, 2, 3 … without holes. Zero is the position before the
/// first event. At most 2^53 − 1, because SQLite integers pass through JavaScript numbers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// The position before the first event.
    pub const ZERO: Self = Self(0);
    /// The greatest position, 2^53 − 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Clamps to [`Seq::MAX`].
    pub fn new(position: u64) -> Self {
        Self(position.min(Self::MAX.0))
    }

    /// The position as a number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The next position.
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The position `count` further on.
    pub fn plus(self, count: u64) -> Self {
        let position = self.0 + count;
        assert!(position <= Self::MAX.0, "a stream has fewer than 2^53 events");
        Self(position)
    }

    /// How many events lie after `earlier` up to and including `self`.
    pub fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A position in one incarnation of a stream, exclusive: "everything after this".
///
/// Written as 23 characters of `[0-9a-v]` that sort like (epoch, seq). Readers must treat the
/// text as opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// The incarnation that the position belongs to.
    pub epoch: Epoch,
    /// The last event that the reader has.
    pub seq: Seq,
}

impl Cursor {
    /// Characters of every cursor's text.
    pub const WIDTH: usize = (EPOCH_WIDTH + SEQ_WIDTH) as usize;

    /// Appends the text form without allocating.
    pub fn write_to(self, out: &mut String) {
        base32::encode_into(u128::from(self.epoch.0), EPOCH_WIDTH, out);
        base32::encode_into(u128::from(self.seq.0), SEQ_WIDTH, out);
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(Self::WIDTH);
        self.write_to(&mut text);
        f.write_str(&text)
    }
}

/// The text is not a cursor of any stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: expected {} characters of 0-9 and a-v", Cursor::WIDTH)]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, seq) = text.split_at_checked(EPOCH_WIDTH as usize).ok_or(CursorError)?;
        let seq = decode_field(seq, SEQ_WIDTH)?;
        if seq > Seq::MAX.0 {
            return Err(CursorError);
        }
        Ok(Self { epoch: epoch.parse()?, seq: Seq(seq) })
    }
}

fn decode_field(text: &str, width: u32) -> Result<u64, CursorError> {
    if text.len() != width as usize {
        return Err(CursorError);
    }
    base32::decode(text).and_then(|value| u64::try_from(value).ok()).ok_or(CursorError)
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        (0..(1u64 << EPOCH_BITS), 0..=Seq::MAX.0)
            .prop_map(|(epoch, seq)| Cursor { epoch: Epoch(epoch), seq: Seq(seq) })
    }

    proptest! {
        #[test]
        fn round_trips_at_fixed_width(cursor in any_cursor()) {
            let text = cursor.to_string();
            prop_assert_eq!(text.len(), Cursor::WIDTH);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            prop_assert_eq!(text.parse(), Ok(cursor));
        }

        #[test]
        fn text_order_is_position_order(left in any_cursor(), right in any_cursor()) {
            prop_assert_eq!(left.to_string().cmp(&right.to_string()), left.cmp(&right));
        }

        #[test]
        fn near_positions_sort_too(cursor in any_cursor(), step in 1u64..40) {
            let later = Cursor { seq: Seq::new(cursor.seq.0.saturating_add(step)), ..cursor };
            prop_assert_eq!(cursor.to_string().cmp(&later.to_string()), cursor.cmp(&later));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn a_later_incarnation_sorts_later() {
        let earlier = Epoch::new(UnixMillis::new(1_790_000_000_000), u32::MAX);
        let later = Epoch::new(UnixMillis::new(1_790_000_000_001), 0);
        assert!(earlier.to_string() < later.to_string());
    }
}
