//! Goal: the fake Linear keeps to what Linear documents, so that what works with it works with
//! Linear: OAuth, the GraphQL API, sessions, webhooks, limits; and each fault it can inject does
//! what it says.
//!
//! Method: an app made of a plain HTTP client and a tiny receiver of webhooks; time is moved by
//! the fake's own clock.

#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

mod activities;
mod faults;
mod limits;
mod oauth;
mod remote;
mod schema;
mod sessions;
mod stage;
mod tokens;
mod webhooks;
