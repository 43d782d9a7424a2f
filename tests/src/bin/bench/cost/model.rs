use std::collections::BTreeMap;

use relay_durable::{
    Command, Connected, Edge, EnrolRequest, EventFacts, Fetched, Replay, ReplayStep, RouteBook,
    Stream, StreamSettings, enrol, test_routing::MemoryRouting, test_storage::MemoryStorage,
};
use relay_schemas::{
    Append, BodyMode, Connect, Dialect, EdgeId, KindFilter, NewEvent, OnGap, Report,
    RoutingStrategy, SegmentEntry, Start, StreamKey, UnixMillis, index_key,
    limits::{AUDIT_DAYS, CREDIT_BYTES},
};

use super::bill::CatchUpNeeds;

/// The platform drops an object that has had nothing to do for this long.
const IDLE_MS: u64 = 10_000;

const CONNECTION: u64 = 1;

const DAY_MS: u64 = 86_400_000;

/// A stream's object with its directory, its alarm, R2 and KV, under a clock of its own: what the Worker's shell
/// does around [`Stream`], with every operation counted.
pub(crate) struct Model {
    pub(crate) key: StreamKey,
    settings: StreamSettings,
    storage: MemoryStorage,
    stream: Stream<MemoryStorage>,
    now: UnixMillis,
    used_at: UnixMillis,
    /// What the stream wanted when the alarm was set, and when it comes.
    alarm: Option<(UnixMillis, UnixMillis)>,
    bucket: BTreeMap<String, Vec<u8>>,
    index: BTreeMap<String, SegmentEntry>,
    routing: MemoryRouting,
    directory: RouteBook<MemoryRouting>,
    edges: Vec<Edge>,
    pub(crate) counts: Counts,
}

/// What was needed so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) queue_operations: u64,
    pub(crate) appends: u64,
    pub(crate) alarms: u64,
    pub(crate) alarm_rows: u64,
    pub(crate) segments: u64,
    pub(crate) segment_bytes: u64,
}

impl Model {
    pub(crate) fn new(settings: StreamSettings, now: UnixMillis) -> Self {
        let storage = MemoryStorage::default();
        let stream = load(&storage, settings, now);
        let routing = MemoryRouting::default();
        Self {
            key: "cost/user:reader".parse().expect("a stream"),
            settings,
            storage,
            stream,
            now,
            used_at: now,
            alarm: None,
            bucket: BTreeMap::new(),
            index: BTreeMap::new(),
            directory: RouteBook::load(routing.clone(), now).expect("memory"),
            routing,
            edges: vec![edge(now)],
            counts: Counts::default(),
        }
    }

    /// Row writes of the log.
    pub(crate) fn log_rows(&self) -> u64 {
        self.storage.rows_written()
    }

    /// Row writes of the directory.
    pub(crate) fn directory_rows(&self) -> u64 {
        self.routing.rows_written()
    }

    /// Events kept.
    pub(crate) fn kept(&self) -> u64 {
        self.stream.log().tail().distance_from(self.stream.log().trimmed())
    }

    /// Lets time pass; alarms come when they are due.
    pub(crate) fn advance_to(&mut self, at: UnixMillis) {
        while let Some((_, due)) = self.alarm.filter(|(_, due)| *due <= at) {
            self.wake(due);
            self.ring();
        }
        self.now = at;
    }

    /// A batch from the queue. Each message is written, read and deleted, by 64 KB.
    pub(crate) fn append(&mut self, events: Vec<(EventFacts, NewEvent)>, at: UnixMillis) {
        self.advance_to(at);
        self.wake(at);
        let events = self.route(events);
        self.counts.events += events.len() as u64;
        let operations = |event: &NewEvent| 3 * (event.record.len() as u64).div_ceil(64_000);
        self.counts.queue_operations += events.iter().map(operations).sum::<u64>();
        self.counts.appends += 1;
        let append = Append { stream: self.key.clone(), events };
        self.stream.append(&append, at).expect("memory");
        self.set_alarm();
    }

    /// A batch, with no time passing.
    pub(crate) fn append_now(&mut self, events: Vec<(EventFacts, NewEvent)>) {
        let events = self.route(events);
        let append = Append { stream: self.key.clone(), events };
        self.stream.append(&append, self.now).expect("memory");
    }

    /// One call for the batch. All are for the one person.
    fn route(&mut self, events: Vec<(EventFacts, NewEvent)>) -> Vec<NewEvent> {
        let (facts, events): (Vec<EventFacts>, Vec<NewEvent>) = events.into_iter().unzip();
        let strategy = RoutingStrategy::default();
        let decisions = self.directory.route(&facts, &self.edges, strategy, self.now);
        let channel = &self.key.channel;
        for decision in decisions.expect("memory") {
            assert_eq!(decision.targets.len(), 1, "{decision:?}");
            assert_eq!(decision.targets[0].channel, *channel, "{decision:?}");
        }
        events
    }

