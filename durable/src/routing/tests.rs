//! Goal: every payload type and every candidate of the table is decided as written down here, and
//! no payload, and nothing that a directory knows, leads out of its organization. Method: one
//! `check` over cases in a short notation, then arbitrary bodies, facts and directories.

use std::collections::BTreeSet;

use proptest::prelude::*;
use relay_schemas::{Channel, Envelope, UnixMillis};
use serde_json::{Value, json};

use self::cases::{Case, cases};
use super::{table::TABLE, *};

mod audit;
mod book;
mod cases;
mod decisions;
mod property;
mod subjects;

/// Where an event goes of an organization whose directory knows nothing.
fn route(body: &str) -> Target {
    let facts = RouteFacts::of(&Envelope::parse(body.as_bytes()).unwrap());
    let organization = &OrganizationView::default();
    let decision =
        decide(&facts, &Snapshot { organization, session_owners: &[], issue_owners: &[] });
    let [target] = &decision.targets[..] else { panic!("{decision:?}") };
    target.clone()
}

fn body_of(kind: &str, fields: &str) -> String {
    let mut body = json!({"organizationId": "org", "webhookTimestamp": 1});
    let (name, action) = kind.split_once('.').unwrap_or((kind, ""));
    body["type"] = name.into();
    if !action.is_empty() {
        body["action"] = action.into();
    }
    for (path, text) in fields.split_whitespace().filter_map(|field| field.split_once('=')) {
        let place = path.split('.').fold(&mut body, |object, key| &mut object[key]);
        *place = match text.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
            Some(list) => list.split(',').collect(),
            None => text.into(),
        };
    }
    body.to_string()
}

fn facts_of(kind: &str, fields: &str) -> RouteFacts {
    RouteFacts::of(&Envelope::parse(body_of(kind, fields).as_bytes()).unwrap())
}

fn check(case: &Case) {
    let body = body_of(&case.kind, &case.fields);
    let target = route(&body);
    let channel = match case.person {
        "" => "unrouted".to_owned(),
        person => format!("user:{person}"),
    };
    assert_eq!((target.channel.to_string(), target.rule), (channel, case.rule), "{body}");
}

#[test]
fn each_payload_goes_where_the_cases_say() {
    cases().iter().for_each(check);
}

#[test]
fn each_candidate_of_the_table_has_a_case() {
    let cases = cases();
    for row in TABLE {
        for candidate in row.sources {
            let field = format!("{}=", candidate.path.join("."));
            let is_tried = |case: &&Case| {
                let (name, action) = case.kind.split_once('.').unwrap_or((&case.kind, ""));
                name == row.name
                    && row.action.is_none_or(|of_row| of_row == action)
                    && case.rule == candidate.rule
                    && case.fields.split_whitespace().any(|text| {
                        text.strip_prefix(&field).is_some_and(|person| person == case.person)
                    })
            };
            assert!(cases.iter().any(|case| is_tried(&case)), "{} {field}", row.name);
        }
    }
}

#[test]
fn each_rule_has_a_name_of_its_own_and_is_read_back() {
    let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(names.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        let text = serde_json::to_string(rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), *rule);
    }
    assert_eq!(serde_json::from_str::<Rule>("\"of a later version\"").unwrap(), Rule::Other);
}

