use relay_durable::SealJob;
use relay_schemas::{UnixMillis, index_key};

use crate::{
    coverage::Mark,
    platform::Platform,
    profile::{MINUTE_MS, SECOND_MS},
    store::Outcome,
};

/// The object's alarm as the shell runs it. Each state is an await: other tasks run there, and
/// the object may be gone when it goes on.
#[derive(Debug, Default)]
pub(crate) enum AlarmState {
    #[default]
    Idle,
    Discarding(Vec<String>),
    Sealing,
    Putting(Box<SealJob>),
    Indexing(Box<SealJob>),
    Completing(Box<SealJob>),
}

#[derive(Debug)]
pub(crate) struct AlarmTask {
    stream: usize,
    state: AlarmState,
    /// In which life of the object it runs.
    life: u64,
    fired_at: UnixMillis,
}

impl AlarmTask {
    pub(crate) fn new(stream: usize) -> Self {
        Self { stream, state: AlarmState::Idle, life: 0, fired_at: UnixMillis::default() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, AlarmState::Idle)
    }

    /// Where a reset meets it.
    pub(crate) fn reset_mark(&self) -> Mark {
        match self.state {
            AlarmState::Idle => Mark::ResetWhileIdle,
            AlarmState::Discarding(_) => Mark::ResetBeforeDiscard,
            AlarmState::Sealing => Mark::ResetBeforeSealing,
            AlarmState::Putting(_) => Mark::ResetBeforePut,
            AlarmState::Indexing(_) => Mark::ResetBeforeIndex,
            AlarmState::Completing(_) => Mark::ResetBeforeSealDone,
        }
    }

    pub(crate) fn step(&mut self, platform: &mut Platform) {
        let state = std::mem::take(&mut self.state);
        if !matches!(state, AlarmState::Idle) && self.life != platform.objects[self.stream].life {
            return self.die(state, platform);
        }
        self.state = match state {
            AlarmState::Idle => self.fire(platform),
            AlarmState::Discarding(keys) => Self::discard(keys, platform),
            AlarmState::Sealing => self.seal(platform),
            AlarmState::Putting(job) => self.put(job, platform),
            AlarmState::Indexing(job) => self.index(job, platform),
            AlarmState::Completing(job) => self.complete(&job, platform),
        };
    }

    /// What was on its way to R2 or KV may still arrive. The platform calls again.
    fn die(&mut self, state: AlarmState, platform: &mut Platform) {
        platform.mark(Mark::AlarmDied);
        let lands = platform.rng.bool();
        match state {
            AlarmState::Putting(job) if lands => {
                platform.mark(Mark::PutAfterReset);
                platform.bucket.put_if_absent(&job.key(), &job.segment.bytes, platform.now);
            }
            AlarmState::Indexing(job) if lands => Self::write_index(&job, platform),
            _ => {}
        }
        self.come_back(2 * SECOND_MS, platform);
    }

    fn come_back(&self, wait_ms: u64, platform: &mut Platform) {
        let again = platform.now + wait_ms;
        let object = &mut platform.objects[self.stream];
        object.alarm_at = Some(object.alarm_at.map_or(again, |at| at.min(again)));
    }

    fn fire(&mut self, platform: &mut Platform) -> AlarmState {
        let Some(due) = platform.objects[self.stream].alarm_at else { return AlarmState::Idle };
        if due > platform.now {
            return AlarmState::Idle;
        }
        if platform.one_in(platform.profile.alarm_strays) {
            platform.mark(Mark::AlarmLate);
            platform.objects[self.stream].alarm_at =
                Some(platform.now + platform.rng.u64(..10 * MINUTE_MS));
            return AlarmState::Idle;
        }
        self.life = platform.objects[self.stream].life;
        self.fired_at = platform.now;
        platform.objects[self.stream].alarm_at = None;
        platform.trace.note(format_args!("{} alarm", self.stream));
        if platform.call(self.stream, &[], |stream, now| Ok(((), stream.alarm(now)?))).is_err() {
            self.come_back(MINUTE_MS, platform);
            return AlarmState::Idle;
        }
        AlarmState::Discarding(std::mem::take(&mut platform.objects[self.stream].discarded))
    }

