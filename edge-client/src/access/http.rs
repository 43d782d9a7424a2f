use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header::AUTHORIZATION};

use super::Access;
use crate::{
    connection::{Answer, describe},
    credential::Credential,
    fault::Fault,
};

/// Makes requests with a credential that is good at that moment.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    access: Access,
}

impl Http {
    /// Requests of this client, in the name of this machine.
    pub fn new(client: Client, access: Access) -> Self {
        Self { client, access }
    }

    /// What requests are made with.
    pub fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.client.get(url)
    }

    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.client.post(url)
    }

    /// Sends a request. One that is refused because the credential has expired is made once more
    /// with the next.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let credential = self.access.fresh().await?;
        let again = request.try_clone();
        let response = send_as(request, &credential).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let fault = Answer::read(response).await.fault();
        if !is_expired(&fault) {
            return Err(fault);
        }
        let (Some(next), Some(again)) = (self.access.after(&credential).await?, again) else {
            return Err(fault);
        };
        let response = send_as(again, &next).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match Answer::read(response).await.fault() {
            // One clock is wrong by an hour, or the relay's keys are not what they were.
            fault if is_expired(&fault) => {
                Err(Fault::passing("the relay says that a credential it just made has expired"))
            }
            fault => Err(fault),
        }
    }
}

async fn send_as(request: RequestBuilder, credential: &Credential) -> Result<Response, Fault> {
    let request = match credential.authorization() {
        Some(value) => request.header(AUTHORIZATION, value),
        None => request,
    };
    request.send().await.map_err(|error| Fault::passing(describe(&error)))
}

fn is_expired(fault: &Fault) -> bool {
    matches!(fault, Fault::Terminal(refusal) if refusal.is_expiry())
}