/// The codes in the first columns of a section's table in `docs/routing.md`.
fn documented(heading: &str) -> BTreeSet<String> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let path = std::path::Path::new(&manifest).join("../docs/routing.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows = section.take_while(|line| !line.starts_with("## "));
    let first = rows.filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let codes = first.flat_map(|column| column.split(", "));
    codes.map(|code| code.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_rule_is_described_and_no_other() {
    let rules: BTreeSet<String> = Rule::ALL.iter().map(|rule| rule.as_str().to_owned()).collect();
    assert_eq!(documented("## Rules"), rules);
}

#[test]
fn every_kind_of_the_table_is_described_and_no_other() {
    let described = documented("## Who gets what");
    let names: BTreeSet<&str> =
        described.iter().map(|kind| kind.split('.').next().unwrap()).collect();
    assert_eq!(names, TABLE.iter().map(|row| row.name).collect());
}

#[test]
fn strange_values_name_nobody() {
    for value in
        ["null", "7", "[]", "{}", "\"\"", "\"a b\"", "\"../org\"", "\"\\ud800\"", "\"\\u0000\""]
    {
        let body = format!(
            r#"{{"type":"Issue","organizationId":"org","webhookTimestamp":1,
            "data":{{"assigneeId":{value},"creatorId":"ann"}}}}"#
        );
        let target = route(&body);
        assert_eq!((target.channel.to_string().as_str(), target.rule), ("user:ann", Rule::Creator));
    }
}

#[test]
fn an_ambiguous_person_is_nobody() {
    let body = r#"{"type":"Issue","organizationId":"org","webhookTimestamp":1,
        "data":{"assigneeId":"ann","assigneeId":"bob"}}"#;
    let target = route(body);
    assert_eq!((target.channel, target.rule), (Channel::Unrouted, Rule::Unrouted));
}

/// What an app can subscribe to, after `WebhookResourceType` of `@linear/sdk` 98.
const SUBSCRIBABLE: &str = "AgentSessionEvent, AppUserNotification, Attachment, Comment, Customer, \
    CustomerNeed, Cycle, Document, Initiative, InitiativeUpdate, Issue, IssueLabel, IssueSLA, \
    OAuthAuthorization, PermissionChange, Project, ProjectLabel, ProjectUpdate, Reaction, Release, \
    ReleaseNote, User";

fn check_has_rows(names: &str) {
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    assert!(names.len() >= 22, "{names:?}");
    for name in names {
        assert!(TABLE.iter().any(|row| row.name == name && row.action.is_none()), "{name}");
    }
}

#[test]
fn whatever_can_be_subscribed_to_has_a_row() {
    check_has_rows(SUBSCRIBABLE);
}

/// Keys that the table reads, and one that it doesn't.
fn key() -> impl Strategy<Value = &'static str> {
    let keys: BTreeSet<&str> = TABLE
        .iter()
        .flat_map(|row| row.sources)
        .flat_map(|source| source.path)
        .copied()
        .chain(["type", "appUserId", "organizationId", "delegateId", "other"])
        .collect();
    prop::sample::select(keys.into_iter().collect::<Vec<_>>())
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-c]",
        Just("user".to_owned()),
        Just("prompt".to_owned()),
        Just("foreign/org".to_owned()),
        any::<String>()
    ];
    let leaf = prop_oneof![
        4 => text.prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<i64>().prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 40, 8, |inner| {
        prop_oneof![
            4 => prop::collection::btree_map(key(), inner.clone(), 0..8)
                .prop_map(|object| json!(object)),
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::from)
        ]
    })
}

fn holds_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(values) => values.iter().any(|value| holds_text(value, text)),
        Value::Object(object) => object.values().any(|value| holds_text(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

proptest! {
    #[test]
    fn no_body_leaves_its_organization(
        row in prop::sample::select((0..TABLE.len()).collect::<Vec<_>>()),
        action in "created|prompted|update|issueNewComment",
        organization in "[A-Za-z0-9_-]{1,64}",
        fields in prop::collection::btree_map(key(), value(), 0..12),
    ) {
        let mut body = json!(fields);
        body["type"] = TABLE[row].name.into();
        body["action"] = action.into();
        body["organizationId"] = organization.as_str().into();
        body["webhookTimestamp"] = 1.into();
        let text = body.to_string();
        let channel = route(&text).channel;
        prop_assert_eq!(channel.to_string().parse(), Ok(channel.clone()));
        match channel {
            Channel::User(user) => {
                prop_assert!(holds_text(&body, user.as_str()));
                prop_assert_ne!(body["appUserId"].as_str(), Some(user.as_str()));
            }
            channel => prop_assert_eq!(channel, Channel::Unrouted),
        }
    }
}
