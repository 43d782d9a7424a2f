use std::{
    process::{Command, Stdio},
    time::Duration,
};

use futures::{Stream, StreamExt};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::debug;

use super::{
    CommandError, Said,
    device::{DeviceCode, Next, Polling},
};
use crate::{
    access::{Grant, ask_for_tokens, blocking, store},
    clock::wall,
    config::Settings,
    connection::{Answer, describe},
    credential::{CredentialStore, Lock},
    fault::Fault,
    local_server::is_loopback_host,
    relay::{self, Relay},
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

const LOCK_POLL: Duration = Duration::from_millis(50);

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What is asked for, besides the relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginOrder {
    /// Channels besides the person's own.
    pub channels: Vec<String>,
    /// What the machine may do; what the relay gives by default, when empty.
    pub scopes: Vec<String>,
    /// Open the browser.
    pub opens_browser: bool,
}

/// Signs this machine in. `show` gets what the person needs to approve it: text and JSON.
pub async fn login(
    settings: &Settings,
    order: &LoginOrder,
    show: impl FnOnce(&Said),
    shutdown: impl Stream<Item = ()>,
) -> Result<Said, CommandError> {
    let (relay, client) = (Relay::new(&settings.relay.value), relay::plain_client()?);
    let store = store(settings)?;
    // Before anybody is bothered: whether the result can be kept.
    drop(locked(&store).await?);
    let code = ask_for_code(&client, &relay, settings, order).await?;
    let url = code.verification_uri_complete.as_deref().unwrap_or(&code.verification_uri);
    show(&instructions(&code, url));
    if order.opens_browser {
        open_browser(url);
    }
    let mut shutdown = std::pin::pin!(shutdown);
    let grant = tokio::select! {
        Some(()) = shutdown.next() => return Err(CommandError::Interrupted),
        grant = poll(&client, &relay, &code) => grant?,
    };
    keep(settings, &relay, store, grant).await
}

fn instructions(code: &DeviceCode, url: &str) -> Said {
    let minutes = code.expires_in / 60;
    Said {
        text: format!(
            "To sign this machine in, open\n\n    {url}\n\nand compare the code:  {}\n\nIt is \
             good for {minutes} minutes.",
            code.user_code
        ),
        json: json!({
            "verification_uri": code.verification_uri,
            "verification_uri_complete": url,
            "user_code": code.user_code,
            "expires_in": code.expires_in,
        }),
    }
}

async fn ask_for_code(
    client: &Client,
    relay: &Relay,
    settings: &Settings,
    order: &LoginOrder,
) -> Result<DeviceCode, CommandError> {
    let name = settings.name.as_ref().map_or_else(host_name, |name| name.value.clone());
    let mut body = json!({ "client_name": name });
    if !order.scopes.is_empty() {
        body["scopes"] = json!(order.scopes);
    }
    if !order.channels.is_empty() {
        body["channels"] = json!(order.channels);
    }
    let request = client.post(relay.route("/device/code")).timeout(ANSWER_TIMEOUT).json(&body);
    let response = request.send().await.map_err(|error| Fault::passing(describe(&error)))?;
    if response.status() == StatusCode::OK {
        let code = response.json().await;
        return code.map_err(|_| CommandError::Passing("the answer is not a relay's".into()));
    }
    let answer = Answer::read(response).await;
    // Who waits before a screen wants to know what is wrong, also when it may pass.
    Err(match answer.final_words() {
        Some(words) => CommandError::from(Fault::request(words)),
        None => answer.fault().into(),
    })
}

async fn poll(client: &Client, relay: &Relay, code: &DeviceCode) -> Result<Grant, CommandError> {
    let mut polling = Polling::new(code, wall(), fastrand::u64(..));
    let mut wait_ms = polling.first_ms();
    let form = [("grant_type", DEVICE_GRANT), ("device_code", code.device_code.as_str())];
    loop {
        sleep(Duration::from_millis(wait_ms)).await;
        let answer = ask_for_tokens(client, relay, &form).await;
        wait_ms = match polling.handle(answer, wall()) {
            Next::AskIn(wait_ms) => wait_ms,
            Next::Granted(grant) => return Ok(*grant),
            Next::Denied => return Err(CommandError::NotApproved("the sign-in was denied")),
            Next::Expired => {
                return Err(CommandError::NotApproved(
                    "nobody approved the sign-in in time: run edgerelay login again",
                ));
            }
            Next::Failed(fault) => return Err(fault.into()),
        };
        debug!("not approved yet; asking again in {wait_ms} ms");
    }
}

async fn keep(
    settings: &Settings,
    relay: &Relay,
    store: CredentialStore,
    grant: Grant,
) -> Result<Said, CommandError> {
    let sign_in = grant.sign_in();
    let credential = sign_in
        .credential()
        .map_err(|_| CommandError::Passing("the relay's answer holds no credential".into()))?;
    let lock = locked(&store).await?;
    let base = relay.base().to_owned();
    let path = store.path().display().to_string();
    let place = blocking(move || store.save(&base, &sign_in)).await?;
    drop(lock);
    let claims = credential.claims();
    let mut text = format!(
        "signed in at {} as {}, organization {}, user {}; kept in {place}",
        relay.base(),
        claims.sub,
        claims.org,
        claims.user
    );
    if place == crate::credential::Place::File {
        text.push_str(&format!(" {path}"));
    }
    if let Some(written) = &settings.credential {
        text.push_str(&format!("\nnot used as long as {} is set", written.source));
    }
    let mut json = json!({ "relay": relay.base(), "kept_in": place.name(), "edge": grant.edge });
    if let Some(scope) = grant.scope {
        json["scope"] = Value::from(scope);
    }
    Ok(Said { text, json })
}

/// Waits for another process that changes a sign-in.
pub(super) async fn locked(store: &CredentialStore) -> Result<Lock, CommandError> {
    let mut waits = 0;
    loop {
        if let Some(lock) = store.try_lock()? {
            return Ok(lock);
        }
        waits += 1;
        if waits > 900 {
            let message = "another edgerelay is changing this machine's sign-in";
            return Err(CommandError::Passing(message.into()));
        }
        sleep(LOCK_POLL).await;
    }
}

#[cfg(unix)]
fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    named(name)
}

#[cfg(not(unix))]
fn host_name() -> String {
    named(std::env::var("COMPUTERNAME").ok())
}

fn named(name: Option<String>) -> String {
    name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| "edge".into())
}

/// Only what a browser can show: the URL is the relay's word.
fn open_browser(url: &str) {
    let is_web = reqwest::Url::parse(url).is_ok_and(|url| {
        url.scheme() == "https"
            || (url.scheme() == "http" && url.host_str().is_some_and(is_loopback_host))
    });
    if !is_web {
        return;
    }
    let (program, arguments): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("rundll32", &["url.dll,FileProtocolHandler"])
    } else {
        ("xdg-open", &[])
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(url).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if command.spawn().is_err() {
        debug!("there is no {program} to open a browser with");
    }
}
