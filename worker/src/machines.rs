//! People's machines: who they are, and how they end.

use std::{cell::RefCell, collections::BTreeSet};

use relay_durable::{Edge, EndReason, MachineRow, machines_page};
use relay_schemas::{
    Access, CredentialError, EdgeId, ErrorCode, OrganizationId, Problem, ReturnTo, StreamKey,
    UnixMillis, UserId, read_form,
};
use serde_json::{Value, json};
use worker::{Env, Response};

use crate::{
    browser,
    call::Call,
    device,
    directory_object::{EdgeList, MachineUsed, Revocation, Shown, UsedReply},
    log::{self, Level},
    objects::{command, command_for},
    pages, respond,
    stream_client::post_to_object,
};

/// Access tokens whose first use an isolate remembers to have told.
const TOLD_MAX: usize = 10_000;

thread_local! {
    static TOLD: RefCell<BTreeSet<(EdgeId, u64)>> = const { RefCell::new(BTreeSet::new()) };
}

/// Tells the directory that a pair of a machine's tokens has arrived, so that those beside it are
/// nobody's any more: once for each hour of a machine and each isolate, behind the answer.
pub(crate) fn note_use(call: &Call, access: Access) {
    let Access::Edge(_) = access else { return };
    let claims = call.claims();
    let Some(generation) = claims.generation else { return };
    let used = MachineUsed { edge: claims.sub.clone(), generation };
    let key = (claims.sub.clone(), generation);
    if !TOLD.with_borrow_mut(|told| remember(told, key.clone())) {
        return;
    }
    let (env, request_id) = (call.env.clone(), call.request_id.clone());
    let organization = claims.org.clone();
    call.context.wait_until(async move {
        if tell_use(&env, &request_id, &organization, &used).await.is_err() {
            TOLD.with_borrow_mut(|told| told.remove(&key));
        }
    });
}

/// If the directory finds that it is a copy's, the streams learn it before the use counts as told.
async fn tell_use(
    env: &Env,
    request_id: &str,
    organization: &OrganizationId,
    used: &MachineUsed,
) -> Result<(), Problem> {
    let directory = ("DIRECTORIES", organization.as_str());
    let reply: UsedReply = command_for(env, request_id, directory, "/machine/used", used).await?;
    let Some(edge) = reply.ended else { return Ok(()) };
    tell_streams(env, request_id, &edge).await?;
    let fields = json!({ "edge": edge.id, "organization": organization, "reason": edge.ended_by });
    log::line(Level::Warn, "edge_revoked", request_id, fields);
    Ok(())
}

fn remember(told: &mut BTreeSet<(EdgeId, u64)>, key: (EdgeId, u64)) -> bool {
    if told.len() >= TOLD_MAX {
        told.clear();
    }
    told.insert(key)
}

/// Reads an id in a path.
pub(crate) fn parse_id(id: &str) -> Result<EdgeId, Problem> {
    id.parse()
        .map_err(|_| Problem::new(ErrorCode::EdgeUnknown, "no such edge in this organization"))
}

/// `GET /machines/self`: who a credential is.
pub(crate) async fn myself(call: &mut Call) -> Result<Response, Problem> {
    let edge = caller(call).await?;
    let claims = call.claims();
    let expires_at = UnixMillis::new(claims.exp.saturating_mul(1000));
    respond::json(
        200,
        &json!({
            "edge": edge.id,
            "name": edge.name,
            "organization": claims.org,
            "user": claims.user,
            "scopes": claims.scopes,
            "channels": claims.channels,
            "expires_at": expires_at.to_string(),
        }),
    )
}

/// `GET /machines`: the person's own.
pub(crate) async fn list(call: &mut Call) -> Result<Response, Problem> {
    let edge = caller(call).await?;
    let edges = machines_of(call, &edge.organization, &edge.user).await?;
    let machines: Vec<Value> = edges.iter().map(describe).collect();
    respond::json(200, &json!({ "machines": machines }))
}

/// `DELETE /machines/{id}`: bars one of the person's own.
pub(crate) async fn revoke_own(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let caller = caller(call).await?;
    let revocation =
        Revocation { edge: parse_id(id)?, reason: Some(EndReason::Owner), user: Some(caller.user) };
    let edge = end(call, &caller.organization, &revocation).await?;
    respond::json(200, &describe(&edge))
}

/// `GET /device/machines`: the same for a browser.
pub(crate) async fn page(call: &mut Call) -> Result<Response, Problem> {
    let session = match browser::session(call) {
        Ok(session) => session,
        Err(problem) => return device::ask_to_sign_in(call, problem, &ReturnTo::Machines),
    };
    let claims = &session.claims;
    let edges = machines_of(call, &claims.org, &claims.user).await?;
    let rows: Vec<MachineRow<'_>> = edges
        .iter()
        .map(|edge| MachineRow {
            id: edge.id.as_str(),
            name: edge.name.as_deref().unwrap_or("–"),
            created_at: edge.created_at.to_string(),
            state: state(edge, call.now),
            is_active: edge.is_active(call.now),
        })
        .collect();
    let machines: Vec<Value> = edges.iter().map(describe).collect();
    let page = machines_page(&claims.name, &rows, &session.csrf);
    pages::html_or_json(call, page, &json!({ "machines": machines }))
}

