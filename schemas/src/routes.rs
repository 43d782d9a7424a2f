use crate::{
    credential::Scope,
    error::{ErrorCode, Problem},
};

/// Who may use a route. Checked before its handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, as often as they like.
    Open,
    /// Anybody; each address so often.
    Anyone,
    /// Whoever signs the body with Linear's webhook secret.
    Signature,
    /// A machine whose credential has one of the scopes; any credential when there is none.
    Edge(&'static [Scope]),
    /// The operator.
    Operator,
    /// The operator, or a person as below.
    OperatorOrBrowser,
    /// A person who has signed in with Linear in this browser; checked by the handler, whose page
    /// sends others there.
    Browser,
}

macro_rules! routes {
    ($($(#[$documentation:meta])* $route:ident = $method:literal $path:literal, $access:expr, $summary:literal;)*) => {
        /// What the relay answers, and nothing else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Route {
            $($(#[$documentation])* $route,)*
        }

        impl Route {
            /// Every route. Of two patterns that fit a path the first counts.
            pub const ALL: &[Self] = &[$(Self::$route),*];

            /// Its HTTP method.
            pub fn method(self) -> &'static str {
                match self { $(Self::$route => $method,)* }
            }

            /// Its path; a segment in braces stands for any other.
            pub fn path(self) -> &'static str {
                match self { $(Self::$route => $path,)* }
            }

            /// Who may use it.
            pub fn access(self) -> Access {
                match self { $(Self::$route => $access,)* }
            }

            /// What it does, in a few words.
            pub fn summary(self) -> &'static str {
                match self { $(Self::$route => $summary,)* }
            }
        }
    };
}

const READ_ALL: Access = Access::Edge(&[Scope::ReadEvents]);
const READ: Access = Access::Edge(Scope::READING);

routes! {
    /// `POST /webhook`
    Webhook = "POST" "/webhook", Access::Signature, "Linear's webhooks";

    /// `GET /events/stream`
    Stream = "GET" "/events/stream", READ, "live events";
    /// `POST /events/status`
    Report = "POST" "/events/status", Access::Edge(&[Scope::WriteStatus]), "what became of an event";
    /// `POST /events/activity`
    Activity = "POST" "/events/activity", Access::Edge(&[Scope::WriteActivity]), "what is shown in an agent session";
    /// `GET /events/segments`
    SegmentPlan = "GET" "/events/segments", READ_ALL, "where history lies";
    /// `GET /events/segments/{epoch}/{name}`
    Segment = "GET" "/events/segments/{epoch}/{name}", READ_ALL, "a piece of history";
    /// `GET /events`
    Page = "GET" "/events", READ, "a page of events";
    /// `GET /events/{id}`
    Event = "GET" "/events/{id}", READ, "one event with its reports";

    /// `GET /state`
    State = "GET" "/state", Access::Operator, "streams and counters";
    /// `GET /state/{organization}/{channel}`
    StreamState = "GET" "/state/{organization}/{channel}", Access::Operator, "one stream's log and connections";
    /// `GET /metrics`
    Metrics = "GET" "/metrics", Access::Operator, "metrics for Prometheus";
    /// `GET /health`
    Health = "GET" "/health", Access::Open, "whether the relay lives, and its version";
    /// `GET /`
    Info = "GET" "/", Access::Open, "what this is";

    /// `GET /oauth/authorize`
    Install = "GET" "/oauth/authorize", Access::Anyone, "installs the app in a workspace, by way of Linear";
    /// `GET /oauth/sign-in`
    SignIn = "GET" "/oauth/sign-in", Access::Anyone, "a person signs in, by way of Linear";
    /// `GET /oauth/callback`
    Callback = "GET" "/oauth/callback", Access::Anyone, "where Linear sends browsers back to";
    /// `GET /oauth/status`
    InstallationState = "GET" "/oauth/status", Access::OperatorOrBrowser, "an installation's state";
    /// `POST /device/code`
    DeviceCode = "POST" "/device/code", Access::Anyone, "a machine asks to be approved";
    /// `POST /device/token`
    DeviceToken = "POST" "/device/token", Access::Anyone, "a machine's tokens, and their refresh";
    /// `POST /device/revoke`
    DeviceRevoke = "POST" "/device/revoke", Access::Anyone, "a machine says good-bye";
    /// `GET /device`
    ApprovalPage = "GET" "/device", Access::Browser, "the page that approves a machine";
    /// `POST /device`
    Approval = "POST" "/device", Access::Browser, "a person approves a machine";
    /// `GET /device/machines`
    MachinesPage = "GET" "/device/machines", Access::Browser, "a person's own machines, as a page";
    /// `POST /device/machines/{id}/revoke`
    MachinesForm = "POST" "/device/machines/{id}/revoke", Access::Browser, "bars an own machine, from the page";
    /// `GET /machines/self`
    Myself = "GET" "/machines/self", Access::Edge(&[]), "who a credential is";
    /// `GET /machines`
    Machines = "GET" "/machines", Access::Edge(&[]), "the person's own machines";
    /// `DELETE /machines/{id}`
    RevokeOwn = "DELETE" "/machines/{id}", Access::Edge(&[]), "bars an own machine";

    /// `GET /admin/edges`
    Edges = "GET" "/admin/edges", Access::Operator, "an organization's machines";
    /// `POST /admin/edges`
    Enrol = "POST" "/admin/edges", Access::Operator, "a credential for a machine";
    /// `PATCH /admin/edges/{id}`
    Rename = "PATCH" "/admin/edges/{id}", Access::Operator, "gives a machine another name";
    /// `DELETE /admin/edges/{id}`
    Revoke = "DELETE" "/admin/edges/{id}", Access::Operator, "bars a machine";
    /// `GET /admin/outbox`
    Outbox = "GET" "/admin/outbox", Access::Operator, "answers to Linear that were given up";
    /// `GET /admin/dead-letters`
    DeadLetters = "GET" "/admin/dead-letters", Access::Operator, "events that reached no stream";
    /// `POST /admin/dead-letters/{id}/put-back`
    PutBack = "POST" "/admin/dead-letters/{id}/put-back", Access::Operator, "tries a dead letter again";
    /// `GET /admin/dead-letters/{id}`
    DeadLetter = "GET" "/admin/dead-letters/{id}", Access::Operator, "one dead letter";
    /// `DELETE /admin/dead-letters/{id}`
    Discard = "DELETE" "/admin/dead-letters/{id}", Access::Operator, "forgets a dead letter";
    /// `POST /admin/streams/{organization}/{channel}/rebuild`
    Rebuild = "POST" "/admin/streams/{organization}/{channel}/rebuild", Access::Operator, "restores a stream from its segments";
    /// `POST /admin/streams/{organization}/unrouted/reroute`
    Reroute = "POST" "/admin/streams/{organization}/unrouted/reroute", Access::Operator, "routes events again that found nobody";
    /// `GET /admin/streams/{organization}/{channel}/events`
    StreamPage = "GET" "/admin/streams/{organization}/{channel}/events", Access::Operator, "a page of any stream's events";
    /// `GET /admin/routing`
    Routing = "GET" "/admin/routing", Access::Operator, "how an organization's events are routed";
    /// `PUT /admin/routing`
    SetRouting = "PUT" "/admin/routing", Access::Operator, "sets an organization's strategy and default channel";
    /// `GET /admin/audit`
    Audit = "GET" "/admin/audit", Access::Operator, "where an organization's events went, and why";
    /// `POST /admin/sweep`
    Sweep = "POST" "/admin/sweep", Access::Operator, "looks for what retention has left";
}

