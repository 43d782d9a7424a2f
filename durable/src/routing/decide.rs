use relay_schemas::{Channel, RoutingStrategy, UserId};
use serde::{Deserialize, Serialize};

use super::{Bond, OrganizationView, Owner, RouteFacts, Rule};

/// A channel that an event goes to, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The channel, in the event's own organization.
    pub channel: Channel,
    /// What decided it.
    pub rule: Rule,
}

/// What is known when an event is decided.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The organization.
    pub organization: &'a OrganizationView,
    /// The owners of the event's session.
    pub session_owners: &'a [Owner],
    /// The owners of the sessions on its issue.
    pub issue_owners: &'a [Owner],
}

/// Where an event goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The channels, each once and at least one.
    pub targets: Vec<Target>,
    /// Whether the app itself did what the event tells of.
    pub own: bool,
    /// The rule, and what it was that passed over or took the person's place, in stable words.
    pub reason: String,
    /// Who is to be remembered as owner of the event's session and issue.
    pub owner: Option<Owner>,
    /// Who no longer is owner of either.
    pub lost: Vec<Owner>,
    /// Whether it followed its owners.
    pub is_followed: bool,
}

impl Decision {
    /// An operator's decision.
    pub fn by_operator(facts: &RouteFacts, view: &OrganizationView, channel: Channel) -> Self {
        let mut decision = Self { own: is_own(facts, view), ..Self::default() };
        decision.choose(channel, Rule::Operator);
        decision.reason = Rule::Operator.as_str().to_owned();
        decision.remember_owner(facts);
        decision
    }

    /// Adds a target, unless the event goes there already.
    fn choose(&mut self, channel: Channel, rule: Rule) {
        if self.targets.iter().all(|target| target.channel != channel) {
            self.targets.push(Target { channel, rule });
        }
    }

    /// The first target of an event that announces its session, or goes on with it, owns it.
    fn remember_owner(&mut self, facts: &RouteFacts) {
        let first = self.targets.first().map(|target| &target.channel);
        if let (Bond::Session, Some(channel)) = (facts.bond, first)
            && *channel != Channel::Unrouted
        {
            self.owner = Some(Owner { app: facts.app.clone(), channel: channel.clone() });
        }
    }

    fn explain(mut self, words: &[Rule]) -> Self {
        let words: Vec<&str> = words.iter().map(|rule| rule.as_str()).collect();
        self.reason = words.join(" ");
        if !self.lost.is_empty() {
            self.reason.push_str(" owner_lost");
        }
        self
    }
}

/// Decides where an event goes.
pub fn decide(facts: &RouteFacts, snapshot: &Snapshot<'_>) -> Decision {
    let view = snapshot.organization;
    let mut decision = Decision { own: is_own(facts, view), ..Decision::default() };
    if facts.is_control() {
        decision.choose(Channel::Unrouted, Rule::OrganizationControl);
        if view.channels.contains(&Channel::Organization) {
            decision.choose(Channel::Organization, Rule::OrganizationControl);
        }
        return decision.explain(&[Rule::OrganizationControl]);
    }
    let person = facts
        .candidates
        .iter()
        .find(|candidate| !is_app_user(facts, view, candidate.user.as_str()))
        .map(|candidate| (&candidate.user, candidate.rule));
    let named = person.map_or(facts.otherwise, |(_, rule)| rule);
    if view.strategy == RoutingStrategy::Org {
        decision.choose(Channel::Organization, Rule::Strategy);
        choose_teams(facts, view, &mut decision);
        return decision.explain(&[Rule::Strategy, named]);
    }
    if let Some(rule) = choose_owners(facts, snapshot, person.map(|(user, _)| user), &mut decision)
    {
        choose_teams(facts, view, &mut decision);
        decision.remember_owner(facts);
        return decision.explain(&[rule]);
    }
    let words = match person {
        Some(person) => choose_person(person, view, &mut decision),
        None => choose_nobody(facts, view, &mut decision),
    };
    choose_teams(facts, view, &mut decision);
    if decision.targets.is_empty() {
        decision.choose(Channel::Unrouted, facts.otherwise);
    }
    decision.remember_owner(facts);
    decision.explain(&words)
}

