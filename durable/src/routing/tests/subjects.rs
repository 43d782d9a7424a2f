//! What a payload is about: app, actor, session, issue, teams, and how it relates to sessions.

use super::*;

/// `app`, `app_user`, `actor`, `session`, `signal`, `issue`, `teams` and `bond`, as far as there.
fn describe(facts: &RouteFacts) -> String {
    let one = |name: &str, text: Option<&str>| text.map(|text| format!("{name}={text}"));
    let words = [
        one("app", facts.app.as_deref()),
        one("user", facts.app_user.as_ref().map(|user| user.as_str())),
        one("actor", facts.actor.as_deref()),
        one("session", facts.session.as_deref()),
        one("signal", facts.signal.as_deref()),
        one("issue", facts.issue.as_deref()),
        (!facts.teams.is_empty()).then(|| format!("teams={}", facts.teams.join(","))),
        (facts.bond != Bond::None).then(|| format!("{:?}", facts.bond)),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn check(kind: &str, fields: &str, expected: &str) {
    let facts = facts_of(kind, fields);
    assert_eq!(describe(&facts), expected, "{kind} {fields}");
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<RouteFacts>(&text).unwrap(), facts, "{text}");
}

#[test]
fn agent_events_say_what_they_are_about() {
    let session = "oauthClientId=a appUserId=app agentSession.id=s agentSession.creatorId=ann \
                   agentSession.issue.id=i agentSession.issue.teamId=t agentActivity.userId=bob";
    let of =
        |actor: &str| format!("app=a user=app actor={actor} session=s issue=i teams=t Session");
    check("AgentSessionEvent.created", session, &of("ann"));
    check("AgentSessionEvent.prompted", session, &of("bob"));
    let stop = format!("{session} agentActivity.signal=stop agentSession.issueId=j");
    let expected = "app=a user=app actor=bob session=s signal=stop issue=j teams=t Session";
    check("AgentSessionEvent.prompted", &stop, expected);
    check("AgentSessionEvent.prompted", "agentActivity.agentSessionId=s", "session=s Session");
    let data = "data.id=x data.appUserId=app data.issueId=i actor.id=ann";
    check("AgentSession.update", data, "user=app actor=ann session=x issue=i Session");
    let activity = "data.id=x data.agentSessionId=s data.userId=app";
    check("AgentActivity.create", activity, "actor=app session=s InSession");
}

#[test]
fn what_begins_something_follows_nobody_and_what_goes_on_follows_the_issue() {
    let fields = "oauthClientId=a appUserId=app notification.actorId=ann notification.issueId=i \
                  notification.issue.team.id=t";
    let about = "app=a user=app actor=ann issue=i teams=t";
    for action in [
        "issueAssignedToYou",
        "issueMention",
        "issueCommentMention",
        "documentMention",
        "agentConversationMention",
        "pullRequestCommentMention",
    ] {
        check(&format!("AppUserNotification.{action}"), fields, about);
    }
    for action in [
        "issueUnassignedFromYou",
        "issueStatusChanged",
        "issueNewComment",
        "issueCommentReaction",
        "issueEmojiReaction",
        "issueBlocking",
        "issueSubscribed",
    ] {
        check(&format!("AppUserNotification.{action}"), fields, &format!("{about} Issue"));
    }
}

#[test]
fn data_events_say_what_they_are_about() {
    let fields = "actor.id=ann data.id=d data.userId=bob data.teamId=t data.issueId=i";
    for (kind, expected) in [
        ("Issue.update", "actor=ann issue=d teams=t Issue"),
        ("Comment.create", "actor=ann issue=i teams=t Issue"),
        ("Comment.update", "actor=ann issue=i teams=t Issue"),
        ("Attachment.create", "actor=ann issue=i teams=t Issue"),
        ("CustomerNeed.create", "actor=ann issue=i teams=t"),
        ("Cycle.update", "actor=ann issue=i teams=t"),
        ("Weather.update", "actor=ann issue=i teams=t"),
    ] {
        check(kind, fields, expected);
    }
    let child = "data.issue.id=i data.issue.teamId=t data.issue.team.id=t data.team.id=u";
    check("Comment.update", child, "issue=i teams=u,t Issue");
    check("Comment.create", "data.userId=bob", "actor=bob Issue");
    check("Comment.update", "data.userId=bob", "Issue");
    check("Reaction.create", "data.comment.issueId=i data.user.id=bob", "actor=bob issue=i Issue");
    check("IssueSLA.set", "issueData.id=i issueData.teamId=t data.teamId=x", "issue=i teams=t");
    check("Project.update", "data.teamIds=[t,u,t] data.teamId=x", "teams=t,u");
    check("Initiative.update", "data.leadTeamId=t", "teams=t");
    check("PermissionChange.teamAccessChanged", "appUserId=app data.teamId=t", "user=app");
}

#[test]
fn what_is_no_identifier_is_not_kept() {
    let long = "x".repeat(65);
    for id in ["a/b", "a:b", "ä", &long] {
        let fields = format!("oauthClientId={id} data.id={id} data.teamIds=[{id}] actor.id={id}");
        check("Project.update", &fields, "");
        check("Issue.update", &fields, "Issue");
    }
}

#[test]
fn a_record_says_what_its_event_is_about() {
    let facts = facts_of("Issue.update", "oauthClientId=a data.id=i");
    let subject = facts.subject(Rule::IssueOwner);
    assert_eq!(subject.app.as_deref(), Some("a"));
    assert_eq!((subject.session, subject.issue.as_deref()), (None, Some("i")));
    assert_eq!(subject.routed_by.as_deref(), Some("issue_owner"));
}

/// The kinds of sessions and issues in the samples of Linear's own payloads.
#[test]
fn the_samples_say_what_they_are_about() {
    let samples = crate::samples::samples("org", "ann", 1_790_000_000_000);
    for sample in &samples {
        let facts = RouteFacts::of(&Envelope::parse(sample.body.as_bytes()).unwrap());
        let name = sample.linear_event;
        assert_eq!(facts.session.is_some(), name.starts_with("Agent"), "{}", sample.name);
        assert_eq!(facts.app.is_some(), sample.body.contains("oauthClientId"), "{}", sample.name);
        if ["Issue", "IssueSLA", "Attachment", "AgentSessionEvent"].contains(&name) {
            assert!(facts.issue.is_some(), "{}", sample.name);
        }
        if ["Issue", "IssueSLA", "Cycle", "Project", "AgentSessionEvent"].contains(&name) {
            assert!(!facts.teams.is_empty(), "{}", sample.name);
        }
    }
}
