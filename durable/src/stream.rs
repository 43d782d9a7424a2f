mod assigning;
mod ending;
mod reading;
mod reports;
mod round;
mod signals;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use relay_schemas::{
    Append, AppendReply, ByeCode, ClientMessage, Connect, Disposition, EdgeId, ErrorCode, EventId,
    MetricsDelta, NewEvent, Problem, Seq, StreamKey, UnixMillis,
    limits::{CONNECTIONS_PER_EDGE_MAX, CONNECTIONS_PER_STREAM_MAX},
};

pub(crate) use self::reading::{Bounds, opening_lines};
use self::round::Opening;
use crate::{
    assignment::Assignment,
    command::{Command, Connected, ConnectionId, StreamError},
    log::Log,
    sealing::{Sealing, StreamSettings},
    storage::LogStorage,
    subscription::{Outgoing, Subscription},
};

/// A stream as its object holds it: the log and the open connections.
#[derive(Debug)]
pub struct Stream<S> {
    log: Log<S>,
    connections: BTreeMap<ConnectionId, Subscription>,
    assignment: Assignment,
    /// Connections whose subscriptions have changed without a message.
    touched: BTreeSet<ConnectionId>,
    pub(crate) settings: StreamSettings,
    pub(crate) sealing: Sealing,
    delivered_unreported: u64,
    losses_unreported: u64,
    /// When it was last looked for direct connections whose pings have stopped.
    pings_seen_at: UnixMillis,
}

impl<S: LogStorage> Stream<S> {
    /// Loads a stream, with the connections that outlived the object's memory.
    pub fn load(
        storage: S,
        mut connections: BTreeMap<ConnectionId, Subscription>,
        settings: StreamSettings,
        now: UnixMillis,
        salt: u32,
    ) -> Result<Self, S::Error> {
        let log = Log::load(storage, now, salt)?;
        let bounds = (log.sealed(), log.tail());
        let mut assignment = Assignment::load(log.storage(), settings.assignment(), bounds, now)?;
        connections.values_mut().for_each(|subscription| subscription.go_back_to(log.tail()));
        let is_assigned = assignment.rules().is_assigned();
        assignment.note_present(&assigning::present(&connections, is_assigned), now);
        Ok(Self {
            log,
            connections,
            assignment,
            touched: BTreeSet::new(),
            settings,
            sealing: Sealing::default(),
            delivered_unreported: 0,
            losses_unreported: 0,
            pings_seen_at: now,
        })
    }

    /// The log.
    pub fn log(&self) -> &Log<S> {
        &self.log
    }

    pub(crate) fn log_mut(&mut self) -> &mut Log<S> {
        &mut self.log
    }

    /// Makes the epoch durable, before a cursor of it leaves.
    pub(crate) fn make_used(&mut self, stream: &StreamKey) -> Result<(), S::Error> {
        self.log.set_stream(stream);
        self.log.make_used()
    }

    /// Who works on what.
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    pub(crate) fn is_assigned(&self) -> bool {
        self.assignment.rules().is_assigned()
    }

    /// An open connection.
    pub fn connection(&self, connection: ConnectionId) -> Option<&Subscription> {
        self.connections.get(&connection)
    }

    /// The open connections.
    pub fn connections(&self) -> &BTreeMap<ConnectionId, Subscription> {
        &self.connections
    }

    /// Stores a batch, then sends it to whoever is caught up. The platform holds the sends back
    /// until the writes are durable.
    pub fn append(
        &mut self,
        append: &Append,
        now: UnixMillis,
    ) -> Result<(AppendReply, Vec<Command>), StreamError<S::Error>> {
        self.require_room(append)?;
        self.make_used(&append.stream)?;
        // The head of an assignment before the events: none may seem to be from before it.
        self.assignment.store(self.log.storage_mut())?;
        let tail_before = self.log.tail();
        let again = self.reopen(&append.events)?;
        let dispositions = self.log.append_again(&append.events, &again, now)?;
        let fresh: Vec<&NewEvent> = append
            .events
            .iter()
            .zip(&dispositions)
            .filter(|(_, disposition)| **disposition == Disposition::Appended)
            .map(|(event, _)| event)
            .collect();
        let mut commands = self.signal(tail_before, &fresh, now);
        let held = self.held(&append.events, now);
        if !self.is_assigned() {
            commands.extend(self.deliver(tail_before, &fresh, now)?);
        }
        commands.extend(self.settle(Opening::default(), now)?);
        let attended = self.attendance(&append.events, &held)?;
        let reply = AppendReply {
            dispositions,
            tail: self.log.cursor(self.log.tail()),
            delivered: std::mem::take(&mut self.delivered_unreported),
            heartbeat_losses: std::mem::take(&mut self.losses_unreported),
            attended,
            counts: self.take_counts(),
        };
        Ok((reply, commands))
    }

