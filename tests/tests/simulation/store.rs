//! R2 and KV as they are promised to be, and as they fail.

use std::collections::BTreeMap;

use relay_schemas::{SegmentEntry, UnixMillis};

use crate::profile::{HOUR_MS, SECOND_MS};

/// How long a listing may lag behind what was written.
pub(crate) const STALE_MS_MAX: u64 = 120 * SECOND_MS;

/// How much later than retention the bucket's own rule deletes.
const LIFECYCLE_SLACK_MS: u64 = 3 * HOUR_MS;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// Answered with an error, and nothing happened.
    Lost,
    /// Answered with an error, and yet it happened.
    Landed,
}

#[derive(Debug)]
struct Object {
    bytes: Vec<u8>,
    put_at: UnixMillis,
}

/// R2: what was written is read at once.
#[derive(Debug, Default)]
pub(crate) struct Bucket(BTreeMap<String, Object>);

impl Bucket {
    /// Whether it was absent.
    pub(crate) fn put_if_absent(&mut self, key: &str, bytes: &[u8], now: UnixMillis) -> bool {
        let is_absent = !self.0.contains_key(key);
        if is_absent {
            self.0.insert(key.to_owned(), Object { bytes: bytes.to_vec(), put_at: now });
        }
        is_absent
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(key).map(|object| object.bytes.clone())
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn delete(&mut self, key: &str) {
        self.0.remove(key);
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Changes one byte.
    pub(crate) fn damage(&mut self, key: &str, place: usize) {
        if let Some(object) = self.0.get_mut(key) {
            let place = place % object.bytes.len();
            object.bytes[place] ^= 0x20;
        }
    }

    /// The lifecycle rule; answers whether it deleted anything.
    pub(crate) fn expire(&mut self, retention_ms: u64, now: UnixMillis) -> bool {
        let before = self.0.len();
        let lives_ms = retention_ms + LIFECYCLE_SLACK_MS;
        self.0.retain(|_, object| now.since_ms(object.put_at) < lives_ms);
        self.0.len() < before
    }
}

#[derive(Debug)]
struct IndexEntry {
    entry: SegmentEntry,
    put_at: UnixMillis,
    expires_at: UnixMillis,
}

/// What a listing showed.
pub(crate) struct Listing {
    pub(crate) entries: Vec<SegmentEntry>,
    pub(crate) hides_written: bool,
    pub(crate) hides_expired: bool,
}

/// KV: an older state is listed for a while.
#[derive(Debug, Default)]
pub(crate) struct Index(BTreeMap<String, IndexEntry>);

impl Index {
    pub(crate) fn put(
        &mut self,
        key: String,
        entry: SegmentEntry,
        now: UnixMillis,
        retention_ms: u64,
    ) {
        let put_at = self.0.get(&key).map_or(now, |written| written.put_at);
        self.0.insert(key, IndexEntry { entry, put_at, expires_at: now + retention_ms });
    }

    /// The keys under a prefix as they were `stale_ms` ago.
    pub(crate) fn list(&self, prefix: &str, now: UnixMillis, stale_ms: u64) -> Listing {
        let mut listing =
            Listing { entries: Vec::new(), hides_written: false, hides_expired: false };
        for (_, written) in
            self.0.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix))
        {
            if written.expires_at <= now {
                listing.hides_expired = true;
            } else if written.put_at > now - stale_ms {
                listing.hides_written = true;
            } else {
                listing.entries.push(written.entry.clone());
            }
        }
        listing
    }
}