/// Where the session goes, or all sessions on the issue. An owner whom no machine serves any more
/// has lost what it owned, unless the event is that person's anyway.
fn choose_owners(
    facts: &RouteFacts,
    snapshot: &Snapshot<'_>,
    person: Option<&UserId>,
    decision: &mut Decision,
) -> Option<Rule> {
    let (owners, rule) = match facts.bond {
        Bond::Session | Bond::InSession => (snapshot.session_owners, Rule::SessionOwner),
        Bond::Issue => (snapshot.issue_owners, Rule::IssueOwner),
        Bond::None => return None,
    };
    let view = snapshot.organization;
    for owner in owners.iter().filter(|owner| owner.concerns(facts.app.as_deref())) {
        let is_person = view.strategy == RoutingStrategy::User
            && matches!(&owner.channel, Channel::User(user) if Some(user) == person);
        if is_person || view.is_read(&owner.channel) {
            decision.choose(owner.channel.clone(), rule);
        } else {
            decision.lost.push(owner.clone());
        }
    }
    decision.is_followed = !decision.targets.is_empty();
    decision.is_followed.then_some(rule)
}

fn choose_person(
    (user, rule): (&UserId, Rule),
    view: &OrganizationView,
    decision: &mut Decision,
) -> Vec<Rule> {
    if view.strategy == RoutingStrategy::Hybrid && !view.enrolled.contains(user) {
        decision.choose(Channel::Organization, Rule::NoMachine);
        return vec![Rule::NoMachine, rule];
    }
    decision.choose(Channel::User(user.clone()), rule);
    vec![rule]
}

/// What is addressed to an agent goes to the team whose machines there are, before the default: one
/// of them takes the work up. What is told to teams anyway has found somebody then.
fn choose_nobody(
    facts: &RouteFacts,
    view: &OrganizationView,
    decision: &mut Decision,
) -> Vec<Rule> {
    let is_hybrid = view.strategy == RoutingStrategy::Hybrid;
    let team = subscribed_teams(facts, view).next().filter(|_| !is_hybrid);
    let (channel, rule) = match (team, &view.default_channel) {
        (Some(team), _) => (team.clone(), Rule::Team),
        (None, Some(channel)) => (channel.clone(), Rule::Default),
        (None, None) if is_hybrid => (Channel::Organization, Rule::NoMachine),
        (None, None) => return vec![facts.otherwise],
    };
    decision.choose(channel, rule);
    vec![rule, facts.otherwise]
}

/// Work that is addressed to an agent is one machine's, never a team's besides.
fn choose_teams(facts: &RouteFacts, view: &OrganizationView, decision: &mut Decision) {
    if !facts.is_addressed() {
        for team in subscribed_teams(facts, view) {
            decision.choose(team.clone(), Rule::Team);
        }
    }
}

/// The event's teams whose channels somebody reads.
fn subscribed_teams<'a>(
    facts: &'a RouteFacts,
    view: &'a OrganizationView,
) -> impl Iterator<Item = &'a Channel> {
    facts.teams.iter().filter_map(|team| view.channels.get(&Channel::Team(team.clone())))
}

/// Never a person, whatever the payload names it as.
fn is_app_user(facts: &RouteFacts, view: &OrganizationView, user: &str) -> bool {
    let mut agents = facts.agents.iter().chain(view.app_users.keys());
    agents.any(|agent| agent.as_str() == user)
}

/// Whether the app itself has acted: the one that the event was sent to, or, where it was sent to
/// none in particular, any that posts to this relay.
fn is_own(facts: &RouteFacts, view: &OrganizationView) -> bool {
    let Some(actor) = facts.actor.as_deref() else { return false };
    let is_its_user = facts.app_user.as_ref().is_some_and(|user| user.as_str() == actor);
    let is_its_client = facts.app.as_deref() == Some(actor);
    let concerns = |app: &str| facts.app.as_deref().is_none_or(|sent_to| sent_to == app);
    let mut known = view.app_users.iter().filter(|(_, app)| concerns(app));
    is_its_user || is_its_client || known.any(|(user, app)| user.as_str() == actor || app == actor)
}
