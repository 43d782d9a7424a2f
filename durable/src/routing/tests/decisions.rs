//! Each strategy with everything that a directory can know.

use relay_schemas::RoutingStrategy::{self, Hybrid, Org, User};

use super::*;
use crate::samples::{samples, unrouted_samples};

/// What a directory knows, in words: `+ann` has a machine, `~team:t` is read, `app=a` is the user
/// that the app `a` has, `default=org`, `s:user:ann` owns the session, `i@a:user:ann` the app's
/// session on the issue.
struct Scene {
    view: OrganizationView,
    session_owners: Vec<Owner>,
    issue_owners: Vec<Owner>,
}

fn scene(strategy: RoutingStrategy, words: &str) -> Scene {
    let mut view = OrganizationView { strategy, ..OrganizationView::default() };
    let (mut session_owners, mut issue_owners) = (Vec::new(), Vec::new());
    for word in words.split_whitespace() {
        let owner = |text: &str| {
            let (app, channel) = text.split_once(':').unwrap();
            let app = app.strip_prefix('@').map(str::to_owned);
            Owner { app, channel: channel.parse().unwrap() }
        };
        if let Some(user) = word.strip_prefix('+') {
            view.enrolled.insert(user.parse().unwrap());
        } else if let Some(channel) = word.strip_prefix('~') {
            view.channels.insert(channel.parse().unwrap());
        } else if let Some(channel) = word.strip_prefix("default=") {
            view.default_channel = Some(channel.parse().unwrap());
        } else if let Some((user, app)) = word.split_once('=') {
            view.app_users.insert(user.parse().unwrap(), app.to_owned());
        } else if let Some(text) = word.strip_prefix('s') {
            session_owners.push(owner(text));
        } else {
            issue_owners.push(owner(word.strip_prefix('i').unwrap()));
        }
    }
    Scene { view, session_owners, issue_owners }
}

impl Scene {
    fn decide(&self, facts: &RouteFacts) -> Decision {
        let (session_owners, issue_owners) = (&self.session_owners, &self.issue_owners);
        decide(facts, &Snapshot { organization: &self.view, session_owners, issue_owners })
    }
}

/// `channel channel | reason`, with `own` behind it.
fn describe(decision: &Decision) -> String {
    let channels: Vec<String> =
        decision.targets.iter().map(|target| target.channel.to_string()).collect();
    let own = if decision.own { " | own" } else { "" };
    format!("{} | {}{own}", channels.join(" "), decision.reason)
}

fn check(known: (RoutingStrategy, &str), kind: &str, fields: &str, expected: &str) {
    let decision = scene(known.0, known.1).decide(&facts_of(kind, fields));
    assert_eq!(describe(&decision), expected, "{known:?} {kind} {fields}");
}

#[test]
fn every_sample_goes_where_each_strategy_says() {
    for sample in samples("org", "ann", 1).iter().chain(&unrouted_samples("org", "ann", 1)) {
        let facts = RouteFacts::of(&Envelope::parse(sample.body.as_bytes()).unwrap());
        let to = |strategy, words: &str| {
            let decision = scene(strategy, words).decide(&facts);
            assert_eq!(decision.targets.len(), 1, "{}", sample.name);
            decision.targets[0].channel.to_string()
        };
        let expected = sample.expected_channel.to_string();
        let is_control = facts.is_control();
        let organization = if is_control { "unrouted" } else { "org" };
        let in_hybrid = if expected == "unrouted" { organization } else { &expected };
        let default = if expected == "unrouted" && !is_control { "user:dee" } else { &expected };
        assert_eq!(to(User, ""), expected, "{}", sample.name);
        assert_eq!(to(User, "+bob"), expected, "{}", sample.name);
        assert_eq!(to(User, "default=user:dee"), default, "{}", sample.name);
        assert_eq!(to(Org, "+ann default=user:dee"), organization, "{}", sample.name);
        assert_eq!(to(Hybrid, "+bob"), organization, "{}", sample.name);
        assert_eq!(to(Hybrid, "+ann"), in_hybrid, "{}", sample.name);
    }
}

const SESSION: &str = "oauthClientId=a appUserId=app agentSession.id=s agentSession.issue.id=i \
                       agentSession.issue.teamId=t";
const ISSUE: &str = "data.id=i data.teamId=t data.assigneeId=bob";

