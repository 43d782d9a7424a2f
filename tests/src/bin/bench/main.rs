//! Prints the numbers that are claimed for EdgeRelay. `cargo xtask bench` builds what it needs.
//!
//! Each is measured against a floor in the same run where it can be: a small JavaScript Worker in
//! the same workerd that verifies the same signature and pushes straight to a socket, storing and
//! queueing nothing. Arguments choose parts: throughput, latency, readers, storage, client, peer,
//! worker, codec.

#![allow(clippy::cast_precision_loss, reason = "rates and ratios for people")]

mod client;
mod codec;
mod figures;
mod footprint;
mod latency;
mod load;
mod peer;
mod readers;
mod storage;
mod throughput;

#[tokio::main]
async fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let is_chosen = |part: &str| chosen.is_empty() || chosen.iter().any(|name| name == part);
    describe_machine();
    if is_chosen("worker") {
        footprint::run().await;
    }
    if is_chosen("storage") {
        storage::run().await;
    }
    if is_chosen("codec") {
        codec::run();
    }
    if is_chosen("client") {
        client::run().await;
    }
    if is_chosen("peer") {
        peer::run().await;
    }
    if is_chosen("latency") {
        latency::run().await;
    }
    if is_chosen("readers") {
        readers::run().await;
    }
    if is_chosen("throughput") {
        throughput::run().await;
    }
}

fn describe_machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo");
    let model =
        processor.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let total = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    println!("machine         {cores} cores of {}", model.unwrap_or("an unknown processor"));
    println!("                {:.0} GB of memory", total.unwrap_or(0.0_f64) / 1e6);
    println!("                load before the run: {}", read("/proc/loadavg").trim());
}