    /// What is deleted once nothing is shown of it any more; a directory does it when it is next
    /// asked.
    pub(crate) fn clear_directory(&mut self) {
        let at = self.now + (AUDIT_DAYS + 1) * DAY_MS;
        self.directory.route(&[], &self.edges, RoutingStrategy::default(), at).expect("memory");
    }

    /// An edge tells what became of an event.
    pub(crate) fn report(&mut self, edge: &EdgeId, report: Report, at: UnixMillis) {
        self.advance_to(at);
        self.wake(at);
        self.stream.report(edge, report, at).expect("memory");
        self.set_alarm();
    }

    fn wake(&mut self, at: UnixMillis) {
        if at.since_ms(self.used_at) > IDLE_MS {
            self.stream = load(&self.storage, self.settings, at);
        }
        (self.now, self.used_at) = (at, at);
    }

    fn ring(&mut self) {
        self.counts.alarms += 1;
        self.alarm = None;
        for command in self.stream.alarm(self.now).expect("memory") {
            if let Command::Discard { keys } = command {
                keys.iter().for_each(|key| drop(self.bucket.remove(key)));
            }
        }
        while self.seal_one() {}
        self.set_alarm();
    }

    /// Seals one segment, if one is due.
    pub(crate) fn seal_one(&mut self) -> bool {
        let Some(job) = self.stream.seal_next(self.now).expect("memory") else { return false };
        let entry = job.segment.entry.clone();
        self.counts.segments += 1;
        self.counts.segment_bytes += entry.bytes;
        self.bucket.insert(job.key(), job.segment.bytes);
        self.index.insert(index_key(&self.key, job.epoch, entry.first), entry.clone());
        self.stream.seal_done(&entry).expect("memory")
    }

    /// Only when it must come earlier than the one that is set.
    fn set_alarm(&mut self) {
        let Some(wanted) = self.stream.next_alarm() else { return };
        if self.alarm.is_none_or(|(set, _)| wanted < set) {
            self.counts.alarm_rows += 1;
            self.alarm = Some((wanted, wanted.max(self.now + 1)));
        }
    }

    /// A reader over HTTP comes back to the oldest event and reads until the object follows it.
    /// Its end is one more request to the object.
    pub(crate) fn catch_up(&mut self) -> CatchUpNeeds {
        let mut needs = CatchUpNeeds { object_requests: 2, ..CatchUpNeeds::default() };
        let connect = self.connect();
        let Connected::History(offer) = self.ask(&connect) else { return needs };
        let mut replay = Replay::new(connect, offer);
        while self.go_on(&mut replay, &mut needs) {}
        let position = replay.position();
        let unread = self.stream.log().tail().distance_from(position.cursor.seq);
        assert_eq!(position.n + unread, self.kept(), "a reader gets everything");
        needs
    }

    /// One step of a reader; `false` once the object follows it.
    fn go_on(&mut self, replay: &mut Replay, needs: &mut CatchUpNeeds) -> bool {
        match replay.next_step() {
            ReplayStep::Write => drop(replay.write(usize::MAX, &mut String::new())),
            ReplayStep::Fetch(object) => {
                needs.segments_read += 1;
                let bytes = self.bucket[&object.key].clone();
                replay.fetched(&object.entry, Fetched::Bytes(bytes));
            }
            ReplayStep::List { prefix } => {
                needs.listings += 1;
                let listed = self.index.range(prefix.clone()..);
                let listed = listed.take_while(|(key, _)| key.starts_with(&prefix));
                replay.listed(listed.map(|(_, entry)| entry.clone()).collect());
            }
            ReplayStep::Ask => {
                needs.object_requests += 1;
                match self.ask(&replay.ask(CREDIT_BYTES)) {
                    Connected::History(offer) => replay.offered(offer),
                    Connected::Live { .. } => return false,
                }
            }
        }
        true
    }

    fn connect(&self) -> Connect {
        Connect {
            stream: self.key.clone(),
            edge: "edge_cost".parse().expect("an id"),
            expires_at: self.now + 86_400_000,
            dialect: Dialect::Ndjson,
            start: Start::Earliest,
            kinds: KindFilter::default(),
            body: BodyMode::Data,
            on_gap: OnGap::Resume,
            heartbeat_s: 15,
            resume: None,
            edge_name: None,
            allowed: KindFilter::default(),
            own: false,
            app: None,
            capacity: None,
            may_report: true,
        }
    }

    fn ask(&mut self, connect: &Connect) -> Connected {
        self.stream.connect(CONNECTION, connect, self.now).expect("memory")
    }
}

fn edge(now: UnixMillis) -> Edge {
    let request = EnrolRequest {
        organization: "cost".parse().expect("an id"),
        user: "reader".parse().expect("an id"),
        name: None,
        scopes: None,
        channels: Vec::new(),
        expires_in_s: None,
    };
    enrol(request, "edge_cost".parse().expect("an id"), 0, now).expect("room for one")
}

fn load(
    storage: &MemoryStorage,
    settings: StreamSettings,
    now: UnixMillis,
) -> Stream<MemoryStorage> {
    Stream::load(storage.clone(), BTreeMap::new(), settings, now, 1).expect("memory")
}
