/// A setting that people can make: as a flag, in the environment, or in the file.
#[derive(Debug)]
pub(crate) struct Key {
    /// As a flag, without the dashes; in the file with `_` for `-`.
    pub(crate) name: &'static str,
    /// The environment variable.
    pub(crate) environment: &'static str,
    /// What stands for the value in the help text; a switch has none.
    pub(crate) value: Option<&'static str>,
    /// A value that is accepted, for error messages.
    pub(crate) example: &'static str,
    /// What it is for.
    pub(crate) help: &'static str,
    /// What holds when it is not set; empty when that needs no words.
    pub(crate) default: &'static str,
}

impl Key {
    /// The key in the file.
    pub(crate) fn in_file(&self) -> String {
        self.name.replace('-', "_")
    }
}

macro_rules! keys {
    ($(#[$meta:meta])* $list:ident: $($key:ident = $name:literal, $environment:literal, $value:expr, $example:literal, $default:literal, $help:literal;)*) => {
        $(pub(crate) static $key: Key = Key {
            name: $name,
            environment: $environment,
            value: $value,
            example: $example,
            help: $help,
            default: $default,
        };)*

        $(#[$meta])*
        pub(crate) static $list: &[&Key] = &[$(&$key),*];
    };
}

keys! {
    /// Every key of the client, in the order of the help text.
    KEYS:
    RELAY = "relay", "PROXY_URL", Some("URL"), "https://relay.example.com", "",
        "The relay's address";
    CREDENTIAL = "credential", "EDGE_API_KEY", Some("TOKEN"), "eyJ…", "",
        "This machine's credential. Other users can see flags: the environment or the file is a \
         better place";
    NAME = "name", "EDGE_NAME", Some("NAME"), "my-laptop", "",
        "This machine's name; refused by the relay when the credential is for another";
    CREDENTIAL_STORE = "credential-store", "EDGERELAY_CREDENTIAL_STORE",
        Some("auto|keyring|file"), "auto", "auto",
        "Where edgerelay login keeps its sign-in: the operating system's keyring, a file that only \
         you can read, or the first of these that there is";
    TRANSPORT = "transport", "EDGERELAY_TRANSPORT", Some("ws|ndjson"), "ws", "ws",
        "How the stream is spoken; ndjson passes proxies that know no WebSocket";
    KIND = "kind", "EDGERELAY_KIND", Some("KIND"), "AgentSessionEvent", "every kind",
        "Only events of these kinds: Type, Type.action or Type.*; several with commas, or the flag \
         several times";
    CHANNEL = "channel", "EDGERELAY_CHANNEL", Some("CHANNEL"), "team:TEAM-ID",
        "the credential's own person's",
        "Which channel to read: user:ID, team:ID or org; the credential must name it. Each has a \
         cursor of its own";
    OWN = "own", "EDGERELAY_OWN", Some("include|exclude"), "exclude", "exclude",
        "Whether events that the app itself caused are wanted, too: a handler that answers them \
         can answer itself for ever";
    SINCE = "since", "EDGERELAY_SINCE", Some("WHEN"), "2h", "earliest",
        "Where the first start reads from: a duration (2h), an instant \
         (2026-11-20T08:00:00Z), an event id, earliest or now. Later starts go on where the last \
         one ended, unless --reset is given";
    TAIL = "tail", "EDGERELAY_TAIL", Some("N"), "10", "",
        "The first start reads so many events before the newest, instead of --since";
    EXEC = "exec", "EDGERELAY_EXEC", Some("COMMAND"), "./handle-event", "",
        "Run this command for each event, with the body on standard input and the rest in \
         EDGERELAY_* variables; exit status 0 means handled";
    EXEC_TIMEOUT = "exec-timeout", "EDGERELAY_EXEC_TIMEOUT", Some("DURATION"), "30m", "no limit",
        "End a command that runs longer, as a failure";
    PROGRESS_FD = "progress-fd", "EDGERELAY_PROGRESS_FD", Some("N"), "3", "3",
        "The file descriptor on which the command may write its progress as JSON lines; it finds \
         the number in this variable, too. Not on Windows";
    FORWARD = "forward", "EDGERELAY_FORWARD", Some("URL"), "http://127.0.0.1:3000/webhook", "",
        "Post each event's exact bytes there, with the source's own headers; 2xx means handled";
    FORWARD_TIMEOUT = "forward-timeout", "EDGERELAY_FORWARD_TIMEOUT", Some("DURATION"), "30s", "30s",
        "How long the receiver may take to answer";
    CONCURRENCY = "concurrency", "EDGERELAY_CONCURRENCY", Some("N"), "4", "1",
        "Handlers that may run at the same time. With 1, everything runs in the stream's order; \
         with more, the events of one agent session or issue do";
    ATTEMPTS = "attempts", "EDGERELAY_ATTEMPTS", Some("N"), "5", "5",
        "Attempts at an event whose handler fails, with growing waits between them; 0 for no limit";
    ON_FAILURE = "on-failure", "EDGERELAY_ON_FAILURE", Some("stop|skip"), "stop", "stop",
        "After the last attempt: stop (exit code 4; the next start tries the event again) or skip \
         (report it as failed and go on after it)";
    REPORT = "report", "EDGERELAY_REPORT", Some("on|off"), "on", "on with --exec or --forward",
        "Tell the relay what becomes of each event";
    ACTIVITIES = "activities", "EDGERELAY_ACTIVITIES", Some("on|off"), "on", "on with --exec",
        "Show the progress that the command writes in Linear's agent session";
    STATE = "state", "EDGERELAY_STATE", Some("PATH"), "./edgerelay.db",
        "edgerelay/state.db in the user's state directory",
        "The file that remembers the cursor, handled events and waiting reports; for one client at \
         a time";
    LOCAL = "local", "EDGERELAY_LOCAL", Some("ADDRESS|off"), "127.0.0.1:4400", "127.0.0.1:0",
        "Where GET /health, GET /status and POST /admin/reconnect are served; loopback only, port \
         0 for a free one";
    HEARTBEAT = "heartbeat", "EDGERELAY_HEARTBEAT", Some("SECONDS"), "15", "15",
        "Seconds between heartbeats, 5 to 60; after 2.5 of them without a sign the client dials \
         again";
    GRACE = "grace", "EDGERELAY_GRACE", Some("DURATION"), "10s", "10s",
        "How long running handlers may go on when the client ends; a second signal ends it at once";
    FAIL_ON_GAP = "fail-on-gap", "EDGERELAY_FAIL_ON_GAP", None, "true", "",
        "End with exit code 5 when events are missing, instead of a warning";
    EXIT_WHEN_CAUGHT_UP = "exit-when-caught-up", "EDGERELAY_EXIT_WHEN_CAUGHT_UP", None, "true", "",
        "End with exit code 0 when everything up to the stream's end at the start is handled";
    LOG = "log", "EDGERELAY_LOG", Some("LEVEL"), "info", "info",
        "What goes to standard error: error, warn, info, debug or trace";
}

keys! {
    /// Every key of an export; they are in no file.
    EXPORT_KEYS:
    EXPORT_SINCE = "since", "EDGERELAY_EXPORT_SINCE", Some("WHEN"), "2h", "earliest",
        "Begin there: a duration (2h), an instant (2026-11-20T08:00:00Z), an event id, earliest \
         or now";
    EXPORT_FROM = "from", "EDGERELAY_EXPORT_FROM", Some("CURSOR"), "d1uumj1lktsi00000000000", "",
        "Begin after this position, instead of --since; the last line of every export names one";
    EXPORT_OUTPUT = "output", "EDGERELAY_EXPORT_OUTPUT", Some("FILE"), "events.ndjson",
        "standard output",
        "Write to this file. Until it is complete its name is FILE.part; then it replaces FILE";
    EXPORT_CONNECTIONS = "connections", "EDGERELAY_EXPORT_CONNECTIONS", Some("N"), "4", "4",
        "Segments of the history that are fetched at the same time, and at most in memory";
}
