//! Goal: in the assigned modes each event is one edge's at a time, and is finished, or goes on to
//! another, or to the dead letters; in every mode stops pass ahead and filters hold.
//!
//! Method: scripts of inputs and moves of the clock, each run twice, the second time with the
//! object evicted before each step. What is sent is read back from the commands.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

#[path = "../support/mod.rs"]
mod support;

mod backlog;
mod capacity;
mod choice;
mod dice;
mod filters;
mod given_up;
mod health;
mod leases;
mod model;
mod modes;
mod reports;
mod signals;
mod stops;
mod well;

use relay_durable::{Command, ConnectionId, StreamSettings};
use relay_schemas::{BridgeMessage, Connect, Dialect, EventId, Frame, MultiEdgeMode, Start};

use crate::support::{Relay, check_with, connect, edge};

pub(crate) const TIMEOUT_MS: u64 = 60_000;

pub(crate) fn settings(multi_edge: MultiEdgeMode) -> StreamSettings {
    StreamSettings { multi_edge, edge_timeout_ms: TIMEOUT_MS, ..StreamSettings::default() }
}

pub(crate) fn check_round_robin(script: impl Fn(Relay)) {
    check_with(settings(MultiEdgeMode::RoundRobin), script);
}

pub(crate) fn check_sticky(script: impl Fn(Relay)) {
    check_with(settings(MultiEdgeMode::Sticky), script);
}

/// A machine's WebSocket. Its name is its id in capitals.
pub(crate) fn of_edge(name: &str) -> Connect {
    Connect {
        edge: edge(name),
        edge_name: Some(name.to_uppercase()),
        ..connect(Dialect::WebSocket, Start::Earliest)
    }
}

/// The same of one that works on so many events at once.
pub(crate) fn with_capacity(name: &str, capacity: u32) -> Connect {
    Connect { capacity: Some(capacity), ..of_edge(name) }
}

/// A webhook as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) connection: ConnectionId,
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    pub(crate) cursor: u64,
    pub(crate) n: u64,
}

fn number_of(id: EventId) -> u64 {
    u128::from_be_bytes(*id.as_bytes()) as u64
}

/// The lines of every message, with their connections.
pub(crate) fn lines(commands: &[Command]) -> Vec<(ConnectionId, String)> {
    let mut lines = Vec::new();
    for command in commands {
        if let Command::Send { connection, text } = command {
            let text = BridgeMessage::decode(text).map_or(text.as_str(), |message| message.lines);
            lines.extend(text.lines().map(|line| (*connection, line.to_owned())));
        }
    }
    lines
}

pub(crate) fn given(commands: &[Command]) -> Vec<Given> {
    let webhook = |(connection, line): (ConnectionId, String)| {
        let Ok(Frame::Webhook(webhook)) = Frame::parse(&line) else { return None };
        Some(Given {
            connection,
            number: number_of(webhook.id),
            attempt: webhook.attempt,
            cursor: webhook.cursor.seq.get(),
            n: webhook.n,
        })
    };
    lines(commands).into_iter().filter_map(webhook).collect()
}

/// Who was sent what: connection, number, attempt.
pub(crate) fn who(commands: &[Command]) -> Vec<(ConnectionId, u64, u32)> {
    given(commands).iter().map(|one| (one.connection, one.number, one.attempt)).collect()
}
