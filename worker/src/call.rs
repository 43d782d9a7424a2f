use std::rc::Rc;

use futures::StreamExt;
use relay_schemas::{
    Access, Channel, Claims, CredentialError, ErrorCode, KindFilter, Problem, Scope, StreamKey,
    UnixMillis,
    limits::{REQUEST_BYTES_MAX, REQUEST_ID_LENGTH_MAX},
    parse_channel,
};
use worker::{Context, Env, Request};

use crate::{host, rate_limit, settings::Settings};

/// One HTTP request and what is needed to answer it.
pub(crate) struct Call {
    pub(crate) request: Request,
    pub(crate) env: Env,
    pub(crate) context: Context,
    pub(crate) settings: Rc<Settings>,
    pub(crate) request_id: String,
    pub(crate) now: UnixMillis,
    /// The caller's credential, on routes for machines.
    claims: Option<Claims>,
}

impl Call {
    /// A request that has not been looked at.
    pub(crate) fn new(
        request: Request,
        env: Env,
        context: Context,
        settings: Rc<Settings>,
    ) -> Self {
        let request_id = request_id_of(&request);
        Self { request, env, context, settings, request_id, now: host::now(), claims: None }
    }

    /// Refuses whoever may not use a route. A signature is checked together with its body.
    pub(crate) async fn authorize(&mut self, access: Access) -> Result<(), Problem> {
        match access {
            Access::Open | Access::Signature => Ok(()),
            Access::Anyone | Access::Browser => rate_limit::require_address_room(self).await,
            Access::Operator => self.require_operator(),
            Access::OperatorOrBrowser if self.is_by_token() => self.require_operator(),
            Access::OperatorOrBrowser => rate_limit::require_address_room(self).await,
            Access::Edge(scopes) => {
                self.claims = Some(self.read_claims(scopes)?);
                rate_limit::require_credential_room(self).await
            }
        }
    }

    /// Whether the caller has sent a token, whatever it is.
    pub(crate) fn is_by_token(&self) -> bool {
        self.header("Authorization").is_some()
    }

    /// The caller's credential.
    pub(crate) fn claims(&self) -> &Claims {
        self.claims.as_ref().expect("the table of routes asks for a credential here")
    }

    /// The stream of a channel that the caller may read.
    pub(crate) fn stream(&self, channel: Option<&Channel>) -> Result<StreamKey, Problem> {
        Ok(self.claims().stream(channel)?)
    }

    /// The kinds that the caller may read.
    pub(crate) fn allowed_kinds(&self) -> KindFilter {
        self.claims().allowed_kinds().expect("the table of routes asks for a reading scope here")
    }

    /// The stream of the `channel` parameter, on routes that take no other.
    pub(crate) fn stream_of_channel(&self) -> Result<StreamKey, Problem> {
        let pairs = self.query();
        let channel =
            parse_channel(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        self.stream(channel.as_ref())
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    /// Decoded query pairs.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        self.request.url().map_or_else(
            |_| Vec::new(),
            |url| {
                let pairs = url.query_pairs();
                pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
            },
        )
    }

    /// One query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.query().into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    fn bearer(&self) -> Result<String, CredentialError> {
        let header = self.header("Authorization").ok_or(CredentialError::Missing)?;
        let (scheme, token) = header.split_once(' ').ok_or(CredentialError::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(CredentialError::Missing);
        }
        Ok(token.trim().to_owned())
    }

    /// Reads the caller's credential. What the caller says of itself in headers is at most
    /// compared with it.
    fn read_claims(&self, scopes: &'static [Scope]) -> Result<Claims, Problem> {
        let claims: Claims = self.settings.signing_keys.read(&self.bearer()?, self.now)?;
        if !scopes.is_empty() {
            claims.require_any(scopes)?;
        }
        let contradicts = |header: &str, actual: Option<&str>| {
            self.header(header).is_some_and(|said| actual.is_some_and(|actual| actual != said))
        };
        if contradicts("X-Edge-User-Id", Some(claims.user.as_str()))
            || contradicts("X-Edge-Name", claims.name.as_deref())
        {
            return Err(Problem::new(
                ErrorCode::IdentityMismatch,
                "X-Edge-User-Id or X-Edge-Name is not what the credential says",
            ));
        }
        Ok(claims)
    }

    /// Refuses everybody but the operator.
    fn require_operator(&self) -> Result<(), Problem> {
        if self.settings.is_admin_token(&self.bearer()?) {
            Ok(())
        } else {
            Err(CredentialError::Invalid.into())
        }
    }

    /// The body of a request that isn't a webhook.
    pub(crate) async fn small_body(&mut self) -> Result<Vec<u8>, Problem> {
        self.require_json()?;
        self.body(REQUEST_BYTES_MAX).await
    }

    /// Refuses a body that doesn't say that it is JSON.
    pub(crate) fn require_json(&self) -> Result<(), Problem> {
        let content_type = self.header("Content-Type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/json") {
            return Ok(());
        }
        Err(Problem::new(ErrorCode::ContentTypeUnsupported, "send Content-Type: application/json"))
    }

    /// The body, read no further than the limit.
    pub(crate) async fn body(&mut self, bytes_max: usize) -> Result<Vec<u8>, Problem> {
        let too_large = || {
            Problem::new(ErrorCode::BodyTooLarge, format!("the body may have {bytes_max} bytes"))
        };
        let unread = |_| Problem::new(ErrorCode::BodyNotJson, "the body could not be read");
        let announced =
            self.header("Content-Length").and_then(|length| length.parse::<usize>().ok());
        match announced {
            Some(length) if length > bytes_max => Err(too_large()),
            Some(_) => {
                let body = self.request.bytes().await.map_err(unread)?;
                if body.len() > bytes_max { Err(too_large()) } else { Ok(body) }
            }
            None => {
                let Ok(mut stream) = self.request.stream() else { return Ok(Vec::new()) };
                let mut body = Vec::new();
                while let Some(chunk) = stream.next().await {
                    body.extend_from_slice(&chunk.map_err(unread)?);
                    if body.len() > bytes_max {
                        return Err(too_large());
                    }
                }
                Ok(body)
            }
        }
    }
}

/// The caller's request id if it is a plain short word, else a new one.
pub(crate) fn request_id_of(request: &Request) -> String {
    let given = request.headers().get("X-Request-Id").ok().flatten();
    given
        .filter(|id| {
            (1..=REQUEST_ID_LENGTH_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        })
        .unwrap_or_else(host::random_name)
}