#[test]
fn a_session_stays_with_its_owner_whoever_prompts() {
    let by_cy = &format!("{SESSION} agentActivity.userId=cy");
    let created = &format!("{SESSION} agentSession.creatorId=ann");
    let (kind, first) = ("AgentSessionEvent.prompted", "AgentSessionEvent.created");
    check((User, ""), first, created, "user:ann | session_creator");
    check((User, "+ann +cy s@a:user:ann"), kind, by_cy, "user:ann | session_owner");
    check((User, "+cy s@a:user:ann"), kind, by_cy, "user:cy | activity_author owner_lost");
    check((User, "+cy s@a:user:ann"), kind, created, "user:ann | session_owner");
    check((User, "+ann +cy s@b:user:ann"), kind, by_cy, "user:cy | activity_author");
    check((User, "+ann s:user:ann"), kind, by_cy, "user:ann | session_owner");
    check((Org, "+ann s@a:user:ann"), kind, by_cy, "org | strategy activity_author");
    check((Hybrid, "+ann +cy s@a:user:ann"), kind, by_cy, "user:ann | session_owner");
    check((Hybrid, "+cy s@a:org"), kind, by_cy, "org | session_owner");
    let lost = "org | no_machine session_creator owner_lost";
    check((Hybrid, "+cy s@a:user:ann"), kind, created, lost);
    check((User, "~org s@a:org"), kind, created, "org | session_owner");
    check((User, "default=org s@a:org"), kind, created, "org | session_owner");
    check((User, "s@a:org"), kind, created, "user:ann | session_creator owner_lost");
    check((User, "~team:t s@a:team:t"), kind, created, "team:t | session_owner");
    check((User, "s@a:unrouted"), kind, created, "user:ann | session_creator owner_lost");
    let told = "data.agentSessionId=s actor.type=user actor.id=cy";
    check((User, "+ann s@a:user:ann"), "AgentActivity.update", told, "user:ann | session_owner");
}

#[test]
fn what_happens_to_an_issue_goes_to_all_who_work_on_it() {
    let owned = "+ann +cy i@a:user:ann i@b:user:cy i@b:user:ann";
    check((User, owned), "Issue.update", ISSUE, "user:ann user:cy | issue_owner");
    check((User, ""), "Issue.update", ISSUE, "user:bob | assignee");
    let lost = "user:cy | issue_owner owner_lost";
    check((User, "+cy i@a:user:ann i@b:user:cy"), "Issue.update", ISSUE, lost);
    check((User, "i@a:user:ann"), "Issue.update", ISSUE, "user:bob | assignee owner_lost");
    check((User, "i@a:user:bob"), "Issue.update", ISSUE, "user:bob | issue_owner");
    for kind in ["Comment.create", "Reaction.create", "Attachment.create"] {
        let fields = "data.issueId=i data.comment.issueId=i actor.type=user actor.id=bob";
        check((User, owned), kind, fields, "user:ann user:cy | issue_owner");
    }
    let sla = "issueData.id=i issueData.assigneeId=bob";
    check((User, owned), "IssueSLA.breached", sla, "user:bob | assignee");
    let told = "oauthClientId=b appUserId=app notification.issueId=i notification.actorId=bob";
    let status = "AppUserNotification.issueStatusChanged";
    check((User, owned), status, told, "user:cy user:ann | issue_owner");
    check((User, owned), "AppUserNotification.issueAssignedToYou", told, "user:bob | actor");
    check((User, owned), "AppUserNotification.issueMention", told, "user:bob | actor");
    let other = "oauthClientId=c notification.issueId=i notification.actorId=bob";
    check((User, owned), status, other, "user:bob | actor");
    check(
        (Hybrid, "+ann i@a:user:ann i@b:org"),
        "Issue.update",
        ISSUE,
        "user:ann org | issue_owner",
    );
}

#[test]
fn app_users_are_never_persons() {
    let fields = "data.id=i data.assigneeId=app data.creatorId=bob";
    check((User, ""), "Issue.create", fields, "user:app | assignee");
    check((User, "app=a"), "Issue.create", fields, "user:bob | creator");
    let delegated = &format!("{fields} data.delegateId=app");
    check((User, ""), "Issue.create", delegated, "user:bob | creator");
    let session = "oauthClientId=a appUserId=app agentSession.creatorId=other";
    let kind = "AgentSessionEvent.created";
    check((User, "other=b"), kind, session, "unrouted | unrouted");
}

