//! Goal: the runbook names every metric that there is, and no other.
//!
//! Method: what an empty registry writes is compared with the runbook's table.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use relay_durable::MetricsRegistry;

#[test]
fn every_metric_is_described_and_no_other() {
    let text = MetricsRegistry::default().render("0.0.0");
    let metrics: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();

    // What cargo says now: a target directory can be shared between checkouts.
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let runbook = fs::read_to_string(manifest.join("../worker/README.md")).unwrap();
    let described: BTreeMap<&str, &str> = runbook
        .lines()
        .filter(|line| line.starts_with("| `edgerelay_"))
        .map(|line| {
            let mut columns = line.split(" | ");
            let name = columns.next().unwrap().trim_start_matches("| ").trim_matches('`');
            (name, columns.next().unwrap())
        })
        .collect();
    assert_eq!(described, metrics);
}
