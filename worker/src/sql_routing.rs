use std::collections::BTreeMap;

use relay_durable::{AuditRow, OwnerRow, RoutingState, RoutingStorage};
use relay_schemas::{EventId, UnixMillis, UserId};
use worker::{Error, Result, SqlStorage, SqlStorageValue as Value};

use crate::sql_storage::values::{blob_of, corrupt, ids_of, integer, number, text};

/// The ids stand before the lines, so that finding an event doesn't read the text.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS routing (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS app_user (user TEXT PRIMARY KEY, app TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owner (
    key TEXT PRIMARY KEY, owners TEXT NOT NULL, seen_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, at_min INTEGER NOT NULL, at_max INTEGER NOT NULL,
    ids BLOB NOT NULL, lines TEXT NOT NULL
);
";

/// The storage of an organization's routing in its directory's SQLite.
pub(crate) struct SqlRouting {
    sql: SqlStorage,
    rows_written: u64,
}

impl SqlRouting {
    /// Opens the storage and makes its tables.
    pub(crate) fn open(sql: SqlStorage) -> Result<Self> {
        sql.exec(SCHEMA, None)?;
        Ok(Self { sql, rows_written: 0 })
    }

    /// Row writes since this was opened, as the platform bills them.
    pub(crate) fn rows_written(&self) -> u64 {
        self.rows_written
    }

    fn write(&mut self, statement: &str, values: Vec<Value>) -> Result<()> {
        let cursor = self.sql.exec(statement, values)?;
        self.rows_written += cursor.rows_written() as u64;
        Ok(())
    }

    fn first_row(&self, query: &str, values: Vec<Value>) -> Result<Option<Vec<Value>>> {
        self.sql.exec(query, values)?.raw().next().transpose()
    }
}

fn time(row: &[Value], column: usize) -> Result<UnixMillis> {
    Ok(UnixMillis::new(number(row, column)?))
}

impl RoutingStorage for SqlRouting {
    type Error = Error;

    fn load_state(&self) -> Result<RoutingState> {
        match self.first_row("SELECT state FROM routing", vec![])? {
            Some(row) => Ok(serde_json::from_str(text(&row, 0)?)?),
            None => Ok(RoutingState::default()),
        }
    }

    fn save_state(&mut self, state: &RoutingState) -> Result<()> {
        let state = Value::String(serde_json::to_string(state)?);
        self.write(
            "INSERT INTO routing (id, state) VALUES (1, ?)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state",
            vec![state],
        )
    }

    fn app_users(&self) -> Result<BTreeMap<UserId, String>> {
        let rows = self.sql.exec("SELECT user, app FROM app_user", None)?;
        rows.raw()
            .map(|row| {
                let row = row?;
                let user = text(&row, 0)?.parse().map_err(|_| corrupt("app user"))?;
                Ok((user, text(&row, 1)?.to_owned()))
            })
            .collect()
    }

    fn save_app_user(&mut self, user: &UserId, app: &str) -> Result<()> {
        let values = [user.as_str(), app].map(|text| Value::String(text.to_owned()));
        self.write(
            "INSERT INTO app_user (user, app) VALUES (?, ?)
             ON CONFLICT (user) DO UPDATE SET app = excluded.app",
            values.to_vec(),
        )
    }

    fn owners(&self, key: &str) -> Result<Option<OwnerRow>> {
        let query = "SELECT owners, seen_at FROM owner WHERE key = ?";
        let Some(row) = self.first_row(query, vec![Value::String(key.to_owned())])? else {
            return Ok(None);
        };
        let owners = serde_json::from_str(text(&row, 0)?)?;
        Ok(Some(OwnerRow { owners, seen_at: time(&row, 1)? }))
    }

    fn save_owners(&mut self, key: &str, row: &OwnerRow) -> Result<()> {
        let values = vec![
            Value::String(key.to_owned()),
            Value::String(serde_json::to_string(&row.owners)?),
            integer(row.seen_at.get()),
        ];
        self.write(
            "INSERT INTO owner (key, owners, seen_at) VALUES (?, ?, ?)
             ON CONFLICT (key) DO UPDATE
             SET owners = excluded.owners, seen_at = excluded.seen_at",
            values,
        )
    }

    fn delete_owners_before(&mut self, at: UnixMillis) -> Result<()> {
        self.write("DELETE FROM owner WHERE seen_at < ?", vec![integer(at.get())])
    }

    fn save_audit(&mut self, row: &AuditRow) -> Result<()> {
        let values = vec![
            integer(row.number),
            integer(row.at_min.get()),
            integer(row.at_max.get()),
            Value::Blob(blob_of(&row.ids)),
            Value::String(row.lines.clone()),
        ];
        self.write(
            "INSERT INTO audit (number, at_min, at_max, ids, lines) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (number) DO UPDATE
             SET at_max = excluded.at_max, ids = excluded.ids, lines = excluded.lines",
            values,
        )
    }

    fn audit_until(&self, number_max: u64) -> Result<Option<AuditRow>> {
        let query = "SELECT number, at_min, at_max, ids, lines FROM audit
                     WHERE number <= ? ORDER BY number DESC LIMIT 1";
        // SQLite's integers are signed, and JavaScript's are whole up to 2^53.
        let bound = integer(number_max.min((1 << 53) - 1));
        let Some(row) = self.first_row(query, vec![bound])? else { return Ok(None) };
        Ok(Some(AuditRow {
            number: number(&row, 0)?,
            at_min: time(&row, 1)?,
            at_max: time(&row, 2)?,
            ids: ids_of(row.get(3))?,
            lines: text(&row, 4)?.to_owned(),
        }))
    }

    fn visit_audit_newest_first(
        &self,
        visit: &mut dyn FnMut(u64, Vec<EventId>, UnixMillis) -> bool,
    ) -> Result<()> {
        let query = "SELECT number, ids, at_max FROM audit ORDER BY number DESC";
        for row in self.sql.exec(query, None)?.raw() {
            let row = row?;
            if !visit(number(&row, 0)?, ids_of(row.get(1))?, time(&row, 2)?) {
                break;
            }
        }
        Ok(())
    }

    fn delete_audit_before(&mut self, at: UnixMillis) -> Result<()> {
        self.write("DELETE FROM audit WHERE at_max < ?", vec![integer(at.get())])
    }
}
