//! Which streams an event goes to.
//!
//! [`RouteFacts::of`] reads from the payload whom and what it names; [`decide`] chooses the streams
//! from that and from what the organization's directory knows ([`OrganizationView`], owners of the
//! session and the issue). [`RouteBook`] keeps what must be the same next time: owners, and each
//! decision for as long as its event may be delivered again.
//!
//! Linear's own target of agent events is the app user, one for the whole workspace and never a
//! person: whom the payload or the directory shows to be one is passed over.
//!
//! A target is a channel, not a stream: the organization is the event's own, whatever else the
//! payload says. `docs/routing.md` tells it all to operators.

mod audit;
mod book;
mod decide;
mod facts;
mod owners;
mod recent;
mod rule;
mod storage;
mod table;
mod view;

pub use self::{
    audit::{AuditCursor, AuditLine, AuditPage, AuditRow},
    book::{EventFacts, RouteBook},
    decide::{Decision, Snapshot, Target, decide},
    facts::{Bond, Candidate, RouteFacts},
    owners::{Owner, OwnerRow},
    rule::Rule,
    storage::{RoutingState, RoutingStorage},
    view::{OrganizationView, RoutingRules},
};

#[cfg(test)]
mod tests;
