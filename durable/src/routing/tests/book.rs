//! Scripts of an organization's life: owners that stay, are lost and expire, and decisions that
//! stand for events that come again.

use relay_schemas::{EventId, Reroute, RoutingStrategy, limits};

use super::*;
use crate::{directory::Edge, test_routing::MemoryRouting, test_storage::StorageFault};

pub(super) const NOW: u64 = 1_790_000_000_000;
pub(super) const HOUR: u64 = 3_600_000;
pub(super) const DAY: u64 = 24 * HOUR;

/// A directory with a clock, and its object's storage.
pub(super) struct Desk {
    pub(super) storage: MemoryRouting,
    pub(super) book: RouteBook<MemoryRouting>,
    pub(super) strategy: RoutingStrategy,
    pub(super) edges: Vec<Edge>,
    pub(super) now: UnixMillis,
}

impl Desk {
    pub(super) fn new(strategy: RoutingStrategy) -> Self {
        let (storage, now) = (MemoryRouting::default(), UnixMillis::new(NOW));
        let book = RouteBook::load(storage.clone(), now).unwrap();
        Self { storage, book, strategy, edges: Vec::new(), now }
    }

    /// What an object finds that wakes.
    pub(super) fn wake(&mut self) {
        self.book = RouteBook::load(self.storage.clone(), self.now).unwrap();
    }

    fn enrol(&mut self, user: &str, channels: &[&str]) {
        self.edges.push(Edge {
            id: format!("edge_{}", self.edges.len()).parse().unwrap(),
            organization: "org".parse().unwrap(),
            user: user.parse().unwrap(),
            name: None,
            scopes: Vec::new(),
            channels: channels.iter().map(|channel| channel.parse().unwrap()).collect(),
            created_at: self.now,
            expires_at: self.now + 1_000 * DAY,
            revoked_at: None,
            ended_by: None,
            are_streams_told: false,
            machine: None,
        });
    }

    fn enrol_all(&mut self, users: &[&str]) {
        users.iter().for_each(|user| self.enrol(user, &[]));
    }

    fn revoke(&mut self, user: &str) {
        for edge in self.edges.iter_mut().filter(|edge| edge.user.as_str() == user) {
            edge.revoked_at = Some(self.now);
        }
    }

    pub(super) fn try_route(
        &mut self,
        events: &[EventFacts],
    ) -> Result<Vec<AuditLine>, StorageFault> {
        self.book.route(events, &self.edges, self.strategy, self.now)
    }

    /// Routes one event: its channels, and why.
    pub(super) fn route(&mut self, event: EventFacts) -> String {
        let lines = self.try_route(&[event]).unwrap();
        describe(&lines[0])
    }
}

pub(super) fn describe(line: &AuditLine) -> String {
    let channels: Vec<String> =
        line.targets.iter().map(|target| target.channel.to_string()).collect();
    format!("{} | {}", channels.join(" "), line.reason)
}

pub(super) fn event(id: u16, kind: &str, fields: &str) -> EventFacts {
    let mut bytes = [0; EventId::LENGTH];
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    EventFacts { id: EventId::from_bytes(bytes), facts: facts_of(kind, fields), reroute: None }
}

fn created(id: u16, app: &str, session: &str, person: &str) -> EventFacts {
    let fields = format!(
        "oauthClientId={app} appUserId=user-of-{app} agentSession.id={session} \
         agentSession.issue.id=i agentSession.creatorId={person}"
    );
    event(id, "AgentSessionEvent.created", &fields)
}

/// A prompt whose payload doesn't say who began the session.
fn prompted(id: u16, app: &str, session: &str, by: &str) -> EventFacts {
    let fields = format!(
        "oauthClientId={app} appUserId=user-of-{app} agentSession.id={session} \
         agentSession.issue.id=i agentActivity.userId={by}"
    );
    event(id, "AgentSessionEvent.prompted", &fields)
}

fn changed(id: u16, assignee: &str) -> EventFacts {
    event(id, "Issue.update", &format!("data.id=i data.assigneeId={assignee}"))
}

fn rerouted(event: &EventFacts, to: Option<&str>) -> EventFacts {
    let reroute = Reroute { to: to.map(|to| to.parse().unwrap()) };
    EventFacts { reroute: Some(reroute), ..event.clone() }
}

