use std::{fmt, ops};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since 1970-01-01T00:00:00Z. Shells read a clock; everything else is given one of
/// these.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// The last instant that RFC 3339 can write, 9999-12-31T23:59:59.999Z.
    const MAX: u64 = 253_402_300_799_999;

    /// Clamps to the range that RFC 3339 can write.
    pub const fn new(milliseconds: u64) -> Self {
        Self(if milliseconds < Self::MAX { milliseconds } else { Self::MAX })
    }

    /// Milliseconds since the epoch.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Milliseconds from `earlier` to `self`; zero when `earlier` is later.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads an RFC 3339 date and time; instants before 1970 are refused.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let milliseconds = instant.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(milliseconds).ok().map(Self::new)
    }
}

impl ops::Add<u64> for UnixMillis {
    type Output = Self;

    fn add(self, milliseconds: u64) -> Self {
        Self::new(self.0.saturating_add(milliseconds))
    }
}

impl ops::Sub<u64> for UnixMillis {
    type Output = Self;

    fn sub(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_sub(milliseconds))
    }
}

/// RFC 3339 in UTC with exactly three decimals, so that texts sort like instants.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        let instant = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| fmt::Error)?;
        let (date, clock) = (instant.date(), instant.time());
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            clock.hour(),
            clock.minute(),
            clock.second(),
            self.0 % 1000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_sorts() {
        let instants = [0, 1, 999, 1_773_883_618_500, UnixMillis::MAX].map(UnixMillis::new);
        let texts = instants.map(|instant| instant.to_string());
        assert!(texts.is_sorted());
        assert_eq!(texts.map(|text| UnixMillis::parse_rfc3339(&text)), instants.map(Some));
        assert_eq!(UnixMillis::parse_rfc3339("1969-12-31T23:59:59Z"), None);
    }
}
