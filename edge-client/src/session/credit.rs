/// What the relay may still send on a WebSocket. Bytes are given back when their events are
/// handled, about half a window at a time, and not while there is no room for more: so all that
/// comes can be read.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    connection: u32,
    window: i64,
    freed: i64,
}

impl Credit {
    /// A connection opens, with the credit that the relay starts with; none without one.
    pub(crate) fn open(&mut self, window: Option<i64>) {
        self.connection = self.connection.wrapping_add(1);
        self.window = window.unwrap_or(0);
        self.freed = 0;
    }

    /// Stands for the connection that bytes came on.
    pub(crate) fn connection(&self) -> u32 {
        self.connection
    }

    /// Whether the relay sends only what it is granted.
    pub(crate) fn is_in_force(&self) -> bool {
        self.window > 0
    }

    /// Bytes were handled. Those of an earlier connection used up none of this one's credit.
    pub(crate) fn release(&mut self, connection: u32, bytes: usize) {
        if connection == self.connection {
            self.freed = self.freed.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// What to grant now.
    pub(crate) fn due(&mut self) -> Option<i64> {
        let is_due = self.is_in_force() && self.freed >= self.window / 2;
        is_due.then(|| std::mem::take(&mut self.freed)).filter(|bytes| *bytes > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_window_is_granted_at_once_and_only_for_this_connection() {
        let mut credit = Credit::default();
        let release = |credit: &mut Credit, connection, bytes| {
            credit.release(connection, bytes);
            credit.due()
        };
        credit.open(None);
        let earlier = credit.connection();
        assert_eq!(release(&mut credit, earlier, 1_000_000), None);
        credit.open(Some(100));
        let now = credit.connection();
        assert_eq!(release(&mut credit, earlier, 100), None);
        assert_eq!(release(&mut credit, now, 49), None);
        assert_eq!(release(&mut credit, now, 70), Some(119));
        assert_eq!(release(&mut credit, now, 1), None);
    }
}
