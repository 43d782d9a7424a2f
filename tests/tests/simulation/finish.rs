//! The end of a schedule: nothing fails any more, and everything must come to its end.

use relay_schemas::{BodyMode, Dialect, KindFilter, OnGap, Order, Start, limits::SEAL_AGE_SHARE};

use crate::{
    coverage::Mark,
    pages::PageReader,
    profile::{HOUR_MS, MINUTE_MS},
    reader::Reader,
    witness::Witness,
    world::World,
};

/// Rounds within which a task must come to its end.
const ROUNDS_MAX: usize = 30_000;

impl World {
    pub(crate) fn finish(&mut self) {
        self.platform.profile.calm_down();
        self.empty_the_queue();
        self.seal_everything();
        for stream in 0..self.platform.objects.len() {
            if self.platform.oracles[stream].now().is_some() {
                self.add_readers_of_everything(stream);
            }
        }
        self.read_everything();
        self.check_pages();
        if self.platform.rng.u32(..4) == 0 {
            self.trim_everything();
        }
    }

    /// Invariant 1: whatever the queue holds reaches its stream in the end.
    fn empty_the_queue(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let waits_until = self.consumers.iter().filter_map(|one| one.waits_until()).max();
            let Some(waits_until) = waits_until else { return };
            self.platform.now = self.platform.now.max(waits_until);
            for stream in 0..self.consumers.len() {
                self.consumers[stream].step(&mut self.platform);
                self.run_alarm(stream);
            }
            self.tick();
        }
        panic!("the queue is never empty");
    }

    fn tick(&mut self) {
        self.steps += 1;
        self.platform.now = self.platform.now + 100;
    }

    /// Sealing makes progress, by its alarms alone: a quiet stream's hot tail becomes small.
    fn seal_everything(&mut self) {
        self.platform.now = self.platform.now + HOUR_MS + MINUTE_MS;
        for stream in 0..self.platform.objects.len() {
            for _ in 0..ROUNDS_MAX {
                self.run_alarm(stream);
                self.tick();
                let alarm_at = self.platform.objects[stream].alarm_at;
                let is_due = alarm_at.is_some_and(|at| at <= self.platform.now + 10 * MINUTE_MS);
                if self.alarms[stream].is_idle() && !is_due {
                    break;
                }
                if self.alarms[stream].is_idle() {
                    self.platform.now = self.platform.now.max(alarm_at.unwrap_or_default());
                }
            }
            self.check_sealed_up(stream);
        }
    }

    fn check_sealed_up(&self, stream: usize) {
        let object = &self.platform.objects[stream];
        if let (Some(alive), Some(_)) = (&object.stream, self.platform.oracles[stream].now()) {
            let small_bytes = self.platform.profile.settings.seal_bytes / SEAL_AGE_SHARE;
            let hot_bytes = alive.log().hot_bytes();
            let is_small = hot_bytes == 0 || hot_bytes < small_bytes;
            assert!(is_small, "{hot_bytes} bytes in the hot tail of a quiet stream");
            assert_eq!(alive.log().plan(), None, "begun, and not completed");
        }
    }

    fn add_readers_of_everything(&mut self, stream: usize) {
        let tail = self.platform.incarnation(stream).tail();
        let mut starts = vec![(Dialect::WebSocket, Start::Earliest)];
        for _ in 0..tail.min(3) {
            let seq = self.platform.rng.u64(1..=tail);
            let at = self.platform.incarnation(stream).event(seq).received_at;
            starts.push((Dialect::Ndjson, Start::Time(at)));
        }
        for (dialect, start) in starts {
            let witness = Witness::new(stream, KindFilter::default(), BodyMode::Data);
            self.readers.push(Reader::new(witness, dialect, start, OnGap::Resume));
        }
        for order in [Order::Asc, Order::Desc] {
            self.pages.push(PageReader::of_everything(stream, order, &self.platform));
        }
    }

    /// Invariant 3 in the end: every reader has everything, whatever it went through.
    fn read_everything(&mut self) {
        for round in 0..ROUNDS_MAX {
            let mut is_done = true;
            for reader in &mut self.readers {
                if !reader.has_all(&self.platform) {
                    is_done = false;
                    reader.hurry();
                    reader.step(&mut self.platform);
                }
            }
            for page in self.pages.iter_mut().filter(|page| !page.is_done) {
                is_done = false;
                page.step(&mut self.platform);
            }
            for stream in 0..self.platform.objects.len() {
                self.platform.carry(stream);
                if round % 16 == 0 {
                    self.run_alarm(stream);
                }
            }
            if is_done {
                return self.platform.mark(Mark::ReadInFull);
            }
            self.steps += 1;
            self.platform.now = self.platform.now + u64::from(round % 4 == 0);
        }
        panic!("a reader never gets everything");
    }

    /// What pages of everything have shown is all that is kept, in both directions.
    fn check_pages(&self) {
        for page in self.pages.iter().filter(|page| page.is_of_everything) {
            let incarnation = self.platform.incarnation(page.stream);
            let mut seen = page.seen.clone();
            seen.sort_unstable();
            let mut kept = incarnation.floor + 1..=incarnation.tail();
            let missing = kept
                .find(|seq| seen.binary_search(seq).is_err() && !incarnation.damaged.contains(seq));
            assert_eq!(missing, None, "no page shows it");
        }
    }

    /// Retention passes, and positions go on behind what is gone.
    fn trim_everything(&mut self) {
        let retention_ms = self.platform.profile.settings.retention_ms;
        self.platform.now = self.platform.now + retention_ms + retention_ms / 30;
        for stream in 0..self.platform.objects.len() {
            let Some(incarnation) = self.platform.oracles[stream].now() else { continue };
            let tail = incarnation.tail();
            for _ in 0..8 {
                self.run_alarm(stream);
                self.tick();
            }
            assert_eq!(self.platform.incarnation(stream).floor, tail, "kept for too long");
            self.consumers[stream].receive(&mut self.platform);
        }
        self.empty_the_queue();
        self.platform.mark(Mark::TrimmedToTheEnd);
    }
}
