use std::process::{Command, Stdio};

use relay_tests::{Relay, root};

use crate::figures::{median, megabytes};

const STARTS: usize = 3;

/// The Worker's size and how long its first answer takes.
pub(crate) async fn run() {
    println!("\n## Worker");
    let path = root().join("worker/build/index_bg.wasm");
    let raw = std::fs::metadata(&path).expect("built").len();
    let gzip = Command::new("gzip").arg("-9c").arg(&path).stdout(Stdio::piped()).output();
    let packed = gzip.map_or(0, |output| output.stdout.len());
    println!(
        "wasm            {:.2} MB, {:.0} kB with gzip -9",
        megabytes(raw),
        packed as f64 / 1e3
    );
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let relay = Relay::start().await;
        first.push(relay.first_answer.as_secs_f64() * 1e3);
        let asked = std::time::Instant::now();
        let answer = relay.http.get(format!("{}/health", relay.url)).send().await;
        assert!(answer.expect("answers").status().is_success());
        second.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "start-up        first answer of a new isolate {:.0} ms, the next {:.1} ms",
        median(&first),
        median(&second)
    );
}
