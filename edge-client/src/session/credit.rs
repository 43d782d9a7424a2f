/// What the relay may still send on a WebSocket. Bytes are given back when their events are
/// handled, about half a window at a time.
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

    /// Bytes were handled; gives back what to grant. Bytes of an earlier connection used up none
    /// of this one's credit.
    pub(crate) fn release(&mut self, connection: u32, bytes: usize) -> Option<i64> {
        if self.window == 0 || connection != self.connection {
            return None;
        }
        self.freed = self.freed.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        (self.freed >= self.window / 2).then(|| std::mem::take(&mut self.freed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_window_is_granted_at_once_and_only_for_this_connection() {
        let mut credit = Credit::default();
        credit.open(None);
        assert_eq!(credit.release(credit.connection(), 1_000_000), None);
        let earlier = credit.connection();
        credit.open(Some(100));
        assert_eq!(credit.release(earlier, 100), None);
        assert_eq!(credit.release(credit.connection(), 49), None);
        assert_eq!(credit.release(credit.connection(), 70), Some(119));
        assert_eq!(credit.release(credit.connection(), 1), None);
    }
}