    /// What was counted since it was last asked. It goes with the answer to an append, where there
    /// is one.
    pub fn take_counts(&mut self) -> MetricsDelta {
        std::mem::take(&mut self.assignment.counts)
    }

    fn deliver(
        &mut self,
        tail_before: Seq,
        fresh: &[&NewEvent],
        now: UnixMillis,
    ) -> Result<Vec<Command>, S::Error> {
        let mut commands = Vec::new();
        let mut ended = Vec::new();
        for (id, subscription) in &mut self.connections {
            // Nothing new for it. A batch of duplicates still serves readers that are behind: its
            // first attempt may have been stored, but answered with an error.
            if subscription.position() == self.log.tail() {
                continue;
            }
            if now >= subscription.expires_at {
                ended.push((*id, End::Bye(ByeCode::Expired)));
                continue;
            }
            let mut outgoing = Outgoing::default();
            if subscription.is_ready_at(tail_before) {
                offer_fresh(&self.log, subscription, tail_before, fresh, &mut outgoing);
                subscription.note_stall(self.log.tail(), now);
            } else if subscription.is_in_history(&self.log) {
                ended.push((*id, End::History));
                continue;
            } else {
                reading::read_on(&self.log, &self.assignment, subscription, &mut outgoing, now)?;
            }
            if subscription.is_slow(self.log.tail(), now) {
                ended.push((*id, End::Bye(ByeCode::Slow)));
                continue;
            }
            self.delivered_unreported += outgoing.webhooks;
            push_messages(&self.log, *id, subscription, outgoing, now, &mut commands);
        }
        for (id, end) in ended {
            commands.extend(match end {
                End::Bye(code) => self.end(id, code),
                End::History => self.send_to_history(id),
            });
        }
        Ok(commands)
    }

    /// A reader whose position was sealed while it had no credit reads on in R2: the Worker that
    /// holds it does so by itself, a direct one comes back through the Worker.
    fn send_to_history(&mut self, id: ConnectionId) -> Vec<Command> {
        match self.connections.get(&id).map(|subscription| subscription.dialect.is_bridged()) {
            Some(true) => {
                self.remove(id);
                vec![Command::ReadHistory { connection: id }]
            }
            _ => self.end(id, ByeCode::Reconnect),
        }
    }

