use fastrand::Rng;
use relay_durable::{
    Command, Log, Stream, StreamError,
    test_storage::{MemoryStorage, StorageFault},
};
use relay_schemas::{NewEvent, Problem, StreamKey, UnixMillis};

use crate::{
    coverage::{Coverage, Mark},
    object::{Object, copy_of},
    oracle::Oracle,
    profile::{MINUTE_MS, Profile, one_of},
    store::{Bucket, Index, Outcome, STALE_MS_MAX},
    trace::Trace,
};

/// What a stream's tasks are at, for the coverage alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Busy {
    pub(crate) in_history: bool,
    pub(crate) following: bool,
    pub(crate) sealing: bool,
}

/// Everything but the tasks: the clock, the objects, R2, KV, and what must be true of them.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) rng: Rng,
    pub(crate) now: UnixMillis,
    pub(crate) profile: Profile,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    pub(crate) bucket: Bucket,
    pub(crate) index: Index,
    pub(crate) objects: Vec<Object>,
    pub(crate) oracles: Vec<Oracle>,
    pub(crate) busy: Vec<Busy>,
    pub(crate) next_number: u64,
    /// How often a stream was checked.
    pub(crate) checks: u64,
}

/// Why a call to an object has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// It may or may not have been carried out.
    Failed,
    Refused(Problem),
}

pub(crate) type Answer<T> = Result<(T, Vec<Command>), StreamError<StorageFault>>;

impl Platform {
    pub(crate) fn new(seed: u64, profile: Profile, now: UnixMillis, trace: Trace) -> Self {
        // Two streams of one organization and one of another.
        let keys = ["org-1/user:u-1", "org-1/user:u-2", "org-2/user:u-1"];
        let object = |key: &&str| Object::new(stream_key(key), profile.settings);
        let objects: Vec<Object> = keys[3 - profile.streams..].iter().map(object).collect();
        Self {
            rng: Rng::with_seed(seed),
            now,
            coverage: Coverage::default(),
            trace,
            bucket: Bucket::default(),
            index: Index::default(),
            oracles: objects.iter().map(|_| Oracle::default()).collect(),
            busy: vec![Busy::default(); objects.len()],
            objects,
            profile,
            next_number: 1,
            checks: 0,
        }
    }

    pub(crate) fn mark(&mut self, mark: Mark) {
        self.coverage.mark(mark);
    }

    pub(crate) fn mark_if(&mut self, is_so: bool, mark: Mark) {
        if is_so {
            self.coverage.mark(mark);
        }
    }

    pub(crate) fn one_in(&mut self, count: u32) -> bool {
        count > 0 && self.rng.u32(..count) == 0
    }

    /// What becomes of a write that fails once in so many.
    pub(crate) fn outcome(&mut self, one_in: u32, lost: Mark, landed: Mark) -> Outcome {
        if !self.one_in(one_in) {
            return Outcome::Done;
        }
        if self.rng.bool() {
            self.mark(lost);
            return Outcome::Lost;
        }
        self.mark(landed);
        Outcome::Landed
    }

    pub(crate) fn unique_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Calls an object: one stretch without an await, then what must hold afterwards.
    pub(crate) fn call<T>(
        &mut self,
        stream: usize,
        offered: &[NewEvent],
        run: impl FnOnce(&mut Stream<MemoryStorage>, UnixMillis) -> Answer<T>,
    ) -> Result<T, CallError> {
        let breaks = self.one_in(self.profile.gate_breaks);
        let before = breaks.then(|| copy_of(&self.objects[stream].storage));
        let lands = self.arm(stream);
        let outcome = self.objects[stream].run(self.now, run);
        self.objects[stream].storage.fail_after(u64::MAX, false);
        let answer = match outcome {
            Err(StreamError::Storage(_)) => Err(self.forget(stream, lands)),
            Err(StreamError::Refused(problem)) => Err(CallError::Refused(problem)),
            Ok((value, commands)) => match before {
                Some(before) => Err(self.break_gate(stream, before)),
                None => {
                    let sends_back = |one: &Command| matches!(one, Command::ReadHistory { .. });
                    let is_by_append = !offered.is_empty() && commands.iter().any(sends_back);
                    self.mark_if(is_by_append, Mark::SentBackByAppend);
                    Ok(self.settle(stream, value, commands))
                }
            },
        };
        self.check(stream, offered);
        answer
    }

