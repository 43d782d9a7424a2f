use std::collections::BTreeMap;

use relay_schemas::{
    Channel, EventId, Reroute, RoutingStrategy, UnixMillis, UserId,
    limits::{APP_USERS_MAX, AUDIT_DAYS, DEDUPLICATION_WINDOW_MS, OWNER_AGE_MS},
};
use serde::{Deserialize, Serialize};

use super::{
    AuditCursor, AuditLine, AuditPage, AuditRow, Decision, OrganizationView, Owner, OwnerRow,
    RouteFacts, RoutingRules, RoutingState, RoutingStorage, Snapshot, decide, owners::Owned,
    recent::RecentDecisions,
};
use crate::directory::Edge;

const DAY_MS: u64 = 24 * 3_600_000;

/// An event that is to be decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFacts {
    /// The event.
    pub id: EventId,
    /// What its payload says.
    pub facts: RouteFacts,
    /// Set when an operator sends it on its way again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<Reroute>,
}

/// One organization's decisions: what it goes by, and what it must remember. Bound to its storage.
#[derive(Debug)]
pub struct RouteBook<S> {
    storage: S,
    state: RoutingState,
    app_users: BTreeMap<UserId, String>,
    recent: RecentDecisions,
    newest: Option<AuditRow>,
}

impl<S: RoutingStorage> RouteBook<S> {
    /// Loads what an organization's directory has kept.
    pub fn load(storage: S, now: UnixMillis) -> Result<Self, S::Error> {
        let (state, app_users) = (storage.load_state()?, storage.app_users()?);
        let newest = storage.audit_until(u64::MAX)?;
        let (mut recent, since) = (RecentDecisions::default(), now - DEDUPLICATION_WINDOW_MS);
        storage.visit_audit_newest_first(&mut |number, ids, at_max| {
            at_max >= since && recent.add_older(number, &ids, at_max)
        })?;
        Ok(Self { storage, state, app_users, recent, newest })
    }

    /// Where it is kept.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// What the operator has set.
    pub fn rules(&self) -> &RoutingRules {
        &self.state.rules
    }

    /// The users that apps have here, with their app.
    pub fn app_users(&self) -> &BTreeMap<UserId, String> {
        &self.app_users
    }

    /// How far the `unrouted` stream has been routed again.
    pub fn rerouted_until(&self) -> Option<&str> {
        self.state.rerouted_until.as_deref()
    }

    /// Replaces what the operator has set.
    pub fn set_rules(&mut self, rules: RoutingRules) -> Result<(), S::Error> {
        self.state.rules = rules;
        self.storage.save_state(&self.state)
    }

    /// Remembers how far the `unrouted` stream has been routed again.
    pub fn set_rerouted_until(&mut self, cursor: String) -> Result<(), S::Error> {
        self.state.rerouted_until = Some(cursor);
        self.storage.save_state(&self.state)
    }

    /// Learns which user an app has here.
    pub fn set_app_user(&mut self, app: &str, user: &UserId) -> Result<(), S::Error> {
        let is_known = self.app_users.get(user).is_some_and(|known| known == app);
        if is_known || self.app_users.len() >= APP_USERS_MAX {
            return Ok(());
        }
        self.storage.save_app_user(user, app)?;
        self.app_users.insert(user.clone(), app.to_owned());
        Ok(())
    }

    /// Decides, remembers owners, and writes the decisions down, in one stretch. An event that was
    /// decided in the last hours goes where it went.
    pub fn route(
        &mut self,
        events: &[EventFacts],
        edges: &[Edge],
        strategy: RoutingStrategy,
        now: UnixMillis,
    ) -> Result<Vec<AuditLine>, S::Error> {
        self.trim(now)?;
        for event in events {
            if let (Some(app), Some(user)) = (&event.facts.app, &event.facts.app_user) {
                self.set_app_user(app, user)?;
            }
        }
        let app_users = self.app_users.clone();
        let view = OrganizationView::of(edges, &self.state.rules, strategy, app_users, now);
        let mut owners = OwnersInUse::default();
        let mut fresh: BTreeMap<EventId, AuditLine> = BTreeMap::new();
        let mut answered = Vec::with_capacity(events.len());
        let mut decided = Vec::new();
        for event in events {
            let known = match fresh.get(&event.id) {
                Some(line) => Some(line.clone()),
                None => self.remembered(event.id, now)?,
            };
            let line = match known.filter(|line| stands(line, event.reroute.as_ref())) {
                Some(line) => line,
                None => {
                    let decision = owners.decide(&self.storage, event, &view, now)?;
                    let line = AuditLine::new(event.id, &event.facts, decision, now);
                    decided.push(line.clone());
                    fresh.insert(event.id, line.clone());
                    line
                }
            };
            answered.push(line);
        }
        owners.save(&mut self.storage)?;
        self.write_down(&decided, now)?;
        Ok(answered)
    }

    /// A page of decisions, newest first.
    pub fn audit(
        &self,
        after: AuditCursor,
        limit: usize,
        now: UnixMillis,
    ) -> Result<AuditPage, S::Error> {
        let mut page = AuditPage::default();
        let since = now - AUDIT_DAYS * DAY_MS;
        let mut number = after.row;
        while let Some(row) = self.storage.audit_until(number)? {
            if !page.take(&row, after, limit, since) || row.number == 0 {
                break;
            }
            number = row.number - 1;
        }
        Ok(page)
    }

