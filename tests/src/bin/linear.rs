//! The fake Linear as a process of its own, for the demo and for `cargo xtask dev`.
//!
//! It prints one line of JSON when it is ready, `{"url":"http://127.0.0.1:…"}`, then plays the
//! scenario, and serves until it is ended. `POST /fake/do` takes further steps, `GET /fake/state`
//! shows everything, and `GET /` is for people.

#![allow(clippy::unwrap_used, reason = "it fails where it stands")]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use relay_tests::linear::{FakeLinear, LinearOptions, WebhookOptions, scenario::read_scenario};
use serde_json::json;

/// Who is there if no scenario says.
const PEOPLE: &str = include_str!("../../scenarios/people.json");

#[derive(Parser)]
struct Arguments {
    /// The port on loopback; a free one, if it isn't given.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where webhooks are sent; nowhere, if it isn't given.
    #[arg(long)]
    webhook_url: Option<String>,
    /// What signs webhooks.
    #[arg(long, env = "LINEAR_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<String>,
    /// The app's client id.
    #[arg(long)]
    client_id: Option<String>,
    /// The app's client secret.
    #[arg(long)]
    client_secret: Option<String>,
    /// Where people may be sent back to; may be given several times.
    #[arg(long)]
    redirect_uri: Vec<String>,
    /// What the pauses before the retries of webhooks are multiplied by.
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Ends when its standard input does, so that it doesn't outlive who started it.
    #[arg(long)]
    end_with_stdin: bool,
    /// A scenario; without one there are a few people and an issue.
    #[arg(long)]
    scenario: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let text = match &arguments.scenario {
        None => PEOPLE.to_owned(),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return failed(&format!("--scenario {}: {error}", path.display())),
        },
    };
    let steps = match read_scenario(&text) {
        Ok(steps) => steps,
        Err(error) => return failed(&format!("--scenario: {error}")),
    };
    if arguments.end_with_stdin {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    let linear = FakeLinear::start_with(options(arguments)).await;
    println!("{}", json!({"url": linear.url()}));
    if let Err(refusal) = linear.play(&steps).await {
        return failed(&format!("--scenario: {refusal}"));
    }
    std::future::pending().await
}

fn failed(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

fn options(arguments: Arguments) -> LinearOptions {
    let usual = LinearOptions::default();
    let webhook = WebhookOptions {
        url: arguments.webhook_url,
        secret: arguments.webhook_secret.unwrap_or(usual.webhook.secret),
        time_scale: arguments.time_scale,
        ..WebhookOptions::default()
    };
    let redirect_uris = match arguments.redirect_uri.is_empty() {
        true => usual.redirect_uris,
        false => arguments.redirect_uri,
    };
    LinearOptions {
        port: arguments.port,
        client_id: arguments.client_id.unwrap_or(usual.client_id),
        client_secret: arguments.client_secret.unwrap_or(usual.client_secret),
        redirect_uris,
        webhook,
        ..LinearOptions::default()
    }
}
