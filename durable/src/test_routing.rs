//! The storage of an organization's routing in memory, with the row writes counted as the platform
//! counts them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use relay_schemas::{EventId, UnixMillis, UserId};

use crate::{
    routing::{AuditRow, OwnerRow, RoutingState, RoutingStorage},
    test_storage::StorageFault,
};

/// Storage in memory. Clones share what is stored, as a reloaded object would find it.
#[derive(Clone, Debug, Default)]
pub struct MemoryRouting {
    kept: Rc<RefCell<Kept>>,
    rows_written: Rc<Cell<u64>>,
    fails: Rc<Cell<bool>>,
}

#[derive(Debug, Default)]
struct Kept {
    state: RoutingState,
    app_users: BTreeMap<UserId, String>,
    owners: BTreeMap<String, OwnerRow>,
    audit: BTreeMap<u64, AuditRow>,
}

impl MemoryRouting {
    /// Row writes so far, deletes included.
    pub fn rows_written(&self) -> u64 {
        self.rows_written.get()
    }

    /// Makes every write fail, or no longer.
    pub fn set_failing(&self, fails: bool) {
        self.fails.set(fails);
    }

    /// How many rows of owners and of decisions there are.
    pub fn rows(&self) -> (usize, usize) {
        let kept = self.kept.borrow();
        (kept.owners.len(), kept.audit.len())
    }

    fn write(&self, rows: usize, change: impl FnOnce(&mut Kept)) -> Result<(), StorageFault> {
        if self.fails.get() {
            return Err(StorageFault);
        }
        self.rows_written.set(self.rows_written.get() + rows as u64);
        change(&mut self.kept.borrow_mut());
        Ok(())
    }
}

impl RoutingStorage for MemoryRouting {
    type Error = StorageFault;

    fn load_state(&self) -> Result<RoutingState, StorageFault> {
        Ok(self.kept.borrow().state.clone())
    }

    fn save_state(&mut self, state: &RoutingState) -> Result<(), StorageFault> {
        self.write(1, |kept| kept.state = state.clone())
    }

    fn app_users(&self) -> Result<BTreeMap<UserId, String>, StorageFault> {
        Ok(self.kept.borrow().app_users.clone())
    }

    fn save_app_user(&mut self, user: &UserId, app: &str) -> Result<(), StorageFault> {
        self.write(1, |kept| {
            kept.app_users.insert(user.clone(), app.to_owned());
        })
    }

    fn owners(&self, key: &str) -> Result<Option<OwnerRow>, StorageFault> {
        Ok(self.kept.borrow().owners.get(key).cloned())
    }

    fn save_owners(&mut self, key: &str, row: &OwnerRow) -> Result<(), StorageFault> {
        self.write(1, |kept| {
            kept.owners.insert(key.to_owned(), row.clone());
        })
    }

    fn delete_owners_before(&mut self, at: UnixMillis) -> Result<(), StorageFault> {
        let old = self.kept.borrow().owners.values().filter(|row| row.seen_at < at).count();
        self.write(old, |kept| kept.owners.retain(|_, row| row.seen_at >= at))
    }

    fn save_audit(&mut self, row: &AuditRow) -> Result<(), StorageFault> {
        self.write(1, |kept| {
            kept.audit.insert(row.number, row.clone());
        })
    }

    fn audit_until(&self, number: u64) -> Result<Option<AuditRow>, StorageFault> {
        let kept = self.kept.borrow();
        Ok(kept.audit.range(..=number).next_back().map(|(_, row)| row.clone()))
    }

    fn visit_audit_newest_first(
        &self,
        visit: &mut dyn FnMut(u64, Vec<EventId>, UnixMillis) -> bool,
    ) -> Result<(), StorageFault> {
        let kept = self.kept.borrow();
        let _ = kept.audit.values().rev().all(|row| visit(row.number, row.ids.clone(), row.at_max));
        Ok(())
    }

    fn delete_audit_before(&mut self, at: UnixMillis) -> Result<(), StorageFault> {
        let old = self.kept.borrow().audit.values().filter(|row| row.at_max < at).count();
        self.write(old, |kept| kept.audit.retain(|_, row| row.at_max >= at))
    }
}
