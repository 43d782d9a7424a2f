use std::io::Read;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use relay_schemas::{
    Activity, ActivityContent, ActivityOption, ActivityRequest, EventId, PlanStatus, PlanStep,
    Report, ReportStatus, SessionUrl, is_uuid_v4,
};

use crate::{dispatch::Dispatch, limits::ACTIVITY_INPUT_BYTES_MAX, sign_in::LoginOrder};

const STATUSES: [(&str, ReportStatus); 3] = [
    ("processing", ReportStatus::Processing),
    ("completed", ReportStatus::Completed),
    ("failed", ReportStatus::Failed),
];

const STEPS: [(&str, PlanStatus); 4] = [
    ("pending", PlanStatus::Pending),
    ("inProgress", PlanStatus::InProgress),
    ("completed", PlanStatus::Completed),
    ("canceled", PlanStatus::Canceled),
];

const TELL_AFTER_HELP: &str = "\
Exit codes:
  0  the relay has taken it
  1  the relay did not answer
  2  wrong usage or settings; or the relay will never take it, because it does not know the event,
     or because another machine has it now
  3  this machine is not signed in, or the relay refuses the credential";

const LOGIN_AFTER_HELP: &str = "\
Shows an address and a code on standard error, and waits until somebody has approved this machine \
there. The name that people see is --name, else the host's.

Exit codes:
  0  signed in
  1  the relay did not answer as it should, or the sign-in can't be kept
  2  wrong usage or settings, or this relay knows no sign-in
  3  denied, or not approved in time";

/// `login`, without its settings.
pub(super) fn login_command() -> Command {
    Command::new("login")
        .about("Sign this machine in, by a code that a person approves in a browser")
        .arg(
            Arg::new("with-channel")
                .long("channel")
                .value_name("CHANNEL")
                .action(ArgAction::Append)
                .value_parser(channel)
                .help("Ask for this channel, too: team:ID or org; several times for several"),
        )
        .arg(Arg::new("scope").long("scope").value_name("SCOPE").action(ArgAction::Append).help(
            "Ask for this scope only, such as read:events or write:status; several times for \
                 several",
        ))
        .arg(flag("open", "Open the address in the browser"))
        .after_help(LOGIN_AFTER_HELP)
}

pub(super) fn login_order(matches: &ArgMatches) -> LoginOrder {
    LoginOrder {
        channels: texts(matches, "with-channel"),
        scopes: texts(matches, "scope"),
        opens_browser: matches.get_flag("open"),
    }
}

/// `logout`, without its settings.
pub(super) fn logout_command() -> Command {
    Command::new("logout").about("End this machine's sign-in, and forget it here").after_help(
        "When the relay can't be reached, the sign-in is forgotten here all the same, and the \
             last line says so.\n\nExit codes:\n  0  forgotten\n  1  it can't be read or \
             removed\n  2  wrong usage or settings",
    )
}

/// `whoami`, without its settings.
pub(super) fn whoami_command() -> Command {
    Command::new("whoami").about("Say who this machine is to the relay").after_help(
        "Exit codes:\n  0  the relay knows this machine\n  1  the relay did not answer\n  2  wrong \
         usage or settings\n  3  this machine is not signed in, or the relay refuses the credential",
    )
}

/// `status`, without its settings.
pub(super) fn status_command() -> Command {
    let status = Arg::new("status").required(true).value_name("processing|completed|failed");
    Command::new("status")
        .about("Tell the relay what becomes of an event")
        .arg(event())
        .arg(status.value_parser(STATUSES.map(|(name, _)| name)))
        .arg(option("message", "TEXT", "For people: what was done"))
        .arg(option("error", "TEXT", "For people: why it failed"))
        .after_help(TELL_AFTER_HELP)
}

pub(super) fn status_order(matches: &ArgMatches) -> Dispatch {
    let status = matches.get_one::<String>("status").map(String::as_str);
    let status = STATUSES.into_iter().find(|(name, _)| Some(*name) == status);
    let status = status.expect("clap takes no other").1;
    Dispatch::Status(Report {
        message: text(matches, "message"),
        error: text(matches, "error"),
        ..Report::new(event_of(matches), status)
    })
}

/// `activity`, without its settings.
pub(super) fn activity_command() -> Command {
    Command::new("activity")
        .about("Show something in the agent session of an event")
        .arg(event())
        .arg(
            option("id", "UUID", "A UUID v4 by which the relay knows a repetition")
                .value_parser(uuid),
        )
        .subcommand_required(true)
        .subcommands([
            said("thought", "What the agent thinks").arg(ephemeral()),
            Command::new("action")
                .about("What the agent does")
                .arg(word("action", "ACTION", "A verb, such as Searched"))
                .arg(word("parameter", "PARAMETER", "What it is done to"))
                .arg(option("result", "TEXT", "What came of it"))
                .arg(ephemeral()),
            said("response", "The answer; ends the agent's turn"),
            said("error", "What went wrong; ends the agent's turn"),
            said("elicitation", "A question; ends the agent's turn").arg(
                option("option", "VALUE[=LABEL]", "An answer to choose; several for several")
                    .action(ArgAction::Append),
            ),
            Command::new("plan")
                .about("What the agent is going to do; takes the place of the plan before")
                .arg(
                    many("steps", "STATUS=STEP")
                        .value_parser(step)
                        .help("pending=…, inProgress=…, completed=… or canceled=…, in order"),
                ),
            Command::new("urls").about("Links of the session").arg(
                many("urls", "LABEL=URL").value_parser(link).help("https addresses, in order"),
            ),
        ])
        .after_help(TELL_AFTER_HELP)
}

