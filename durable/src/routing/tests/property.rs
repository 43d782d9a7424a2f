//! Arbitrary facts and directories.

use relay_schemas::{RoutingStrategy, UserId};

use super::*;

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["ann", "bob", "app", "t", "u", "i", "s"]).prop_map(str::to_owned)
}

fn user() -> impl Strategy<Value = UserId> {
    word().prop_map(|word| word.parse().unwrap())
}

fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![
        user().prop_map(Channel::User),
        word().prop_map(Channel::Team),
        Just(Channel::Organization),
        Just(Channel::Unrouted),
    ]
}

fn facts() -> impl Strategy<Value = RouteFacts> {
    let rules = prop::sample::select(vec![Rule::Assignee, Rule::Actor, Rule::SessionCreator]);
    let candidates = prop::collection::vec(
        (rules, user()).prop_map(|(rule, user)| Candidate { rule, user }),
        0..4,
    );
    let otherwise =
        prop::sample::select(vec![Rule::Unrouted, Rule::UnknownType, Rule::OrganizationControl]);
    let bond = prop::sample::select(vec![Bond::Session, Bond::InSession, Bond::Issue, Bond::None]);
    let kind = prop::sample::select(vec!["AgentSessionEvent.created", "Issue.update", "Cycle"]);
    let words = (
        prop::option::of(word()),
        prop::option::of(user()),
        prop::collection::vec(user(), 0..2),
        prop::option::of(word()),
        prop::collection::vec(word(), 0..3),
    );
    (kind, candidates, otherwise, bond, words).prop_map(
        |(kind, candidates, otherwise, bond, (app, app_user, agents, actor, teams))| RouteFacts {
            kind: kind.into(),
            candidates,
            otherwise,
            app,
            app_user,
            agents,
            actor,
            session: Some("s".into()),
            signal: None,
            issue: Some("i".into()),
            teams,
            bond,
        },
    )
}

fn view() -> impl Strategy<Value = OrganizationView> {
    let default = prop::option::of(
        channel().prop_filter("never unrouted", |channel| *channel != Channel::Unrouted),
    );
    let channels = prop::collection::btree_set(channel(), 0..4);
    (
        prop::sample::select(RoutingStrategy::ALL.to_vec()),
        default,
        prop::collection::btree_set(user(), 0..3),
        channels,
        prop::collection::btree_map(user(), word(), 0..2),
    )
        .prop_map(|(strategy, default_channel, enrolled, channels, app_users)| {
            OrganizationView { strategy, default_channel, enrolled, channels, app_users }
        })
}

fn owners() -> impl Strategy<Value = Vec<Owner>> {
    let owner =
        (prop::option::of(word()), channel()).prop_map(|(app, channel)| Owner { app, channel });
    prop::collection::vec(owner, 0..4)
}

/// Whether a channel is one that the facts or the directory have named.
fn is_known(channel: &Channel, facts: &RouteFacts, snapshot: &Snapshot<'_>) -> bool {
    let view = snapshot.organization;
    let mut owners = snapshot.session_owners.iter().chain(snapshot.issue_owners);
    let is_owner = owners.any(|owner| owner.channel == *channel);
    let is_named = match channel {
        Channel::User(user) => facts.candidates.iter().any(|candidate| candidate.user == *user),
        Channel::Team(team) => facts.teams.contains(team) && view.channels.contains(channel),
        Channel::Organization | Channel::Unrouted => true,
    };
    is_named || is_owner || view.default_channel.as_ref() == Some(channel)
}

proptest! {
    #[test]
    fn no_decision_leaves_what_its_organization_has_named(
        facts in facts(),
        view in view(),
        session_owners in owners(),
        issue_owners in owners(),
    ) {
        let (session_owners, issue_owners) = (&session_owners[..], &issue_owners[..]);
        let snapshot = Snapshot { organization: &view, session_owners, issue_owners };
        let decision = decide(&facts, &snapshot);
        prop_assert_eq!(&decision, &decide(&facts, &snapshot));
        let channels: Vec<&Channel> =
            decision.targets.iter().map(|target| &target.channel).collect();
        let once: BTreeSet<&Channel> = channels.iter().copied().collect();
        prop_assert!(!channels.is_empty());
        prop_assert_eq!(once.len(), channels.len());
        for channel in &channels {
            prop_assert!(is_known(channel, &facts, &snapshot), "{}", channel);
            let name = format!("org/{channel}");
            prop_assert!(name.parse::<relay_schemas::StreamKey>().is_ok());
        }
        if channels.contains(&&Channel::Unrouted) {
            prop_assert!(channels.len() == 1 || facts.is_control());
        }
        if facts.is_addressed() && facts.bond != Bond::Issue && !facts.is_control() {
            prop_assert!(channels.len() == 1 || decision.is_followed, "work is one machine's");
        }
        prop_assert!(!decision.reason.is_empty());
    }

    #[test]
    fn facts_travel_whole_and_later_ones_are_read(facts in facts()) {
        let mut value = serde_json::to_value(&facts).unwrap();
        value["of_a_later_version"] = 1.into();
        prop_assert_eq!(serde_json::from_value::<RouteFacts>(value.clone()).unwrap(), facts.clone());
        value["bond"] = "of a later version".into();
        let read: RouteFacts = serde_json::from_value(value).unwrap();
        prop_assert_eq!(read, RouteFacts { bond: Bond::None, ..facts });
    }
}
