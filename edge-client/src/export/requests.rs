use std::{future::Future, time::Duration};

use relay_schemas::{Channel, Cursor};
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, IF_RANGE, RANGE},
};
use tokio::time::timeout;

use super::{
    download::{Damage, Download},
    page::Page,
    plan::Plan,
    transfer::{Input, PlanFrom},
};
use crate::{
    access::Http,
    config::ExportStart,
    connection::{Answer, describe},
    fault::Fault,
    limits::{DIAL_TIMEOUT_MS, EXPORT_ANSWER_BYTES_MAX},
    relay::Relay,
};

/// What an export asks of a relay.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    pub(super) http: Http,
    pub(super) channel: Option<Channel>,
    pub(super) relay: Relay,
}

enum FetchError {
    Fault(Fault),
    Damage(Damage),
}

impl Requests {
    /// `GET /events/segments`. Only the first may begin elsewhere than where it was asked to.
    pub(super) async fn plan(self, from: PlanFrom) -> Input {
        let mut url = self.relay.route("/events/segments");
        let (name, value, on_gap) = match from {
            PlanFrom::Start(ExportStart::Earliest) => ("from", "earliest".into(), "resume"),
            PlanFrom::Start(ExportStart::Since(since)) => ("since", since, "resume"),
            PlanFrom::Start(ExportStart::From(cursor)) => ("from", cursor.to_string(), "resume"),
            PlanFrom::Rest(cursor) => ("from", cursor.to_string(), "error"),
        };
        url.query_pairs_mut().append_pair(name, &value).append_pair("on_gap", on_gap);
        self.name_channel(&mut url);
        let read = self.whole(url, |body| serde_json::from_slice::<Plan>(body).ok());
        read.await.map_or_else(Input::PlanFailed, Input::PlanRead)
    }

    /// `GET /events`
    pub(super) async fn page(self, after: Cursor) -> Input {
        let mut url = self.relay.route("/events");
        url.query_pairs_mut()
            .append_pair("cursor", &after.to_string())
            .append_pair("limit", "1000")
            .append_pair("on_gap", "error");
        self.name_channel(&mut url);
        let read = self.whole(url, Page::parse);
        read.await.map_or_else(Input::PageFailed, Input::PageRead)
    }

    /// A segment's path, from where the download stands, and the comparison with the plan.
    pub(super) async fn fetch(self, mut download: Download) -> Input {
        match self.receive(&mut download).await {
            Ok(()) => verify(download).await,
            Err(FetchError::Fault(fault)) => Input::FetchFailed(download, fault),
            Err(FetchError::Damage(damage)) => Input::Damaged(download, damage),
        }
    }

    fn name_channel(&self, url: &mut Url) {
        if let Some(channel) = &self.channel {
            url.query_pairs_mut().append_pair("channel", &channel.to_string());
        }
    }

    /// Silence for this long is a broken connection.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let sending = timeout(Duration::from_millis(DIAL_TIMEOUT_MS), self.http.send(request));
        sending.await.unwrap_or_else(|_| Err(Fault::passing("nothing came for 30 s")))
    }

    async fn whole<T>(&self, url: Url, parse: fn(&[u8]) -> Option<T>) -> Result<T, Fault> {
        let mut response = self.send(self.http.get(url)).await?;
        if response.status() != StatusCode::OK {
            return Err(Answer::read(response).await.history_fault());
        }
        let mut body = Vec::new();
        while let Some(chunk) = in_time(response.chunk()).await? {
            body.extend_from_slice(&chunk);
            if body.len() > EXPORT_ANSWER_BYTES_MAX {
                return Err(Fault::passing("the answer is too long"));
            }
        }
        parse(&body).ok_or_else(|| Fault::passing("the answer is not a relay's: is the URL right?"))
    }

    async fn receive(&self, download: &mut Download) -> Result<(), FetchError> {
        let mut response = self.open(download).await?;
        let encoding = response.headers().get(CONTENT_ENCODING);
        if encoding.is_none_or(|encoding| encoding != "br") {
            return Err(FetchError::Damage(Damage::Decoded));
        }
        while let Some(chunk) = in_time(response.chunk()).await? {
            download.push(&chunk).map_err(FetchError::Damage)?;
        }
        if !download.is_whole() {
            let (came, bytes) = (download.length(), download.segment().bytes);
            return Err(Fault::passing(format!("it ended after {came} of {bytes} bytes")).into());
        }
        Ok(())
    }

    /// An answer whose body goes on where the download stands.
    async fn open(&self, download: &mut Download) -> Result<Response, Fault> {
        let url = Url::parse(&format!("{}{}", self.relay.base(), download.segment().url))
            .map_err(|error| Fault::passing(format!("its path is none: {error}")))?;
        // Without this the network between here and the relay decodes the bytes.
        let mut request = self.http.get(url).header(ACCEPT_ENCODING, "br");
        if download.length() > 0 {
            let digest = download.segment().sha256;
            request = request
                .header(RANGE, format!("bytes={}-", download.length()))
                .header(IF_RANGE, format!("\"{digest}\""));
        }
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if goes_on(response.headers(), download) => Ok(response),
            StatusCode::OK => {
                download.restart();
                Ok(response)
            }
            status @ (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) => {
                download.restart();
                Err(Fault::passing(format!("another range came (status {status})")))
            }
            _ => Err(Answer::read(response).await.history_fault()),
        }
    }
}

impl From<Fault> for FetchError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Decoding is work for a thread beside the one that receives.
async fn verify(download: Download) -> Input {
    let verified = tokio::task::spawn_blocking(move || match download.verify() {
        Ok(()) => Input::Fetched(download),
        Err(damage) => Input::Damaged(download, damage),
    });
    match verified.await {
        Ok(input) => input,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn goes_on(headers: &HeaderMap, download: &Download) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {}-", download.length())))
}

/// Silence for this long is a broken connection.
async fn in_time<T>(future: impl Future<Output = Result<T, reqwest::Error>>) -> Result<T, Fault> {
    match timeout(Duration::from_millis(DIAL_TIMEOUT_MS), future).await {
        Ok(result) => result.map_err(|error| Fault::passing(describe(&error))),
        Err(_) => Err(Fault::passing("nothing came for 30 s")),
    }
}
