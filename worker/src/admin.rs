use relay_durable::{Edge, EndReason, EnrolRequest};
use relay_schemas::{ErrorCode, OrganizationId, Problem};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::Response;

use crate::{
    call::Call,
    directory_object::{EdgeList, Rename, Revocation},
    installation_client,
    log::{self, Level},
    machines::{self, describe},
    objects, respond,
    stream_client::{ask, relay_answer},
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

/// `PATCH /admin/edges/{id}?organization=…`: gives a machine another name. Its credential has the
/// new one from its next refresh on.
pub(crate) async fn rename(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let organization = organization_of(call)?;
    let edge = machines::parse_id(id)?;
    let body = call.small_body().await?;
    let Renaming { name } = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(ErrorCode::ParameterInvalid, format!("not a name: {error}"))
    })?;
    let command = Rename { edge, name };
    let edge: Edge =
        objects::command(call, "DIRECTORIES", organization.as_str(), "/rename", &command).await?;
    respond::json(200, &describe(&edge))
}

/// `DELETE /admin/edges/{id}?organization=…`: bars an edge and ends its connections. The directory
/// learns of it first; if the stream can't be told now, the caller is told to ask again.
pub(crate) async fn revoke(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let organization = organization_of(call)?;
    let edge = machines::parse_id(id)?;
    let revocation = Revocation { edge, reason: Some(EndReason::Operator), user: None };
    let edge = machines::end(call, &organization, &revocation).await?;
    respond::json(200, &describe(&edge))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renaming {
    name: String,
}

/// `GET /admin/outbox?organization=…`: the answers to Linear that were given up, and why.
pub(crate) async fn outbox(call: &mut Call) -> Result<Response, Problem> {
    let organization = organization_of(call)?;
    respond::json(200, &installation_client::given_up(&call.env, &organization).await?)
}

/// The organization that a route of operators is asked about.
pub(crate) fn organization_of(call: &Call) -> Result<OrganizationId, Problem> {
    let given = call.parameter("organization").unwrap_or_default();
    given.parse().map_err(|_| {
        Problem::new(ErrorCode::ParameterInvalid, "add ?organization=ID to the address")
            .with("parameter", "organization")
    })
}

fn unavailable(call: &Call, error: &worker::Error) -> Problem {
    log::platform_error("object_unavailable", &call.request_id, error);
    respond::unavailable()
}
