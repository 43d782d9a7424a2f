use relay_durable::{AuditCursor, AuditLine, AuditPage, RoutingRules};
use relay_schemas::{AuditQuery, Problem};
use serde_json::{Value, json};
use worker::Response;

use crate::{
    admin::organization_of,
    call::Call,
    directory_object::{AuditCommand, RoutingView},
    log::{self, Level},
    respond,
    stream_client::ask,
};

/// `GET /admin/routing?organization=…`
pub(crate) async fn show(call: &mut Call) -> Result<Response, Problem> {
    let organization = organization_of(call)?;
    let view = ask_directory(call, organization.as_str(), "/routing", String::new()).await?;
    respond::json(200, &describe(organization.as_str(), &view))
}

/// `PUT /admin/routing?organization=…`: replaces what was set.
pub(crate) async fn set(call: &mut Call) -> Result<Response, Problem> {
    let organization = organization_of(call)?;
    let rules = RoutingRules::parse(&call.small_body().await?)?;
    let body = serde_json::to_string(&rules).map_err(|_| respond::unavailable())?;
    let view = ask_directory(call, organization.as_str(), "/set-routing", body).await?;
    let fields = json!({
        "organization": organization.as_str(),
        "strategy": rules.strategy,
        "default_channel": rules.default_channel,
    });
    log::line(Level::Info, "routing_set", &call.request_id, fields);
    respond::json(200, &describe(organization.as_str(), &view))
}

/// `GET /admin/audit?organization=…`: decisions, newest first.
pub(crate) async fn audit(call: &mut Call) -> Result<Response, Problem> {
    let pairs = call.query();
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let query = AuditQuery::parse(pairs)?;
    if let Some(after) = &query.after {
        after.parse::<AuditCursor>().map_err(|error| AuditQuery::invalid("after", error))?;
    }
    let command = AuditCommand { after: query.after, limit: query.limit };
    let body = serde_json::to_string(&command).map_err(|_| respond::unavailable())?;
    let page: AuditPage = ask_directory(call, query.organization.as_str(), "/audit", body).await?;
    let decisions: Vec<Value> = page.decisions.iter().map(describe_decision).collect();
    respond::json(200, &json!({ "decisions": decisions, "cursor": page.cursor }))
}

/// Asks an organization's directory for a value.
pub(crate) async fn ask_directory<T: serde::de::DeserializeOwned>(
    call: &Call,
    organization: &str,
    path: &str,
    body: String,
) -> Result<T, Problem> {
    ask(&call.env, "DIRECTORIES", organization, path, body).await.map_err(|error| {
        log::platform_error("object_unavailable", &call.request_id, &error);
        respond::unavailable()
    })
}

fn describe(organization: &str, view: &RoutingView) -> Value {
    json!({
        "organization": organization,
        "strategy": view.rules.strategy,
        "default_channel": view.rules.default_channel,
        "strategy_in_force": view.strategy,
        "apps": view.apps,
        "rerouted_until": view.rerouted_until,
        "rows_written": view.rows_written,
    })
}

fn describe_decision(line: &AuditLine) -> Value {
    json!({
        "at": line.at.to_string(),
        "id": line.id,
        "kind": line.kind,
        "targets": line.targets,
        "reason": line.reason,
        "own": line.own,
    })
}
