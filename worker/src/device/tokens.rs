use relay_durable::{Edge, EndReason, RefreshMachine, RefreshRefusal, RefreshReply};
use relay_schemas::{
    CredentialError, DEVICE_GRANT_TYPE, DeviceCode, ErrorCode, Problem, RefreshClaims, Token,
    TokenEdge, TokenError, TokenReply,
};
use serde_json::json;
use worker::Response;

use super::{field, form, object_name};
use crate::{
    call::Call,
    directory_object::{Revocation, Shown},
    installing,
    log::{self, Level},
    machines,
    objects::command,
    respond,
    sign_in_object::{Poll, Polled},
};

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
        machines::tell_streams(&call.env, &call.request_id, edge).await?;
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
        // No access outlives the machine.
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
