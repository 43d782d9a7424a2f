//! Goal: who asks too often is told to wait, and nobody else is.
//! Method: real limiters of workerd; requests until the limit, of one address and of another.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU32, Ordering};

use futures::{StreamExt, stream};
use relay_schemas::{
    ErrorCode,
    limits::{ADDRESS_REQUESTS_MAX, CREDENTIAL_REQUESTS_MAX, RATE_LIMIT_PERIOD_S},
};
use relay_tests::{Answer, EnrolledEdge, Relay, until};
use reqwest::{Method, RequestBuilder};

const ORGANIZATION: &str = "org-rate-limits";

fn forged(relay: &Relay, address: &str) -> RequestBuilder {
    let url = format!("{}/events", relay.url);
    relay.http.get(url).bearer_auth("forged").header("CF-Connecting-IP", address)
}

fn with_credential(relay: &Relay, edge: &EnrolledEdge, address: &str) -> RequestBuilder {
    relay.as_edge(edge, Method::GET, "/events?limit=1").header("CF-Connecting-IP", address)
}

async fn status_of(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

/// How many of so many requests were let through. The limiter's minute may end among them.
async fn let_through(count: u32, request: impl Fn() -> RequestBuilder) -> u32 {
    let answers = stream::iter(0..count).map(|_| status_of(request())).buffer_unordered(32);
    let counted = answers.filter(|status| std::future::ready(*status != 429));
    u32::try_from(counted.count().await).unwrap()
}

#[tokio::test]
async fn an_address_that_tries_keys_is_told_to_wait() {
    let relay = Relay::start().await;
    let edge = relay.enrol(ORGANIZATION, "user").await;
    let (bad, good) = ("192.0.2.1", "192.0.2.2");
    let counted = let_through(2 * ADDRESS_REQUESTS_MAX, || forged(&relay, bad)).await;
    assert!(counted >= ADDRESS_REQUESTS_MAX, "{counted}");
    until("a refusal for asking too often", async || {
        let answer = forged(&relay, bad).send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        (status == 429).then(|| {
            assert_eq!(headers["Retry-After"], RATE_LIMIT_PERIOD_S.to_string().as_str());
        })
    })
    .await;
    assert_eq!(status_of(forged(&relay, good)).await, 401);
    // A good credential is judged by itself, wherever it comes from.
    assert_eq!(status_of(with_credential(&relay, &edge, bad)).await, 200);
    let health = relay.http.get(format!("{}/health", relay.url)).header("CF-Connecting-IP", bad);
    assert_eq!(status_of(health).await, 200);
}

/// Whoever has one address of IPv6 has all of its network.
#[tokio::test]
async fn the_addresses_of_a_network_are_counted_together() {
    let relay = Relay::start().await;
    let next = AtomicU32::new(0);
    let another = |network: &str| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        forged(&relay, &format!("2001:db8:{network}::{number:x}"))
    };
    until("a refusal for asking too often", async || {
        let_through(ADDRESS_REQUESTS_MAX, || another("1:1")).await;
        (status_of(another("1:1")).await == 429).then_some(())
    })
    .await;
    assert_eq!(status_of(another("1:2")).await, 401);
}

#[tokio::test]
async fn a_machine_that_asks_too_often_is_told_to_wait() {
    let relay = Relay::start().await;
    let busy = relay.enrol(ORGANIZATION, "busy").await;
    let quiet = relay.enrol(ORGANIZATION, "quiet").await;
    let request = || relay.as_edge(&busy, Method::GET, "/events/none");
    let counted = let_through(CREDENTIAL_REQUESTS_MAX, request).await;
    assert!(counted >= CREDENTIAL_REQUESTS_MAX / 2, "{counted}");
    until("a refusal for asking too often", async || {
        let_through(500, request).await;
        let answer = Answer::to(request()).await;
        (answer.status == 429).then(|| answer.refused("the busy machine", ErrorCode::RateLimited))
    })
    .await;
    assert_eq!(status_of(with_credential(&relay, &quiet, "192.0.2.3")).await, 200);
}
