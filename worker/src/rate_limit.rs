//! A brake on abuse, not an account: the platform counts for each of its places by itself, and
//! counts late. What must be exact, such as connections, is counted by the objects.

use relay_durable::requester;
use relay_schemas::{ErrorCode, Problem};
use worker::Env;

use crate::{call::Call, log};

/// Refuses a machine that asks too often.
pub(crate) async fn require_credential_room(call: &Call) -> Result<(), Problem> {
    require_room(call, "CREDENTIAL_LIMIT", call.claims().sub.as_str()).await
}

/// Refuses an address without a credential, or with bad ones, that asks too often; of IPv6, its
/// network. There is one on the platform for every request; a local relay has none.
pub(crate) async fn require_address_room(call: &Call) -> Result<(), Problem> {
    match call.header("CF-Connecting-IP") {
        Some(address) => require_room(call, "ADDRESS_LIMIT", &requester(&address)).await,
        None => Ok(()),
    }
}

async fn require_room(call: &Call, limiter: &str, key: &str) -> Result<(), Problem> {
    // Who can't be counted is let through: the brake must not be what stops the relay.
    if is_within(&call.env, limiter, key).await.unwrap_or_else(|error| {
        log::platform_error("rate_limit_unavailable", &call.request_id, &error);
        true
    }) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::RateLimited, "too many requests; wait for Retry-After"))
}

async fn is_within(env: &Env, limiter: &str, key: &str) -> worker::Result<bool> {
    Ok(env.rate_limiter(limiter)?.limit(key.to_owned()).await?.success)
}
