//! Goal: events stand at 1, 2, 3 … without holes, once, for as long as they are kept, at the
//! promised price, whatever storage does.
//!
//! Method: a log over storage in memory, reloaded from it as an evicted object would be; every
//! read is compared with the list of what was appended.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

#[path = "../support/mod.rs"]
mod support;

mod append;
mod cost;
mod fault;
mod read;
mod retention;
mod sealing;
mod start;
