use relay_schemas::{
    BodyMode, Dialect, KindFilter, OnGap, Order, PageQuery, SegmentName, Start, UnixMillis,
};

use crate::{
    alarm::AlarmTask,
    coverage::{Coverage, Mark},
    object::Object,
    pages::PageReader,
    platform::{Busy, Platform},
    profile::{HOUR_MS, MINUTE_MS, Profile, SECOND_MS, one_of},
    queue::{Consumer, event_id},
    reader::Reader,
    trace::Trace,
    witness::Witness,
};

const BEGINNING: UnixMillis = UnixMillis::new(1_790_000_000_000);
const READERS_MAX: usize = 8;

/// What became of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) trace: u64,
    pub(crate) steps: u64,
    pub(crate) coverage: Coverage,
}

/// The streams, their tasks and their readers; which of them goes on is drawn at each step.
pub(crate) struct World {
    pub(crate) platform: Platform,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) alarms: Vec<AlarmTask>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) pages: Vec<PageReader>,
    pub(crate) steps: u64,
}

/// Runs one schedule from its seed; panics where something doesn't hold.
pub(crate) fn run(seed: u64, prints: bool) -> Report {
    let mut world = World::new(seed, prints);
    for _ in 0..world.platform.profile.steps {
        world.step();
    }
    world.finish();
    Report {
        trace: world.platform.trace.hash(),
        steps: world.steps,
        coverage: world.platform.coverage,
    }
}

