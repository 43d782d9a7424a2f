use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{
    keys::{CHANNEL, EXPORT_KEYS, KEYS, Key},
    orders,
};
use crate::{dispatch::Dispatch, sign_in::LoginOrder};

const ABOUT: &str = "Receives a person's Linear events from an EdgeRelay and hands them to this \
                     machine's handler, at least once and in order";

const AFTER_HELP: &str = "\
Settings come from flags, then the environment, then the file (--config, else \
~/.config/edgerelay/config.toml).

Without --exec and --forward, events are printed on standard output, one JSON line each; \
everything else goes to standard error.

Exit codes:
  0  ended by a signal, by the reader of standard output, or caught up
  1  something unexpected, such as a state file that can't be written
  2  wrong usage or settings, also when the relay says so
  3  this machine is not signed in, or the relay refuses the credential: revoked, expired or
     invalid
  4  a handler gave up on an event (--on-failure stop)
  5  events are missing (--fail-on-gap)
  6  another edgerelay uses the state file";

const EXPORT_AFTER_HELP: &str = "\
Each line is an event as `edgerelay listen` prints it, oldest first, with n counted from 1. The \
export ends at the newest event that there was when it began. No filter and no stored cursor has a \
part in it.

The last line on standard error is a summary with the cursor up to which the output is complete. \
An export that did not come to its end goes on with --from CURSOR; a file is then still FILE.part.

Exit codes:
  0  complete, or ended by the reader of standard output, or by a signal: then the last line on
     standard error says where to go on
  1  the relay did not answer, a segment is damaged, or the output can't be written
  2  wrong usage or settings, also when the relay says so
  3  this machine is not signed in, or the relay refuses the credential: revoked, expired or
     invalid
  5  the history changed meanwhile, or events are missing (--fail-on-gap)";

/// Settings of the client that an export uses, too.
const SHARED_WITH_EXPORT: [&str; 7] =
    ["relay", "credential", "name", "credential-store", "channel", "fail-on-gap", "log"];

/// Settings of the client that every other command uses, too.
const SHARED_WITH_COMMANDS: [&str; 5] = ["relay", "credential", "name", "credential-store", "log"];

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Receive events.
    Listen,
    /// Write the history.
    Export,
    /// Say what would be used, and whether it works.
    Check,
    /// Sign in.
    Login(LoginOrder),
    /// Sign out.
    Logout,
    /// Say who this machine is.
    WhoAmI,
    /// Tell the relay something about an event.
    Tell(Dispatch),
}

/// The command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// What to do.
    pub order: Order,
    /// Forget the stored cursor first.
    pub reset: bool,
    /// Say what there is to say as JSON.
    pub json: bool,
    /// The file to read settings from.
    pub(crate) config: Option<PathBuf>,
    pub(crate) flags: Vec<(&'static str, String)>,
}

impl Arguments {
    /// Reads a command line; ends the process for `--help` and for wrong usage.
    pub fn parse_or_exit(arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self::of(&command().get_matches_from(arguments)).unwrap_or_else(|error| error.exit())
    }

