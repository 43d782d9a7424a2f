use relay_schemas::{Channel, Claims, EdgeId, OrganizationId, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;

/// Whose state it is: a person's at a relay, whichever machine that person has signed in here. Two
/// people, organizations or relays never share a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamIdentity {
    /// The relay's base URL.
    pub relay: String,
    /// The credential's organization.
    pub organization: OrganizationId,
    /// Its person.
    pub user: UserId,
    /// Its edge, by which an earlier version named the state.
    pub edge: EdgeId,
    /// The channel, when another than the credential's own person's is read.
    pub channel: Option<Channel>,
}

impl StreamIdentity {
    /// Of what a credential reads.
    pub fn of(relay: &str, claims: &Claims, channel: Option<Channel>) -> Self {
        Self {
            relay: relay.to_owned(),
            organization: claims.org.clone(),
            user: claims.user.clone(),
            edge: claims.sub.clone(),
            channel,
        }
    }

    /// The key of its row, which is made if there is none.
    pub(super) fn find(&self, database: &Connection) -> Result<i64, StoreError> {
        if let Some(key) = self.known(database)? {
            return Ok(key);
        }
        if self.take_over(database)?
            && let Some(key) = self.known(database)?
        {
            return Ok(key);
        }
        database.execute(
            "INSERT INTO stream (relay, organization, user, channel) VALUES (?1, ?2, ?3, ?4)",
            params![self.relay, self.organization.as_str(), self.user.as_str(), self.channel()],
        )?;
        Ok(database.last_insert_rowid())
    }

    fn known(&self, database: &Connection) -> Result<Option<i64>, StoreError> {
        let found = database.query_row(
            "SELECT key FROM stream
             WHERE relay = ?1 AND organization = ?2 AND user = ?3 AND channel = ?4",
            params![self.relay, self.organization.as_str(), self.user.as_str(), self.channel()],
            |row| row.get(0),
        );
        Ok(found.optional()?)
    }

    /// What an earlier version wrote belongs to the person whose edge it names, and nobody else.
    fn take_over(&self, database: &Connection) -> Result<bool, StoreError> {
        let taken = database.execute(
            "UPDATE stream SET organization = ?3, user = ?4, edge = NULL
             WHERE relay = ?1 AND edge = ?2 AND channel = ?5",
            params![
                self.relay,
                self.edge.as_str(),
                self.organization.as_str(),
                self.user.as_str(),
                self.channel()
            ],
        )?;
        Ok(taken > 0)
    }

    fn channel(&self) -> String {
        self.channel.as_ref().map(Channel::to_string).unwrap_or_default()
    }
}
