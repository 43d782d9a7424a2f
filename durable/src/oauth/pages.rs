//! What a person sees in a browser: plain HTML, without scripts. Everything that comes from
//! outside is escaped where it is put into a page, and nowhere else.

use std::fmt::Write as _;

use relay_schemas::{Channel, Problem, ReturnTo, Scope, UserCode, content_digest, write_form};

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:3rem auto;\
padding:0 1rem;color:#1b1b1f;background:#fff}h1{font-size:1.5rem}dt{font-weight:600}\
dd{margin:0 0 .75rem;overflow-wrap:anywhere}input,button,a.button{font:inherit;padding:.5rem 1rem}\
code{font-size:1.1em}table{border-collapse:collapse}td,th{text-align:left;padding:.25rem 1rem .25rem 0}";

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtmlPage(String);

impl HtmlPage {
    fn new(title: &str, body: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title} – EdgeRelay</title><style>{STYLE}</style></head>\
             <body><main><h1>{title}</h1>{body}</main></body></html>\n"
        ))
    }

    /// Its HTML.
    pub fn html(self) -> String {
        self.0
    }
}

/// What a browser is allowed with any of the pages: this style, and forms that come back here.
pub fn content_security_policy() -> String {
    let style = content_digest(STYLE);
    format!(
        "default-src 'none'; style-src '{style}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
        escaped
    })
}

/// Somebody who is not signed in is to do so first.
pub fn sign_in_page(return_to: &ReturnTo) -> HtmlPage {
    let (name, code) = match return_to {
        ReturnTo::Device { user_code } => ("device", user_code.map(|code| code.to_string())),
        ReturnTo::Machines => ("machines", None),
    };
    let mut query = vec![("return", name)];
    query.extend(code.as_deref().map(|code| ("user_code", code)));
    let address = escaped(&format!("/oauth/sign-in?{}", write_form(&query)));
    HtmlPage::new(
        "Sign in",
        &format!(
            "<p>Linear says who you are. EdgeRelay keeps nothing of this sign-in but your name, \
             for a quarter of an hour, in this browser.</p>\
             <p><a class=\"button\" href=\"{address}\">Sign in with Linear</a></p>"
        ),
    )
}

/// A person is to type a code.
pub fn code_page(problem: Option<&Problem>) -> HtmlPage {
    let problem = problem.map_or_else(String::new, |problem| {
        format!("<p role=\"alert\">{}</p>", escaped(&problem.message))
    });
    HtmlPage::new(
        "Approve a machine",
        &format!(
            "{problem}<form method=\"get\" action=\"/device\">\
             <p><label for=\"user_code\">The code that the machine shows</label></p>\
             <p><input id=\"user_code\" name=\"user_code\" required autofocus autocomplete=\"off\" \
             autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"16\" \
             placeholder=\"XXXX-XXXX\"> <button type=\"submit\">Go on</button></p></form>"
        ),
    )
}

/// What a person is asked to approve.
#[derive(Clone, Debug)]
pub struct ApprovalPage<'a> {
    /// The code, to be compared with what the machine shows.
    pub user_code: UserCode,
    /// The machine's name, as the machine says.
    pub machine: &'a str,
    /// The person's name.
    pub person: &'a str,
    /// The organization's name.
    pub organization: &'a str,
    /// What the machine would be allowed.
    pub scopes: &'a [Scope],
    /// The channels that it would read besides the person's.
    pub channels: &'a [Channel],
    /// The channels that it asks for and would not get.
    pub refused: &'a [Channel],
    /// What shows that the form was sent from this page.
    pub csrf: &'a str,
}

