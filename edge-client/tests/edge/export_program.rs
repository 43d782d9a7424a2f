//! Goal: `edgerelay export` as people and scripts see it: files, exit codes, signals, what is said.
//! Method: the program against a relay of history that fails as planned.

use std::{path::Path, process::Command, sync::Arc};

use relay_schemas::ErrorCode;
use tokio::sync::Notify;

use crate::{
    events::cursor,
    harness::within,
    history_relay::{HistoryRelay, Wrong, lines},
    program::{self, output, program, text, wait},
};

/// The program `edgerelay export`.
fn export(relay: &HistoryRelay, directory: &Path, flags: &[&str]) -> Command {
    let flags: Vec<&str> = ["export"].iter().chain(flags).copied().collect();
    program(&relay.url, &directory.join("state.db"), &flags)
}

fn last_line(stderr: &str) -> &str {
    stderr.lines().last().unwrap()
}

#[tokio::test]
async fn the_program_writes_lines_and_a_summary() {
    let directory = tempfile::tempdir().unwrap();
    let relay = HistoryRelay::start(40, &[7, 20]).await;
    let ended = output(export(&relay, directory.path(), &[])).await;
    let stderr = text(&ended.stderr);
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), lines(1, 40)), "{stderr}");
    let bytes = ended.stdout.len();
    assert!(stderr.starts_with(&format!("edgerelay: 40 events, {bytes} bytes, ")), "{stderr}");
    assert!(stderr.ends_with(&format!("; complete up to {}\n", cursor(40))), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "no bar without a terminal: {stderr}");
    assert!(directory.path().read_dir().unwrap().next().is_none(), "it needs no state");
}

#[tokio::test]
async fn a_file_has_its_name_when_it_is_complete() {
    let directory = tempfile::tempdir().unwrap();
    let relay = HistoryRelay::start(40, &[7, 20]).await;
    let file = directory.path().join("all.ndjson");
    let part = directory.path().join("all.ndjson.part");
    let flags = ["--output", file.to_str().unwrap()];
    std::fs::write(&file, "of yesterday").unwrap();
    relay.plan_wrong("segment 8", Wrong::Problem(ErrorCode::CredentialExpired, None));
    let ended = output(export(&relay, directory.path(), &flags)).await;
    let stderr = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("ask for a new one"), "{stderr}");
    assert!(stderr.contains("all.ndjson.part is not complete"), "{stderr}");
    assert!(last_line(&stderr).ends_with(&format!("go on with --from {}", cursor(7))), "{stderr}");
    assert_eq!(std::fs::read_to_string(&part).unwrap(), lines(1, 7));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of yesterday");
    let ended = output(export(&relay, directory.path(), &flags)).await;
    assert_eq!(ended.status.code(), Some(1), "the part is not overwritten");
    assert!(text(&ended.stderr).contains("Move it away"), "{}", text(&ended.stderr));
    assert_eq!(std::fs::read_to_string(&part).unwrap(), lines(1, 7));
    std::fs::remove_file(&part).unwrap();
    let ended = output(export(&relay, directory.path(), &flags)).await;
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), lines(1, 40));
    assert!(!part.exists());
}

#[tokio::test]
async fn an_export_that_wrote_nothing_leaves_no_part() {
    let directory = tempfile::tempdir().unwrap();
    let relay = HistoryRelay::start(4, &[]).await;
    relay.plan_wrong("plan", Wrong::Problem(ErrorCode::CredentialExpired, None));
    let file = directory.path().join("all.ndjson");
    let flags = ["--output", file.to_str().unwrap()];
    let ended = output(export(&relay, directory.path(), &flags)).await;
    assert_eq!(ended.status.code(), Some(3));
    assert!(directory.path().read_dir().unwrap().next().is_none());
}

#[tokio::test]
async fn retries_and_gaps_are_said_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let relay = HistoryRelay::start(40, &[7, 20]).await;
    relay.trim(9);
    relay.plan_wrong("segment 8", Wrong::Problem(ErrorCode::Unavailable, Some(1)));
    let from = cursor(3).to_string();
    let ended = output(export(&relay, directory.path(), &["--from", &from])).await;
    let stderr = text(&ended.stderr);
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), lines(10, 40)), "{stderr}");
    assert!(stderr.contains(&format!("events are missing after {from}")), "{stderr}");
    assert!(stderr.contains(&format!("going on at {}", cursor(9))), "{stderr}");
    assert!(stderr.contains("attempt 1 of 10, again in 1s"), "{stderr}");
    let flags = ["--from", &from, "--fail-on-gap"];
    let ended = output(export(&relay, directory.path(), &flags)).await;
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(5), 0));
    assert!(text(&ended.stderr).ends_with(&format!("--from {from}\n")));
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_it_with_the_cursor_to_go_on_from() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let directory = tempfile::tempdir().unwrap();
    let relay = HistoryRelay::start(20, &[7, 20]).await;
    relay.plan_wrong("segment 8", Wrong::Hold(Arc::new(Notify::new())));
    let mut child = export(&relay, directory.path(), &["--connections", "1"]).spawn().unwrap();
    // With one connection it is asked for when the first one is written.
    within(relay.wait_for("segment 8")).await;
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let written = program::lines(&mut child, 7).await.concat();
    let (status, stderr) = wait(child).await;
    assert_eq!((status, written), (Some(0), lines(1, 7)), "{stderr}");
    assert!(stderr.contains("stopped before the end"), "{stderr}");
    assert!(last_line(&stderr).ends_with(&format!("go on with --from {}", cursor(7))), "{stderr}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_it_also_when_nobody_reads() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let directory = tempfile::tempdir().unwrap();
    // More than a pipe holds.
    let relay = HistoryRelay::start(400, &[200, 400]).await;
    let mut child = export(&relay, directory.path(), &[]).spawn().unwrap();
    assert_eq!(program::lines(&mut child, 1).await.concat(), lines(1, 1));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let (status, stderr) = within(wait(child)).await;
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("stopped before the end"), "{stderr}");
    assert!(last_line(&stderr).ends_with(&format!("go on with --from {}", cursor(0))), "{stderr}");
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_it_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let relay = HistoryRelay::start(800, &[200, 400, 600]).await;
    let mut child = export(&relay, directory.path(), &[]).spawn().unwrap();
    assert_eq!(program::lines(&mut child, 2).await.concat(), lines(1, 2));
    drop(child.stdout.take());
    let (status, stderr) = wait(child).await;
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn wrong_usage_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let relay = HistoryRelay::start(4, &[]).await;
    for (flags, expected) in [
        (&["--from", "nonsense"][..], "the flag --from is wrong: \"nonsense\" is not a cursor"),
        (&["--connections", "0"], "is not a number from 1 to 32"),
        (&["--since", "1h", "--from", "d1uumj1lktsi00000000000"], "exclude each other"),
        (&["--kind", "Issue"], "--kind"),
    ] {
        let ended = output(export(&relay, directory.path(), flags)).await;
        assert_eq!(ended.status.code(), Some(2));
        assert!(text(&ended.stderr).contains(expected), "{}", text(&ended.stderr));
    }
    let help = text(&output(export(&relay, directory.path(), &["--help"])).await.stdout);
    for expected in ["--since <WHEN>", "--from <CURSOR>", "--output <FILE>", "--connections <N>"] {
        assert!(help.contains(expected), "{help}");
    }
    assert!(relay.seen("").is_empty());
}
