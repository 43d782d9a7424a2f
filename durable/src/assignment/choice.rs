//! Which edge gets an event: pure functions over those that are connected.

use relay_schemas::{EdgeId, MultiEdgeMode};

/// A connected edge that wants the event and may have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub edge: EdgeId,
    /// Leases that it has.
    pub open: usize,
    /// Whether it may be sent more now.
    pub has_room: bool,
    /// Whether it has answered lately.
    pub is_healthy: bool,
}

/// Who gets an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This edge, now.
    Edge(EdgeId),
    /// One that has no room, or is about to be back.
    Later,
    /// One that is not there, and expected.
    Absent,
    /// None of those connected or expected wants it.
    Nobody,
}

/// Chooses among the candidates. An edge that has tried is chosen only when there is no other,
/// and so is one that is not healthy.
pub fn choose(
    mode: MultiEdgeMode,
    key: &str,
    tried: &[EdgeId],
    last: Option<&EdgeId>,
    candidates: &[Candidate],
) -> Choice {
    let all: Vec<&Candidate> = candidates.iter().collect();
    let pool = preferred(all, |one| !tried.contains(&one.edge));
    let pool = preferred(pool, |one| tried.last() != Some(&one.edge));
    let pool = preferred(pool, |one| one.is_healthy);
    let chosen = match mode {
        MultiEdgeMode::Broadcast | MultiEdgeMode::RoundRobin => {
            let rank = |one: &&&Candidate| (one.open, last >= Some(&one.edge), one.edge.clone());
            pool.iter().filter(|one| one.has_room).min_by_key(rank)
        }
        MultiEdgeMode::Sticky => {
            let first = pool.iter().max_by_key(|one| (score(key, &one.edge), one.edge.clone()));
            first.filter(|one| one.has_room)
        }
    };
    chosen.map_or(Choice::Later, |one| Choice::Edge(one.edge.clone()))
}

/// Those that fit, or all when none does.
fn preferred(pool: Vec<&Candidate>, fits: impl Fn(&Candidate) -> bool) -> Vec<&Candidate> {
    let fitting: Vec<&Candidate> = pool.iter().copied().filter(|one| fits(one)).collect();
    if fitting.is_empty() { pool } else { fitting }
}

/// Rendezvous hashing: the edge with the greatest score has the key, so that an edge that comes
/// or goes moves only its own share of the keys. FNV-1a, and a last mixing without which keys
/// that differ in their end alone would rank edges alike.
pub fn score(key: &str, edge: &EdgeId) -> u64 {
    let bytes = key.bytes().chain([0]).chain(edge.as_str().bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
