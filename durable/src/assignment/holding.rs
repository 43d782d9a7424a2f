//! What stays together, and with which edge.

use relay_schemas::{
    EdgeId, MultiEdgeMode, UnixMillis,
    limits::{HOLDER_REFRESH_MS, HOLDER_REMEMBERED_MS},
};

use super::{Assignment, Holder, LeaseSubject};

impl Assignment {
    /// What stays together: the issue, else the session, else the event alone.
    pub fn key_of(&self, subject: &LeaseSubject) -> String {
        subject
            .issue_key()
            .or_else(|| subject.session_key())
            .unwrap_or_else(|| subject.id.to_string())
    }

    /// The edges that an event is to stay with, the one that has its session first.
    pub fn holders_of(&self, subject: &LeaseSubject, now: UnixMillis) -> Vec<EdgeId> {
        let keys = self.keys_of(subject);
        keys.iter().filter_map(|key| self.holder(key, now)).map(|one| one.edge.clone()).collect()
    }

    /// Who holds a session or an issue.
    pub fn holder(&self, key: &str, now: UnixMillis) -> Option<&Holder> {
        let holder = self.holders.get(key);
        holder.filter(|holder| now.since_ms(holder.at) < HOLDER_REMEMBERED_MS)
    }

    fn keys_of(&self, subject: &LeaseSubject) -> Vec<String> {
        let issue = subject.issue_key().filter(|_| self.rules.mode == MultiEdgeMode::Sticky);
        subject.session_key().into_iter().chain(issue).collect()
    }

    /// Lets an edge hold what an event belongs to; one row for each at most once an hour.
    pub fn hold(&mut self, subject: &LeaseSubject, edge: &EdgeId, now: UnixMillis) {
        for key in self.keys_of(subject) {
            self.hold_key(key, edge, now);
        }
    }

    /// The same by its name.
    pub fn hold_key(&mut self, key: String, edge: &EdgeId, now: UnixMillis) {
        let is_known = self.holders.get(&key).is_some_and(|holder| {
            holder.edge == *edge && now.since_ms(holder.at) < HOLDER_REFRESH_MS
        });
        if !is_known {
            self.forget_holders(now);
            self.changes.holders.insert(key.clone());
            let holder = Holder { key: key.clone(), edge: edge.clone(), at: now, stop: None };
            self.holders.insert(key, holder);
        }
    }

    fn forget_holders(&mut self, now: UnixMillis) {
        let is_old = |holder: &Holder| now.since_ms(holder.at) >= HOLDER_REMEMBERED_MS;
        let old: Vec<String> = self
            .holders
            .values()
            .filter(|holder| is_old(holder))
            .map(|one| one.key.clone())
            .collect();
        for key in old {
            self.holders.remove(&key);
            self.changes.holders.insert(key);
        }
    }
}
