use relay_schemas::{Access, ErrorCode, Route, Scope};

use crate::asked::{Asked, Mine, Own};

macro_rules! callers {
    ($($(#[$documentation:meta])* $caller:ident = $text:literal,)*) => {
        /// What somebody who asks has to show.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Caller {
            $($(#[$documentation])* $caller,)*
        }

        impl Caller {
            /// Everybody.
            pub const ALL: &[Self] = &[$(Self::$caller),*];

            /// In a few words.
            pub fn text(self) -> &'static str {
                match self { $(Self::$caller => $text,)* }
            }
        }
    };
}

callers! {
    /// Nothing.
    Nobody = "no credential",
    /// A credential that another key has signed.
    Forged = "a forged credential",
    /// The machine's own, once its time has passed.
    Expired = "an expired credential",
    /// One that was revoked.
    Revoked = "a revoked credential",
    /// A good one, of the same person's id in another organization.
    OtherOrganization = "a machine of another organization",
    /// A good one, of somebody else in the organization.
    OtherPerson = "a machine of another person",
    /// The same, with `?channel=user:` and the person's id.
    ForeignChannel = "the same, naming the person's channel",
    /// One of the person's, with every scope but those of the route.
    WithoutScope = "a machine without the scope",
    /// One of the person's, with one of the scopes of the route.
    Machine = "the person's machine",
    /// What a machine gets its next credential for.
    RefreshToken = "a machine's refresh token",
    /// What a browser keeps, sent as a credential.
    BrowserToken = "a browser's session as a credential",
    /// The operator's token.
    Operator = "the operator's token",
    /// A signature by a secret that isn't accepted.
    ForgedSignature = "a forged signature",
    /// A good signature of a webhook of long ago.
    LateSignature = "an old webhook, well signed",
    /// Linear's signature.
    Linear = "Linear's signature",
}

/// What must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller is refused, before anything is done.
    Refused(ErrorCode),
    /// The caller is answered about what is its own, and learns nothing of what it asks for.
    Own,
    /// The request reaches its handler.
    Allowed,
}

impl Outcome {
    fn text(self) -> String {
        match self {
            Self::Refused(code) => format!("{} `{}`", code.status(), code.as_str()),
            Self::Own => "its own".into(),
            Self::Allowed => "**allowed**".into(),
        }
    }
}

/// What must happen to a caller, whatever the route does.
fn outcome(access: Access, caller: Caller) -> Outcome {
    match access {
        Access::Open | Access::Anyone => Outcome::Allowed,
        Access::Signature => by_signature(caller),
        Access::Edge(_) => by_credential(caller),
        Access::Operator => by_operators_token(caller),
        Access::OperatorOrBrowser => match by_operators_token(caller) {
            Outcome::Refused(ErrorCode::CredentialMissing) => {
                Outcome::Refused(ErrorCode::SignInRequired)
            }
            outcome => outcome,
        },
        // A session counts in its cookie only, and none of these brings it.
        Access::Browser => Outcome::Refused(ErrorCode::SignInRequired),
    }
}

fn by_signature(caller: Caller) -> Outcome {
    match caller {
        Caller::Linear => Outcome::Allowed,
        Caller::ForgedSignature => Outcome::Refused(ErrorCode::SignatureInvalid),
        Caller::LateSignature => Outcome::Refused(ErrorCode::TimestampStale),
        Caller::Nobody
        | Caller::Forged
        | Caller::Expired
        | Caller::Revoked
        | Caller::OtherOrganization
        | Caller::OtherPerson
        | Caller::ForeignChannel
        | Caller::WithoutScope
        | Caller::Machine
        | Caller::RefreshToken
        | Caller::BrowserToken
        | Caller::Operator => Outcome::Refused(ErrorCode::SignatureMissing),
    }
}

fn by_credential(caller: Caller) -> Outcome {
    match caller {
        Caller::Machine => Outcome::Allowed,
        Caller::OtherOrganization | Caller::OtherPerson => Outcome::Own,
        Caller::ForeignChannel => Outcome::Refused(ErrorCode::ChannelForbidden),
        Caller::WithoutScope => Outcome::Refused(ErrorCode::ScopeMissing),
        Caller::Expired => Outcome::Refused(ErrorCode::CredentialExpired),
        Caller::Revoked => Outcome::Refused(ErrorCode::CredentialRevoked),
        Caller::Forged | Caller::RefreshToken | Caller::BrowserToken | Caller::Operator => {
            Outcome::Refused(ErrorCode::CredentialInvalid)
        }
        Caller::Nobody | Caller::ForgedSignature | Caller::LateSignature | Caller::Linear => {
            Outcome::Refused(ErrorCode::CredentialMissing)
        }
    }
}

fn by_operators_token(caller: Caller) -> Outcome {
    match caller {
        Caller::Operator => Outcome::Allowed,
        Caller::Nobody | Caller::ForgedSignature | Caller::LateSignature | Caller::Linear => {
            Outcome::Refused(ErrorCode::CredentialMissing)
        }
        Caller::Forged
        | Caller::Expired
        | Caller::Revoked
        | Caller::OtherOrganization
        | Caller::OtherPerson
        | Caller::ForeignChannel
        | Caller::WithoutScope
        | Caller::Machine
        | Caller::RefreshToken
        | Caller::BrowserToken => Outcome::Refused(ErrorCode::CredentialInvalid),
    }
}

/// What must happen to a caller on a route; `None` where there can be no such caller.
pub fn expected_outcome(route: Route, caller: Caller) -> Option<Outcome> {
    let access = route.access();
    let Access::Edge(scopes) = access else { return Some(outcome(access, caller)) };
    let exists = match caller {
        Caller::WithoutScope => !scopes.is_empty(),
        Caller::ForeignChannel => Asked::of(route, &Mine::default()).has_channel,
        Caller::Nobody
        | Caller::Forged
        | Caller::Expired
        | Caller::Revoked
        | Caller::OtherOrganization
        | Caller::OtherPerson
        | Caller::Machine
        | Caller::RefreshToken
        | Caller::BrowserToken
        | Caller::Operator
        | Caller::ForgedSignature
        | Caller::LateSignature
        | Caller::Linear => true,
    };
    exists.then(|| outcome(access, caller))
}

/// The accesses of the page, in the order of its columns.
const COLUMNS: [(Access, &str); 6] = [
    (Access::Open, "anyone"),
    (Access::Signature, "Linear"),
    (Access::Edge(&[]), "a machine"),
    (Access::Operator, "the operator"),
    (Access::OperatorOrBrowser, "the operator or a person in a browser"),
    (Access::Browser, "a person in a browser"),
];

/// The column of an access.
fn column(access: Access) -> usize {
    match access {
        Access::Open | Access::Anyone => 0,
        Access::Signature => 1,
        Access::Edge(_) => 2,
        Access::Operator => 3,
        Access::OperatorOrBrowser => 4,
        Access::Browser => 5,
    }
}

/// `docs/authorization.md`, whole.
pub fn authorization_page() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n## Routes\n\n| route | who | what | another's machine gets |\n");
    page.push_str("|---|---|---|---|\n");
    for route in Route::ALL {
        let own = match route.access() {
            Access::Edge(_) => own_text(*route),
            Access::Open
            | Access::Anyone
            | Access::Signature
            | Access::Operator
            | Access::OperatorOrBrowser
            | Access::Browser => String::new(),
        };
        let (method, path) = (route.method(), route.path());
        let (who, what) = (who(route.access()), route.summary());
        let line = format!("| `{method} {path}` | {who} | {what} | {own} |\n");
        page.push_str(&line.replace("|  |", "| |"));
    }
    page.push_str("\n## Who is answered how\n\n| who asks |");
    let is_used = |place: &usize| Route::ALL.iter().any(|route| column(route.access()) == *place);
    let used: Vec<(Access, &str)> =
        (0..COLUMNS.len()).filter(is_used).map(|place| COLUMNS[place]).collect();
    used.iter().for_each(|(_, title)| page.push_str(&format!(" a route for {title} |")));
    page.push_str(&format!("\n|---|{}\n", "---|".repeat(used.len())));
    for caller in Caller::ALL {
        let cells: Vec<String> =
            used.iter().map(|(access, _)| outcome(*access, *caller).text()).collect();
        page.push_str(&format!("| {} | {} |\n", caller.text(), cells.join(" | ")));
    }
    page.push_str(TAIL);
    page
}

