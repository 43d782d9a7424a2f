use std::process::{Command, Stdio};

use relay_tests::{node_binary, root};

/// Codecs for segments, in wasm under Node.js: they run in an object's isolate and have no other
/// machine. Compiled with the Worker's profile, but not passed through wasm-opt.
pub(crate) fn run() {
    println!("\n## Codecs for segments, in wasm");
    let status = Command::new(node_binary())
        .arg(root().join("tests/relay/codec.mjs"))
        .arg(build())
        .arg(root().join("durable/tests/segment/golden-v1.ndjson.br"))
        .status()
        .expect("Node.js starts");
    assert!(status.success(), "the codecs can't be measured; the reason is above");
}

/// The path of the freshly built codecs.
fn build() -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--package", "relay-codec-bench"])
        .args(["--target", "wasm32-unknown-unknown"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "the codecs don't build; the reasons are above");
    wasm_in(&String::from_utf8_lossy(&output.stdout)).expect("cargo says where the wasm is")
}

fn wasm_in(messages: &str) -> Option<String> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["filenames"].as_array().cloned())
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .find(|name| name.ends_with("relay_codec_bench.wasm"))
}
