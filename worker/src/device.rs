//! `/device`: a machine signs in by way of a person's browser (RFC 8628), and stays signed in.

use relay_durable::{
    ApprovalPage, ApproveMachine, Approver, DeviceDecision, DeviceGrant, Edge, EndReason,
    RefreshMachine, RefreshRefusal, RefreshReply, Whereabouts, code_page, code_unknown,
    decided_page, location_hint, sign_in_page,
};
use relay_schemas::{
    Channel, CredentialError, DEVICE_GRANT_TYPE, DeviceCode, DeviceCodeReply, DeviceFields,
    DeviceRequest, ErrorCode, Problem, RefreshClaims, ReturnTo, StreamKey, Token, TokenEdge,
    TokenError, TokenReply, UserCode,
    limits::{DEVICE_CODE_MS, DEVICE_INTERVAL_S, REQUEST_BYTES_MAX},
    read_form,
};
use serde_json::{Value, json};
use worker::{Method, Request, RequestInit, Response};

use crate::{
    browser::{self, Session},
    call::Call,
    directory_object::{Revocation, Shown},
    host, installing,
    log::{self, Level},
    machines,
    oauth::linear_settings,
    objects::command,
    pages, respond,
    sign_in_object::{Begun, Decide, Poll, Polled, WaitingMachine},
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

/// Why a token request gets no tokens: as the RFCs spell it, or because the relay can't now.
enum Failure {
    Token(TokenError),
    Problem(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

/// `POST /device/token`: a machine's first tokens, or its next ones.
pub(crate) async fn token(call: &mut Call) -> Result<Response, Problem> {
    let form = form(call).await?;
    let outcome = match field(&form, "grant_type") {
        Some(DEVICE_GRANT_TYPE) => redeem(call, field(&form, "device_code")).await,
        Some("refresh_token") => refresh(call, field(&form, "refresh_token")).await,
        Some(_) => Err(TokenError::UnsupportedGrantType.into()),
        None => Err(TokenError::InvalidRequest.into()),
    };
    match outcome {
        Ok(edge) => respond::json(200, &tokens(call, &edge)?),
        Err(Failure::Token(error)) => respond::text_of(400, "application/json", error.to_json()),
        Err(Failure::Problem(problem)) => Err(problem),
    }
}

async fn redeem(call: &Call, device_code: Option<&str>) -> Result<Edge, Failure> {
    let text = device_code.ok_or(TokenError::InvalidRequest)?;
    let code = DeviceCode::parse(text).ok_or(TokenError::InvalidGrant(None))?;
    let name = object_name(code.user_code);
    let poll = Poll { secret: code.secret };
    let polled: Polled = command(call, "SIGN_INS", &name, "/device/poll", &poll).await?;
    let edge = match (polled.edge, polled.error.as_deref().and_then(TokenError::parse)) {
        (Some(edge), None) => edge,
        (_, Some(error)) => return Err(error.into()),
        (None, None) => return Err(respond::unavailable().into()),
    };
    // As it is now: it may have used its tokens, or be revoked.
    let shown = Shown { edge: edge.id };
    let directory = edge.organization.as_str();
    let edge: Edge = command(call, "DIRECTORIES", directory, "/machine/show", &shown).await?;
    edge.first_pair(call.now)?;
    Ok(edge)
}

async fn refresh(call: &Call, token: Option<&str>) -> Result<Edge, Failure> {
    let token = token.ok_or(TokenError::InvalidRequest)?;
    let refused = |problem: Problem| Failure::from(TokenError::InvalidGrant(Some(problem)));
    let claims: Result<RefreshClaims, CredentialError> =
        call.settings.signing_keys.read(token, call.now);
    let claims = claims.map_err(|error| refused(error.into()))?;
    let directory = claims.org.as_str();
    let shown = Shown { edge: claims.sub.clone() };
    let edge: Result<Edge, Problem> =
        command(call, "DIRECTORIES", directory, "/machine/show", &shown).await;
    let edge = edge.map_err(|problem| match problem.code {
        ErrorCode::EdgeUnknown => refused(RefreshRefusal::Unknown.problem()),
        _ => problem.into(),
    })?;
    let person = installing::check_person(call, &edge.organization, &edge.user).await;
    let refresh = RefreshMachine { edge: claims.sub, generation: claims.generation, person };
    let reply: RefreshReply =
        command(call, "DIRECTORIES", directory, "/machine/refresh", &refresh).await?;
    match (reply.edge, reply.refused) {
        (Some(edge), None) => Ok(edge),
        (_, Some(RefreshRefusal::Unconfirmed(code))) => {
            Err(RefreshRefusal::Unconfirmed(code).problem().into())
        }
        (edge, refusal) => {
            let refusal = refusal.unwrap_or(RefreshRefusal::Unknown);
            report_refusal(call, edge.as_ref(), &refusal).await?;
            Err(refused(refusal.problem()))
        }
    }
}

/// Whoever is told that its machine is revoked can rely on it: the streams know it then. If one
/// can't be told, the machine asks again, with the same token.
async fn report_refusal(
    call: &Call,
    edge: Option<&Edge>,
    refusal: &RefreshRefusal,
) -> Result<(), Problem> {
    if let (Some(edge), RefreshRefusal::Ended(reason)) = (edge, refusal) {
        machines::tell_streams(call, edge).await?;
        let fields = json!({ "edge": edge.id, "reason": reason });
        log::line(Level::Warn, "machine_refused", &call.request_id, fields);
    }
    Ok(())
}

fn tokens(call: &Call, edge: &Edge) -> Result<TokenReply, Problem> {
    let (Some(access), Some(refresh)) = (edge.access_claims(call.now), edge.refresh_claims())
    else {
        return Err(respond::unavailable());
    };
    let scopes: Vec<&str> = edge.scopes.iter().map(|scope| scope.as_str()).collect();
    Ok(TokenReply {
        access_token: call.settings.signing_keys.issue(&access),
        token_type: "Bearer".into(),
        // A repeated answer holds the token of the first.
        expires_in: access.expires_at().since_ms(call.now) / 1000,
        refresh_token: call.settings.signing_keys.issue(&refresh),
        scope: scopes.join(" "),
        edge: TokenEdge {
            id: edge.id.clone(),
            name: edge.name.clone(),
            organization: edge.organization.clone(),
            user: edge.user.clone(),
            channels: edge.channels.clone(),
        },
    })
}

/// `POST /device/revoke`: a machine says good-bye. What is not a token that is still good needs no
/// good-bye (RFC 7009 §2.2).
pub(crate) async fn revoke(call: &mut Call) -> Result<Response, Problem> {
    let form = form(call).await?;
    let Some(token) = field(&form, "token") else {
        let error = TokenError::InvalidRequest;
        return respond::text_of(400, "application/json", error.to_json());
    };
    let claims: Result<RefreshClaims, CredentialError> =
        call.settings.signing_keys.read(token, call.now);
    if let Ok(claims) = claims {
        let revocation =
            Revocation { edge: claims.sub, reason: Some(EndReason::LoggedOut), user: None };
        match machines::end(call, &claims.org, &revocation).await {
            Err(problem) if problem.code != ErrorCode::EdgeUnknown => return Err(problem),
            Ok(_) | Err(_) => {}
        }
    }
    respond::json(200, &json!({}))
}
