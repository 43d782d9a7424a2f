//! Storage in memory, with the row writes counted as the platform counts them.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use relay_schemas::{EdgeId, Seq, StoredReport, UnixMillis};

use crate::storage::{LogHead, LogRow, LogStorage, RowIndex};

/// The write that was made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("storage failed as it was told to")]
pub struct StorageFault;

/// A stream's storage in memory. Clones share what is stored, as a reloaded object would find it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    state: Rc<std::cell::RefCell<State>>,
    rows_written: Rc<Cell<u64>>,
    writes_until_fault: Rc<Cell<Option<u64>>>,
    fault_lands: Rc<Cell<bool>>,
}

#[derive(Debug, Default)]
struct State {
    head: Option<LogHead>,
    rows: BTreeMap<Seq, LogRow>,
    reports: BTreeMap<(Seq, String), StoredReport>,
    revoked: BTreeMap<EdgeId, UnixMillis>,
}

impl MemoryStorage {
    /// Row writes so far, deletes included.
    pub fn rows_written(&self) -> u64 {
        self.rows_written.get()
    }

    /// Lets so many writes pass and fails the next: lost, or landed and answered with an error.
    pub fn fail_after(&self, writes: u64, lands: bool) {
        self.writes_until_fault.set(Some(writes));
        self.fault_lands.set(lands);
    }

    fn write(&self, rows: u64, change: impl FnOnce(&mut State)) -> Result<(), StorageFault> {
        let fails = match self.writes_until_fault.get() {
            Some(0) => {
                self.writes_until_fault.set(None);
                true
            }
            Some(left) => {
                self.writes_until_fault.set(Some(left - 1));
                false
            }
            None => false,
        };
        if !fails || self.fault_lands.get() {
            self.rows_written.set(self.rows_written.get() + rows);
            change(&mut self.state.borrow_mut());
        }
        if fails { Err(StorageFault) } else { Ok(()) }
    }
}

impl LogStorage for MemoryStorage {
    type Error = StorageFault;

    fn load_head(&self) -> Result<Option<LogHead>, StorageFault> {
        Ok(self.state.borrow().head)
    }

    fn save_head(&mut self, head: &LogHead) -> Result<(), StorageFault> {
        self.write(1, |state| state.head = Some(*head))
    }

    fn insert(&mut self, row: &LogRow) -> Result<(), StorageFault> {
        self.write(1, |state| {
            let replaced = state.rows.insert(row.index.first, row.clone());
            assert!(replaced.is_none(), "a position is written once");
        })
    }

    fn delete_until(&mut self, last: Seq) -> Result<(), StorageFault> {
        let old: Vec<Seq> = self
            .state
            .borrow()
            .rows
            .values()
            .filter(|row| row.index.last() <= last)
            .map(|row| row.index.first)
            .collect();
        self.write(old.len() as u64, |state| {
            state.rows.retain(|first, _| !old.contains(first));
            state.reports.retain(|(seq, _), _| *seq > last);
        })
    }

    fn row_at(&self, seq: Seq) -> Result<Option<LogRow>, StorageFault> {
        let state = self.state.borrow();
        let row = state.rows.range(..=seq).next_back().map(|(_, row)| row);
        Ok(row.filter(|row| row.index.last() >= seq).cloned())
    }

    fn visit_newest_first(
        &self,
        visit: &mut dyn FnMut(RowIndex) -> bool,
    ) -> Result<(), StorageFault> {
        let _ = self.state.borrow().rows.values().rev().all(|row| visit(row.index.clone()));
        Ok(())
    }

    fn oldest(&self) -> Result<Option<RowIndex>, StorageFault> {
        Ok(self.state.borrow().rows.values().next().map(|row| row.index.clone()))
    }

    fn first_received_since(&self, at: UnixMillis) -> Result<Option<RowIndex>, StorageFault> {
        let state = self.state.borrow();
        let row = state.rows.values().find(|row| row.index.received_at_max >= at);
        Ok(row.map(|row| row.index.clone()))
    }

    fn save_report(&mut self, seq: Seq, report: &StoredReport) -> Result<(), StorageFault> {
        let key = (seq, format!("{}/{}", report.edge, report.status.as_str()));
        self.write(1, |state| {
            state.reports.insert(key, report.clone());
        })
    }

    fn reports(&self, seq: Seq) -> Result<Vec<StoredReport>, StorageFault> {
        let state = self.state.borrow();
        let mut reports: Vec<StoredReport> = state
            .reports
            .iter()
            .filter(|((at, _), _)| *at == seq)
            .map(|(_, report)| report.clone())
            .collect();
        reports.sort_by_key(|report| (report.at, report.status));
        Ok(reports)
    }

    fn save_revocation(&mut self, edge: &EdgeId, at: UnixMillis) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.revoked.insert(edge.clone(), at);
        })
    }

    fn is_revoked(&self, edge: &EdgeId) -> Result<bool, StorageFault> {
        Ok(self.state.borrow().revoked.contains_key(edge))
    }
}
