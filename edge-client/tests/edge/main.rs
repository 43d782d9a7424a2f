//! The client against a relay in the same process, on loopback. Nothing here waits for luck: a
//! test waits for what it expects, and the only limit is the one that keeps a broken test from
//! hanging.

#![allow(clippy::unwrap_used, reason = "a test says by a panic that something is wrong")]

mod assigned;
mod backpressure;
mod channels;
mod config;
mod credentials;
mod endings;
mod events;
mod export;
mod export_program;
mod fake_relay;
mod handlers;
mod harness;
mod history_relay;
mod home;
mod http;
mod keyring;
mod local_server;
mod outbox;
mod program;
mod progress;
mod resume;
mod script;
mod session_assigned;
mod session_model;
mod session_room;
mod session_script;
mod session_stops;
mod session_words;
mod sign_in;
mod store;
mod stream_out;
mod telling;
