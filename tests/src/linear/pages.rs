//! What people see: the consent page, and the workspace with its sessions.

use std::{fmt::Write, sync::Arc};

use axum::{
    extract::{Path, State as Shares},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use serde_json::Value;

use super::{
    authorize::AuthorizeQuery,
    clock::text,
    session::{ActivityView, SessionView},
    shared::Shared,
    state::State,
    world::Issue,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;\
    padding:0 1rem;color:#1f2328}table{border-collapse:collapse;width:100%}\
    td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee4;vertical-align:top}\
    td.text{white-space:pre-wrap}.late{color:#b42318}h1 small{color:#656d76;font-weight:normal}";

/// Text as it stands in HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn html(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style><body>{body}</body></html>"
    )
}

/// A page that ends an authorization without telling the app.
pub(super) fn error_page(text: &str) -> String {
    html("Authorization failed", &format!("<h1>Authorization failed</h1><p>{}</p>", escape(text)))
}

/// Who signs in, and what they consent to.
pub(super) fn consent_page(state: &State, query: &AuthorizeQuery, scope: &[String]) -> String {
    let mut people = String::new();
    for user in state.world.users.iter().filter(|user| user.active && !user.app) {
        let organization = state.world.organizations.get(&user.organization);
        let organization = organization.map_or("", |organization| organization.name.as_str());
        let role = if user.admin { "admin" } else { "member" };
        let label = format!("{} ({role} of {organization})", user.name);
        let _ = write!(people, "<option value=\"{}\">{}</option>", user.id, escape(&label));
    }
    let mut hidden = String::new();
    if let Ok(Value::Object(fields)) = serde_json::to_value(query) {
        for (name, value) in fields.iter().filter_map(|(n, value)| Some((n, value.as_str()?))) {
            let value = escape(value);
            let _ = write!(hidden, "<input type=\"hidden\" name=\"{name}\" value=\"{value}\">");
        }
    }
    let app = escape(&state.options.app_name);
    let scope = escape(&scope.join(", "));
    let body = format!(
        "<h1>{app} wants access</h1><p>Scopes: {scope}</p>\
         <form method=\"post\" action=\"/oauth/authorize\">{hidden}\
         <label>Signed in as <select name=\"user\">{people}</select></label>\
         <p><button name=\"decision\" value=\"allow\">Authorize</button> \
         <button name=\"decision\" value=\"deny\">Cancel</button></p></form>"
    );
    html("Authorize", &body)
}

/// `/`: every organization with its issues and sessions.
pub(super) async fn workspace(Shares(shared): Shares<Arc<Shared>>) -> Html<String> {
    let body = shared.act(|state| {
        let mut body = String::new();
        for organization in state.world.organizations.iter() {
            let _ = write!(body, "<h1>{}</h1><ul>", escape(&organization.name));
            let issues = state.world.issues.iter();
            for issue in issues.filter(|issue| issue.organization == organization.id) {
                let _ = write!(
                    body,
                    "<li><a href=\"/issues/{0}\">{0}</a> {1}</li>",
                    escape(&issue.identifier),
                    escape(&issue.title)
                );
            }
            body.push_str("</ul>");
            let sessions = state.world.sessions.iter();
            for session in sessions.filter(|session| session.organization == organization.id) {
                body += &session_html(&state.world.view(session, state.clock.now_ms()));
            }
        }
        body
    });
    Html(html("Workspace", &body))
}

/// `/issues/{identifier}`: an issue, its comments and its sessions.
pub(super) async fn issue(
    Shares(shared): Shares<Arc<Shared>>,
    Path(identifier): Path<String>,
) -> Response {
    shared.act(|state| match state.world.issue(&identifier).cloned() {
        Ok(issue) => Html(html(&issue.title, &issue_html(state, &issue))).into_response(),
        Err(_) => {
            (StatusCode::NOT_FOUND, Html(html("Not found", "<h1>Not found</h1>"))).into_response()
        }
    })
}

fn issue_html(state: &State, issue: &Issue) -> String {
    let name = |id: &Option<String>| {
        id.as_ref().map_or_else(|| "nobody".to_owned(), |id| escape(&state.world.name_of(id)))
    };
    let mut body = format!(
        "<h1>{} <small>{}</small></h1><p>{}</p><p>Assignee: {} · Delegate: {}</p>",
        escape(&issue.title),
        escape(&issue.identifier),
        escape(issue.description.as_deref().unwrap_or_default()),
        name(&issue.assignee),
        name(&issue.delegate),
    );
    for session in state.world.sessions.iter().filter(|session| session.issue == issue.id) {
        body += &session_html(&state.world.view(session, state.clock.now_ms()));
    }
    body.push_str("<h2>Comments</h2><table>");
    for comment in state.world.comments.iter().filter(|comment| comment.issue == issue.id) {
        let author = escape(&state.world.name_of(&comment.author));
        let (at, said) = (text(comment.created_ms), escape(&comment.body));
        let _ = write!(body, "<tr><td>{at}<td>{author}<td class=\"text\">{said}");
    }
    body + "</table>"
}

fn session_html(session: &SessionView) -> String {
    let late = match (session.unresponsive, session.first_response_ms) {
        (true, _) => " <span class=\"late\">did not respond in time</span>".to_owned(),
        (false, Some(ms)) => format!(" <small>first answer after {ms} ms</small>"),
        (false, None) => String::new(),
    };
    let mut body = format!(
        "<h2>Session on {} · {}{late}</h2><p>{}</p>{}<table><tr><th>Time<th>Type<th>Who<th>Text",
        escape(&session.issue),
        session.status.as_str(),
        session.urls.iter().map(link_html).collect::<String>(),
        plan_html(&session.plan),
    );
    session.activities.iter().for_each(|activity| body += &activity_html(activity));
    body + "</table>"
}

/// The app's plan, where it has the documented form: a list of contents with their status.
fn plan_html(plan: &Value) -> String {
    let steps = plan.as_array().into_iter().flatten().map(|step| {
        let part = |name: &str| escape(step[name].as_str().unwrap_or_default());
        format!("<li>{} <small>{}</small></li>", part("content"), part("status"))
    });
    let steps: String = steps.collect();
    if steps.is_empty() { steps } else { format!("<ol>{steps}</ol>") }
}

/// A link that the app gave; only one that a browser may follow.
fn link_html((label, url): &(String, String)) -> String {
    let label = escape(label);
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return format!("{label} ");
    }
    format!("<a href=\"{}\">{label}</a> ", escape(url))
}

fn activity_html(activity: &ActivityView) -> String {
    let signal = activity.signal.as_ref().map_or_else(String::new, |s| format!(" ({})", escape(s)));
    format!(
        "<tr><td>{}<td>{}{signal}<td>{}<td class=\"text\">{}",
        text(activity.at_ms),
        escape(&activity.kind),
        escape(&activity.author),
        escape(&activity.text),
    )
}