#[test]
fn a_session_and_its_issue_stay_with_the_first_owner() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.enrol_all(&["ann", "bob"]);
    assert_eq!(desk.route(changed(1, "bob")), "user:bob | assignee");
    assert_eq!(desk.route(created(2, "a", "s", "ann")), "user:ann | session_creator");
    desk.wake();
    assert_eq!(desk.route(prompted(3, "a", "s", "bob")), "user:ann | session_owner");
    assert_eq!(desk.route(changed(4, "bob")), "user:ann | issue_owner");
    assert_eq!(desk.route(created(5, "a", "t", "bob")), "user:bob | session_creator");
    assert_eq!(desk.route(changed(6, "cy")), "user:ann user:bob | issue_owner");
    assert_eq!(desk.route(prompted(7, "a", "s", "bob")), "user:ann | session_owner");
}

#[test]
fn events_of_one_batch_know_of_each_other() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.enrol_all(&["ann", "bob"]);
    let before = desk.storage.rows_written();
    let batch = [created(1, "a", "s", "ann"), prompted(2, "a", "s", "bob"), changed(3, "bob")];
    let lines: Vec<String> = desk.try_route(&batch).unwrap().iter().map(describe).collect();
    assert_eq!(
        lines,
        ["user:ann | session_creator", "user:ann | session_owner", "user:ann | issue_owner"]
    );
    // The day's mark, the app's user, the owner of session and issue, the decisions.
    assert_eq!(desk.storage.rows_written() - before, 5);
    let before = desk.storage.rows_written();
    desk.try_route(&[prompted(4, "a", "s", "bob"), changed(5, "bob")]).unwrap();
    assert_eq!(desk.storage.rows_written() - before, 1, "the decisions");
}

#[test]
fn each_app_has_its_own_sessions() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.enrol_all(&["ann", "bob", "cy"]);
    desk.route(created(1, "a", "s", "ann"));
    desk.route(created(2, "b", "t", "bob"));
    assert_eq!(desk.route(prompted(3, "a", "s", "cy")), "user:ann | session_owner");
    assert_eq!(desk.route(prompted(4, "b", "s", "cy")), "user:cy | activity_author");
    assert_eq!(desk.route(prompted(5, "a", "s", "bob")), "user:ann | session_owner");
    let told = |id: u16, app: &str| {
        let fields = format!("oauthClientId={app} notification.issueId=i notification.actorId=dee");
        event(id, "AppUserNotification.issueStatusChanged", &fields)
    };
    assert_eq!(desk.route(told(6, "a")), "user:ann | issue_owner");
    assert_eq!(desk.route(told(7, "b")), "user:bob user:cy | issue_owner");
    assert_eq!(desk.route(told(8, "c")), "user:dee | actor");
    assert_eq!(desk.route(changed(9, "dee")), "user:ann user:bob user:cy | issue_owner");
}

#[test]
fn an_owner_without_a_machine_has_lost_what_it_owned() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.enrol_all(&["ann", "bob"]);
    desk.route(created(1, "a", "s", "ann"));
    desk.revoke("ann");
    assert_eq!(desk.route(created(2, "a", "s", "ann")), "user:ann | session_owner");
    assert_eq!(desk.route(prompted(3, "a", "s", "bob")), "user:bob | activity_author owner_lost");
    desk.enrol("ann", &[]);
    assert_eq!(desk.route(prompted(4, "a", "s", "ann")), "user:bob | session_owner");
    assert_eq!(desk.route(changed(5, "cy")), "user:bob | issue_owner");
}

#[test]
fn in_hybrid_a_session_stays_where_it_began() {
    let mut desk = Desk::new(RoutingStrategy::Hybrid);
    assert_eq!(desk.route(created(1, "a", "s", "ann")), "org | no_machine session_creator");
    desk.enrol("ann", &[]);
    assert_eq!(desk.route(prompted(2, "a", "s", "ann")), "org | session_owner");
    assert_eq!(desk.route(created(3, "a", "t", "ann")), "user:ann | session_creator");
}

#[test]
fn owners_are_forgotten_after_62_days_without_an_event() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.enrol_all(&["ann", "bob"]);
    desk.route(created(1, "a", "s", "ann"));
    desk.now = desk.now + 61 * DAY;
    assert_eq!(desk.route(prompted(2, "a", "s", "bob")), "user:ann | session_owner");
    desk.now = desk.now + 62 * DAY;
    assert_eq!(desk.route(changed(3, "bob")), "user:ann | issue_owner");
    assert_eq!(desk.route(prompted(4, "a", "s", "bob")), "user:ann | session_owner");
    desk.now = desk.now + 62 * DAY + 1;
    assert_eq!(desk.route(changed(5, "bob")), "user:bob | assignee");
    assert_eq!(desk.storage.rows().0, 0, "their rows are deleted");
    assert_eq!(desk.route(prompted(6, "a", "s", "bob")), "user:bob | activity_author");
}