impl ApprovalPage<'_> {
    /// The page.
    pub fn page(&self) -> HtmlPage {
        let mut rows = String::new();
        let mut row = |name: &str, value: &str| {
            let _ = write!(rows, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
        };
        row("Code", &self.user_code.to_string());
        row("Machine", self.machine);
        row("Acts for", self.person);
        row("In", self.organization);
        row("May", &list(self.scopes.iter().map(|scope| meaning(*scope))));
        if !self.channels.is_empty() {
            row("Reads also", &list(self.channels.iter().map(ToString::to_string)));
        }
        if !self.refused.is_empty() {
            let channels = list(self.refused.iter().map(ToString::to_string));
            row("Will not read, because you don't belong there", &channels);
        }
        let (code, csrf) = (escaped(&self.user_code.to_string()), escaped(self.csrf));
        HtmlPage::new(
            "Approve this machine?",
            &format!(
                "<p>Approve it only if you have just started the sign-in on it yourself, and it \
                 shows this code.</p><dl>{rows}</dl>\
                 <form method=\"post\" action=\"/device\">\
                 <input type=\"hidden\" name=\"user_code\" value=\"{code}\">\
                 <input type=\"hidden\" name=\"csrf\" value=\"{csrf}\">\
                 <p><button type=\"submit\" name=\"decision\" value=\"approve\">Approve</button> \
                 <button type=\"submit\" name=\"decision\" value=\"deny\">Deny</button></p></form>"
            ),
        )
    }
}

fn list<T: Into<String>>(items: impl Iterator<Item = T>) -> String {
    items.map(Into::into).collect::<Vec<String>>().join(", ")
}

fn meaning(scope: Scope) -> &'static str {
    match scope {
        Scope::ReadEvents => "read all events",
        Scope::ReadSessions => "read agent sessions",
        Scope::ReadIssues => "read issues and comments",
        Scope::ReadNotifications => "read the app's notifications",
        Scope::ReadProjects => "read projects and documents",
        Scope::WriteStatus => "report what became of events",
        Scope::WriteActivity => "write in agent sessions",
        Scope::Unknown => "something unknown",
    }
}

/// The person has decided.
pub fn decided_page(machine: &str, is_approved: bool) -> HtmlPage {
    let machine = escaped(machine);
    if is_approved {
        let body =
            format!("<p>{machine} is signed in within seconds. You may close this page.</p>");
        return HtmlPage::new("Approved", &body);
    }
    HtmlPage::new("Denied", &format!("<p>{machine} gets nothing. You may close this page.</p>"))
}

/// An administrator has installed the app.
pub fn installed_page(organization: &str) -> HtmlPage {
    let organization = escaped(organization);
    HtmlPage::new(
        "Installed",
        &format!(
            "<p>EdgeRelay is installed in {organization}. People can now sign in their machines: \
             <code>edgerelay login</code>.</p>"
        ),
    )
}

/// A machine in the list of a person's own.
#[derive(Clone, Debug)]
pub struct MachineRow<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// When it was enrolled.
    pub created_at: String,
    /// `active`, or why it isn't.
    pub state: &'a str,
    /// Whether there is something to revoke.
    pub is_active: bool,
}

