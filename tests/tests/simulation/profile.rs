use fastrand::Rng;
use relay_durable::StreamSettings;

pub(crate) const SECOND_MS: u64 = 1_000;
pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;

/// What a seed's world is like: "one in so many" for each fault, zero for never.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) streams: usize,
    pub(crate) steps: usize,
    pub(crate) settings: StreamSettings,
    /// Segments that the shell takes of an offer, as if `SEGMENTS_OFFERED_MAX` were this: a world
    /// with more than a hundred segments would be slow.
    pub(crate) offered_max: usize,
    pub(crate) batch_max: usize,
    /// One event in so many is large.
    pub(crate) large: u32,
    pub(crate) large_bytes_max: usize,
    pub(crate) call_fails: u32,
    pub(crate) storage_fails: u32,
    pub(crate) gate_breaks: u32,
    pub(crate) bucket_fails: u32,
    pub(crate) index_fails: u32,
    /// Listings fail to the end: nobody depends on them.
    pub(crate) list_fails: u32,
    pub(crate) alarm_strays: u32,
    /// One step in so many resets an object, or lets it hibernate.
    pub(crate) resets: u32,
    pub(crate) hand: u32,
    pub(crate) wipes: u32,
    /// One step in so many lets hours pass.
    pub(crate) long_waits: u32,
    /// Bytes that the Worker holds for a reader in history.
    pub(crate) room_bytes: i64,
    pub(crate) credential_lives_ms: u64,
}

impl Profile {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let large = *one_of(rng, &[0, 0, 0, 6]);
        let mut profile = Self {
            streams: rng.usize(2..=3),
            steps: rng.usize(200..=500),
            settings: settings(rng, large > 0),
            offered_max: *one_of(rng, &[1, 2, 3, 100]),
            batch_max: *one_of(rng, &[1, 5, 5, 12]),
            large,
            large_bytes_max: *one_of(rng, &[40_000, 120_000, 300_000]),
            long_waits: *one_of(rng, &[0, 15, 30, 60]),
            room_bytes: *one_of(rng, &[1, 700, 3_000, 256 * 1024]),
            credential_lives_ms: *one_of(rng, &[12 * HOUR_MS, 90 * 24 * HOUR_MS]),
            ..Self::calm()
        };
        if rng.u32(..8) > 0 {
            profile.draw_faults(rng);
        }
        profile
    }

    /// Some of the faults, each as often as it likes.
    fn draw_faults(&mut self, rng: &mut Rng) {
        let mut fault = |rates: std::ops::RangeInclusive<u32>| {
            if rng.u32(..3) == 0 { 0 } else { rng.u32(rates) }
        };
        self.call_fails = fault(10..=40);
        self.storage_fails = fault(2..=15);
        self.gate_breaks = fault(20..=80);
        self.bucket_fails = fault(1..=8);
        self.index_fails = fault(1..=8);
        self.list_fails = fault(2..=8);
        self.alarm_strays = fault(3..=10);
        self.resets = fault(15..=80);
        self.hand = *one_of(rng, &[0, 0, 0, 25]);
        self.wipes = *one_of(rng, &[0, 0, 0, 0, 0, 0, 150]);
    }

    /// Many small events at once, and readers that take none: who is slow is ended.
    pub(crate) fn flood(rng: &mut Rng) -> Self {
        let profile = Self::random(rng);
        let settings =
            StreamSettings { hot_bytes_max: 1 << 32, seal_bytes: 20_000, ..profile.settings };
        Self {
            settings,
            streams: 2,
            steps: 300,
            batch_max: 400,
            large: 0,
            room_bytes: 700,
            long_waits: 0,
            ..profile
        }
    }

    /// A world in which nothing fails.
    fn calm() -> Self {
        Self {
            streams: 0,
            steps: 0,
            settings: StreamSettings::default(),
            offered_max: 0,
            batch_max: 0,
            large: 0,
            large_bytes_max: 0,
            call_fails: 0,
            storage_fails: 0,
            gate_breaks: 0,
            bucket_fails: 0,
            index_fails: 0,
            list_fails: 0,
            alarm_strays: 0,
            resets: 0,
            hand: 0,
            wipes: 0,
            long_waits: 0,
            room_bytes: 0,
            credential_lives_ms: 0,
        }
    }

    /// Nothing more fails.
    pub(crate) fn calm_down(&mut self) {
        *self = Self {
            streams: self.streams,
            steps: self.steps,
            settings: self.settings,
            offered_max: self.offered_max,
            batch_max: self.batch_max,
            list_fails: self.list_fails,
            room_bytes: self.room_bytes,
            credential_lives_ms: self.credential_lives_ms,
            ..Self::calm()
        };
    }
}

/// The hot tail always has room for one batch, or the queue would offer it for ever.
fn settings(rng: &mut Rng, has_large: bool) -> StreamSettings {
    let hot_bytes_max = if has_large { 1 << 32 } else { *one_of(rng, &[15_000, 1 << 32]) };
    StreamSettings {
        retention_ms: *one_of(rng, &[9 * HOUR_MS, 30 * HOUR_MS]),
        seal_bytes: *one_of(rng, &[1, 1_000, 4_000, 20_000]),
        seal_age_ms: *one_of(rng, &[MINUTE_MS, HOUR_MS]),
        hot_bytes_max,
        ..StreamSettings::default()
    }
}

pub(crate) fn one_of<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
