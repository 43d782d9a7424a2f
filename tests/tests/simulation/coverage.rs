use std::{collections::BTreeMap, fmt};

macro_rules! marks {
    ($($mark:ident),* $(,)?) => {
        /// A fault or a boundary that a run must have met.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Mark { $($mark),* }

        impl Mark {
            pub(crate) const ALL: &[Self] = &[$(Self::$mark),*];
        }
    };
}

marks! {
    Appended,
    DuplicateRefused,
    AppendedAgainAfterTheWindow,
    Redelivered,
    CallNeverArrived,
    AnswerLost,
    StorageLost,
    StorageLanded,
    GateBroken,
    StreamFull,
    PutLost,
    PutLanded,
    PutFoundItThere,
    PutAfterReset,
    GetFailed,
    DeleteFailed,
    IndexLost,
    IndexLanded,
    ListStale,
    ListFailed,
    IndexExpired,
    ObjectExpired,
    ObjectRemovedByHand,
    ObjectChangedByHand,
    StreamWiped,
    Hibernated,
    ResetWhileIdle,
    ResetBeforeSealing,
    ResetBeforePut,
    ResetBeforeIndex,
    ResetBeforeSealDone,
    ResetBeforeDiscard,
    ResetUnderReplay,
    ResetUnderFollower,
    AlarmLate,
    AlarmTwice,
    AlarmDied,
    Sealed,
    SealUnderReplay,
    SealUnderFollower,
    AppendUnderSeal,
    AppendUnderReplay,
    AppendUnderFollower,
    Trimmed,
    TrimUnderReplay,
    TrimUnderFollower,
    StartInHistory,
    StartLive,
    StartRefused,
    StartByTimeInSegment,
    FoundByList,
    Prefetched,
    Doubted,
    HandedOverToFollow,
    SentBackToHistory,
    SentBackByAppend,
    ReaderStalled,
    ReaderVanished,
    ReaderResumed,
    Granted,
    GapTrimmed,
    GapEpochChanged,
    GapFuture,
    GapInvalid,
    GapLost,
    ByeReconnect,
    ByeSlow,
    ByeExpired,
    ByeError,
    Heartbeat,
    DirectFollowed,
    DirectInHistory,
    PageUpwards,
    PageDownwards,
    PageOverSegments,
    PageGap,
    ReadInFull,
    TrimmedToTheEnd,
}

/// How often what was met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<Mark, u64>);

impl Coverage {
    pub(crate) fn mark(&mut self, mark: Mark) {
        *self.0.entry(mark).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mark, count) in &other.0 {
            *self.0.entry(*mark).or_default() += count;
        }
    }

    pub(crate) fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| !self.0.contains_key(mark)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mark in Mark::ALL {
            let count = self.0.get(mark).copied().unwrap_or_default();
            writeln!(f, "{:>10}  {mark:?}", count)?;
        }
        Ok(())
    }
}
