//! The clock and the random source, read nowhere else.

use relay_schemas::UnixMillis;

/// Now. The platform's clock stands still between two awaits.
pub(crate) fn now() -> UnixMillis {
    UnixMillis::new(worker::Date::now().as_millis())
}

/// Bytes that nobody can guess.
pub(crate) fn random_bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("the platform has a random source");
    bytes
}

/// A number from `least` up to but not including `bound`.
pub(crate) fn random_between(least: u64, bound: u64) -> u64 {
    let span = bound.saturating_sub(least).max(1);
    least + u64::from_le_bytes(random_bytes()) % span
}

/// Sixteen random bytes as hexadecimal digits.
pub(crate) fn random_name() -> String {
    format!("{:032x}", u128::from_le_bytes(random_bytes()))
}