impl Route {
    /// The route of a request, and what stands at the places in braces. A path that only other
    /// methods take is told so.
    pub fn find<'a>(method: &str, path: &'a str) -> Result<(Self, Vec<&'a str>), Problem> {
        let unknown = || Problem::new(ErrorCode::NotFound, "no such route; GET / lists them");
        let pattern =
            Self::ALL.iter().find(|route| fits(route.path(), path)).ok_or_else(unknown)?;
        let same: Vec<&Self> =
            Self::ALL.iter().filter(|route| route.path() == pattern.path()).collect();
        match same.iter().find(|route| route.method() == method) {
            Some(route) => Ok((**route, values(route.path(), path))),
            None => {
                let methods: Vec<&str> = same.iter().map(|route| route.method()).collect();
                let allow = methods.join(", ");
                let message = format!("this route takes {allow}");
                Err(Problem::new(ErrorCode::MethodNotAllowed, message).with("allow", allow))
            }
        }
    }
}

fn is_value(segment: &str) -> bool {
    segment.starts_with('{')
}

fn fits(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fit = pattern.split('/').all(|expected| {
        segments.next().is_some_and(|found| {
            if is_value(expected) { !found.is_empty() } else { found == expected }
        })
    });
    fit && segments.next().is_none()
}

fn values<'a>(pattern: &str, path: &'a str) -> Vec<&'a str> {
    let pairs = pattern.split('/').zip(path.split('/'));
    pairs.filter(|(expected, _)| is_value(expected)).map(|(_, found)| found).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_route_is_found_by_its_own_path() {
        for route in Route::ALL {
            let path = route.path().replace(['{', '}'], "");
            let found = Route::find(route.method(), &path).map(|(found, _)| found);
            assert_eq!(found, Ok(*route), "{path}");
        }
        let lines: BTreeSet<_> =
            Route::ALL.iter().map(|route| (route.method(), route.path())).collect();
        assert_eq!(lines.len(), Route::ALL.len());
    }

    #[test]
    fn paths_and_methods_are_told_apart() {
        let check = |method: &str, path: &str, expected: Result<(Route, &[&str]), &str>| {
            let found = Route::find(method, path);
            match (found, expected) {
                (Ok((route, values)), Ok(expected)) => {
                    assert_eq!((route, &*values), expected, "{path}");
                }
                (Err(problem), Err(allow)) => {
                    let told = problem.details.first().map_or("", |(_, value)| value);
                    assert_eq!(told, allow, "{path}");
                }
                (found, _) => panic!("{method} {path}: {found:?}"),
            }
        };
        check("GET", "/events/evt_1", Ok((Route::Event, &["evt_1"])));
        check("GET", "/events/segments/e/n", Ok((Route::Segment, &["e", "n"])));
        check("GET", "/state/o/user:u", Ok((Route::StreamState, &["o", "user:u"])));
        check("GET", "/events/status", Err("POST"));
        check("POST", "/events", Err("GET"));
        check("PUT", "/admin/edges", Err("GET, POST"));
        check("POST", "/admin/dead-letters/1", Err("GET, DELETE"));
        for path in ["", "/x", "/events/", "/events/a/b", "/webhook/", "//", "/admin"] {
            check("GET", path, Err(""));
        }
    }
}
