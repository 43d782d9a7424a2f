use std::time::Duration;

use relay_schemas::{Channel, ErrorCode};
use reqwest::Url;

use crate::{
    access::{Access, Http},
    config::Settings,
    connection::Answer,
    dispatch::Dispatch,
    fault::Fault,
    relay::{self, Relay},
};

/// How long the relay may take for one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Posts what the relay is to be told, about events of one stream.
#[derive(Debug)]
pub(crate) struct Courier {
    http: Http,
    relay: Relay,
    /// Whose events they are; the credential's own person's without one.
    channel: Option<Channel>,
}

/// What became of one.
pub(crate) enum Delivery {
    Taken,
    /// The relay will never take it; in its words.
    Useless(String),
    /// The relay takes no activity at all, about whatever event; in its words.
    Unshown(String),
    /// Who has the event now.
    Reassigned(Option<String>),
    Failed(Fault),
}

impl Courier {
    /// For the stream that the settings name.
    pub(crate) fn new(settings: &Settings, access: &Access) -> Result<Self, reqwest::Error> {
        Ok(Self {
            http: relay::http(settings, access)?,
            relay: Relay::new(&settings.relay.value),
            channel: settings.channel_named(),
        })
    }

    /// Posts one.
    pub(crate) async fn deliver(&self, dispatch: &Dispatch) -> Delivery {
        let request = self.http.post(self.url(dispatch)).timeout(ANSWER_TIMEOUT);
        let request = match dispatch {
            Dispatch::Status(report) => request.json(report),
            Dispatch::Activity(report) => request.json(report),
        };
        let response = match self.http.send(request).await {
            Ok(response) if response.status().is_success() => return Delivery::Taken,
            Ok(response) => response,
            Err(fault) => return Delivery::Failed(fault),
        };
        let answer = Answer::read(response).await;
        if let Some(owner) = answer.reassigned_to() {
            return Delivery::Reassigned(owner);
        }
        let is_unshown = answer.says(ErrorCode::OauthNotConfigured)
            || answer.says(ErrorCode::OrganizationNotInstalled);
        match answer.final_words() {
            Some(words) if is_unshown => Delivery::Unshown(words),
            Some(words) => Delivery::Useless(words),
            None => Delivery::Failed(answer.fault()),
        }
    }

    /// An event is looked for in the stream that is named, and nowhere else.
    fn url(&self, dispatch: &Dispatch) -> Url {
        let mut url = self.relay.route(dispatch.path());
        if let Some(channel) = &self.channel {
            url.query_pairs_mut().append_pair("channel", &channel.to_string());
        }
        url
    }
}
