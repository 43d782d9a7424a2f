use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use relay_schemas::UnixMillis;

use super::storage::{InstallationRow, InstallationStorage};
use crate::counted_writes::{CountedWrites, StorageFault};

type Rows = BTreeMap<(InstallationRow, String), (String, Option<UnixMillis>)>;

/// An installation's storage in memory. Clones share what is stored, as a reloaded object would
/// find it.
#[derive(Clone, Debug, Default)]
pub struct MemoryInstallation {
    rows: Rc<RefCell<Rows>>,
    writes: CountedWrites,
    listings: Rc<Cell<u64>>,
}

impl MemoryInstallation {
    /// Lets so many writes pass and fails the next: lost, or landed and answered with an error.
    pub fn fail_after(&self, writes: u64, lands: bool) {
        self.writes.fail_after(writes, lands);
    }

    /// Whether a fault that was asked for has not come yet.
    pub fn awaits_fault(&self) -> bool {
        self.writes.awaits_fault()
    }

    /// Takes back a fault that has not come.
    pub fn heal(&self) {
        self.writes.heal();
    }

    /// Row writes so far, deletes included.
    pub fn rows_written(&self) -> u64 {
        self.writes.rows()
    }

    /// How often all rows of a kind were read so far.
    pub fn listings(&self) -> u64 {
        self.listings.get()
    }

    /// Everything that is stored, as text: to look for what must not be there.
    pub fn dump(&self) -> String {
        format!("{:?}", self.rows.borrow())
    }

    /// How many rows of a kind there are.
    pub fn count(&self, kind: InstallationRow) -> usize {
        self.rows.borrow().keys().filter(|(found, _)| *found == kind).count()
    }

    fn write(&self, rows: u64, change: impl FnOnce(&mut Rows)) -> Result<(), StorageFault> {
        self.writes.write(rows, || change(&mut self.rows.borrow_mut()))
    }
}

impl InstallationStorage for MemoryInstallation {
    type Error = StorageFault;

    fn all(&self, kind: InstallationRow) -> Result<Vec<(String, String)>, StorageFault> {
        self.listings.set(self.listings.get() + 1);
        let rows = self.rows.borrow();
        let of_kind = rows.iter().filter(|((found, _), _)| *found == kind);
        Ok(of_kind.map(|((_, key), (text, _))| (key.clone(), text.clone())).collect())
    }

    fn get(&self, kind: InstallationRow, key: &str) -> Result<Option<String>, StorageFault> {
        Ok(self.rows.borrow().get(&(kind, key.to_owned())).map(|(text, _)| text.clone()))
    }

    fn put(
        &mut self,
        kind: InstallationRow,
        key: &str,
        text: &str,
        until: Option<UnixMillis>,
    ) -> Result<(), StorageFault> {
        self.write(1, |rows| {
            rows.insert((kind, key.to_owned()), (text.to_owned(), until));
        })
    }

    fn delete(&mut self, kind: InstallationRow, key: &str) -> Result<(), StorageFault> {
        self.write(1, |rows| {
            rows.remove(&(kind, key.to_owned()));
        })
    }

    fn delete_expired(&mut self, now: UnixMillis) -> Result<(), StorageFault> {
        let is_over = |until: &Option<UnixMillis>| until.is_some_and(|until| until <= now);
        let over = self.rows.borrow().values().filter(|(_, until)| is_over(until)).count() as u64;
        self.write(over, |rows| rows.retain(|_, (_, until)| until.is_none_or(|until| until > now)))
    }

    fn next_expiry(&self) -> Result<Option<UnixMillis>, StorageFault> {
        Ok(self.rows.borrow().values().filter_map(|(_, until)| *until).min())
    }
}
