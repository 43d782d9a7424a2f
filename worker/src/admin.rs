use relay_durable::{Edge, EnrolRequest};
use relay_schemas::{EdgeId, ErrorCode, OrganizationId, Problem};
use serde_json::{Value, json};
use worker::Response;

use crate::{
    call::Call,
    directory_object::EdgeList,
    log::{self, Level},
    respond,
    stream_client::{ask, post_to_object, relay_answer},
};

/// `POST /admin/edges`: enrols a machine and shows its credential, this once.
pub(crate) async fn enrol(call: &mut Call) -> Result<Response, Problem> {
    let body = call.small_body().await?;
    let request: EnrolRequest = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(ErrorCode::ParameterInvalid, format!("not an enrolment: {error}"))
    })?;
    let body = serde_json::to_string(&request).map_err(|_| respond::unavailable())?;
    let name = request.organization.as_str();
    let mut answer =
        relay_answer(&call.env, "DIRECTORIES", name, "/enrol", body, &call.request_id).await?;
    if answer.status_code() != 200 {
        return Ok(answer);
    }
    let edge: Edge = answer.json().await.map_err(|_| respond::unavailable())?;
    let credential = call.settings.signing_keys.issue(&edge.claims());
    log::line(
        Level::Info,
        "edge_enrolled",
        &call.request_id,
        json!({ "edge": edge.id.as_str(), "organization": name, "user": edge.user.as_str() }),
    );
    let mut shown = describe(&edge);
    shown["credential"] = credential.into();
    respond::json(201, &shown)
}

/// `GET /admin/edges?organization=…`
pub(crate) async fn list(call: &mut Call) -> Result<Response, Problem> {
    let organization = organization_of(call)?;
    let list: EdgeList =
        ask(&call.env, "DIRECTORIES", organization.as_str(), "/list", String::new())
            .await
            .map_err(|error| unavailable(call, &error))?;
    let edges: Vec<Value> = list.edges.iter().map(describe).collect();
    respond::json(200, &json!({ "edges": edges }))
}

/// `DELETE /admin/edges/{id}?organization=…`: bars an edge and ends its connections. The directory
/// learns of it first; if the stream can't be told now, the caller is told to ask again.
pub(crate) async fn revoke(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let organization = organization_of(call)?;
    let id: EdgeId = id
        .parse()
        .map_err(|_| Problem::new(ErrorCode::EdgeUnknown, "no such edge in this organization"))?;
    let command = json!({ "edge": id }).to_string();
    let mut answer = relay_answer(
        &call.env,
        "DIRECTORIES",
        organization.as_str(),
        "/revoke",
        command.clone(),
        &call.request_id,
    )
    .await?;
    if answer.status_code() != 200 {
        return Ok(answer);
    }
    let edge: Edge = answer.json().await.map_err(|_| respond::unavailable())?;
    for stream in edge.streams() {
        let name = stream.to_string();
        post_to_object(&call.env, "STREAMS", &name, "/revoke", command.clone())
            .await
            .map_err(|error| unavailable(call, &error))?;
    }
    log::line(Level::Info, "edge_revoked", &call.request_id, json!({ "edge": id.as_str() }));
    respond::json(200, &describe(&edge))
}

fn organization_of(call: &Call) -> Result<OrganizationId, Problem> {
    let given = call.parameter("organization").unwrap_or_default();
    given.parse().map_err(|_| {
        Problem::new(ErrorCode::ParameterInvalid, "add ?organization=ID to the address")
            .with("parameter", "organization")
    })
}

fn describe(edge: &Edge) -> Value {
    json!({
        "id": edge.id,
        "organization": edge.organization,
        "user": edge.user,
        "name": edge.name,
        "scopes": edge.scopes,
        "channels": edge.channels,
        "created_at": edge.created_at.to_string(),
        "expires_at": edge.expires_at.to_string(),
        "revoked_at": edge.revoked_at.map(|at| at.to_string()),
    })
}

fn unavailable(call: &Call, error: &worker::Error) -> Problem {
    log::platform_error("object_unavailable", &call.request_id, error);
    respond::unavailable()
}