/// Old rows are deleted once a day; those that are too old meanwhile are not used.
#[test]
fn an_owner_that_is_too_old_is_not_used_before_it_is_deleted() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.enrol_all(&["ann", "bob"]);
    desk.route(created(1, "a", "s", "ann"));
    desk.now = desk.now + 62 * DAY;
    desk.route(event(2, "Cycle.update", ""));
    desk.now = desk.now + 1;
    assert_eq!(desk.route(changed(3, "bob")), "user:bob | assignee");
    assert_eq!(desk.storage.rows().0, 2, "they are still there");
    assert_eq!(desk.route(prompted(4, "a", "s", "bob")), "user:bob | activity_author");
}

#[test]
fn an_owners_row_is_written_once_a_day_at_most() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.enrol("ann", &[]);
    desk.route(created(1, "a", "s", "ann"));
    let written = |desk: &mut Desk, id| {
        let before = desk.storage.rows_written();
        desk.route(prompted(id, "a", "s", "ann"));
        desk.storage.rows_written() - before
    };
    assert_eq!(written(&mut desk, 2), 1, "the decision");
    desk.now = desk.now + DAY;
    assert_eq!(written(&mut desk, 3), 4, "the day's mark, session, issue, decision");
    assert_eq!(written(&mut desk, 4), 1);
}

#[test]
fn an_issue_has_the_newest_owners() {
    let mut desk = Desk::new(RoutingStrategy::User);
    let most = u16::try_from(limits::OWNERS_PER_ISSUE_MAX).unwrap();
    for number in 0..=most {
        desk.enrol(&format!("p{number}"), &[]);
        desk.route(created(number, "a", &format!("s{number}"), &format!("p{number}")));
    }
    let all: Vec<String> = (1..=most).map(|number| format!("user:p{number}")).collect();
    assert_eq!(desk.route(changed(100, "x")), format!("{} | issue_owner", all.join(" ")));
}

#[test]
fn app_users_are_learnt_from_what_is_sent_to_them() {
    let mut desk = Desk::new(RoutingStrategy::User);
    assert_eq!(desk.route(changed(1, "user-of-a")), "user:user-of-a | assignee");
    desk.route(created(2, "a", "s", "ann"));
    desk.wake();
    assert_eq!(
        desk.route(event(3, "Comment.create", "data.userId=user-of-a")),
        "unrouted | unrouted"
    );
    desk.book.set_app_user("b", &"user-of-b".parse().unwrap()).unwrap();
    let by_b = event(4, "Issue.update", "actor.type=user actor.id=user-of-b");
    assert!(desk.try_route(&[by_b]).unwrap()[0].own);
    let before = desk.storage.rows_written();
    desk.book.set_app_user("b", &"user-of-b".parse().unwrap()).unwrap();
    assert_eq!(desk.storage.rows_written(), before, "it is known");
}

