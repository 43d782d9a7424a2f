//! `/fake/state` and `/fake/do`: for those who have the fake as a process, not as a value.

use axum::{
    Json,
    extract::State as Shares,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{FakeLinear, clock::text, scenario::TimedStep, session::SessionView, state::State};

/// Everything that can be seen, without tokens and secrets.
pub(super) async fn state(Shares(fake): Shares<FakeLinear>) -> Json<Value> {
    Json(fake.act(|state| describe(state)))
}

/// Does one step of a scenario, at once.
pub(super) async fn perform(Shares(fake): Shares<FakeLinear>, Json(step): Json<Value>) -> Response {
    let refused = |text: String| (StatusCode::BAD_REQUEST, Json(json!({"error": text})));
    let step: TimedStep = match serde_json::from_value(step) {
        Ok(step) => step,
        Err(error) => return refused(error.to_string()).into_response(),
    };
    match fake.perform(&step.step) {
        Ok(result) => Json(json!({"ok": true, "result": result})).into_response(),
        Err(refusal) => refused(refusal.to_string()).into_response(),
    }
}

fn describe(state: &State) -> Value {
    let world = &state.world;
    let now_ms = state.clock.now_ms();
    json!({
        "now": text(now_ms),
        "organizations": world.organizations.iter().map(|row| json!({
            "id": row.id, "key": row.url_key, "name": row.name, "appUserId": row.app_user,
            "authorized": row.is_authorized,
        })).collect::<Value>(),
        "users": world.users.iter().map(|row| json!({
            "id": row.id, "organizationId": row.organization, "name": row.name,
            "email": row.email, "admin": row.admin, "app": row.app, "active": row.active,
        })).collect::<Value>(),
        "teams": world.teams.iter().map(|row| json!({
            "id": row.id, "key": row.key, "name": row.name, "private": row.private,
            "memberIds": row.members,
        })).collect::<Value>(),
        "issues": world.issues.iter().map(|row| json!({
            "id": row.id, "identifier": row.identifier, "title": row.title,
            "assigneeId": row.assignee, "delegateId": row.delegate,
        })).collect::<Value>(),
        "comments": world.comments.iter().map(|row| json!({
            "id": row.id, "issueId": row.issue, "parentId": row.parent, "body": row.body,
            "userId": row.author,
        })).collect::<Value>(),
        "sessions": world.sessions.iter()
            .map(|row| describe_session(&world.view(row, now_ms))).collect::<Value>(),
        "webhook": {"url": state.webhooks.options.url, "enabled": state.webhooks.enabled},
        "deliveries": state.webhooks.deliveries.iter().map(|row| json!({
            "id": row.id, "kind": row.kind, "outcome": format!("{:?}", row.outcome),
            "statuses": row.attempts.iter().map(|attempt| attempt.status).collect::<Vec<_>>(),
        })).collect::<Value>(),
        "requests": state.requests.iter().map(|row| json!({
            "at": text(row.at_ms), "operation": row.operation, "variables": row.variables,
            "status": row.status, "error": row.error, "tookMs": row.took_ms,
        })).collect::<Value>(),
    })
}

fn describe_session(session: &SessionView) -> Value {
    let activities = session.activities.iter().map(|row| {
        json!({
            "id": row.id, "at": text(row.at_ms), "type": row.kind, "text": row.text,
            "author": row.author, "signal": row.signal, "ephemeral": row.ephemeral,
        })
    });
    json!({
        "id": session.id, "issue": session.issue, "creator": session.creator,
        "status": session.status.as_str(), "firstResponseMs": session.first_response_ms,
        "unresponsive": session.unresponsive, "plan": session.plan,
        "urls": session.urls.iter().map(|(label, url)| json!({"label": label, "url": url}))
            .collect::<Value>(),
        "activities": activities.collect::<Value>(),
    })
}
