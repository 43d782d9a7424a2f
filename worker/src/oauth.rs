//! `/oauth`: people come back from Linear, for an organization's installation or for themselves.

mod linear;

use relay_durable::{SignIn, check_viewer, denied, installed_page};
use relay_schemas::{
    AuthorizeRequest, BrowserClaims, Counter, ErrorCode, LinearTokens, OrganizationId, Problem,
    ReturnTo, SecretDigest, SignInPurpose, Viewer, limits::BROWSER_SESSION_MS, secret_text,
};
use serde_json::{Value, json};
use worker::Response;

use crate::{
    browser,
    call::Call,
    host, installing,
    log::{self, Level},
    metrics,
    objects::command,
    pages, respond,
    settings::{LinearApp, LinearSettings},
    sign_in_object::Take,
};

/// What a relay says that was set up without Linear's app.
pub(crate) fn linear_settings(call: &Call) -> Result<&LinearSettings, Problem> {
    call.settings.linear.as_ref().ok_or_else(|| {
        let message = "this relay has no LINEAR_CLIENT_ID; its operator sets it up";
        Problem::new(ErrorCode::OauthNotConfigured, message)
    })
}

fn app<'a>(call: &'a Call, client_id: Option<&str>) -> Result<&'a LinearApp, Problem> {
    linear_settings(call)?.app(client_id).ok_or_else(|| {
        Problem::new(ErrorCode::AppUnknown, "this relay serves no app with this client id")
    })
}

/// `GET /oauth/authorize`: an administrator installs the app.
pub(crate) async fn install(call: &mut Call) -> Result<Response, Problem> {
    let app = call.parameter("app");
    leave(call, app.as_deref(), SignInPurpose::Install).await
}

/// `GET /oauth/sign-in`: a person says who they are.
pub(crate) async fn sign_in(call: &mut Call) -> Result<Response, Problem> {
    let (page, code) = (call.parameter("return"), call.parameter("user_code"));
    let return_to = ReturnTo::parse(page.as_deref(), code.as_deref()).ok_or_else(|| {
        Problem::new(ErrorCode::ParameterInvalid, "return is device or machines")
            .with("parameter", "return")
    })?;
    leave(call, None, SignInPurpose::Person { return_to }).await
}

/// Sends the browser to Linear. What it must show when it comes back is in its cookie, and here
/// only as digests.
async fn leave(
    call: &Call,
    client_id: Option<&str>,
    purpose: SignInPurpose,
) -> Result<Response, Problem> {
    let client_id = &app(call, client_id)?.client_id;
    let [state, cookie, verifier] = [0; 3].map(|_| secret_text(host::random_bytes()));
    let redirect_uri = format!("{}/oauth/callback", browser::base_url(call)?);
    let address = AuthorizeRequest {
        linear_url: &linear_settings(call)?.url,
        client_id,
        redirect_uri: &redirect_uri,
        state: &state,
        verifier: &verifier,
        purpose: &purpose,
    }
    .url();
    let state = SecretDigest::of(&state);
    let sign_in = SignIn {
        purpose,
        app: client_id.clone(),
        redirect_uri,
        verifier,
        browser: SecretDigest::of(&cookie),
        expires_at: SignIn::expiry(call.now),
    };
    let name = format!("state:{state}");
    let _: Value = command(call, "SIGN_INS", &name, "/sign-in/begin", &sign_in).await?;
    let response = pages::redirect(&address)?;
    browser::begin_sign_in(call, &response, &state, &cookie)?;
    Ok(response)
}

