use proptest::prelude::*;
use relay_schemas::Dialect;

use crate::support::HOUR_MS;

/// A write that fails after so many, lost or landed.
pub(crate) type Fault = Option<(u64, bool)>;

/// One thing that may happen to a stream. Indexes are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Append { events: Vec<(u64, bool)>, fault: Fault },
    Connect { dialect: Dialect, edge: usize, start: From, issues_only: bool, lives_ms: u64 },
    Grant { reader: usize, bytes: i64 },
    Garbage { reader: usize },
    Close { reader: usize },
    Reload,
    Wait { ms: u64 },
    Alarm { fault: Fault },
    Revoke { edge: usize },
}

/// Where a reader starts.
#[derive(Clone, Debug)]
pub(crate) enum From {
    Earliest,
    Now,
    Tail(u64),
    /// A position counted back from two after the newest.
    Cursor(u64),
    Event(u64),
    /// So long before now.
    Time(u64),
    Nonsense,
}

pub(crate) fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (events(), fault()).prop_map(|(events, fault)| Operation::Append { events, fault }),
        4 => connect(),
        5 => (any_index(), 1i64..400_000)
            .prop_map(|(reader, bytes)| Operation::Grant { reader, bytes }),
        1 => any_index().prop_map(|reader| Operation::Garbage { reader }),
        1 => any_index().prop_map(|reader| Operation::Close { reader }),
        3 => Just(Operation::Reload),
        4 => prop::sample::select(vec![1, HOUR_MS, 5 * HOUR_MS, 8 * HOUR_MS])
            .prop_map(|ms| Operation::Wait { ms }),
        3 => fault().prop_map(|fault| Operation::Alarm { fault }),
        1 => prop::sample::select(vec![0, 1, 2]).prop_map(|edge| Operation::Revoke { edge }),
    ]
}

fn any_index() -> impl Strategy<Value = usize> {
    0usize..16
}

/// Few numbers, so that duplicates are common; some events are large, so that credit ends and
/// batches have several rows.
fn events() -> impl Strategy<Value = Vec<(u64, bool)>> {
    prop::collection::vec((0u64..60, prop::bool::weighted(0.2)), 0..9)
}

fn fault() -> impl Strategy<Value = Fault> {
    prop::option::weighted(0.3, (0u64..3, any::<bool>()))
}

fn connect() -> impl Strategy<Value = Operation> {
    let start = prop_oneof![
        Just(From::Earliest),
        Just(From::Now),
        (0u64..12).prop_map(From::Tail),
        (0u64..20).prop_map(From::Cursor),
        (0u64..60).prop_map(From::Event),
        (0u64..12 * HOUR_MS).prop_map(From::Time),
        Just(From::Nonsense),
    ];
    let dialect = prop::sample::select(Dialect::ALL.to_vec());
    let lives_ms = prop::sample::select(vec![1, 10 * HOUR_MS, 1_000 * HOUR_MS]);
    (dialect, 0usize..6, start, any::<bool>(), lives_ms).prop_map(
        |(dialect, edge, start, issues_only, lives_ms)| Operation::Connect {
            dialect,
            edge,
            start,
            issues_only,
            lives_ms,
        },
    )
}