/// `POST /device/machines/{id}/revoke`: the page's button.
pub(crate) async fn revoke_on_page(call: &mut Call, id: &str) -> Result<Response, Problem> {
    let session = browser::session(call)?;
    let body = call.body(relay_schemas::limits::REQUEST_BYTES_MAX).await?;
    let form = read_form(&String::from_utf8_lossy(&body));
    let csrf = form.iter().find(|(name, _)| name == "csrf").map_or("", |(_, value)| value);
    session.require_own_form(call, csrf)?;
    let revocation = Revocation {
        edge: parse_id(id)?,
        reason: Some(EndReason::Owner),
        user: Some(session.claims.user.clone()),
    };
    end(call, &session.claims.org, &revocation).await?;
    pages::redirect_after_form(&ReturnTo::Machines.path())
}

/// The caller's machine as the directory knows it: a credential alone would be good for an hour
/// after it was revoked.
async fn caller(call: &Call) -> Result<Edge, Problem> {
    let claims = call.claims();
    let shown = Shown { edge: claims.sub.clone() };
    let edge: Result<Edge, Problem> =
        command(call, "DIRECTORIES", claims.org.as_str(), "/machine/show", &shown).await;
    match edge {
        Ok(edge) if edge.revoked_at.is_none() && edge.user == claims.user => Ok(edge),
        Err(problem) if problem.code != ErrorCode::EdgeUnknown => Err(problem),
        Ok(_) | Err(_) => Err(CredentialError::Revoked.into()),
    }
}

async fn machines_of(
    call: &Call,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<Vec<Edge>, Problem> {
    let list: EdgeList =
        command(call, "DIRECTORIES", organization.as_str(), "/list", &json!({})).await?;
    Ok(list.edges.into_iter().filter(|edge| edge.user == *user).collect())
}

/// Revokes an edge. The directory learns of it first; if a stream can't be told now, the caller
/// is told to ask again.
pub(crate) async fn end(
    call: &Call,
    organization: &OrganizationId,
    revocation: &Revocation,
) -> Result<Edge, Problem> {
    let edge: Edge =
        command(call, "DIRECTORIES", organization.as_str(), "/revoke", revocation).await?;
    tell_streams(&call.env, &call.request_id, &edge).await?;
    let fields = json!({ "edge": edge.id, "organization": organization, "reason": edge.ended_by });
    log::line(Level::Info, "edge_revoked", &call.request_id, fields);
    Ok(edge)
}

/// Ends the connections of a revoked edge, and bars it from its streams: once all of them know, they
/// are not asked again.
pub(crate) async fn tell_streams(env: &Env, request_id: &str, edge: &Edge) -> Result<(), Problem> {
    let streams: Vec<StreamKey> = edge.streams_to_tell();
    for stream in streams {
        let body = json!({ "edge": edge.id }).to_string();
        let told = post_to_object(env, "STREAMS", &stream.to_string(), "/revoke", body).await;
        told.map_err(|error| {
            log::platform_error("object_unavailable", request_id, &error);
            respond::unavailable()
        })?;
    }
    if !edge.are_streams_told {
        let told = Shown { edge: edge.id.clone() };
        let directory = ("DIRECTORIES", edge.organization.as_str());
        let _: Value = command_for(env, request_id, directory, "/machine/told", &told).await?;
    }
    Ok(())
}

/// An edge as its person and operators see it.
pub(crate) fn describe(edge: &Edge) -> Value {
    let machine = edge.machine.as_ref().map(|machine| {
        json!({
            "refreshed_at": machine.refreshed_at.to_string(),
            "used_at": machine.used_at.map(|at| at.to_string()),
            "confirmed_at": machine.confirmed_at.to_string(),
            "approved_channels": machine.approved,
            "location": machine.location,
        })
    });
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
        "ended_by": edge.ended_by,
        "machine": machine,
    })
}

fn state(edge: &Edge, now: UnixMillis) -> &'static str {
    match edge.ended_by {
        _ if edge.is_active(now) => "active",
        None if edge.revoked_at.is_none() => "expired",
        None | Some(EndReason::Operator | EndReason::Unknown) => "revoked by an operator",
        Some(EndReason::Owner) => "revoked by you",
        Some(EndReason::LoggedOut) => "logged out",
        Some(EndReason::RefreshReused) => "revoked: its credential was copied",
        Some(EndReason::PersonInactive) => "revoked: not active in Linear",
    }
}
