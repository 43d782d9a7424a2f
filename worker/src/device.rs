//! `/device`: a machine signs in by way of a person's browser (RFC 8628), and stays signed in.

mod tokens;

use relay_durable::{
    ApprovalPage, ApproveMachine, Approver, DeviceDecision, DeviceGrant, Edge, Whereabouts,
    code_page, code_unknown, decided_page, location_hint, sign_in_page,
};
use relay_schemas::{
    Channel, DeviceCode, DeviceCodeReply, DeviceFields, DeviceRequest, ErrorCode, Problem,
    ReturnTo, StreamKey, UserCode,
    limits::{DEVICE_CODE_MS, DEVICE_INTERVAL_S, REQUEST_BYTES_MAX},
    read_form,
};
use serde_json::{Value, json};
use worker::{Method, Request, RequestInit, Response};

pub(crate) use self::tokens::{revoke, token};
use crate::{
    browser::{self, Session},
    call::Call,
    host, installing,
    log::{self, Level},
    machines,
    oauth::linear_settings,
    objects::command,
    pages, respond,
    sign_in_object::{Begun, Decide, WaitingMachine},
};

/// Of 20^8 codes some hundred are taken: even one more try is improbable.
const CODE_TRIES_MAX: usize = 4;

const FORM: &str = "application/x-www-form-urlencoded";

