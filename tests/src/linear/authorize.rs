//! `/oauth/authorize`: a person signs in, sees what the app asks for, and decides.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Query, State as Shares},
    http::{StatusCode, header::LOCATION},
    response::{Html, IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    oauth::{Code, Grant, parse_scope, secret},
    pages::{consent_page, error_page},
    refusal::Refusal,
    shared::Shared,
    state::State,
    world::{Id, User, new_id},
};

const SCOPES: [&str; 12] = [
    "read",
    "write",
    "issues:create",
    "comments:create",
    "timeSchedule:write",
    "admin",
    "app:assignable",
    "app:mentionable",
    "customer:read",
    "customer:write",
    "initiative:read",
    "initiative:write",
];

/// What the app asks for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct AuthorizeQuery {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) response_type: String,
    pub(super) scope: String,
    pub(super) state: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) actor: Option<String>,
    pub(super) code_challenge: Option<String>,
    pub(super) code_challenge_method: Option<String>,
}

/// What the person decides. The fields of the query are repeated by the form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Decision {
    #[serde(flatten)]
    query: AuthorizeQuery,
    user: String,
    decision: String,
}

/// Why there will be no code.
enum Fault {
    /// Nobody may be sent to where the query says.
    Page(StatusCode, &'static str),
    /// The app is told.
    Redirect(&'static str, &'static str),
}

impl AuthorizeQuery {
    fn is_for_app(&self) -> bool {
        matches!(self.actor.as_deref(), Some("app" | "application"))
    }

    fn check(&self, state: &State) -> Result<Vec<String>, Fault> {
        let options = &state.options;
        if self.client_id != options.client_id {
            return Err(Fault::Page(StatusCode::BAD_REQUEST, "Unknown client_id"));
        }
        if !options.redirect_uris.contains(&self.redirect_uri) {
            return Err(Fault::Page(StatusCode::BAD_REQUEST, "Invalid redirect_uri"));
        }
        if self.response_type != "code" {
            return Err(Fault::Redirect("unsupported_response_type", "response_type must be code"));
        }
        let method = self.code_challenge_method.as_deref();
        if self.code_challenge.is_some() && method != Some("S256") {
            return Err(Fault::Redirect("invalid_request", "code_challenge_method must be S256"));
        }
        if !matches!(self.actor.as_deref(), None | Some("user" | "app" | "application")) {
            return Err(Fault::Redirect("invalid_request", "actor must be user or app"));
        }
        let scope = parse_scope(&self.scope);
        if !scope.iter().all(|name| SCOPES.contains(&name.as_str())) {
            return Err(Fault::Redirect("invalid_scope", "unknown scope"));
        }
        if self.is_for_app() && scope.iter().any(|name| name == "admin") {
            return Err(Fault::Redirect("invalid_scope", "actor=app can't have the scope admin"));
        }
        Ok(scope)
    }

    /// Where the person is sent back to, with an answer for the app.
    fn redirect(&self, answer: &[(&str, &str)]) -> Response {
        let Ok(mut url) = reqwest::Url::parse(&self.redirect_uri) else {
            return page(StatusCode::BAD_REQUEST, "Invalid redirect_uri");
        };
        url.query_pairs_mut()
            .extend_pairs(answer)
            .extend_pairs(self.state.iter().map(|state| ("state", state)));
        (StatusCode::FOUND, [(LOCATION, url.to_string())]).into_response()
    }

