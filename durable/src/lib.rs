//! The logic of EdgeRelay's objects as values, driven by `(input, now)`.
//!
//! In scope: the log and reading from it, what a connection is sent, routing, edge credentials,
//! adding up counts. Out of scope: clocks, randomness, sockets and the platform's storage, which
//! comes in through the [`LogStorage`] port. This crate knows nothing about Workers.

mod address;
mod assignment;
mod command;
#[cfg(feature = "test-util")]
mod counted_writes;
mod device;
mod directory;
mod health;
mod installation;
mod log;
mod metrics;
mod oauth;
mod page;
mod rebuild;
mod replay;
mod routing;
#[cfg(feature = "test-util")]
pub mod samples;
mod sealing;
mod segment;
mod state;
mod storage;
mod stream;
mod subscription;
mod sweep;
#[cfg(feature = "test-util")]
pub mod test_routing;
#[cfg(feature = "test-util")]
pub mod test_storage;

pub use address::requester;
pub use assignment::{
    AssignedHead, Assignment, AssignmentRules, Candidate, Choice, EdgeRecord, Holder, Lease,
    LeaseState, LeaseSubject, Left, Load, Present, Standing, Stop, choose, score, session_key,
};
pub use command::{Command, Connected, ConnectionId, GivenUp, StreamError};
pub use device::{Approver, DeviceDecision, DeviceGrant, Guesses, code_unknown};
pub use directory::{
    ApproveMachine, Edge, EndReason, EnrolRequest, Machine, RefreshMachine, RefreshRefusal,
    RefreshReply, Whereabouts, approve, enrol, location_hint, refresh,
};
pub use health::EdgeState;
#[cfg(feature = "test-util")]
pub use installation::MemoryInstallation;
pub use installation::{
    Effect, Installation, InstallationError, InstallationRow, InstallationSettings,
    InstallationStorage, News, Pace, PersonStep, Random, RefreshForm, TokenKeys, Wake, WorkClock,
};
pub use log::{Log, Resolved};
pub use metrics::{MetricsRegistry, Unsaved};
pub use oauth::{
    ApprovalPage, HtmlPage, MachineRow, SignIn, check_viewer, code_page, content_security_policy,
    decided_page, denied, installed_page, machines_page, oauth_failed, problem_page, sign_in_page,
};
pub use page::{
    EventAnswer, EventWithReports, Page, PageFill, PagePart, PageStep, position_before,
    sealed_event,
};
pub use rebuild::{FoundSegment, Move, Rebuilt};
pub use replay::{Fetched, Replay, ReplayStep, SegmentObject};
pub use routing::{
    AuditCursor, AuditLine, AuditPage, AuditRow, Bond, Candidate as RouteCandidate,
    Decision as RouteDecision, EventFacts, OrganizationView, Owner, OwnerRow, RouteBook,
    RouteFacts, RoutingRules, RoutingState, RoutingStorage, Rule, Snapshot, Target, decide,
};
pub use sealing::{SealJob, Sealing, StreamSettings};
pub use segment::{EncodedSegment, SegmentEncoder, SegmentError, SegmentReader};
pub use state::{AssignedState, ConnectionState, StreamState};
pub use storage::{LogHead, LogRow, LogStorage, RowIndex, SealPlan, SegmentIds, SegmentRow};
pub use stream::Stream;
pub use subscription::Subscription;
pub use sweep::{FoundObject, KnownHistory, Repair, Sweep, sweep};