/// `GET /oauth/callback`: Linear sends the browser back. The state is used up before anything
/// else happens: a crash after that means that the person begins again.
pub(crate) async fn callback(call: &mut Call) -> Result<Response, Problem> {
    linear_settings(call)?;
    let state = SecretDigest::of(&call.parameter("state").unwrap_or_default());
    let browser = browser::sign_in_secret(call, &state)?;
    let name = format!("state:{state}");
    let sign_in: SignIn =
        command(call, "SIGN_INS", &name, "/sign-in/take", &Take { browser }).await?;
    if let Some(error) = call.parameter("error") {
        return Err(denied(&error));
    }
    let code = call.parameter("code").unwrap_or_default();
    let tokens = linear::exchange(call, &sign_in, &code).await?;
    let response = match &sign_in.purpose {
        SignInPurpose::Install => finish_install(call, &sign_in, tokens).await?,
        SignInPurpose::Person { return_to } => {
            let outcome = finish_sign_in(call, &sign_in, &tokens, return_to).await;
            // Whatever came of it: the person's token was for this one question.
            linear::revoke(call, &sign_in.app, &tokens).await;
            outcome?
        }
    };
    browser::end_sign_in(call, &response, &state)?;
    Ok(response)
}

async fn finish_install(
    call: &Call,
    sign_in: &SignIn,
    tokens: LinearTokens,
) -> Result<Response, Problem> {
    let viewer = linear::viewer(call, &tokens).await;
    let viewer = viewer.and_then(|viewer| {
        check_viewer(&sign_in.purpose, &viewer)?;
        Ok(viewer)
    });
    let viewer = match viewer {
        Ok(viewer) => viewer,
        Err(problem) => {
            linear::revoke(call, &sign_in.app, &tokens).await;
            return Err(problem);
        }
    };
    installing::granted(call, &sign_in.app, tokens, &viewer).await?;
    let organization = &viewer.organization;
    metrics::add(Counter::SignIns("install"), 1);
    metrics::flush_if_due(call);
    let fields = json!({ "organization": organization.id, "app": sign_in.app });
    log::line(Level::Info, "app_installed", &call.request_id, fields);
    let shown = json!({
        "installed": true, "app": sign_in.app,
        "organization": { "id": organization.id, "name": organization.name },
    });
    pages::html_or_json(call, installed_page(&organization.name), &shown)
}

async fn finish_sign_in(
    call: &Call,
    sign_in: &SignIn,
    tokens: &LinearTokens,
    return_to: &ReturnTo,
) -> Result<Response, Problem> {
    let viewer: Viewer = linear::viewer(call, tokens).await?;
    check_viewer(&sign_in.purpose, &viewer)?;
    let status = installing::status(call, &viewer.organization.id).await?;
    installing::require_installed(&status)?;
    let now_s = call.now.get() / 1000;
    let claims = BrowserClaims {
        org: viewer.organization.id,
        user: viewer.id,
        name: viewer.name,
        admin: viewer.admin,
        iat: now_s,
        exp: now_s + BROWSER_SESSION_MS / 1000,
    };
    metrics::add(Counter::SignIns("person"), 1);
    metrics::flush_if_due(call);
    let fields = json!({ "organization": claims.org, "user": claims.user });
    log::line(Level::Info, "person_signed_in", &call.request_id, fields);
    let response = pages::redirect(&return_to.path())?;
    browser::begin_session(call, &response, &claims)?;
    Ok(response)
}

/// `GET /oauth/status`: operators ask for any organization, a person for their own.
pub(crate) async fn status(call: &mut Call) -> Result<Response, Problem> {
    let asked = call.parameter("organization");
    let invalid = || {
        Problem::new(ErrorCode::ParameterInvalid, "add ?organization=ID to the address")
            .with("parameter", "organization")
    };
    let asked: Option<OrganizationId> =
        asked.map(|text| text.parse()).transpose().map_err(|_| invalid())?;
    let organization = if call.is_by_token() {
        asked.ok_or_else(invalid)?
    } else {
        let own = browser::session(call)?.claims.org;
        if asked.is_some_and(|asked| asked != own) {
            let message = "you have signed in for another organization";
            return Err(Problem::new(ErrorCode::IdentityMismatch, message));
        }
        own
    };
    respond::json(200, &installing::status(call, &organization).await?)
}