/// The activity that is meant; the error is one of usage.
pub(super) fn activity_order(matches: &ArgMatches) -> Result<Dispatch, String> {
    let (kind, of_kind) = matches.subcommand().expect("clap demands one");
    let content = match kind {
        "thought" => ActivityContent::Thought {
            body: body(of_kind)?,
            ephemeral: of_kind.get_flag("ephemeral"),
        },
        "action" => ActivityContent::Action {
            action: text(of_kind, "action").unwrap_or_default(),
            parameter: text(of_kind, "parameter").unwrap_or_default(),
            result: text(of_kind, "result"),
            ephemeral: of_kind.get_flag("ephemeral"),
        },
        "response" => ActivityContent::Response { body: body(of_kind)? },
        "error" => ActivityContent::Error { body: body(of_kind)? },
        "elicitation" => ActivityContent::Elicitation {
            body: body(of_kind)?,
            options: texts(of_kind, "option").iter().map(|text| choice(text)).collect(),
        },
        "plan" => ActivityContent::Plan { steps: values(of_kind, "steps") },
        "urls" => ActivityContent::Urls { urls: values(of_kind, "urls") },
        _ => unreachable!("clap takes no other"),
    };
    let activity = Activity { id: text(matches, "id"), content };
    Ok(Dispatch::Activity(ActivityRequest { event_id: event_of(matches), activity }))
}

fn event() -> Arg {
    Arg::new("event")
        .required(true)
        .value_name("EVENT")
        .value_parser(|text: &str| text.parse::<EventId>().map_err(|error| error.to_string()))
        .help("The event's id, evt_…: in a handler it is $EDGERELAY_EVENT_ID")
}

fn event_of(matches: &ArgMatches) -> EventId {
    *matches.get_one("event").expect("clap demands it")
}

/// A kind of activity that is one text.
fn said(name: &'static str, about: &'static str) -> Command {
    let body = word("body", "TEXT", "Markdown; - for standard input").value_hint(ValueHint::Other);
    Command::new(name).about(about).arg(body)
}

fn body(matches: &ArgMatches) -> Result<String, String> {
    let body = text(matches, "body").unwrap_or_default();
    if body != "-" {
        return Ok(body);
    }
    let mut body = String::new();
    let input = std::io::stdin().lock().take(ACTIVITY_INPUT_BYTES_MAX).read_to_string(&mut body);
    input.map_err(|error| format!("standard input can't be read: {error}"))?;
    Ok(body.trim_end().to_owned())
}

fn word(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).required(true).value_name(value).help(help).allow_hyphen_values(true)
}

fn many(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).required(true).num_args(1..).value_name(value)
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help).allow_hyphen_values(true)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn ephemeral() -> Arg {
    flag("ephemeral", "The next activity takes its place")
}

fn text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn texts(matches: &ArgMatches, name: &str) -> Vec<String> {
    values(matches, name)
}

fn values<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
    matches.get_many::<T>(name).into_iter().flatten().cloned().collect()
}

fn channel(text: &str) -> Result<String, String> {
    let channel: relay_schemas::Channel = text.parse().map_err(|_| "team:ID or org")?;
    Ok(channel.to_string())
}

fn uuid(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if is_uuid_v4(&text) { Ok(text) } else { Err("not a UUID of version 4".into()) }
}

fn choice(text: &str) -> ActivityOption {
    match text.split_once('=') {
        Some((value, label)) => ActivityOption { value: value.into(), label: Some(label.into()) },
        None => ActivityOption { value: text.into(), label: None },
    }
}

fn step(text: &str) -> Result<PlanStep, String> {
    let (status, content) = text.split_once('=').unwrap_or(("", text));
    let status = STEPS.into_iter().find(|(name, _)| *name == status);
    match status {
        Some((_, status)) => Ok(PlanStep { content: content.into(), status }),
        None => Err("write pending=…, inProgress=…, completed=… or canceled=…".into()),
    }
}

fn link(text: &str) -> Result<SessionUrl, String> {
    match text.split_once('=') {
        Some((label, url)) if url.starts_with("https://") => {
            Ok(SessionUrl { label: label.into(), url: url.into() })
        }
        _ => Err("write LABEL=https://…".into()),
    }
}
