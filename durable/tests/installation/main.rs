//! Goal: Linear is answered in time, once, in order, whatever fails; and its tokens outlive that.
//!
//! Method: scripts of inputs and exact requests, against a model of Linear that is no more patient
//! than Linear: refresh tokens rotate and are repeated for half an hour, an id is taken once, and
//! the first error of a request ends it.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

mod announcing;
mod budget;
mod desk;
mod limits;
mod linear;
mod news;
mod outbox;
mod overtaking;
mod people;
mod refusing;
mod reporting;
mod revoking;
mod simulation;
mod tokens;
mod working;