fn media_type(call: &Call) -> String {
    let content_type = call.header("Content-Type").unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The fields of a form, of which each counts where it stands first.
async fn form(call: &mut Call) -> Result<Vec<(String, String)>, Problem> {
    if media_type(call) != FORM {
        let message = format!("send Content-Type: {FORM}");
        return Err(Problem::new(ErrorCode::ContentTypeUnsupported, message));
    }
    let body = call.body(REQUEST_BYTES_MAX).await?;
    Ok(read_form(&String::from_utf8_lossy(&body)))
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let value = form.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    value.filter(|value| !value.is_empty())
}

/// `POST /device/code`: a machine asks to be approved.
pub(crate) async fn code(call: &mut Call) -> Result<Response, Problem> {
    linear_settings(call)?;
    let fields = device_fields(call).await?;
    let request = DeviceRequest::read(fields)?;
    let code = reserve_code(call, &request).await?;
    let base = browser::base_url(call)?;
    respond::json(
        200,
        &DeviceCodeReply {
            device_code: code.text(),
            user_code: code.user_code,
            verification_uri: format!("{base}/device"),
            verification_uri_complete: format!("{base}/device?user_code={}", code.user_code),
            expires_in: DEVICE_CODE_MS / 1000,
            interval: DEVICE_INTERVAL_S,
        },
    )
}

async fn device_fields(call: &mut Call) -> Result<DeviceFields, Problem> {
    let fields = if media_type(call) == FORM {
        let pairs = form(call).await?.into_iter().rev();
        serde_json::from_value(pairs.map(|(name, value)| (name, Value::String(value))).collect())
    } else {
        serde_json::from_slice(&call.small_body().await?)
    };
    fields.map_err(|_| {
        let message = "send client_name, and scopes and channels if you want less or more";
        Problem::new(ErrorCode::ParameterInvalid, message)
    })
}

async fn reserve_code(call: &Call, request: &DeviceRequest) -> Result<DeviceCode, Problem> {
    for _ in 0..CODE_TRIES_MAX {
        let user_code = UserCode::from_random(u64::from_le_bytes(host::random_bytes()));
        let code = DeviceCode::new(user_code, host::random_bytes());
        let edge = machines::parse_id(&format!("edge_{}", host::random_name()))?;
        let grant = DeviceGrant::new(user_code, code.digest(), edge, request.clone(), call.now);
        let name = object_name(user_code);
        let begun: Begun = command(call, "SIGN_INS", &name, "/device/begin", &grant).await?;
        if !begun.is_taken {
            return Ok(code);
        }
    }
    Err(respond::unavailable())
}

fn object_name(user_code: UserCode) -> String {
    format!("device:{user_code}")
}

/// Sends somebody who is not known to the sign-in; a link, so that people see where they go.
pub(crate) fn ask_to_sign_in(
    call: &Call,
    problem: Problem,
    return_to: &ReturnTo,
) -> Result<Response, Problem> {
    if pages::wants_html(call.header("Accept").as_deref()) {
        return pages::html(problem.code.status(), sign_in_page(return_to));
    }
    Err(problem)
}

/// `GET /device`: what a person is to approve, or the question for the code.
pub(crate) async fn page(call: &mut Call) -> Result<Response, Problem> {
    let typed = call.parameter("user_code").filter(|code| !code.is_empty());
    let user_code = typed.as_deref().and_then(|code| code.parse::<UserCode>().ok());
    let session = match browser::session(call) {
        Ok(session) => session,
        Err(problem) => return ask_to_sign_in(call, problem, &ReturnTo::Device { user_code }),
    };
    let Some(user_code) = user_code else {
        let problem = typed.map(|_| code_unknown());
        return pages::html_or_json(call, code_page(problem.as_ref()), &json!({}));
    };
    let waiting = match find(call, &session, user_code, "/device/look").await {
        Ok(waiting) => waiting,
        Err(problem) => {
            let is_unknown = problem.code == ErrorCode::ParameterInvalid;
            if is_unknown && pages::wants_html(call.header("Accept").as_deref()) {
                return pages::html(problem.code.status(), code_page(Some(&problem)));
            }
            return Err(problem);
        }
    };
    show(call, &session, user_code, &waiting).await
}

async fn show(
    call: &Call,
    session: &Session,
    user_code: UserCode,
    waiting: &WaitingMachine,
) -> Result<Response, Problem> {
    let claims = &session.claims;
    let person = installing::require_person(call, &claims.org, &claims.user).await?;
    let status = installing::status(call, &claims.org).await?;
    let asked = &waiting.request.channels;
    let channels = person.allowed(asked);
    let refused: Vec<Channel> =
        asked.iter().filter(|channel| !channels.contains(channel)).cloned().collect();
    let organization = status["organization"]["name"].as_str().unwrap_or(claims.org.as_str());
    let approval = ApprovalPage {
        user_code,
        machine: &waiting.request.name,
        person: &claims.name,
        organization,
        scopes: &waiting.request.scopes,
        channels: &channels,
        refused: &refused,
        csrf: &session.csrf,
    };
    let shown = json!({
        "user_code": user_code, "machine": waiting.request.name, "organization": organization,
        "scopes": waiting.request.scopes, "channels": channels, "refused_channels": refused,
        "csrf": session.csrf,
    });
    pages::html_or_json(call, approval.page(), &shown)
}

/// Looks a code up for a person, who has so many tries.
async fn find(
    call: &Call,
    session: &Session,
    user_code: UserCode,
    path: &str,
) -> Result<WaitingMachine, Problem> {
    let approver = approver(session);
    let guesses = format!("guesses:{}/{}", approver.organization, approver.user);
    let _: Value = command(call, "SIGN_INS", &guesses, "/guess", &json!({})).await?;
    command(call, "SIGN_INS", &object_name(user_code), path, &approver).await
}

fn approver(session: &Session) -> Approver {
    Approver { organization: session.claims.org.clone(), user: session.claims.user.clone() }
}

/// `POST /device`: the person decides. The machine is in the directory before its request says so:
/// a crash between the two leaves a machine without tokens, and the person approves it again.
pub(crate) async fn decide(call: &mut Call) -> Result<Response, Problem> {
    let session = match browser::session(call) {
        Ok(session) => session,
        Err(problem) => {
            return ask_to_sign_in(call, problem, &ReturnTo::Device { user_code: None });
        }
    };
    let form = form(call).await?;
    session.require_own_form(call, field(&form, "csrf").unwrap_or_default())?;
    let is_approved = match field(&form, "decision") {
        Some("approve") => true,
        Some("deny") => false,
        _ => {
            let message = "decision is approve or deny";
            let problem = Problem::new(ErrorCode::ParameterInvalid, message);
            return Err(problem.with("parameter", "decision"));
        }
    };
    let user_code: UserCode =
        field(&form, "user_code").and_then(|code| code.parse().ok()).ok_or_else(code_unknown)?;
    let waiting = find(call, &session, user_code, "/device/claim").await?;
    let decision = match is_approved {
        true => DeviceDecision::Approved(Box::new(enrol(call, &session, &waiting).await?)),
        false => DeviceDecision::Denied,
    };
    let decide = Decide { approver: approver(&session), decision };
    let name = object_name(user_code);
    let _: Value = command(call, "SIGN_INS", &name, "/device/decide", &decide).await?;
    let shown = json!({ "approved": is_approved, "machine": waiting.request.name });
    pages::html_or_json(call, decided_page(&waiting.request.name, is_approved), &shown)
}

async fn enrol(call: &Call, session: &Session, waiting: &WaitingMachine) -> Result<Edge, Problem> {
    let claims = &session.claims;
    let person = installing::require_person(call, &claims.org, &claims.user).await?;
    let location = location_hint(&whereabouts(call));
    let request = ApproveMachine {
        edge: waiting.edge.clone(),
        organization: claims.org.clone(),
        user: claims.user.clone(),
        name: waiting.request.name.clone(),
        scopes: waiting.request.scopes.clone(),
        channels: person.allowed(&waiting.request.channels),
        location: location.map(str::to_owned),
    };
    let name = claims.org.as_str();
    let edge: Edge = command(call, "DIRECTORIES", name, "/machine/approve", &request).await?;
    if let Some(location) = location {
        let stream = StreamKey {
            organization: claims.org.clone(),
            channel: Channel::User(claims.user.clone()),
        };
        // A stream that is made far away works as well, only later.
        if let Err(error) = place_stream(call, &stream, location).await {
            log::platform_error("stream_not_placed", &call.request_id, &error);
        }
    }
    let fields = json!({ "edge": edge.id, "organization": claims.org, "user": claims.user });
    log::line(Level::Info, "machine_approved", &call.request_id, fields);
    Ok(edge)
}

fn whereabouts(call: &Call) -> Whereabouts {
    call.request.cf().map_or_else(Whereabouts::default, |cf| Whereabouts {
        continent: cf.continent(),
        country: cf.country(),
        longitude: cf.coordinates().map(|(_, longitude)| longitude),
    })
}

/// An object is made where it is first asked for, and stays there. One that exists is not moved.
async fn place_stream(call: &Call, stream: &StreamKey, location: &str) -> worker::Result<()> {
    let namespace = call.env.durable_object("STREAMS")?;
    let stub = namespace.get_by_name_with_location_hint(&stream.to_string(), location)?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post);
    stub.fetch_with_request(Request::new_with_init("https://object/state", &init)?).await?;
    Ok(())
}