    fn discard(keys: Vec<String>, platform: &mut Platform) -> AlarmState {
        for key in keys {
            if platform.one_in(platform.profile.bucket_fails) {
                platform.mark(Mark::DeleteFailed);
            } else {
                platform.bucket.delete(&key);
            }
        }
        AlarmState::Sealing
    }

    fn seal(&mut self, platform: &mut Platform) -> AlarmState {
        let next =
            |stream: &mut relay_durable::Stream<_>, now| Ok((stream.seal_next(now)?, vec![]));
        match platform.call(self.stream, &[], next) {
            Err(_) => {
                self.come_back(MINUTE_MS, platform);
                AlarmState::Idle
            }
            Ok(None) => self.finish(platform),
            Ok(Some(job)) => {
                assert_eq!(job.stream, platform.objects[self.stream].key, "its own segments");
                AlarmState::Putting(Box::new(job))
            }
        }
    }

    fn finish(&mut self, platform: &mut Platform) -> AlarmState {
        let object = &mut platform.objects[self.stream];
        let next = object.stream.as_ref().and_then(|stream| stream.next_alarm());
        let is_due = next.is_some_and(|at| at <= platform.now);
        assert!(!is_due || self.fired_at < platform.now, "due again at once");
        object.set_alarm();
        if platform.one_in(platform.profile.alarm_strays) {
            platform.mark(Mark::AlarmTwice);
            platform.objects[self.stream].alarm_at = Some(platform.now);
        }
        AlarmState::Idle
    }

    fn put(&mut self, job: Box<SealJob>, platform: &mut Platform) -> AlarmState {
        let one_in = platform.profile.bucket_fails;
        let outcome = platform.outcome(one_in, Mark::PutLost, Mark::PutLanded);
        if outcome != Outcome::Lost {
            let (key, now) = (job.key(), platform.now);
            let was_absent = platform.bucket.put_if_absent(&key, &job.segment.bytes, now);
            platform.mark_if(!was_absent, Mark::PutFoundItThere);
            platform.trace.note(format_args!("put {key} {was_absent}"));
        }
        match outcome {
            Outcome::Done => AlarmState::Indexing(job),
            Outcome::Lost | Outcome::Landed => self.fail(platform),
        }
    }

    fn index(&mut self, job: Box<SealJob>, platform: &mut Platform) -> AlarmState {
        let one_in = platform.profile.index_fails;
        let outcome = platform.outcome(one_in, Mark::IndexLost, Mark::IndexLanded);
        if outcome != Outcome::Lost {
            Self::write_index(&job, platform);
        }
        match outcome {
            Outcome::Done => AlarmState::Completing(job),
            Outcome::Lost | Outcome::Landed => self.fail(platform),
        }
    }

    fn write_index(job: &SealJob, platform: &mut Platform) {
        let entry = job.segment.entry.clone();
        let key = index_key(&job.stream, job.epoch, entry.first);
        platform.index.put(key, entry, platform.now, platform.profile.settings.retention_ms);
    }

    fn fail(&mut self, platform: &mut Platform) -> AlarmState {
        let failed = |stream: &mut relay_durable::Stream<_>, now| {
            stream.seal_failed(now);
            assert!(stream.seal_next(now)?.is_none(), "tried again at once");
            Ok(((), vec![]))
        };
        // A gate that breaks here only forgets that it failed.
        let _ = platform.call(self.stream, &[], failed);
        AlarmState::Idle
    }

    fn complete(&mut self, job: &SealJob, platform: &mut Platform) -> AlarmState {
        let entry = &job.segment.entry;
        let done =
            platform.call(self.stream, &[], |stream, _| Ok((stream.seal_done(entry)?, Vec::new())));
        let Ok(is_sealed) = done else {
            self.come_back(MINUTE_MS, platform);
            return AlarmState::Idle;
        };
        assert!(is_sealed, "a life goes on with the plan that it began with");
        platform.check_sealed(self.stream, entry);
        let busy = platform.busy[self.stream];
        platform.mark(Mark::Sealed);
        platform.mark_if(busy.in_history, Mark::SealUnderReplay);
        platform.mark_if(busy.following, Mark::SealUnderFollower);
        AlarmState::Sealing
    }
}
