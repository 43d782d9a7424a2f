use std::time::Duration;

use reqwest::Client;
use serde_json::json;

use super::{CommandError, Said, login::locked};
use crate::{
    access::{blocking, store},
    config::Settings,
    connection::{Answer, describe},
    credential::SignIn,
    relay::{self, Relay},
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends this machine's sign-in at the relay, and forgets it here, also when the relay is away.
pub async fn logout(settings: &Settings) -> Result<Said, CommandError> {
    let relay = Relay::new(&settings.relay.value);
    let store = store(settings)?;
    // No running client may refresh it meanwhile and keep the next pair.
    let lock = locked(&store).await?;
    let (stored, base) = (store.clone(), relay.base().to_owned());
    let found = blocking(move || stored.load(&base)).await?;
    let revoked = match &found {
        Some((sign_in, _)) => Some(revoke(&relay::plain_client()?, &relay, sign_in).await),
        None => None,
    };
    let base = relay.base().to_owned();
    blocking(move || store.forget(&base)).await?;
    drop(lock);
    let (was_signed_in, is_revoked) = (revoked.is_some(), matches!(revoked, Some(Ok(()))));
    let mut text = match revoked {
        None => format!("this machine was not signed in at {}", relay.base()),
        Some(Ok(())) => format!("signed out at {}", relay.base()),
        Some(Err(words)) => format!(
            "forgotten here, but {} did not hear of it: {words}. It lists the machine until \
             somebody revokes it there",
            relay.base()
        ),
    };
    if let Some(written) = &settings.credential {
        text.push_str(&format!("\n{} is still set and still used", written.source));
    }
    let json = json!({
        "relay": relay.base(),
        "was_signed_in": was_signed_in,
        "revoked": is_revoked,
    });
    Ok(Said { text, json })
}

async fn revoke(client: &Client, relay: &Relay, sign_in: &SignIn) -> Result<(), String> {
    let form = [("token", sign_in.refresh_token.expose())];
    let request = client.post(relay.route("/device/revoke")).timeout(ANSWER_TIMEOUT).form(&form);
    let response = request.send().await.map_err(|error| describe(&error))?;
    if response.status().is_success() {
        return Ok(());
    }
    Err(Answer::read(response).await.fault().to_string())
}
