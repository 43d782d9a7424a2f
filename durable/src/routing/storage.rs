use std::collections::BTreeMap;

use relay_schemas::{EventId, UnixMillis, UserId};
use serde::{Deserialize, Serialize};

use super::{AuditRow, OwnerRow, RoutingRules};

/// What is kept of an organization's routing besides owners and decisions: one row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingState {
    /// What the operator has set.
    #[serde(default)]
    pub rules: RoutingRules,
    /// How far the `unrouted` stream has been routed again.
    #[serde(default)]
    pub rerouted_until: Option<String>,
    /// When old rows were last looked for.
    #[serde(default)]
    pub trimmed_at: UnixMillis,
}

/// The storage of one organization's routing. Every call is synchronous, and calls without an await
/// between them become durable together: a Durable Object's SQLite guarantees both.
///
/// After an error the caller must forget what it holds in memory and load again.
pub trait RoutingStorage {
    /// What can go wrong.
    type Error: std::fmt::Display;

    /// The state.
    fn load_state(&self) -> Result<RoutingState, Self::Error>;
    /// Replaces the state; one row written.
    fn save_state(&mut self, state: &RoutingState) -> Result<(), Self::Error>;

    /// The users that apps have here, with their app.
    fn app_users(&self) -> Result<BTreeMap<UserId, String>, Self::Error>;
    /// Keeps the user of an app; one row written.
    fn save_app_user(&mut self, user: &UserId, app: &str) -> Result<(), Self::Error>;

    /// The owners of a session or issue.
    fn owners(&self, key: &str) -> Result<Option<OwnerRow>, Self::Error>;
    /// Replaces the owners of a session or issue; one row written.
    fn save_owners(&mut self, key: &str, row: &OwnerRow) -> Result<(), Self::Error>;
    /// Deletes the rows last seen before `at`; one row written for each.
    fn delete_owners_before(&mut self, at: UnixMillis) -> Result<(), Self::Error>;

    /// Adds a row of decisions, or replaces the one of the same number; one row written.
    fn save_audit(&mut self, row: &AuditRow) -> Result<(), Self::Error>;
    /// The newest row at or below a number.
    fn audit_until(&self, number: u64) -> Result<Option<AuditRow>, Self::Error>;
    /// Number, ids and time of the last decision of the rows, from the newest, until `visit`
    /// answers `false`.
    fn visit_audit_newest_first(
        &self,
        visit: &mut dyn FnMut(u64, Vec<EventId>, UnixMillis) -> bool,
    ) -> Result<(), Self::Error>;
    /// Deletes the rows whose last decision was made before `at`; one row written for each.
    fn delete_audit_before(&mut self, at: UnixMillis) -> Result<(), Self::Error>;
}