fn own_text(route: Route) -> String {
    let asked = Asked::of(route, &Mine::default());
    let own = match asked.own {
        Own::Nothing => "nothing of it".to_owned(),
        Own::Unknown(code) => format!("{} `{}`", code.status(), code.as_str()),
    };
    let channel = if asked.has_channel { "; with `channel=` 403 `channel_forbidden`" } else { "" };
    format!("{own}{channel}")
}

fn who(access: Access) -> String {
    match access {
        Access::Open => "anyone".into(),
        Access::Anyone => "anyone, so often a minute".into(),
        Access::Signature => "Linear".into(),
        Access::Edge([]) => "a machine".into(),
        Access::Edge(scopes) if scopes == Scope::READING => "a machine that may read".into(),
        Access::Edge(scopes) => {
            let scopes: Vec<String> =
                scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
            format!("a machine with {}", scopes.join(" or "))
        }
        Access::Operator => "the operator".into(),
        Access::OperatorOrBrowser => "the operator, or a person in a browser".into(),
        Access::Browser => "a person in a browser".into(),
    }
}

const HEAD: &str = "# Who may do what

Made by `tests/src/authorization.rs` from the table of routes in `schemas/src/routes.rs`; don't change it
here. `tests/tests/authorization.rs` compares this page with that table, and asks a running relay for each
of its cells: every route, by everybody. To write the page anew:

```sh
EDGERELAY_WRITE_DOCS=1 cargo test --package relay-tests --test authorization the_page
```

The Worker finds a route in that table, checks who asks, and only then runs the route's handler. A path
that isn't in it is 404, another method 405 with `Allow`; `tests/tests/unlisted.rs` tries.
";

const TAIL: &str = "
*Its own*: the credential is good, and says whose it is. What is asked for is looked for among the caller's
own, where it isn't: the column *another's machine gets* says how that is answered. An id of somebody else's
is answered as one that doesn't exist.

*A machine that may read* has one of `read:events`, `read:sessions`, `read:issues`, `read:notifications`,
`read:projects`. A credential reads the channel of its person, and the channels that it names itself.
A revoked credential is known by the streams that it could read.

`OPTIONS` on a path under `/events` is answered to anyone, for browsers that ask first (CORS). It isn't
in the table because it does nothing.
";