    fn fault(&self, fault: &Fault) -> Response {
        match *fault {
            Fault::Page(status, text) => page(status, text),
            Fault::Redirect(error, text) => {
                self.redirect(&[("error", error), ("error_description", text)])
            }
        }
    }
}

fn page(status: StatusCode, text: &str) -> Response {
    (status, Html(error_page(text))).into_response()
}

/// Shows who could sign in, and what is asked for.
pub(super) async fn show(
    Shares(shared): Shares<Arc<Shared>>,
    Query(query): Query<AuthorizeQuery>,
) -> Response {
    shared.act(|state| match query.check(state) {
        Ok(scope) => Html(consent_page(state, &query, &scope)).into_response(),
        Err(fault) => query.fault(&fault),
    })
}

/// Takes the person's decision.
pub(super) async fn decide(
    Shares(shared): Shares<Arc<Shared>>,
    Form(decision): Form<Decision>,
) -> Response {
    let query = &decision.query;
    shared.act(|state| {
        let scope = match query.check(state) {
            Ok(scope) => scope,
            Err(fault) => return query.fault(&fault),
        };
        let Some(person) = state.person(&decision.user) else {
            return page(StatusCode::FORBIDDEN, "Nobody is signed in");
        };
        if decision.decision != "allow" {
            return query.redirect(&[("error", "access_denied")]);
        }
        if query.is_for_app() && !person.admin {
            return page(StatusCode::FORBIDDEN, "Only an admin can install an app");
        }
        match state.consent(query, &person, scope) {
            Ok(code) => query.redirect(&[("code", &code)]),
            Err(refusal) => page(StatusCode::FORBIDDEN, &refusal.message),
        }
    })
}

impl State {
    /// Somebody who can sign in.
    fn person(&self, reference: &str) -> Option<User> {
        let user = self.world.user(reference).ok()?;
        (user.active && !user.app).then(|| user.clone())
    }

    fn consent(
        &mut self,
        query: &AuthorizeQuery,
        person: &User,
        scope: Vec<String>,
    ) -> Result<String, Refusal> {
        let user = match query.is_for_app() {
            true => self.install(&person.organization)?,
            false => person.id.clone(),
        };
        self.world.organizations.get_mut(&person.organization)?.is_authorized = true;
        let grant = self.add_grant(&person.organization, &user, &person.id, scope);
        let code = secret("lin_code_");
        self.authority.codes.push(Code {
            text: code.clone(),
            grant: grant.id,
            redirect_uri: query.redirect_uri.clone(),
            challenge: query.code_challenge.clone(),
            created_ms: self.clock.now_ms(),
            used: false,
        });
        Ok(code)
    }

    pub(super) fn add_grant(
        &mut self,
        organization: &str,
        user: &str,
        granted_by: &str,
        scope: Vec<String>,
    ) -> Grant {
        let grant = Grant {
            id: new_id(),
            organization: organization.to_owned(),
            user: user.to_owned(),
            granted_by: granted_by.to_owned(),
            scope,
            is_public: false,
            revoked: false,
        };
        self.authority.grants.push(grant.clone());
        grant
    }

    /// Gives the app a user of its own in an organization; the same one, if it had one before.
    pub(super) fn install(&mut self, organization: &str) -> Result<Id, Refusal> {
        let name = self.options.app_name.clone();
        let created_ms = self.clock.now_ms();
        let mut users = self.world.users.iter();
        let earlier = users.find(|user| user.app && user.organization == organization);
        let id = earlier.map_or_else(new_id, |user| user.id.clone());
        if earlier.is_none() {
            self.world.users.add(User {
                email: format!("{}@oauthapp.linear.app", id.replace('-', "")),
                id: id.clone(),
                organization: organization.to_owned(),
                name,
                admin: false,
                guest: false,
                app: true,
                active: true,
                created_ms,
            });
        }
        self.world.users.get_mut(&id)?.active = true;
        let row = self.world.organizations.get_mut(organization)?;
        row.is_authorized = true;
        row.app_user = Some(id.clone());
        Ok(id)
    }
}

/// `/.well-known/oauth-authorization-server`.
pub(super) async fn metadata(Shares(shared): Shares<Arc<Shared>>) -> axum::Json<serde_json::Value> {
    let url = shared.url();
    axum::Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/oauth/authorize"),
        "token_endpoint": format!("{url}/oauth/token"),
        "revocation_endpoint": format!("{url}/oauth/revoke"),
        "scopes_supported": SCOPES,
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported":
            ["client_secret_post", "client_secret_basic", "none"],
        "code_challenge_methods_supported": ["S256"],
    }))
}
