//! The hand-written schema is a part of Linear's own, and webhooks have the types that it says.

use relay_schemas::{
    limits::LINEAR_BATCH_MAX,
    linear_api::{DOCUMENTS, agent_activities_create},
};
use relay_tests::{
    linear::{SCHEMA, WebhookOptions, missing_fields, schema_differences, validate_document},
    root,
};
use serde_json::json;

use crate::stage::{ADA, BEN, Stage};

/// Linear's whole schema, where it is at hand.
fn whole_schema() -> Option<String> {
    let path = root().join("../shared/facts/linear-schema.graphql");
    let whole = std::fs::read_to_string(&path).ok();
    if whole.is_none() {
        println!("skipped: {} is not there", path.display());
    }
    whole
}

#[test]
fn the_schema_is_part_of_linears() {
    let Some(whole) = whole_schema() else { return };
    assert_eq!(schema_differences(SCHEMA, &whole).unwrap(), Vec::<String>::new());
}

#[test]
fn differences_are_found() {
    let whole = "type Query { a(x: Int!): String! } enum E { one two } input I { x: Int }";
    let part = "type Query { a(x: Int!): String! } enum E { one }";
    assert_eq!(schema_differences(part, whole).unwrap(), Vec::<String>::new());
    for (part, expected) in [
        ("type Query { a(x: Int!): String }", "Query.a: String"),
        ("type Query { a(x: Int): String! }", "Query.a(x: Int)"),
        ("type Query { b: Int }", "Query.b: Int"),
        ("type Query { a: String! } enum E { three }", "E.three"),
        ("type Query { a: String! } input I { x: String }", "I.x: String"),
    ] {
        assert_eq!(schema_differences(part, whole).unwrap(), [expected]);
    }
}

#[test]
fn documents_are_checked() {
    validate_document(SCHEMA, "query Me { viewer { id organization { urlKey } } }").unwrap();
    let error = validate_document(SCHEMA, "{ viewer { nickname } }").unwrap_err();
    assert!(error.contains("nickname"), "{error}");
    validate_document("type Query {", "{ a }").unwrap_err();
}

/// Every document that the relay sends, by its operation's name.
fn documents() -> Vec<(&'static str, String)> {
    let mut documents: Vec<_> =
        DOCUMENTS.iter().map(|(name, document)| (*name, (*document).to_owned())).collect();
    documents.push(("AgentActivities", agent_activities_create(2)));
    documents.push(("AgentActivities", agent_activities_create(LINEAR_BATCH_MAX)));
    documents
}

#[test]
fn the_relay_s_documents_are_valid_here() {
    for (name, document) in documents() {
        validate_document(SCHEMA, &document).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_relay_s_documents_are_valid_at_linear() {
    let Some(whole) = whole_schema() else { return };
    for (name, document) in documents() {
        validate_document(&whole, &document).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn webhooks_have_what_their_types_demand() {
    let Some(whole) = whole_schema() else { return };
    let (stage, receiver) = Stage::receiving(WebhookOptions::default(), &[200]).await;
    let linear = &stage.linear;
    linear.delegate("ENG-1", BEN).unwrap();
    linear.prompt("ENG-1", ADA, "Hurry").unwrap();
    let comment = linear.comment("ENG-1", ADA, "Why?", None).unwrap();
    linear.react("ENG-1", BEN, "eyes", Some(&comment)).unwrap();
    linear.notify("issueCommentMention", "ENG-1", ADA, Some(&comment)).unwrap();
    linear.change_team_access(&["ENG"], &[]).unwrap();
    linear.uninstall("acme").unwrap();
    for webhook in receiver.wait_for(9).await {
        let body = webhook.body();
        let name = body["type"].as_str().unwrap();
        let (envelope, part) = match name {
            "AgentSessionEvent" => ("AgentSessionEventWebhookPayload", None),
            "AppUserNotification" => (
                "AppUserNotificationWebhookPayload",
                Some(("notification", "IssueCommentMentionNotification")),
            ),
            "PermissionChange" => ("AppUserTeamAccessChangedWebhookPayload", None),
            "OAuthApp" => ("OAuthAppWebhookPayload", None),
            _ => ("EntityWebhookPayload", Some(("data", name))),
        };
        let missing = missing_fields(&whole, envelope, &body).unwrap();
        assert_eq!(missing, Vec::<String>::new(), "{name}");
        if let Some((field, part)) = part {
            let part = format!("{part}WebhookPayload");
            let missing = missing_fields(&whole, &part, &body[field]).unwrap();
            assert_eq!(missing, Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn missing_fields_are_found() {
    let sdl = "type Query { a: A } type A { id: ID! note: String list: [B!]! } type B { x: Int! }";
    let value = json!({"id": null, "list": [{"x": 1}, {}]});
    assert_eq!(missing_fields(sdl, "A", &value).unwrap(), ["A.id", "A.list.x"]);
}
