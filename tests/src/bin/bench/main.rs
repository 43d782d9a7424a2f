//! Prints the numbers that are claimed for EdgeRelay. `cargo xtask bench` builds what it needs.

#![allow(clippy::cast_precision_loss, reason = "rates and ratios for people")]

mod load;
mod throughput;

#[tokio::main]
async fn main() {
    let (ours, floor) = throughput::run().await;
    println!("webhooks/s: whole path {ours:.0}, floor {floor:.0}, ratio {:.2}", ours / floor);
}
