use std::{cell::Cell, rc::Rc};

/// The write that was made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("storage failed as it was told to")]
pub struct StorageFault;

/// Row writes as the platform counts them, of which one can be made to fail. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedWrites {
    rows: Rc<Cell<u64>>,
    until_fault: Rc<Cell<Option<u64>>>,
    fault_lands: Rc<Cell<bool>>,
}

impl CountedWrites {
    /// Row writes so far, deletes included.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.get()
    }

    /// Lets so many writes pass and fails the next: lost, or landed and answered with an error.
    pub(crate) fn fail_after(&self, writes: u64, lands: bool) {
        self.until_fault.set(Some(writes));
        self.fault_lands.set(lands);
    }

    /// Whether a fault that was asked for has not come yet.
    pub(crate) fn awaits_fault(&self) -> bool {
        self.until_fault.get().is_some()
    }

    /// Takes back a fault that has not come.
    pub(crate) fn heal(&self) {
        self.until_fault.set(None);
    }

    /// One write of so many rows.
    pub(crate) fn write(&self, rows: u64, change: impl FnOnce()) -> Result<(), StorageFault> {
        let left = self.until_fault.get();
        let fails = left == Some(0);
        self.until_fault.set(left.and_then(|left| left.checked_sub(1)));
        if !fails || self.fault_lands.get() {
            self.rows.set(self.rows() + rows);
            change();
        }
        if fails { Err(StorageFault) } else { Ok(()) }
    }
}
