use std::{sync::Once, time::Duration};

use reqwest::{
    Client, ClientBuilder, Url,
    header::{HeaderMap, HeaderValue},
    redirect::Policy,
};

use crate::{
    access::{Access, Http},
    config::Settings,
};

const USER_AGENT: &str = concat!("edgerelay/", env!("CARGO_PKG_VERSION"));

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a relay's routes are.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    base: String,
}

impl Relay {
    pub(crate) fn new(base: &Url) -> Self {
        Self { base: base.as_str().trim_end_matches('/').to_owned() }
    }

    /// The base, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A route's URL.
    pub(crate) fn route(&self, path: &str) -> Url {
        let text = format!("{}{path}", self.base);
        Url::parse(&text).expect("a base that is a URL and a path without oddities are a URL")
    }
}

/// TLS by rustls with `ring`: the client chooses, because the libraries leave it open.
pub(crate) fn client_builder() -> ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Only fails when an application that embeds this library has chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    // A redirect is an answer of something else: the credential goes nowhere but to the relay.
    Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT)
}

/// A client without a credential.
pub(crate) fn plain_client() -> Result<Client, reqwest::Error> {
    client_builder().user_agent(USER_AGENT).build()
}

/// Requests in the name of this machine.
pub(crate) fn http(settings: &Settings, access: &Access) -> Result<Http, reqwest::Error> {
    let mut headers = HeaderMap::new();
    let name = settings.name.as_ref().map(|name| HeaderValue::from_str(&name.value));
    if let Some(Ok(name)) = name {
        headers.insert("x-edge-name", name);
    }
    let client = client_builder().user_agent(USER_AGENT).default_headers(headers).build()?;
    Ok(Http::new(client, access.clone()))
}
