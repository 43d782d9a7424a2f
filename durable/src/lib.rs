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
mod rebuild;
mod replay;
mod routing;
#[cfg(feature = "test-util")]
pub mod samples;
mod sealing;
mod segment;
mod storage;
mod stream;
mod subscription;
mod sweep;
#[cfg(feature = "test-util")]
pub mod test_storage;

pub use command::{Command, Connected, ConnectionId, StreamError};
pub use directory::{Edge, EnrolRequest, enrol};
pub use log::{Log, Resolved};
pub use metrics::MetricsRegistry;
pub use page::{
    ConnectionState, EventAnswer, EventWithReports, Page, PageFill, PagePart, PageStep,
    StreamState, position_before, sealed_event,
};
pub use rebuild::{FoundSegment, Move, Rebuilt};
pub use replay::{Fetched, Replay, ReplayStep, SegmentObject};
pub use routing::{Route, Rule, route};
pub use sealing::{SealJob, Sealing, StreamSettings};
pub use segment::{EncodedSegment, SegmentEncoder, SegmentError, SegmentReader};
pub use storage::{LogHead, LogRow, LogStorage, RowIndex, SealPlan, SegmentIds, SegmentRow};
pub use stream::Stream;
pub use subscription::Subscription;
pub use sweep::{FoundObject, KnownHistory, Repair, Sweep, sweep};