impl World {
    fn new(seed: u64, prints: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let profile = match rng.u32(..20) {
            0 => Profile::flood(&mut rng),
            _ => Profile::random(&mut rng),
        };
        let mut platform = Platform::new(rng.u64(..), profile, BEGINNING, Trace::new(prints));
        platform.trace.note(format_args!("{seed} {:?}", platform.profile));
        let streams = 0..platform.objects.len();
        Self {
            consumers: streams.clone().map(Consumer::new).collect(),
            alarms: streams.map(AlarmTask::new).collect(),
            readers: Vec::new(),
            pages: Vec::new(),
            platform,
            steps: 0,
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.pass_time();
        let stream = self.platform.rng.usize(..self.platform.objects.len());
        match self.platform.rng.u32(..24) {
            0..3 => self.consumers[stream].receive(&mut self.platform),
            3..6 => self.consumers[stream].step(&mut self.platform),
            6..10 => self.run_alarm(stream),
            10..12 => self.platform.carry(stream),
            12 => self.add_reader(stream),
            13 => self.add_page_reader(stream),
            14 => self.happen(stream),
            15 => self.follow_a_whim(),
            16..18 => self.read_a_page(),
            _ => self.read(),
        }
        self.disturb(stream);
        self.look();
    }

    fn pass_time(&mut self) {
        let rng = &mut self.platform.rng;
        let waits_ms = match self.platform.profile.long_waits {
            0 => rng.u64(..3 * SECOND_MS),
            often if rng.u32(..often) == 0 => rng.u64(..4 * HOUR_MS),
            _ => *one_of(rng, &[0, 0, 1, 10, 100, SECOND_MS, 10 * SECOND_MS]),
        };
        self.platform.now = self.platform.now + waits_ms;
    }

    /// What the tasks are at, for the coverage.
    pub(crate) fn look(&mut self) {
        for stream in 0..self.platform.objects.len() {
            let mut theirs = self.readers.iter().filter(|reader| reader.stream() == stream);
            self.platform.busy[stream] = Busy {
                in_history: theirs.clone().any(Reader::is_in_history),
                following: theirs.any(Reader::is_following),
                sealing: !self.alarms[stream].is_idle(),
            };
        }
    }

    /// An alarm goes on for a few awaits, or for one.
    pub(crate) fn run_alarm(&mut self, stream: usize) {
        for _ in 0..self.platform.rng.usize(1..4) {
            self.alarms[stream].step(&mut self.platform);
        }
    }

    fn read(&mut self) {
        if !self.readers.is_empty() {
            let at = self.platform.rng.usize(..self.readers.len());
            for _ in 0..self.platform.rng.usize(1..8) {
                self.readers[at].step(&mut self.platform);
            }
        }
    }

    fn read_a_page(&mut self) {
        if !self.pages.is_empty() {
            let at = self.platform.rng.usize(..self.pages.len());
            for _ in 0..self.platform.rng.usize(1..8) {
                self.pages[at].step(&mut self.platform);
            }
            self.pages.retain(|page| !page.is_done);
        }
    }

    fn follow_a_whim(&mut self) {
        if !self.readers.is_empty() {
            let at = self.platform.rng.usize(..self.readers.len());
            self.readers[at].follow_a_whim(&mut self.platform);
        }
    }

    fn add_reader(&mut self, stream: usize) {
        if self.readers.len() < READERS_MAX {
            let kinds = self.kinds();
            let body = *one_of(&mut self.platform.rng, &BODIES);
            let witness = Witness::new(stream, kinds, body);
            let dialect = *one_of(&mut self.platform.rng, &Dialect::ALL);
            let (start, on_gap) = (self.start(stream), self.on_gap());
            self.readers.push(Reader::new(witness, dialect, start, on_gap));
        }
    }

    fn add_page_reader(&mut self, stream: usize) {
        if self.pages.len() < READERS_MAX / 2 {
            let query = PageQuery {
                start: self.start(stream),
                kinds: self.kinds(),
                limit: *one_of(&mut self.platform.rng, &[3, 10, 100]),
                order: *one_of(&mut self.platform.rng, &[Order::Asc, Order::Desc]),
                body: *one_of(&mut self.platform.rng, &BODIES),
                on_gap: self.on_gap(),
                channel: None,
                own: false,
                app: None,
            };
            self.pages.push(PageReader::new(stream, query, &self.platform));
        }
    }

    fn on_gap(&mut self) -> OnGap {
        if self.platform.rng.u32(..4) == 0 { OnGap::Error } else { OnGap::Resume }
    }

    fn kinds(&mut self) -> KindFilter {
        let mut kinds = KindFilter::default();
        match self.platform.rng.u32(..6) {
            0 => kinds.add("Issue.*").expect("a filter"),
            1 => kinds.add("Issue.create,Comment").expect("a filter"),
            2 => kinds.add("Nobody.*").expect("a filter"),
            _ => {}
        }
        kinds
    }

    fn start(&mut self, stream: usize) -> Start {
        let platform = &mut self.platform;
        let (rng, now) = (&mut platform.rng, platform.now);
        let incarnation = platform.oracles[stream].now();
        let tail = incarnation.map_or(0, |known| known.tail());
        match (rng.u32(..8), incarnation) {
            (0, _) => Start::Now,
            (1, _) => Start::Tail(rng.u64(..12)),
            (2, Some(known)) if tail > 0 => Start::Time(known.event(rng.u64(1..=tail)).received_at),
            (2, _) => Start::Time(now - rng.u64(..12 * HOUR_MS)),
            (3, Some(known)) if tail > 0 => Start::Event(known.event(rng.u64(1..=tail)).id),
            (3, _) => Start::Event(event_id(rng.u64(..9))),
            (4, Some(known)) => Start::Cursor(known.cursor(rng.u64(..tail + 3)).to_string()),
            (5, _) => Start::Cursor("nonsense".into()),
            _ => Start::Earliest,
        }
    }

    /// A reset, hours of idleness, or time for the bucket's own rule.
    fn happen(&mut self, stream: usize) {
        let retention_ms = self.platform.profile.settings.retention_ms;
        if self.platform.bucket.expire(retention_ms, self.platform.now) {
            self.platform.mark(Mark::ObjectExpired);
        }
        if self.alarms[stream].is_idle() && self.platform.profile.resets > 0 {
            self.platform.mark(Mark::Hibernated);
            self.platform.reset(stream, false);
        }
    }

    fn disturb(&mut self, stream: usize) {
        let Profile { resets, hand, wipes, .. } = self.platform.profile;
        if self.platform.one_in(resets) {
            let busy = self.platform.busy[stream];
            self.platform.mark(self.alarms[stream].reset_mark());
            self.platform.mark_if(busy.in_history, Mark::ResetUnderReplay);
            self.platform.mark_if(busy.following, Mark::ResetUnderFollower);
            self.platform.reset(stream, true);
        }
        if self.platform.one_in(hand) {
            self.lay_hand_on_the_bucket();
        }
        if self.platform.one_in(wipes) {
            self.wipe(stream);
        }
    }

    /// Somebody removes or changes an object of R2.
    fn lay_hand_on_the_bucket(&mut self) {
        let keys = self.platform.bucket.keys();
        if keys.is_empty() {
            return;
        }
        let key = &keys[self.platform.rng.usize(..keys.len())];
        let name = SegmentName::parse(key).expect("nothing else is there");
        let owner = |object: &Object| object.key == name.stream;
        let stream = self.platform.objects.iter().position(owner).expect("one of the streams");
        let incarnation = self.platform.oracles[stream].find_mut(name.epoch);
        let positions = name.first.get()..=name.last.get();
        incarnation.expect("an epoch of the stream").damaged.extend(positions);
        self.platform.trace.note(format_args!("somebody's hand on {key}"));
        if self.platform.rng.bool() {
            self.platform.mark(Mark::ObjectRemovedByHand);
            self.platform.bucket.delete(key);
        } else {
            self.platform.mark(Mark::ObjectChangedByHand);
            let place = self.platform.rng.usize(..);
            self.platform.bucket.damage(key, place);
        }
    }

    /// A stream's storage is lost: it begins anew, in another epoch.
    fn wipe(&mut self, stream: usize) {
        self.platform.mark(Mark::StreamWiped);
        self.platform.now = self.platform.now + MINUTE_MS;
        self.platform.reset(stream, true);
        let object = &mut self.platform.objects[stream];
        object.storage = Default::default();
        object.alarm_at = None;
        object.begins_anew = true;
    }
}

const BODIES: [BodyMode; 5] =
    [BodyMode::Data, BodyMode::Data, BodyMode::Data, BodyMode::Text, BodyMode::Base64];
