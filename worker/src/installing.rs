//! What sign-in asks of an organization's installation.

use relay_schemas::{
    ConfirmedPerson, ErrorCode, LinearTokens, OrganizationId, PersonCheck, Problem, UserId, Viewer,
};
use serde_json::{Value, json};

use crate::{call::Call, objects::command};

/// Hands over the tokens of an app that was just installed. They never come out again. The directory
/// learns of the app first: an app that speaks without being known there would hear itself. What
/// fails here is repeated by its administrator, and found done.
pub(crate) async fn granted(
    call: &Call,
    app: &str,
    tokens: LinearTokens,
    viewer: &Viewer,
) -> Result<(), Problem> {
    let organization = &viewer.organization;
    let granted = json!({
        "app": app,
        "name": viewer.name,
        "scopes": Vec::<String>::from(tokens.scope),
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "expires_in_s": tokens.expires_in,
        "organization": {
            "id": organization.id, "name": organization.name, "url_key": organization.url_key,
        },
        "app_user": viewer.id,
    });
    let name = organization.id.as_str();
    let app = json!({ "app": app, "app_user": viewer.id });
    let _: Value = command(call, "DIRECTORIES", name, "/app", &app).await?;
    let _: Value = command(call, "INSTALLATIONS", name, "/granted", &granted).await?;
    Ok(())
}

/// How an organization's installation does.
pub(crate) async fn status(call: &Call, organization: &OrganizationId) -> Result<Value, Problem> {
    command(call, "INSTALLATIONS", organization.as_str(), "/status", &json!({})).await
}

/// Refuses an organization in which no app is installed.
pub(crate) fn require_installed(status: &Value) -> Result<(), Problem> {
    let apps = status["apps"].as_array().map_or(&[][..], Vec::as_slice);
    if apps.iter().any(|app| app["state"] != "revoked") {
        return Ok(());
    }
    let message = "EdgeRelay is not installed in your organization; an administrator installs it";
    Err(Problem::new(ErrorCode::OrganizationNotInstalled, message))
}

/// Asks Linear, through the installation, for a person.
pub(crate) async fn check_person(
    call: &Call,
    organization: &OrganizationId,
    user: &UserId,
) -> PersonCheck {
    let query = json!({ "user": user });
    let answer: Result<ConfirmedPerson, Problem> =
        command(call, "INSTALLATIONS", organization.as_str(), "/person", &query).await;
    match answer {
        Ok(person) => PersonCheck::Confirmed(person),
        Err(problem) if problem.code == ErrorCode::OrganizationNotInstalled => {
            PersonCheck::NotInstalled
        }
        Err(problem) => PersonCheck::Unavailable(problem.code),
    }
}

/// The person, who must be active now.
pub(crate) async fn require_person(
    call: &Call,
    organization: &OrganizationId,
    user: &UserId,
) -> Result<ConfirmedPerson, Problem> {
    match check_person(call, organization, user).await {
        PersonCheck::Confirmed(person) if person.active => Ok(person),
        PersonCheck::Confirmed(_) => {
            Err(Problem::new(ErrorCode::PersonInactive, "this person is not active in Linear"))
        }
        PersonCheck::NotInstalled => {
            let message = "EdgeRelay is not installed in your organization";
            Err(Problem::new(ErrorCode::OrganizationNotInstalled, message))
        }
        PersonCheck::Unavailable(ErrorCode::NeedsSignIn) => {
            let message = "an administrator must install EdgeRelay in your organization again";
            Err(Problem::new(ErrorCode::NeedsSignIn, message))
        }
        PersonCheck::Unavailable(_) => {
            let message = "Linear could not be asked who you are; try again";
            Err(Problem::new(ErrorCode::Unavailable, message))
        }
    }
}
