use serde::{Deserialize, Serialize};

/// Which of a machine's pairs of tokens are good. Each showing of a refresh token gives a pair of its
/// own, so that two who show the same one never hold the same pair. Several may be out at once, of
/// lost answers: the first of them that anybody shows is the machine's, and whoever comes with
/// another that was out then has a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredPairs")]
pub(super) struct Pairs {
    /// The how manieth pair was given out last, from 1.
    #[serde(rename = "generation")]
    newest: u64,
    /// What is known to have arrived.
    arrived: Arrived,
}

/// The pair that arrived last, and what was out then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Arrived {
    /// 0 as long as none has.
    generation: u64,
    /// The two that had arrived before it, the later one first. Their access tokens may be in use for
    /// their hour, and so may those of what was given out beside them.
    earlier: [u64; 2],
    /// The newest that was out then: none up to here will ever be the machine's again.
    newest: u64,
}

/// As it is stored. An earlier relay gave one pair until it had arrived, and kept nothing else.
#[derive(Deserialize)]
struct StoredPairs {
    generation: u64,
    #[serde(default)]
    is_used: bool,
    #[serde(default)]
    arrived: Option<Arrived>,
}

/// What a token is to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was never given out.
    Never,
    /// It arrived last.
    Current,
    /// It was given out since, and has not been shown.
    Awaited,
    /// It was given out beside one that arrived, and is not it.
    Sibling,
    /// It arrived earlier, or is so old that its access token has expired.
    Former,
}

impl Pairs {
    /// The first one is given out.
    pub(super) fn first() -> Self {
        Self { newest: 1, arrived: Arrived { generation: 0, earlier: [0, 0], newest: 0 } }
    }

    /// The generation of the pair that was given out last.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether no pair is known to have arrived.
    pub(super) fn is_first_awaited(&self) -> bool {
        self.arrived.generation == 0
    }

    pub(super) fn standing(&self, generation: u64) -> Standing {
        let arrived = &self.arrived;
        match generation {
            0 => Standing::Never,
            _ if generation > self.newest => Standing::Never,
            _ if generation == arrived.generation => Standing::Current,
            _ if generation > arrived.newest => Standing::Awaited,
            _ if arrived.earlier.contains(&generation) => Standing::Former,
            _ if generation > arrived.earlier[1] => Standing::Sibling,
            _ => Standing::Former,
        }
    }

    /// Whoever shows this one is the machine. No news of the one that is known to have arrived.
    pub(super) fn arrive(&mut self, generation: u64) {
        if self.standing(generation) == Standing::Awaited {
            let earlier = [self.arrived.generation, self.arrived.earlier[0]];
            self.arrived = Arrived { generation, earlier, newest: self.newest };
        }
    }

    /// One more is given out.
    pub(super) fn give(&mut self) {
        self.newest += 1;
    }
}

impl From<StoredPairs> for Pairs {
    fn from(stored: StoredPairs) -> Self {
        let StoredPairs { generation: newest, is_used, arrived } = stored;
        // Whoever got the newest has shown the one before.
        let earlier = || {
            let generation = if is_used { newest } else { newest.saturating_sub(1) };
            let earlier = [generation.saturating_sub(1), generation.saturating_sub(2)];
            Arrived { generation, earlier, newest: generation }
        };
        Self { newest, arrived: arrived.unwrap_or_else(earlier) }
    }
}
