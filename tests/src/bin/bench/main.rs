//! Prints the numbers that are claimed for EdgeRelay. `cargo xtask bench` builds what it needs.
//!
//! Each is measured against a floor in the same run where it can be: a small JavaScript Worker in
//! the same workerd that verifies the same signature and pushes straight to a socket, storing and
//! queueing nothing. Arguments choose parts: throughput, latency, readers, storage, client, peer,
//! worker, codec, replay, cold, cost, idle, flood. A word with `=` makes one of them smaller or
//! longer: `events=20000 segments=200 minutes=10`.

#![allow(clippy::cast_precision_loss, reason = "rates and ratios for people")]

mod client;
mod codec;
mod cold;
mod cost;
mod figures;
mod fill;
mod flood;
mod footprint;
mod history_reader;
mod idle;
mod latency;
mod load;
mod options;
mod peer;
mod readers;
mod replay;
mod storage;
mod throughput;
mod traffic;

#[tokio::main]
async fn main() {
    let options = options::Options::read();
    let is_chosen = |part: &str| options.is_chosen(part);
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
    run_history(&options).await;
}

/// The parts about what is sealed, and what all costs.
async fn run_history(options: &options::Options) {
    if options.is_chosen("replay") {
        replay::run(options).await;
    }
    if options.is_chosen("cold") {
        cold::run(options).await;
    }
    if options.is_chosen("cost") {
        cost::run().await;
    }
    if options.is_chosen("idle") {
        idle::run().await;
    }
    if options.is_chosen("flood") {
        flood::run(options).await;
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
