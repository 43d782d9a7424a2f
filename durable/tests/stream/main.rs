//! Goal: every connection is sent exactly what comes after its start, in its dialect, within its
//! credit, and is ended for the right reasons.
//!
//! Method: scripts of inputs and moves of the clock, with the exact commands after each. Every
//! script runs twice, the second time with the object evicted before each step.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod credit;
mod delivery;
mod ending;
mod filter;
mod history;
mod silence;
mod slow;
