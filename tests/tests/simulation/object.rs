use std::collections::BTreeMap;

use relay_durable::{
    Command, ConnectionId, LogStorage, SegmentRow, Stream, StreamError, StreamSettings,
    Subscription,
    test_storage::{MemoryStorage, StorageFault},
};
use relay_schemas::{Seq, StreamKey, UnixMillis};

use crate::socket::{Closed, Socket};

/// A Durable Object: what is in `stream` is lost at any await, the rest is the platform's.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) key: StreamKey,
    pub(crate) storage: MemoryStorage,
    pub(crate) stream: Option<Stream<MemoryStorage>>,
    pub(crate) sockets: BTreeMap<ConnectionId, Socket>,
    pub(crate) alarm_at: Option<UnixMillis>,
    /// Objects of R2 that the running alarm is to delete.
    pub(crate) discarded: Vec<String>,
    /// How often it was reset: a task that began in another life is dead.
    pub(crate) life: u64,
    /// Whether the next epoch seen may be another.
    pub(crate) begins_anew: bool,
    settings: StreamSettings,
    loads: u32,
}

type Outcome<T> = Result<T, StreamError<StorageFault>>;

impl Object {
    pub(crate) fn new(key: StreamKey, settings: StreamSettings) -> Self {
        Self {
            key,
            storage: MemoryStorage::default(),
            stream: None,
            sockets: BTreeMap::new(),
            alarm_at: None,
            discarded: Vec::new(),
            life: 0,
            begins_anew: true,
            settings,
            loads: 0,
        }
    }

    /// Runs a command in one stretch, on a stream that is loaded first where it has to be.
    pub(crate) fn run<T>(
        &mut self,
        now: UnixMillis,
        run: impl FnOnce(&mut Stream<MemoryStorage>, UnixMillis) -> Outcome<T>,
    ) -> Outcome<T> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.load(now)?,
        };
        let outcome = run(&mut stream, now);
        // After an error of storage what is in memory may be wrong.
        if !matches!(outcome, Err(StreamError::Storage(_))) {
            self.stream = Some(stream);
        }
        outcome
    }

    fn load(&mut self, now: UnixMillis) -> Outcome<Stream<MemoryStorage>> {
        self.loads += 1;
        let kept = |(id, socket): (&ConnectionId, &Socket)| {
            let text = socket.attachment.as_deref()?;
            Some((*id, serde_json::from_str::<Subscription>(text).expect("what was kept")))
        };
        let connections = self.sockets.iter().filter_map(kept).collect();
        Ok(Stream::load(self.storage.clone(), connections, self.settings, now, self.loads)?)
    }

    /// Does what the stream has decided, in order. A socket that is gone takes nothing.
    pub(crate) fn execute(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Send { connection, text } => {
                    self.sockets.entry(connection).and_modify(|socket| socket.send(text));
                }
                Command::Remember { connection } => self.remember(connection),
                Command::Close { connection, code } => self.close(connection, Closed::Bye(code)),
                Command::ReadHistory { connection } => self.close(connection, Closed::History),
                Command::Discard { keys } => self.discarded.extend(keys),
                Command::GiveUp(_) => panic!("nothing is given to single edges here"),
            }
        }
    }

    fn alive(&self) -> &Stream<MemoryStorage> {
        self.stream.as_ref().expect("it has just decided")
    }

    fn remember(&mut self, connection: ConnectionId) {
        let subscription = self.alive().connection(connection).expect("it is open");
        let text = serde_json::to_string(subscription).expect("plain fields");
        assert!(text.len() < 16 * 1024, "an attachment holds 16 KiB");
        self.sockets.entry(connection).and_modify(|socket| socket.attachment = Some(text));
    }

    fn close(&mut self, connection: ConnectionId, closed: Closed) {
        assert!(self.alive().connection(connection).is_none(), "closed, and yet served");
        self.sockets.entry(connection).and_modify(|socket| socket.close(closed));
    }

    /// The shell sets the alarm earlier when something is due earlier.
    pub(crate) fn set_alarm(&mut self) {
        let wanted = self.stream.as_ref().and_then(Stream::next_alarm);
        self.alarm_at = [self.alarm_at, wanted].into_iter().flatten().min();
    }

    /// Invariant 7: what is in memory is what another life would find.
    pub(crate) fn check_connections(&self) {
        let Some(stream) = &self.stream else { return };
        let kept = self.sockets.iter().filter_map(|(id, socket)| {
            let text = socket.attachment.as_deref()?;
            Some((*id, serde_json::from_str::<Subscription>(text).expect("what was kept")))
        });
        let kept: BTreeMap<ConnectionId, Subscription> = kept.collect();
        assert_eq!(&kept, stream.connections(), "subscriptions that only memory holds");
    }
}

/// A copy that shares nothing with its original.
pub(crate) fn copy_of(original: &MemoryStorage) -> MemoryStorage {
    let mut copy = MemoryStorage::default();
    fill(&mut copy, original).expect("a copy is written without a fault");
    copy
}

fn fill(copy: &mut MemoryStorage, original: &MemoryStorage) -> Result<(), StorageFault> {
    if let Some(head) = original.load_head()? {
        copy.save_head(&head)?;
    }
    let mut positions = Vec::new();
    original.visit_newest_first(&mut |row| {
        positions.push(row.first);
        true
    })?;
    for first in positions {
        copy.insert(&original.row_at(first)?.expect("a row that was visited"))?;
    }
    let mut runs = Vec::new();
    original.visit_segments_newest_first(&mut |segment| {
        runs.push(segment);
        true
    })?;
    let entries = original.segments_after(Seq::ZERO, usize::MAX)?;
    for (entry, run) in entries.into_iter().zip(runs.into_iter().rev()) {
        let (ids, appended_at_max) = (run.ids, run.appended_at_max);
        copy.save_segment(&SegmentRow { entry, ids, appended_at_max })?;
    }
    for record in original.load_edges()? {
        copy.save_edge(&record)?;
    }
    for holder in original.load_holders()? {
        copy.save_holder(&holder)?;
    }
    copy.save_plan(original.load_plan()?)
}