    fn remembered(&self, id: EventId, now: UnixMillis) -> Result<Option<AuditLine>, S::Error> {
        let Some(number) = self.recent.row_of(id) else { return Ok(None) };
        let line = match &self.newest {
            Some(row) if row.number == number => row.find(id),
            _ => {
                let row = self.storage.audit_until(number)?;
                row.filter(|row| row.number == number).and_then(|row| row.find(id))
            }
        };
        Ok(line.filter(|line| now.since_ms(line.at) <= DEDUPLICATION_WINDOW_MS))
    }

    /// One row written, however many the decisions are.
    fn write_down(&mut self, decided: &[AuditLine], now: UnixMillis) -> Result<(), S::Error> {
        if decided.is_empty() {
            return Ok(());
        }
        let next = self.newest.as_ref().map_or(1, |row| row.number + 1);
        let mut row = self.newest.take().filter(|row| row.has_room(now));
        let row = row.get_or_insert_with(|| AuditRow::new(next, now));
        decided.iter().for_each(|line| row.add(line));
        self.storage.save_audit(row)?;
        decided.iter().for_each(|line| self.recent.add_newer(row.number, line.id, now));
        self.newest = Some(row.clone());
        Ok(())
    }

    /// Once a day, when there is something to decide anyway: an organization that nothing comes
    /// from any more keeps its last rows, which the audit doesn't show.
    fn trim(&mut self, now: UnixMillis) -> Result<(), S::Error> {
        self.recent.forget_before(now - DEDUPLICATION_WINDOW_MS);
        if now.since_ms(self.state.trimmed_at) < DAY_MS {
            return Ok(());
        }
        self.storage.delete_audit_before(now - AUDIT_DAYS * DAY_MS)?;
        self.storage.delete_owners_before(now - OWNER_AGE_MS)?;
        self.state.trimmed_at = now;
        self.storage.save_state(&self.state)
    }
}

/// Whether an earlier decision is to be kept. An operator who names a channel is obeyed; one who has
/// an event decided anew doesn't take it away from whom it has found.
fn stands(line: &AuditLine, reroute: Option<&Reroute>) -> bool {
    match reroute {
        None => true,
        Some(Reroute { to: Some(channel) }) => {
            line.targets.len() == 1 && line.targets[0].channel == *channel
        }
        Some(Reroute { to: None }) => {
            line.targets.iter().any(|target| target.channel != Channel::Unrouted)
        }
    }
}

/// The owners that the events of one call concern, each read and written once.
#[derive(Default)]
struct OwnersInUse {
    rows: BTreeMap<String, (OwnerRow, bool)>,
}

impl OwnersInUse {
    fn decide<S: RoutingStorage>(
        &mut self,
        storage: &S,
        event: &EventFacts,
        view: &OrganizationView,
        now: UnixMillis,
    ) -> Result<Decision, S::Error> {
        let facts = &event.facts;
        let session = facts.session.as_deref().map(Owned::Session);
        let issue = facts.issue.as_deref().map(Owned::Issue);
        let organization = view;
        let decision = match &event.reroute {
            Some(Reroute { to: Some(channel) }) => {
                Decision::by_operator(facts, view, channel.clone())
            }
            _ => {
                let session_owners = self.owners(storage, session, now)?;
                let issue_owners = self.owners(storage, issue, now)?;
                let snapshot = Snapshot {
                    organization,
                    session_owners: &session_owners,
                    issue_owners: &issue_owners,
                };
                decide(facts, &snapshot)
            }
        };
        for owned in session.into_iter().chain(issue) {
            self.remember(storage, owned, &decision, now)?;
        }
        Ok(decision)
    }

    fn owners<S: RoutingStorage>(
        &mut self,
        storage: &S,
        owned: Option<Owned<'_>>,
        now: UnixMillis,
    ) -> Result<Vec<Owner>, S::Error> {
        let Some(owned) = owned else { return Ok(Vec::new()) };
        Ok(self.row(storage, owned, now)?.0.owners.clone())
    }

    fn row<S: RoutingStorage>(
        &mut self,
        storage: &S,
        owned: Owned<'_>,
        now: UnixMillis,
    ) -> Result<&mut (OwnerRow, bool), S::Error> {
        let key = owned.key();
        if !self.rows.contains_key(&key) {
            let kept = storage.owners(&key)?.filter(|row| !row.is_expired(now));
            let row = kept.unwrap_or_else(|| OwnerRow::empty(now));
            self.rows.insert(key.clone(), (row, false));
        }
        Ok(self.rows.get_mut(&key).expect("just inserted"))
    }

    fn remember<S: RoutingStorage>(
        &mut self,
        storage: &S,
        owned: Owned<'_>,
        decision: &Decision,
        now: UnixMillis,
    ) -> Result<(), S::Error> {
        if decision.owner.is_none() && decision.lost.is_empty() && !decision.is_followed {
            return Ok(());
        }
        let (row, is_changed) = self.row(storage, owned, now)?;
        *is_changed |= row.forget(&decision.lost);
        if let Some(owner) = &decision.owner {
            *is_changed |= row.add(owned, owner);
        }
        if !row.owners.is_empty() {
            *is_changed |= row.touch(now);
        }
        Ok(())
    }

    /// One row written for each session and issue whose owners have changed.
    fn save<S: RoutingStorage>(self, storage: &mut S) -> Result<(), S::Error> {
        for (key, (row, is_changed)) in self.rows {
            if is_changed {
                storage.save_owners(&key, &row)?;
            }
        }
        Ok(())
    }
}