/// A person's own machines.
pub fn machines_page(person: &str, machines: &[MachineRow<'_>], csrf: &str) -> HtmlPage {
    let csrf = escaped(csrf);
    let mut rows = String::new();
    for machine in machines {
        let [id, name, state] = [machine.id, machine.name, machine.state].map(escaped);
        let button = if machine.is_active {
            format!(
                "<form method=\"post\" action=\"/device/machines/{id}/revoke\">\
                 <input type=\"hidden\" name=\"csrf\" value=\"{csrf}\">\
                 <button type=\"submit\" aria-label=\"Revoke {name}\">Revoke</button></form>"
            )
        } else {
            String::new()
        };
        let created_at = escaped(&machine.created_at);
        let _ = write!(
            rows,
            "<tr><td>{name}</td><td><code>{id}</code></td><td>{created_at}</td><td>{state}</td>\
             <td>{button}</td></tr>"
        );
    }
    HtmlPage::new(
        &format!("Machines of {person}"),
        &format!(
            "<table><thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Id</th>\
             <th scope=\"col\">Since</th><th scope=\"col\">State</th><th scope=\"col\">Change</th>\
             </tr></thead><tbody>{rows}</tbody></table>"
        ),
    )
}

/// Something went wrong.
pub fn problem_page(problem: &Problem, request_id: &str) -> HtmlPage {
    let (message, code) = (escaped(&problem.message), escaped(problem.code.as_str()));
    HtmlPage::new(
        "This did not work",
        &format!(
            "<p role=\"alert\">{message}</p><p><code>{code}</code>, request <code>{}</code></p>",
            escaped(request_id)
        ),
    )
}

#[cfg(test)]
mod tests {
    use relay_schemas::ErrorCode;

    use super::*;

    const EVIL: &str = "<script>\"'&</script>";

    fn check(page: HtmlPage) {
        let html = page.html();
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;&quot;&#39;&amp;&lt;/script&gt;"), "{html}");
        assert!(!html.contains(" style=") && !html.contains(" onclick="), "{html}");
    }

    #[test]
    fn whatever_people_and_machines_are_called_is_text() {
        let user_code: UserCode = "BCDF-GHJK".parse().unwrap();
        let approval = ApprovalPage {
            user_code,
            machine: EVIL,
            person: "Ada",
            organization: "Acme",
            scopes: &Scope::DEFAULT,
            channels: &[],
            refused: &[],
            csrf: "c",
        };
        check(approval.page());
        check(ApprovalPage { machine: "m", person: EVIL, ..approval.clone() }.page());
        check(ApprovalPage { machine: "m", organization: EVIL, ..approval.clone() }.page());
        check(ApprovalPage { machine: "m", csrf: EVIL, ..approval.clone() }.page());
        check(decided_page(EVIL, true));
        check(decided_page(EVIL, false));
        check(installed_page(EVIL));
        check(problem_page(&Problem::new(ErrorCode::OauthFailed, EVIL), "r"));
        check(problem_page(&Problem::new(ErrorCode::OauthFailed, "m"), EVIL));
        check(code_page(Some(&Problem::new(ErrorCode::OauthFailed, EVIL))));
        let row = |id, name, state| MachineRow {
            id,
            name,
            created_at: "now".into(),
            state,
            is_active: true,
        };
        check(machines_page(EVIL, &[row("i", "n", "s")], "c"));
        check(machines_page("p", &[row(EVIL, "n", "s")], "c"));
        check(machines_page("p", &[row("i", EVIL, "s")], "c"));
        check(machines_page("p", &[row("i", "n", EVIL)], "c"));
        check(machines_page("p", &[row("i", "n", "s")], EVIL));
    }

    #[test]
    fn an_approval_shows_what_is_approved() {
        let html = ApprovalPage {
            user_code: "BCDF-GHJK".parse().unwrap(),
            machine: "laptop",
            person: "Ada",
            organization: "Acme",
            scopes: &[Scope::ReadIssues, Scope::WriteStatus],
            channels: &[Channel::Organization],
            refused: &[Channel::Team("secret".into())],
            csrf: "c",
        }
        .page()
        .html();
        for shown in [
            "BCDF-GHJK",
            "laptop",
            "Ada",
            "Acme",
            "read issues and comments, report what became of events",
            "<dt>Reads also</dt><dd>org</dd>",
            "belong there</dt><dd>team:secret</dd>",
        ] {
            assert!(html.contains(shown), "{shown}: {html}");
        }
    }

    #[test]
    fn a_sign_in_comes_back_to_its_page() {
        let user_code = Some("BCDF-GHJK".parse().unwrap());
        let html = sign_in_page(&ReturnTo::Device { user_code }).html();
        assert!(html.contains("href=\"/oauth/sign-in?return=device&amp;user_code=BCDF-GHJK\""));
        let html = sign_in_page(&ReturnTo::Machines).html();
        assert!(html.contains("href=\"/oauth/sign-in?return=machines\""));
    }

    #[test]
    fn a_browser_runs_nothing_and_shows_pages_in_no_frame() {
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    }
}
