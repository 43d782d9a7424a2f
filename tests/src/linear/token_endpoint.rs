//! `/oauth/token` and `/oauth/revoke`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Form,
    extract::State as Shares,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    faults::{Answer, TOKEN},
    oauth::{
        CLIENT_CREDENTIALS_TOKEN_S, CODE_LIFETIME_MS, Revoked, TokenPair, parse_scope,
        pkce_challenge,
    },
    request_log::{Asked, serve},
    shared::Shared,
    state::State,
    world::Id,
};

type Fields = BTreeMap<String, String>;

/// Why a token request is refused: the `error` of RFC 6749, and a description.
struct TokenError(StatusCode, &'static str, &'static str);

const INVALID_CLIENT: TokenError =
    TokenError(StatusCode::UNAUTHORIZED, "invalid_client", "Client authentication failed");

fn invalid_grant(description: &'static str) -> TokenError {
    TokenError(StatusCode::BAD_REQUEST, "invalid_grant", description)
}

/// Who asks: the app with its secret, or anybody who knows its id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    Confidential,
    Public,
}

/// Exchanges a code, a refresh token, or the client's own credentials.
pub(super) async fn token(
    Shares(shared): Shares<Arc<Shared>>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let operation = fields.get("grant_type").cloned().unwrap_or_default();
    let targets = vec![TOKEN.to_owned(), operation.clone()];
    let asked = Asked { operation, name: None, variables: Value::Null, targets };
    serve(shared, asked, |state| match state.exchange(&headers, &fields) {
        Ok(pair) => Answer::new(StatusCode::OK, state.token_answer(&pair)),
        Err(TokenError(status, error, description)) => {
            Answer::new(status, json!({"error": error, "error_description": description}))
        }
    })
    .await
}

/// Revokes a token, which the request names, or which it is authorized with.
pub(super) async fn revoke(
    Shares(shared): Shares<Arc<Shared>>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let named = ["token", "access_token", "refresh_token"].into_iter().find_map(|n| fields.get(n));
    let Some(token) = named.map(String::as_str).or_else(|| bearer(&headers)) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match shared.act(|state| state.authority.revoke(token)) {
        Revoked::Now => StatusCode::OK.into_response(),
        Revoked::Before => StatusCode::BAD_REQUEST.into_response(),
        Revoked::Unknown => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// The token of an `Authorization: Bearer` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The id and the secret of an `Authorization: Basic` header.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

impl State {
    fn exchange(&mut self, headers: &HeaderMap, fields: &Fields) -> Result<TokenPair, TokenError> {
        let client = self.client(headers, fields)?;
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        match field("grant_type") {
            "authorization_code" => self.exchange_code(client, &field),
            "refresh_token" => self.exchange_refresh_token(client, field("refresh_token")),
            "client_credentials" => self.exchange_credentials(client, field("scope")),
            _ => Err(TokenError(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "grant_type must be authorization_code, refresh_token or client_credentials",
            )),
        }
    }

    fn client(&self, headers: &HeaderMap, fields: &Fields) -> Result<Client, TokenError> {
        let (id, secret) = match basic(headers) {
            Some((id, secret)) => (Some(id), Some(secret)),
            None => (fields.get("client_id").cloned(), fields.get("client_secret").cloned()),
        };
        if id.as_deref() != Some(self.options.client_id.as_str()) {
            return Err(INVALID_CLIENT);
        }
        match secret {
            None => Ok(Client::Public),
            Some(secret) if secret == self.options.client_secret => Ok(Client::Confidential),
            Some(_) => Err(INVALID_CLIENT),
        }
    }

    fn exchange_code<'a>(
        &mut self,
        client: Client,
        field: &impl Fn(&str) -> &'a str,
    ) -> Result<TokenPair, TokenError> {
        let now_ms = self.clock.now_ms();
        let life_s = self.options.access_token_s;
        let mut codes = self.authority.codes.iter_mut();
        let code = codes
            .find(|code| code.text == field("code"))
            .ok_or_else(|| invalid_grant("The code is unknown"))?;
        let grant = code.grant.clone();
        if code.used {
            self.authority.revoke_grant(&grant);
            return Err(invalid_grant("The code was used before"));
        }
        if now_ms >= code.created_ms + CODE_LIFETIME_MS {
            return Err(invalid_grant("The code has expired"));
        }
        if code.redirect_uri != field("redirect_uri") {
            return Err(invalid_grant("redirect_uri is not that of the authorization"));
        }
        match &code.challenge {
            Some(challenge) if *challenge != pkce_challenge(field("code_verifier")) => {
                return Err(invalid_grant("code_verifier does not match"));
            }
            None if client == Client::Public => return Err(INVALID_CLIENT),
            Some(_) | None => {}
        }
        code.used = true;
        let mut grants = self.authority.grants.iter_mut();
        let grant = grants
            .find(|row| row.id == grant && !row.revoked)
            .ok_or_else(|| invalid_grant("The authorization was revoked"))?;
        grant.is_public = client == Client::Public;
        let grant = grant.clone();
        Ok(self.authority.issue(&grant, true, life_s, now_ms))
    }

    fn exchange_refresh_token(
        &mut self,
        client: Client,
        token: &str,
    ) -> Result<TokenPair, TokenError> {
        let dead = || invalid_grant("The refresh token is invalid, expired or revoked");
        let grant = self.authority.refreshable(token).ok_or_else(dead)?;
        if client == Client::Public && !grant.is_public {
            return Err(INVALID_CLIENT);
        }
        let life_s = self.options.access_token_s;
        self.authority.renew(token, life_s, self.clock.now_ms()).ok_or_else(dead)
    }

    /// Linear gives these to private apps, which are installed in one organization: the first
    /// here.
    fn exchange_credentials(
        &mut self,
        client: Client,
        scope: &str,
    ) -> Result<TokenPair, TokenError> {
        if client == Client::Public {
            return Err(INVALID_CLIENT);
        }
        let refused = |text| TokenError(StatusCode::BAD_REQUEST, "unauthorized_client", text);
        if !self.options.client_credentials {
            return Err(refused("Client credentials are not enabled"));
        }
        let organization = self.world.organizations.iter().next().map(|row| row.id.clone());
        let organization = organization.ok_or_else(|| refused("There is no organization"))?;
        let app_user: Id = self.install(&organization).map_err(|_| refused("Not installed"))?;
        let scope = parse_scope(scope);
        self.authority.revoke_other_scopes(&organization, &scope);
        let grant = self.add_grant(&organization, &app_user, "", scope);
        let now_ms = self.clock.now_ms();
        Ok(self.authority.issue(&grant, false, CLIENT_CREDENTIALS_TOKEN_S, now_ms))
    }

    fn token_answer(&self, pair: &TokenPair) -> Value {
        let scope = match self.options.scope_as_array {
            true => json!(pair.scope),
            false => json!(pair.scope.join(" ")),
        };
        let mut answer = json!({
            "access_token": pair.access_token, "token_type": "Bearer",
            "expires_in": pair.expires_in_s, "scope": scope,
        });
        if let Some(token) = &pair.refresh_token {
            answer["refresh_token"] = token.as_str().into();
        }
        answer
    }
}