#[test]
fn what_the_app_itself_did_is_marked() {
    let acts = |fields: &str| format!("data.id=i data.assigneeId=bob {fields}");
    let (plain, own) = ("user:bob | assignee", "user:bob | assignee | own");
    let by_app = &acts("actor.type=user actor.id=app");
    check((User, "app=a"), "Issue.update", by_app, own);
    check((User, "other=a"), "Issue.update", by_app, plain);
    check((User, "app=a"), "Issue.update", &acts("actor.type=oauthClient actor.id=a"), own);
    check((User, "app=a"), "Issue.update", &acts("actor.id=bob"), plain);
    check((User, ""), "Issue.update", &acts("actor.id=app data.delegateId=app"), plain);
    check((Org, "app=a"), "Issue.update", by_app, "org | strategy assignee | own");
    let told = |fields: &str| {
        format!("oauthClientId=a appUserId=app notification.comment.userId=bob {fields}")
    };
    let kind = "AppUserNotification.issueStatusChanged";
    let (plain, own) = ("user:bob | comment_author", "user:bob | comment_author | own");
    check((User, ""), kind, &told("notification.actorId=app"), own);
    check((User, "two=b"), kind, &told("notification.actorId=two"), plain);
    check((User, "two=a"), kind, &told("notification.actorId=two"), own);
    check((User, ""), kind, &told(""), plain);
    let begun = "appUserId=app agentSession.creatorId=app agentSession.comment.userId=bob";
    check((User, ""), "AgentSessionEvent.created", begun, own);
    check((User, "app=a"), "Comment.create", "data.userId=app", "unrouted | unrouted | own");
}

#[test]
fn teams_get_what_is_about_them() {
    let read = "~team:t ~team:u ~org";
    check((User, read), "Issue.update", ISSUE, "user:bob team:t | assignee");
    check((User, "~team:u"), "Issue.update", ISSUE, "user:bob | assignee");
    check((Org, read), "Issue.update", ISSUE, "org team:t | strategy assignee");
    check((Hybrid, read), "Issue.update", ISSUE, "org team:t | no_machine assignee");
    let owned = "+ann i@a:user:ann ~team:t";
    check((User, owned), "Issue.update", ISSUE, "user:ann team:t | issue_owner");
    let project = "data.leadId=ann data.teamIds=[u,x,t]";
    check((User, read), "Project.update", project, "user:ann team:u team:t | lead");
    // Nobody besides the team: it has found somebody, and the default channel is not asked.
    let cycle = "data.teamId=t";
    check((User, "~team:t default=org"), "Cycle.update", cycle, "team:t | team unrouted");
    check((User, "default=org"), "Cycle.update", cycle, "org | default unrouted");
    check(
        (Hybrid, "~team:t default=user:d"),
        "Cycle.update",
        cycle,
        "user:d team:t | default unrouted",
    );
    check((Hybrid, "~team:t"), "Cycle.update", cycle, "org team:t | no_machine unrouted");
    check((User, "~team:t"), "Weather.update", cycle, "team:t | team unknown_type");
    // An agent's work is one machine's.
    let created = &format!("{SESSION} agentSession.creatorId=ann");
    let kind = "AgentSessionEvent.created";
    check((User, read), kind, created, "user:ann | session_creator");
    check((User, read), kind, SESSION, "team:t | team unrouted");
    check((User, "~team:t default=org"), kind, SESSION, "team:t | team unrouted");
    check((Hybrid, read), kind, SESSION, "org | no_machine unrouted");
}

#[test]
fn what_concerns_the_installation_is_kept_apart() {
    for kind in ["OAuthApp.revoked", "PermissionChange.teamAccessChanged"] {
        for strategy in [User, Org, Hybrid] {
            let known = "+ann default=user:d ~team:t app=a";
            let fields = "oauthClientId=a appUserId=app data.teamId=t";
            check((strategy, known), kind, fields, "unrouted | organization_control");
            let both = "unrouted org | organization_control";
            check((strategy, "~org"), kind, fields, both);
        }
    }
}

#[test]
fn who_is_remembered_as_owner() {
    let remembered = |strategy, known: &str, kind: &str, fields: &str| {
        let owner = scene(strategy, known).decide(&facts_of(kind, fields)).owner;
        owner.map(|owner| format!("{}@{}", owner.channel, owner.app.unwrap_or_default()))
    };
    let created = &format!("{SESSION} agentSession.creatorId=ann");
    let kind = "AgentSessionEvent.created";
    assert_eq!(remembered(User, "", kind, created).as_deref(), Some("user:ann@a"));
    assert_eq!(remembered(Hybrid, "", kind, created).as_deref(), Some("org@a"));
    assert_eq!(remembered(User, "default=org", kind, SESSION).as_deref(), Some("org@a"));
    assert_eq!(remembered(User, "~team:t", kind, SESSION).as_deref(), Some("team:t@a"));
    assert_eq!(remembered(User, "", kind, SESSION), None);
    assert_eq!(remembered(Org, "", kind, created), None);
    assert_eq!(remembered(User, "", "Issue.update", ISSUE), None);
    let facts = facts_of(kind, created);
    let decision =
        Decision::by_operator(&facts, &OrganizationView::default(), "user:bob".parse().unwrap());
    assert_eq!(describe(&decision), "user:bob | operator");
    assert_eq!(decision.owner.unwrap().channel.to_string(), "user:bob");
}