#[test]
fn an_operator_sets_strategy_and_default() {
    let mut desk = Desk::new(RoutingStrategy::User);
    let nobodys = |id| event(id, "Cycle.update", "");
    assert_eq!(desk.route(nobodys(1)), "unrouted | unrouted");
    let rules = RoutingRules::parse(br#"{"default_channel":"user:dee"}"#).unwrap();
    desk.book.set_rules(rules).unwrap();
    desk.wake();
    assert_eq!(desk.route(nobodys(2)), "user:dee | default unrouted");
    desk.book.set_rules(RoutingRules::parse(br#"{"strategy":"org"}"#).unwrap()).unwrap();
    assert_eq!(desk.route(nobodys(3)), "org | strategy unrouted");
    for wrong in
        ["", "[]", r#"{"default_channel":"unrouted"}"#, r#"{"strategy":"x"}"#, r#"{"x":1}"#]
    {
        assert!(RoutingRules::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_redelivery_takes_the_same_way_whatever_has_changed() {
    let mut desk = Desk::new(RoutingStrategy::Hybrid);
    let (first, nobodys) = (created(1, "a", "s", "ann"), event(2, "Cycle.update", "data.teamId=t"));
    let ways = |desk: &mut Desk| [desk.route(first.clone()), desk.route(nobodys.clone())];
    let before = ways(&mut desk);
    assert_eq!(before, ["org | no_machine session_creator", "org | no_machine unrouted"]);
    desk.enrol("ann", &["team:t"]);
    desk.strategy = RoutingStrategy::User;
    desk.book
        .set_rules(RoutingRules::parse(br#"{"default_channel":"user:dee"}"#).unwrap())
        .unwrap();
    assert_eq!(ways(&mut desk), before);
    desk.wake();
    assert_eq!(ways(&mut desk), before);
    // Other decisions meanwhile fill rows of their own.
    for id in 1_000..1_400 {
        desk.route(changed(id, "bob"));
    }
    assert!(desk.storage.rows().1 > 3);
    desk.now = desk.now + limits::DEDUPLICATION_WINDOW_MS;
    assert_eq!(ways(&mut desk), before);
    desk.wake();
    let rows_written = desk.storage.rows_written();
    assert_eq!(ways(&mut desk), before);
    assert_eq!(desk.storage.rows_written(), rows_written, "what is known is not written again");
    desk.now = desk.now + 1;
    assert_ne!(desk.route(nobodys.clone()), before[1]);
    desk.wake();
    desk.now = desk.now + limits::DEDUPLICATION_WINDOW_MS + 1;
    assert_ne!(ways(&mut desk), before);
}

#[test]
fn an_event_twice_in_one_batch_is_decided_once() {
    let mut desk = Desk::new(RoutingStrategy::User);
    let twice = [changed(1, "ann"), changed(1, "bob")];
    let lines: Vec<String> = desk.try_route(&twice).unwrap().iter().map(describe).collect();
    assert_eq!(lines, ["user:ann | assignee", "user:ann | assignee"]);
    assert_eq!(desk.book.audit(AuditCursor::NEWEST, 10, desk.now).unwrap().decisions.len(), 1);
}

#[test]
fn an_operator_routes_again_and_what_was_found_stands() {
    let mut desk = Desk::new(RoutingStrategy::User);
    let session = prompted(1, "a", "s", "user-of-a");
    assert_eq!(desk.route(session.clone()), "unrouted | unrouted");
    assert_eq!(desk.route(rerouted(&session, None)), "unrouted | unrouted");
    desk.enrol("bob", &[]);
    assert_eq!(desk.route(rerouted(&session, Some("user:bob"))), "user:bob | operator");
    assert_eq!(desk.route(session.clone()), "user:bob | operator", "a redelivery follows");
    assert_eq!(desk.route(rerouted(&session, None)), "user:bob | operator");
    assert_eq!(desk.route(prompted(2, "a", "s", "cy")), "user:bob | session_owner");
    assert_eq!(desk.route(rerouted(&session, Some("org"))), "org | operator");
    let nobodys = event(3, "Cycle.update", "");
    desk.route(nobodys.clone());
    desk.book.set_rules(RoutingRules::parse(br#"{"default_channel":"org"}"#).unwrap()).unwrap();
    assert_eq!(desk.route(rerouted(&nobodys, None)), "org | default unrouted");
    desk.now = desk.now + 30 * DAY;
    assert_eq!(desk.route(rerouted(&nobodys, None)), "org | default unrouted");
    desk.book.set_rerouted_until("cursor".into()).unwrap();
    desk.wake();
    assert_eq!(desk.book.rerouted_until(), Some("cursor"));
}

#[test]
fn the_newest_decision_stands_also_for_an_object_that_wakes() {
    let mut desk = Desk::new(RoutingStrategy::User);
    let nobodys = event(1, "Cycle.update", "");
    desk.route(nobodys.clone());
    for id in 1_000..1_200 {
        desk.route(changed(id, "bob"));
    }
    assert_eq!(desk.route(rerouted(&nobodys, Some("user:dee"))), "user:dee | operator");
    assert!(desk.storage.rows().1 > 1, "in a row of its own");
    assert_eq!(desk.route(nobodys.clone()), "user:dee | operator");
    desk.wake();
    assert_eq!(desk.route(nobodys), "user:dee | operator");
}

/// The queue offers the events again, and the object has forgotten what it held in memory.
#[test]
fn a_call_that_failed_is_decided_anew() {
    let mut desk = Desk::new(RoutingStrategy::User);
    desk.storage.set_failing(true);
    assert!(desk.try_route(&[changed(1, "ann")]).is_err());
    desk.storage.set_failing(false);
    desk.wake();
    assert_eq!(desk.route(changed(1, "bob")), "user:bob | assignee");
}
