use relay_schemas::UnixMillis;

/// What a row of an installation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstallationRow {
    /// The organization; one row.
    Head,
    /// An app's tokens, by its client id.
    Grant,
    /// A call to Linear that waits, by its idempotency id.
    Call,
    /// An event that was announced, by its id.
    Event,
    /// An event that was announced for an app that isn't installed here, by its id: nobody answers.
    Foreign,
    /// A report that waits for the announcement of its event.
    Parked,
    /// A call that was made, by its idempotency id.
    Done,
    /// A call that was given up, by its idempotency id.
    GivenUp,
    /// Up to which stream it was told that no app is left; one row.
    ToldOfEnd,
    /// When the next row's time comes; one row.
    Sweep,
}

impl InstallationRow {
    /// The name that it is stored under.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Grant => "grant",
            Self::Call => "call",
            Self::Event => "event",
            Self::Foreign => "foreign",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::GivenUp => "given_up",
            Self::ToldOfEnd => "told_of_end",
            Self::Sweep => "sweep",
        }
    }
}

/// The storage of one installation. Every call is synchronous, and calls without an await between
/// them become durable together: a Durable Object's SQLite guarantees both.
///
/// After an error the caller must forget what it holds in memory and load again.
pub trait InstallationStorage {
    /// What can go wrong.
    type Error: std::fmt::Display;

    /// Every row of a kind, in the order of their keys.
    fn all(&self, kind: InstallationRow) -> Result<Vec<(String, String)>, Self::Error>;
    /// One row.
    fn get(&self, kind: InstallationRow, key: &str) -> Result<Option<String>, Self::Error>;
    /// Writes a row; one that has `until` is forgotten after it. One row written.
    fn put(
        &mut self,
        kind: InstallationRow,
        key: &str,
        text: &str,
        until: Option<UnixMillis>,
    ) -> Result<(), Self::Error>;
    /// Deletes a row; one row written.
    fn delete(&mut self, kind: InstallationRow, key: &str) -> Result<(), Self::Error>;
    /// Deletes the rows whose time has come.
    fn delete_expired(&mut self, now: UnixMillis) -> Result<(), Self::Error>;
    /// When the next row's time comes. Reads every row.
    fn next_expiry(&self) -> Result<Option<UnixMillis>, Self::Error>;
}
