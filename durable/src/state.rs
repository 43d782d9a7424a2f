//! What operators are shown of a stream.

use relay_schemas::{Cursor, Dialect, EdgeId, UnixMillis};
use serde::Serialize;

use crate::{health::EdgeState, sealing::Sealing, storage::LogStorage, stream::Stream};

/// The answer of `GET /state/{organization}/{channel}`.
#[derive(Debug, Serialize)]
pub struct StreamState {
    /// The position before the oldest event kept.
    pub oldest: Cursor,
    /// The position of the newest event.
    pub tail: Cursor,
    /// The position of the newest event that lies in a segment.
    pub sealed: Cursor,
    /// Events kept.
    pub events: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of their objects.
    pub segment_bytes: u64,
    /// Bytes of the records in the hot tail.
    pub hot_bytes: u64,
    /// When the oldest event of the hot tail was written.
    pub hot_since: Option<UnixMillis>,
    /// How sealing goes.
    pub sealing: Sealing,
    /// Open connections.
    pub connections: Vec<ConnectionState>,
    /// The edges that are connected, or were lately.
    pub edges: Vec<EdgeState>,
    /// How far events have been given to edges, where each goes to one of them.
    pub assigned: Option<AssignedState>,
    /// When the object next wants to be woken.
    pub alarm_at: Option<UnixMillis>,
}

/// How far events have been given to edges.
#[derive(Debug, Serialize)]
pub struct AssignedState {
    /// The position up to which every event was considered.
    pub until: Cursor,
    /// Events that an edge has.
    pub held: usize,
    /// Events that wait for one.
    pub waiting: usize,
    /// Events that went to the dead letters, or are about to.
    pub given_up: u64,
}

/// One open connection.
#[derive(Debug, Serialize)]
pub struct ConnectionState {
    /// Who reads.
    pub edge: EdgeId,
    /// How.
    pub dialect: Dialect,
    /// Since when.
    pub opened_at: UnixMillis,
    /// The position reached.
    pub cursor: Cursor,
    /// Events that it has yet to be sent.
    pub lag_events: u64,
}

impl<S: LogStorage> Stream<S> {
    /// What an operator sees of the stream.
    pub fn state(&self) -> Result<StreamState, S::Error> {
        let log = self.log();
        let connections = self
            .connections()
            .values()
            .map(|subscription| ConnectionState {
                edge: subscription.edge.clone(),
                dialect: subscription.dialect,
                opened_at: subscription.opened_at,
                cursor: log.cursor(subscription.position()),
                lag_events: log.tail().distance_from(subscription.position()),
            })
            .collect();
        let (segments, segment_bytes) = log.storage().segment_totals()?;
        Ok(StreamState {
            oldest: log.cursor(log.trimmed()),
            tail: log.cursor(log.tail()),
            sealed: log.cursor(log.sealed()),
            events: log.tail().distance_from(log.trimmed()),
            segments,
            segment_bytes,
            hot_bytes: log.hot_bytes(),
            hot_since: log.hot_since(),
            sealing: self.sealing,
            connections,
            edges: self.edge_states()?,
            assigned: (self.is_assigned() || self.assignment().is_at_work())
                .then(|| self.assigned_state()),
            alarm_at: self.next_alarm(),
        })
    }

    fn assigned_state(&self) -> AssignedState {
        let assignment = self.assignment();
        let leases = assignment.leases().values();
        let held = leases.clone().filter(|lease| lease.edge().is_some()).count();
        let waiting = assignment.waiting().len();
        AssignedState {
            until: self.log().cursor(assignment.until()),
            held,
            waiting,
            given_up: (leases.count() - held - waiting) as u64 + assignment.given_up_count(),
        }
    }
}