    /// Opens a connection: finds where it starts and sends what it has credit for. Check of the
    /// tail and registration happen in this one call, so no event can fall between.
    pub fn connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect,
        now: UnixMillis,
    ) -> Result<Connected, StreamError<S::Error>> {
        self.admit(&connect.edge)?;
        if self.connections.len() >= CONNECTIONS_PER_STREAM_MAX {
            return Err(StreamError::Refused(Problem::new(
                ErrorCode::ConnectionsTooMany,
                format!("a stream has at most {CONNECTIONS_PER_STREAM_MAX} connections"),
            )));
        }
        self.require_few_connections(&connect.edge)?;
        self.make_used(&connect.stream)?;
        let resolved = self.start_of(connect)?;
        if resolved.after < self.log.sealed() {
            return Ok(Connected::History(self.offer_to_reader(&resolved)?));
        }
        let mut subscription = Subscription::new(connect, resolved.after, now);
        let gap = self.gap(&resolved);
        let resumed_from = gap.as_ref().map(|gap| gap.resumed_from);
        let mut lines = self.opening_lines(connect, &resolved, gap);
        lines.extend(self.untold_signals(connect, resolved.after, now));
        let mut outgoing = Outgoing::with_lines(lines);
        reading::join(&self.assignment, &mut subscription);
        reading::read_on(&self.log, &self.assignment, &mut subscription, &mut outgoing, now)?;
        self.connections.insert(id, subscription);
        let commands = self.settle(Opening::of(id, outgoing), now)?;
        Ok(Connected::Live { resumed_from, commands })
    }

    fn require_few_connections(&self, edge: &EdgeId) -> Result<(), StreamError<S::Error>> {
        let theirs = self.connections.values().filter(|one| one.edge == *edge).count();
        if theirs < CONNECTIONS_PER_EDGE_MAX {
            return Ok(());
        }
        Err(StreamError::Refused(Problem::new(
            ErrorCode::ConnectionsTooMany,
            format!("an edge has at most {CONNECTIONS_PER_EDGE_MAX} connections to a stream"),
        )))
    }

    /// A text message of a reader: more credit.
    pub fn message(
        &mut self,
        id: ConnectionId,
        text: &str,
        now: UnixMillis,
    ) -> Result<Vec<Command>, S::Error> {
        let Some(subscription) = self.connections.get_mut(&id) else { return Ok(Vec::new()) };
        if now >= subscription.expires_at {
            return self.end_and_settle(id, ByeCode::Expired, now);
        }
        match serde_json::from_str(text) {
            Ok(ClientMessage::Credit { bytes }) if bytes > 0 => {
                subscription.grant(bytes);
                let is_common = !self.assignment.is_single(subscription.position().next());
                if is_common && subscription.is_in_history(&self.log) {
                    let mut commands = self.send_to_history(id);
                    commands.extend(self.settle(Opening::default(), now)?);
                    return Ok(commands);
                }
                let mut outgoing = Outgoing::default();
                reading::read_on(&self.log, &self.assignment, subscription, &mut outgoing, now)?;
                let opening = Opening::of(id, outgoing);
                if self.assignment.is_at_work() {
                    return self.settle(opening, now);
                }
                // It is the commonest message, and changes nothing for anybody else.
                let mut commands = Vec::new();
                self.push_round(opening.into_outgoing(), now, &mut commands);
                Ok(commands)
            }
            Ok(ClientMessage::Bye {}) => {
                subscription.says_bye();
                Ok(vec![Command::Remember { connection: id }])
            }
            Ok(ClientMessage::Unknown) => Ok(Vec::new()),
            Ok(ClientMessage::Credit { .. }) | Err(_) => {
                self.end_and_settle(id, ByeCode::Protocol, now)
            }
        }
    }

    /// When the object wants to be woken: to seal, for retention, for what edges have, or to end a
    /// direct connection whose credential expires. HTTP connections are ended by the Worker that holds them.
    pub fn next_alarm(&self) -> Option<UnixMillis> {
        let expiry = self
            .connections
            .values()
            .filter(|subscription| !subscription.dialect.is_bridged())
            .map(|subscription| subscription.expires_at)
            .min();
        let retention = self.log.oldest_appended_at().map(|at| self.trim_due(at));
        let assigned = self.assignment.next_due(self.log.tail());
        let others = retention.into_iter().chain(self.seal_at()).chain(assigned);
        expiry.into_iter().chain(others).chain(self.silence_due()).min()
    }

    /// Retention is swept in steps, so that a busy stream isn't woken for every old row.
    fn trim_due(&self, appended_at: UnixMillis) -> UnixMillis {
        let step_ms = (self.settings.retention_ms / 60).clamp(1, 24 * 3_600_000);
        let due = (appended_at + self.settings.retention_ms).get();
        UnixMillis::new(due.div_ceil(step_ms) * step_ms)
    }

    /// Does what is due, except sealing, which the shell goes through step by step.
    pub fn alarm(&mut self, now: UnixMillis) -> Result<Vec<Command>, S::Error> {
        let mut commands = Vec::new();
        let trimmed = self.log.trim_until(now - self.settings.retention_ms)?;
        if let (Some(stream), false) = (self.log.stream(), trimmed.is_empty()) {
            let epoch = self.log.epoch();
            let keys = trimmed.iter().map(|segment| segment.key(stream, epoch)).collect();
            commands.push(Command::Discard { keys });
        }
        self.assignment.forget_until(self.log.trimmed());
        self.assignment.forget_edges(now);
        commands.extend(self.end_expired(now));
        commands.extend(self.settle(Opening::default(), now)?);
        Ok(commands)
    }

    pub(crate) fn known_position(&self, id: EventId) -> Result<Seq, StreamError<S::Error>> {
        self.log.position_of(id)?.ok_or_else(event_unknown)
    }
}

pub(crate) fn event_unknown<E: std::fmt::Display>() -> StreamError<E> {
    let message = "no event with this id is in your stream";
    StreamError::Refused(Problem::new(ErrorCode::EventUnknown, message))
}

/// Why a connection leaves the object.
enum End {
    Bye(ByeCode),
    History,
}

fn offer_fresh<S: LogStorage>(
    log: &Log<S>,
    subscription: &mut Subscription,
    tail_before: Seq,
    fresh: &[&NewEvent],
    outgoing: &mut Outgoing,
) {
    let mut seq = tail_before;
    for event in fresh {
        seq = seq.next();
        let cursor = log.cursor(seq);
        let flow = subscription.offer(cursor, Some(&event.kind), &event.record, outgoing);
        if matches!(flow, ControlFlow::Break(())) {
            return;
        }
    }
}

fn push_messages<S: LogStorage>(
    log: &Log<S>,
    connection: ConnectionId,
    subscription: &mut Subscription,
    outgoing: Outgoing,
    now: UnixMillis,
    commands: &mut Vec<Command>,
) {
    let messages = subscription.messages(log, outgoing, now);
    commands.extend(messages.into_iter().map(|text| Command::Send { connection, text }));
    commands.push(Command::Remember { connection });
}
