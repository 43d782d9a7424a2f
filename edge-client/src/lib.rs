//! The edge client of EdgeRelay: receives a person's events on that person's machine and hands
//! them to a handler, at least once, in order, from where the last run ended.
//!
//! In scope: the session (dialing, heartbeats, credit, the contiguous cursor, retries) as the
//! value [`Session`], which knows no socket and no clock; the shell around it, [`Client`], generic
//! over a [`Connector`] and a [`Handler`]; the two transports; the handlers that print, run a
//! command or post on; the state in SQLite; status reports; settings; the local server; the
//! export of history; signing in and keeping the sign-in alive. `listen`, `export`, `check`,
//! `login`, `logout`, `whoami` and `tell` are what the program `edgerelay` does.
//!
//! Out of scope: what stands on the wire, which is in `relay-schemas`; and what an event means:
//! of a body only the agent session or issue is read, to keep its events in order.

mod access;
mod activity;
mod check;
mod client;
mod clock;
mod config;
mod connection;
mod courier;
mod credential;
mod dispatch;
mod event;
mod export;
mod fault;
mod handler;
pub mod limits;
mod listen;
mod local_server;
mod relay;
mod report_marker;
mod reporter;
mod session;
mod sign_in;
mod signals;
mod store;
mod tell;

pub use access::{Access, AccessError, Http};
pub use activity::read_activity;
pub use check::{CheckReport, check};
pub use client::{Client, ClientHandle};
pub use config::{
    Arguments, ConfigError, ExportSettings, ExportStart, HandlerSettings, LogLevel, Order, Retry,
    Setting, Settings, Source,
};
pub use connection::{
    Connection, Connector, HttpConnection, HttpConnector, LineError, LineSplitter, Outgoing,
    Received, StreamRequest, Transport,
};
pub use credential::{
    Credential, CredentialStore, CredentialStoreError, FileError, KeyringError, Place, StoreChoice,
};
pub use dispatch::Dispatch;
pub use event::Event;
pub use export::{Ending, ExportReport, Failure, export, export_to};
pub use fault::{Exit, Fault, Refusal, RefusalKind};
pub use handler::{
    Completion, ExecHandler, ExecSettings, ForwardHandler, ForwardSettings, Handler, WriteHandler,
};
pub use listen::{ListenError, listen, listen_with};
pub use session::{
    Backoff, Batch, Command, Counters, DialFrom, Handled, Input, LinkState, Notice, OnFailure,
    Ordering, Outcome, Restored, RunSummary, Session, SessionSettings, SessionStatus, Start,
    Ticket, Weight,
};
pub use sign_in::{CommandError, LoginOrder, RefusedWords, Said, login, logout, whoami};
pub use signals::shutdown_signals;
pub use store::{Keeper, KeeperThread, Store, StoreError, StreamIdentity, Waiting};
pub use tell::tell;