    /// Reads a command line.
    pub fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        command().try_get_matches_from(arguments).and_then(|matches| Self::of(&matches))
    }

    /// Whether what a variable says is meant for this order. In a handler's environment some that
    /// are settings of the client say something about the event.
    pub(super) fn heeds(&self, variable: &str) -> bool {
        match self.order {
            Order::Tell(_) => tell_keys().any(|key| key.environment == variable),
            Order::Listen
            | Order::Export
            | Order::Check
            | Order::Login(_)
            | Order::Logout
            | Order::WhoAmI => true,
        }
    }

    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (name, matches) = matches.subcommand().expect("clap demands a subcommand");
        let order = match name {
            "listen" => Order::Listen,
            "export" => Order::Export,
            "check" => Order::Check,
            "login" => Order::Login(orders::login_order(matches)),
            "logout" => Order::Logout,
            "whoami" => Order::WhoAmI,
            "status" => Order::Tell(orders::status_order(matches)),
            "activity" => Order::Tell(
                orders::activity_order(matches)
                    .map_err(|fault| command().error(clap::error::ErrorKind::Io, fault))?,
            ),
            _ => unreachable!("clap takes no other"),
        };
        let keys: Vec<&Key> = match order {
            Order::Listen | Order::Check => KEYS.to_vec(),
            Order::Export => export_keys().collect(),
            Order::Login(_) | Order::Logout | Order::WhoAmI => command_keys().collect(),
            Order::Tell(_) => tell_keys().collect(),
        };
        let flags = keys.into_iter().filter_map(|key| {
            let values: Vec<&str> =
                matches.get_many::<String>(key.name)?.map(String::as_str).collect();
            Some((key.name, values.join(",")))
        });
        Ok(Self {
            reset: order == Order::Listen && matches.get_flag("reset"),
            json: matches.try_get_one("json").is_ok_and(|json| json == Some(&true)),
            config: matches.get_one("config").cloned(),
            flags: flags.collect(),
            order,
        })
    }
}

fn command() -> Command {
    let listen = Command::new("listen")
        .about("Receive events")
        .arg(
            Arg::new("reset")
                .long("reset")
                .action(ArgAction::SetTrue)
                .help("Forget the stored cursor and handled events, and start as the first time"),
        )
        .after_help(AFTER_HELP);
    let check = Command::new("check")
        .about("Say which settings would be used, where they come from, and whether they work")
        .after_help("Exit code 0 when the relay answers and accepts the credential, else 1.");
    let export = Command::new("export")
        .about("Write the stream's history as NDJSON")
        .after_help(EXPORT_AFTER_HELP);
    Command::new("edgerelay")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            with_settings(listen, KEYS.iter().copied()),
            with_settings(export, export_keys()),
            with_settings(check, KEYS.iter().copied()),
            plain(orders::login_command(), command_keys()),
            plain(orders::logout_command(), command_keys()),
            plain(orders::whoami_command(), command_keys()),
            plain(orders::status_command(), tell_keys()),
            plain(orders::activity_command(), tell_keys()),
        ])
        .after_help(AFTER_HELP)
}

fn command_keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| SHARED_WITH_COMMANDS.contains(&key.name)).copied()
}

/// An event is looked for in the stream of one channel.
fn tell_keys() -> impl Iterator<Item = &'static Key> {
    command_keys().chain([&CHANNEL])
}

/// A command that says one thing and ends.
fn plain(command: Command, keys: impl Iterator<Item = &'static Key>) -> Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    let json = json.help("Say it as JSON on standard output, one line");
    // Also after the kind of an activity.
    let arguments = command.get_name() == "activity";
    with_settings(command, keys).arg(json).mut_args(|argument| {
        let is_shared = argument.get_long().is_some_and(|long| long != "id");
        if arguments && is_shared { argument.global(true) } else { argument }
    })
}

fn export_keys() -> impl Iterator<Item = &'static Key> {
    let shared = KEYS.iter().filter(|key| SHARED_WITH_EXPORT.contains(&key.name));
    EXPORT_KEYS.iter().chain(shared).copied()
}

fn with_settings(command: Command, keys: impl Iterator<Item = &'static Key>) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("The file to read settings from [env: EDGERELAY_CONFIG]");
    command.arg(config).args(keys.map(argument))
}

fn argument(key: &'static Key) -> Arg {
    let mut help = format!("{} [env: {}]", key.help, key.environment);
    if !key.default.is_empty() {
        help.push_str(&format!(" [default: {}]", key.default));
    }
    let argument = Arg::new(key.name).long(key.name).help(help);
    match key.value {
        Some(value) if key.name == "kind" => argument.value_name(value).action(ArgAction::Append),
        Some(value) => argument.value_name(value).allow_hyphen_values(true),
        None => argument
            .value_name("true|false")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}
