//! The whole path as a story. A workspace installs the app, a person signs in a laptop with the
//! real client, delegates issues with the laptop off, on, killed and stopped, and sees each answered
//! in Linear. Then every type of webhook is handled once. `cargo xtask demo` builds what it needs
//! and runs it.
//!
//! Linear is a fake of this crate; the relay is the built Worker on workerd. Exit status 0 only if
//! all that is printed as held did hold.

#![allow(clippy::unwrap_used, reason = "a demo fails where it stands")]

mod every_kind;
mod laptop;
mod sessions;
mod shown;
mod verdict;

use std::{process::ExitCode, time::Instant};

use relay_tests::Scene;

use self::verdict::Verdict;

#[tokio::main]
async fn main() -> ExitCode {
    let started = Instant::now();
    let scene = Scene::start().await;
    println!("relay       {} on local Durable Objects, KV, R2 and Queues", scene.relay.url);
    println!("linear      {} plays Linear", scene.linear.url());
    let mut verdict = Verdict::default();
    let shown = sessions::play(&scene, &mut verdict).await;

    println!();
    every_kind::play(&scene.relay, &mut verdict).await;

    println!("\nWhat Linear's user sees, from the moment of the delegation on:");
    shown.iter().for_each(shown::Shown::print);
    println!();
    let holds = verdict.print();
    println!("\n{:.0} s in all", started.elapsed().as_secs_f64());
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
