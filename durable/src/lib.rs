//! The logic of EdgeRelay's objects as values, driven by `(input, now)`.
//!
//! In scope: the log and reading from it, what a connection is sent, routing, edge credentials,
//! adding up counts. Out of scope: clocks, randomness, sockets and the platform's storage, which
//! comes in through the [`LogStorage`] port. This crate knows nothing about Workers.

mod command;
mod directory;
mod log;
mod metrics;
mod page;
mod routing;
#[cfg(feature = "test-util")]
pub mod samples;
mod storage;
mod stream;
mod subscription;
#[cfg(feature = "test-util")]
pub mod test_storage;

pub use command::{Command, Connected, ConnectionId, StreamError};
pub use directory::{Edge, EnrolRequest, enrol, stream_of};
pub use log::{Log, Resolved};
pub use metrics::MetricsRegistry;
pub use page::{ConnectionState, EventWithReports, Page, StreamState};
pub use routing::{Route, Rule, route};
pub use storage::{LogHead, LogRow, LogStorage, RowIndex};
pub use stream::Stream;
pub use subscription::Subscription;
