use relay_durable::{InstallationRow, InstallationStorage};
use relay_schemas::UnixMillis;
use worker::{Error, Result, SqlStorage, SqlStorageValue as Value};

/// The stored format, version 1: what the rows hold is JSON that tolerates other versions. No
/// secondary index: it would cost a billed write for each row.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS installation (
  kind TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, until INTEGER,
  PRIMARY KEY (kind, key)) WITHOUT ROWID;
";

/// An installation's storage in its object's SQLite.
pub(super) struct SqlInstallation {
    sql: SqlStorage,
}

impl SqlInstallation {
    /// Opens the storage and makes its table.
    pub(super) fn open(sql: SqlStorage) -> Result<Self> {
        sql.exec(SCHEMA, None)?;
        Ok(Self { sql })
    }
}

fn kind(kind: InstallationRow) -> Value {
    Value::String(kind.as_str().to_owned())
}

fn text(value: Option<Value>) -> Result<String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Error::RustError("a stored row of an installation can't be read".into())),
    }
}

/// Times are below 2^53, which passes through JavaScript exactly.
fn time(at: UnixMillis) -> Value {
    Value::Integer(i64::try_from(at.get()).unwrap_or(i64::MAX))
}

impl InstallationStorage for SqlInstallation {
    type Error = Error;

    fn all(&self, of: InstallationRow) -> Result<Vec<(String, String)>> {
        let query = "SELECT key, text FROM installation WHERE kind = ? ORDER BY key";
        let rows = self.sql.exec(query, vec![kind(of)])?;
        rows.raw()
            .map(|row| {
                let mut row = row?.into_iter();
                Ok((text(row.next())?, text(row.next())?))
            })
            .collect()
    }

    fn get(&self, of: InstallationRow, key: &str) -> Result<Option<String>> {
        let query = "SELECT text FROM installation WHERE kind = ? AND key = ?";
        let rows = self.sql.exec(query, vec![kind(of), Value::String(key.to_owned())])?;
        let row = rows.raw().next().transpose()?;
        row.map(|row| text(row.into_iter().next())).transpose()
    }

    fn put(
        &mut self,
        of: InstallationRow,
        key: &str,
        text: &str,
        until: Option<UnixMillis>,
    ) -> Result<()> {
        let statement = "INSERT INTO installation (kind, key, text, until) VALUES (?, ?, ?, ?)
             ON CONFLICT (kind, key) DO UPDATE SET text = excluded.text, until = excluded.until";
        let until = until.map_or(Value::Null, time);
        let values =
            vec![kind(of), Value::String(key.to_owned()), Value::String(text.to_owned()), until];
        self.sql.exec(statement, values)?;
        Ok(())
    }

    fn delete(&mut self, of: InstallationRow, key: &str) -> Result<()> {
        let statement = "DELETE FROM installation WHERE kind = ? AND key = ?";
        self.sql.exec(statement, vec![kind(of), Value::String(key.to_owned())])?;
        Ok(())
    }

    fn delete_expired(&mut self, now: UnixMillis) -> Result<()> {
        self.sql.exec("DELETE FROM installation WHERE until <= ?", vec![time(now)])?;
        Ok(())
    }

    fn next_expiry(&self) -> Result<Option<UnixMillis>> {
        let rows = self.sql.exec("SELECT MIN(until) FROM installation", None)?;
        let row = rows.raw().next().transpose()?;
        Ok(match row.as_deref() {
            Some([Value::Integer(at)]) => u64::try_from(*at).ok().map(UnixMillis::new),
            _ => None,
        })
    }
}