    fn arm(&mut self, stream: usize) -> bool {
        let lands = self.rng.bool();
        if self.one_in(self.profile.storage_fails) {
            let writes = *one_of(&mut self.rng, &[0, 0, 0, 1, 2, 3]);
            self.objects[stream].storage.fail_after(writes, lands);
        }
        lands
    }

    /// A shell may come back to what has perhaps landed.
    fn forget(&mut self, stream: usize, lands: bool) -> CallError {
        self.mark(if lands { Mark::StorageLanded } else { Mark::StorageLost });
        if self.rng.bool() {
            let again = self.now + MINUTE_MS;
            let object = &mut self.objects[stream];
            object.alarm_at = Some(object.alarm_at.map_or(again, |at| at.min(again)));
        }
        CallError::Failed
    }

    fn settle<T>(&mut self, stream: usize, value: T, commands: Vec<Command>) -> T {
        for command in &commands {
            self.trace.note(format_args!("{stream} {command:?}"));
        }
        self.objects[stream].execute(commands);
        self.objects[stream].set_alarm();
        value
    }

    /// The writes never became durable: nothing that followed from them left the object, which
    /// the platform ends, and its sockets with it.
    fn break_gate(&mut self, stream: usize, before: MemoryStorage) -> CallError {
        self.mark(Mark::GateBroken);
        self.objects[stream].storage = before;
        self.reset(stream, true);
        CallError::Failed
    }

    /// The object's memory is gone, and its sockets too unless it only hibernates.
    pub(crate) fn reset(&mut self, stream: usize, breaks_sockets: bool) {
        self.trace.note(format_args!("{stream} reset, sockets break: {breaks_sockets}"));
        let object = &mut self.objects[stream];
        object.stream = None;
        object.life += 1;
        object.discarded.clear();
        if breaks_sockets {
            let rng = &mut self.rng;
            object.sockets.values_mut().for_each(|socket| socket.break_off(rng.usize(..3)));
        }
    }

    /// Invariants 2, 7 and 8: a life that begins now, by the code that every life begins with,
    /// finds what was accepted, without holes or repeats, and what memory holds.
    pub(crate) fn check(&mut self, stream: usize, offered: &[NewEvent]) {
        self.checks += 1;
        let storage = self.objects[stream].storage.clone();
        let log = Log::load(storage, self.now, u32::MAX).expect("memory can be read");
        if !log.is_used() {
            return;
        }
        self.note_epoch(stream, &log);
        self.note_accepted(stream, &log, offered);
        self.note_floor(stream, &log);
        self.check_log(stream, &log);
        if let Some(alive) = &self.objects[stream].stream {
            let bounds = |log: &Log<MemoryStorage>| {
                (log.epoch(), log.trimmed(), log.sealed(), log.tail(), log.hot_bytes(), log.plan())
            };
            assert_eq!(bounds(alive.log()), bounds(&log), "another life finds another log");
        }
        self.objects[stream].check_connections();
    }

    /// A listing as it was some time ago, or none at all.
    pub(crate) fn list(&mut self, prefix: &str) -> Vec<relay_schemas::SegmentEntry> {
        if self.one_in(self.profile.list_fails) {
            self.mark(Mark::ListFailed);
            return Vec::new();
        }
        let stale_ms = if self.rng.bool() { 0 } else { self.rng.u64(..=STALE_MS_MAX) };
        let listing = self.index.list(prefix, self.now, stale_ms);
        self.mark_if(listing.hides_written, Mark::ListStale);
        self.mark_if(listing.hides_expired, Mark::IndexExpired);
        listing.entries
    }
}

fn stream_key(text: &str) -> StreamKey {
    text.parse().expect("a stream's name")
}
