//! A stream's history as NDJSON: plan, segments side by side, then pages, in order and up to the
//! tail that the first plan named.
//!
//! What to ask for next, what may be written and when it is over is decided by the value
//! [`Transfer`], which knows no socket and no clock; around it are the requests, the thread that
//! writes, and the progress bar.

mod batch;
mod destination;
mod download;
mod ending;
mod failure;
mod notice;
mod output;
mod page;
mod plan;
mod progress_bar;
mod records;
mod report;
mod requests;
mod shell;
mod transfer;
mod trial;
mod window;

pub use self::{
    ending::Ending,
    failure::Failure,
    report::ExportReport,
    shell::{export, export_to},
};
