//! Goal: the runbook names every metric that there is, and no other.
//!
//! Method: what an empty registry writes is compared with the runbook's table.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

use std::{collections::BTreeMap, fs, path::Path};

use relay_durable::MetricsRegistry;

#[test]
fn every_metric_is_described_and_no_other() {
    let text = MetricsRegistry::default().render("0.0.0");
    let metrics: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();

    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/README.md");
    let runbook = fs::read_to_string(runbook).unwrap();
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
