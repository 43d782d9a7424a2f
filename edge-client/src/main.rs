//! The program `edgerelay`: settings in, exit code out. Everything else is in the library.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use edgerelay::{
    Arguments, CommandError, Dispatch, Ending, ExportSettings, LogLevel, LoginOrder, Order, Said,
    Settings, check, export, listen, login, logout, shutdown_signals, tell, whoami,
};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    let arguments = Arguments::parse_or_exit(std::env::args_os());
    let settings = match Settings::read(&arguments) {
        Ok(settings) => settings,
        Err(error) => return fail(2, error),
    };
    log_to_stderr(settings.log.value);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, error),
    };
    let code = runtime.block_on(run(&arguments, settings));
    // A thread that still writes to a reader that does not read ends with the process.
    runtime.shutdown_background();
    code
}

async fn run(arguments: &Arguments, settings: Settings) -> ExitCode {
    let is_json = arguments.json;
    match &arguments.order {
        Order::Check => {
            let report = check(&settings).await;
            print!("{}", report.text);
            if report.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Order::Listen => run_listen(settings).await,
        Order::Export => match ExportSettings::read(arguments) {
            Ok(export_settings) => run_export(&settings, &export_settings).await,
            Err(error) => fail(2, error),
        },
        Order::Login(order) => run_login(&settings, order, is_json).await,
        Order::Logout => say(logout(&settings).await, is_json),
        Order::WhoAmI => say(whoami(&settings).await, is_json),
        Order::Tell(dispatch) => run_tell(&settings, dispatch, is_json).await,
    }
}

async fn run_login(settings: &Settings, order: &LoginOrder, is_json: bool) -> ExitCode {
    let signals = match shutdown_signals() {
        Ok(signals) => signals,
        Err(error) => return fail(1, error),
    };
    let show = |said: &Said| {
        eprintln!("{}", said.text);
        if is_json {
            println!("{}", said.json);
        }
    };
    say(login(settings, order, show, signals).await, is_json)
}

fn say(result: Result<Said, CommandError>, is_json: bool) -> ExitCode {
    match result {
        Ok(said) if is_json => println!("{}", said.json),
        Ok(said) => println!("{}", said.text),
        Err(error) => return fail(error.code(), &error),
    }
    ExitCode::SUCCESS
}

/// Says nothing without being asked: what a handler prints last is the message of its report.
async fn run_tell(settings: &Settings, dispatch: &Dispatch, is_json: bool) -> ExitCode {
    match tell(settings, dispatch.clone()).await {
        Ok(said) if is_json => say(Ok(said), is_json),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(error.code(), &error),
    }
}

async fn run_listen(settings: Settings) -> ExitCode {
    let signals = match shutdown_signals() {
        Ok(signals) => signals,
        Err(error) => return fail(1, error),
    };
    match listen(settings, signals).await {
        Ok(exit) if exit.code() == 0 => {
            tracing::info!("{exit}");
            ExitCode::SUCCESS
        }
        Ok(exit) => fail(exit.code(), &exit),
        Err(error) => fail(error.code(), &error),
    }
}

async fn run_export(settings: &Settings, export_settings: &ExportSettings) -> ExitCode {
    let signals = match shutdown_signals() {
        Ok(signals) => signals,
        Err(error) => return fail(1, error),
    };
    let report = export(settings, export_settings, signals).await;
    // `edgerelay export | head` is no reason to say anything.
    if report.ending != Ending::OutputClosed {
        eprintln!("edgerelay: {report}");
    }
    ExitCode::from(report.code())
}

fn fail(code: u8, error: impl std::fmt::Display) -> ExitCode {
    eprintln!("edgerelay: {error}");
    ExitCode::from(code)
}

/// Only this client's own lines: libraries below may log headers.
fn log_to_stderr(level: LogLevel) {
    let is_terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(is_terminal)
        .with_target(false);
    let own = Targets::new().with_target("edgerelay", level);
    tracing_subscriber::registry().with(lines).with(own).init();
}
