use std::{fmt, fmt::Write, path::Path, time::Duration, time::Instant};

use reqwest::Url;
use serde::Deserialize;

use crate::{
    access::{Access, Http},
    clock::wall,
    config::{HandlerSettings, Setting, Settings},
    connection::{Answer, Transport, describe},
    relay::{self, Relay},
    session::{OnFailure, Start},
    store::{Store, StreamIdentity},
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// What a check found, as text for people.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// One finding a line.
    pub text: String,
    /// Whether the relay answers and accepts the credential.
    pub is_good: bool,
}

#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    version: String,
}

/// Says what would be used, where it comes from, and whether it works.
pub async fn check(settings: &Settings) -> CheckReport {
    let mut text = String::new();
    setting(&mut text, "relay", &settings.relay, |relay| relay.to_string());
    let relay = Relay::new(&settings.relay.value);
    let access = Access::open(settings).await;
    if let Ok(access) = &access {
        let credential = access.credential();
        let summary = credential.summary(wall());
        line(&mut text, "credential", &format!("{summary}  [{}]", access.origin()));
    }
    describe_settings(settings, &mut text);
    let findings = match &access {
        Ok(access) => {
            line(&mut text, "cursor", &stored_cursor(settings, &relay, access));
            let findings = match relay::http(settings, access) {
                Ok(http) => ask(&http, &relay, settings).await,
                Err(error) => vec![("http", Err(error.to_string()))],
            };
            access.settled().await;
            findings
        }
        Err(error) => vec![("credential", Err(error.to_string()))],
    };
    let is_good = findings.iter().all(|(_, finding)| finding.is_ok());
    for (name, finding) in findings {
        match finding {
            Ok(words) => line(&mut text, name, &format!("ok, {words}")),
            Err(words) => line(&mut text, name, &format!("FAILED: {words}")),
        }
    }
    CheckReport { text, is_good }
}

async fn ask(
    http: &Http,
    relay: &Relay,
    settings: &Settings,
) -> Vec<(&'static str, Result<String, String>)> {
    let mut findings = vec![("relay answers", health(http, relay.route("/health")).await)];
    if findings[0].1.is_ok() {
        let mut url = relay.route("/events?limit=1");
        if let Some(channel) = settings.channel_named() {
            url.query_pairs_mut().append_pair("channel", &channel.to_string());
        }
        findings.push(("credential", acceptance(http, url).await));
    }
    findings
}

async fn health(http: &Http, url: Url) -> Result<String, String> {
    let started = Instant::now();
    let request = http.get(url).timeout(ANSWER_TIMEOUT);
    // Without a credential: whether the relay is there does not depend on it.
    let response = request.send().await.map_err(|error| describe(&error))?;
    if !response.status().is_success() {
        return Err(Answer::read(response).await.fault().to_string());
    }
    let health: Health =
        response.json().await.map_err(|_| "the answer is not a relay's: is the URL right?")?;
    Ok(format!("version {}, in {} ms", health.version, started.elapsed().as_millis()))
}

async fn acceptance(http: &Http, url: Url) -> Result<String, String> {
    let request = http.get(url).timeout(ANSWER_TIMEOUT);
    let response = http.send(request).await.map_err(|fault| fault.to_string())?;
    if response.status().is_success() {
        return Ok("the relay accepts it".into());
    }
    Err(Answer::read(response).await.fault().to_string())
}

fn stored_cursor(settings: &Settings, relay: &Relay, access: &Access) -> String {
    let path: &Path = &settings.state.value;
    if !path.exists() {
        return "none yet: this would be a first start".into();
    }
    let credential = access.credential();
    let identity = StreamIdentity::of(relay.base(), credential.claims(), settings.channel_named());
    match Store::open(path, &identity) {
        Ok((_, restored)) => match restored.cursor {
            Some(cursor) => cursor.to_string(),
            None => "none yet: this would be a first start".into(),
        },
        Err(error) => format!("not read: {error}"),
    }
}

fn describe_settings(settings: &Settings, text: &mut String) {
    if let Some(name) = &settings.name {
        setting(text, "name", name, Clone::clone);
    }
    setting(text, "transport", &settings.transport, |transport| {
        match transport {
            Transport::WebSocket => "ws",
            Transport::Ndjson => "ndjson",
        }
        .into()
    });
    if let Some(channel) = &settings.channel {
        setting(text, "channel", channel, |channel| channel.to_string());
    }
    setting(text, "own events", &settings.own, |own| {
        if *own { "included" } else { "left out" }.into()
    });
    setting(text, "kinds", &settings.kinds, |kinds| {
        if kinds.is_empty() { "every kind".into() } else { kinds.join(", ") }
    });
    setting(text, "first start", &settings.start, |start| match start {
        Start::Earliest => "the oldest event kept".into(),
        Start::Since(since) => format!("since {since}"),
        Start::Tail(count) => format!("{count} events before the newest"),
    });
    setting(text, "handler", &settings.handler, |handler| match handler {
        HandlerSettings::Print => "print on standard output".into(),
        HandlerSettings::Exec(exec) => format!("run {}", exec.command),
        HandlerSettings::Forward(forward) => format!("post to {}", forward.url),
    });
    setting(text, "concurrency", &settings.concurrency, usize::to_string);
    setting(text, "attempts", &settings.attempts, |attempts| match attempts {
        0 => "no limit".into(),
        attempts => attempts.to_string(),
    });
    setting(text, "on failure", &settings.on_failure, |on_failure| {
        match on_failure {
            OnFailure::Stop => "stop",
            OnFailure::Skip => "skip",
        }
        .into()
    });
    setting(text, "reports", &settings.reports, |reports| {
        if *reports { "on" } else { "off" }.into()
    });
    setting(text, "activities", &settings.activities, |activities| {
        if *activities { "on" } else { "off" }.into()
    });
    setting(text, "state", &settings.state, |path| path.display().to_string());
    setting(text, "local", &settings.local, |address| {
        address.map_or_else(|| "off".into(), |address| address.to_string())
    });
}

fn setting<T>(text: &mut String, name: &str, setting: &Setting<T>, show: impl Fn(&T) -> String) {
    let shown = show(&setting.value);
    line(text, name, &format!("{shown}  [{}]", setting.source));
}

fn line(text: &mut String, name: &str, value: &dyn fmt::Display) {
    let _ = writeln!(text, "{name:<14} {value}");
}
