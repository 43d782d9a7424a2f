//! Connections to a relay: how they are made, and the two ways in which they are spoken.

mod dialer;
mod line_splitter;
mod ndjson;
mod websocket;

use std::{collections::VecDeque, future::Future, sync::Arc};

use futures::future::BoxFuture;

pub(crate) use self::dialer::{Answer, describe};
pub use self::{
    dialer::{HttpConnection, HttpConnector, StreamRequest, Transport},
    line_splitter::{LineError, LineSplitter},
};
use crate::{fault::Fault, session::DialFrom};

/// Makes connections.
pub trait Connector {
    /// What it makes.
    type Connection: Connection;

    /// Connects, to read from there.
    fn dial(&self, from: DialFrom) -> BoxFuture<'static, Result<Self::Connection, Fault>>;
}

/// An open connection, as lines.
pub trait Connection: Send {
    /// Whether the reader can speak.
    fn is_duplex(&self) -> bool;

    /// Waits until something comes, and adds it to `inbox`, a bounded amount. Dropping the future
    /// loses nothing.
    fn receive(
        &mut self,
        inbox: &mut VecDeque<Received>,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Says something; only on a duplex connection.
    fn send(&mut self, message: Outgoing) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A whole line.
    Line(Arc<str>),
    /// A sign of life without a line.
    Alive,
}

/// What a reader can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Are you there?
    Ping,
    /// So many more bytes may come.
    Grant {
        /// How many.
        bytes: i64,
    },
}
