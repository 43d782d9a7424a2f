//! Goal: flags before environment before file; and an error says where a value came from and what
//! to write. Method: every setting through every source.

use std::{collections::BTreeMap, path::Path, time::Duration};

use edgerelay::{Arguments, HandlerSettings, Settings, Source, Start, StoreChoice, Transport};

use crate::harness::credential;

const EXAMPLE: &str = include_str!("../../config.example.toml");

fn resolve(
    flags: &[&str],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Settings, String> {
    let token = credential("edge_1");
    let mut variables: BTreeMap<&str, &str> =
        BTreeMap::from([("PROXY_URL", "https://relay.example.com"), ("EDGE_API_KEY", &token)]);
    variables.extend(environment.iter().copied());
    let arguments = Arguments::parse(["edgerelay", "listen"].iter().chain(flags))
        .map_err(|error| error.to_string())?;
    let file = file.map(|text| (Path::new("config.toml"), text));
    Settings::resolve(&arguments, &|name| variables.get(name).map(|text| (*text).to_owned()), file)
        .map_err(|error| error.to_string())
}

#[test]
fn flags_come_before_the_environment_and_the_environment_before_the_file() {
    let flag = ["--concurrency", "4"];
    let environment = [("EDGERELAY_CONCURRENCY", "3")];
    let file = Some("concurrency = 2");
    for (flags, environment, file, expected, source) in [
        (&flag[..], &environment[..], file, 4, "the flag --concurrency"),
        (&[], &environment, file, 3, "the environment variable EDGERELAY_CONCURRENCY"),
        (&[], &[("EDGERELAY_CONCURRENCY", "")], file, 2, "concurrency in config.toml"),
        (&[], &[], file, 2, "concurrency in config.toml"),
        (&[], &[], Some(""), 1, "the default"),
        (&[], &[], None, 1, "the default"),
    ] {
        let setting = resolve(flags, environment, file).unwrap().concurrency;
        assert_eq!((setting.value, setting.source.to_string().as_str()), (expected, source));
    }
}

#[test]
fn every_value_is_read_from_the_file() {
    let file = r#"
        transport = "ndjson"
        kind = ["Issue.*", "Comment"]
        tail = 7
        exec = "cat"
        exec_timeout = "2m"
        attempts = 0
        on_failure = "skip"
        report = "off"
        state = "here.db"
        local = "off"
        heartbeat = 20
        grace = "1m"
        fail_on_gap = true
        exit_when_caught_up = true
        name = "laptop"
        log = "debug"
        credential_store = "file"
        channel = "team:t"
        own = "include"
        activities = "off"
        progress_fd = 7
    "#;
    let settings = resolve(&[], &[], Some(file)).unwrap();
    assert_eq!(settings.transport.value, Transport::Ndjson);
    assert_eq!(settings.kinds.value, ["Issue.*", "Comment"]);
    assert_eq!(settings.start.value, Start::Tail(7));
    let HandlerSettings::Exec(exec) = &settings.handler.value else { panic!("exec is set") };
    assert_eq!((exec.command.as_str(), exec.timeout), ("cat", Some(Duration::from_secs(120))));
    assert_eq!(settings.session().attempts_max, None);
    assert!(!settings.reports.value && settings.fail_on_gap.value);
    assert!(settings.exit_when_caught_up.value && settings.local.value.is_none());
    assert_eq!((settings.heartbeat_s.value, settings.grace.value.as_secs()), (20, 60));
    assert_eq!(settings.name.as_ref().unwrap().value, "laptop");
    assert_eq!(settings.state.value, Path::new("here.db"));
    assert_eq!(settings.credential_store.value, StoreChoice::File);
    assert_eq!(settings.channel_named().unwrap().to_string(), "team:t");
    assert!(settings.own.value && !settings.activities.value);
    assert_eq!(exec.progress_fd, 7);
}

#[test]
fn of_two_that_exclude_each_other_the_stronger_source_wins() {
    let settings =
        resolve(&["--forward", "http://127.0.0.1:1"], &[], Some("exec = 'cat'")).unwrap();
    assert!(matches!(settings.handler.value, HandlerSettings::Forward(_)));
    assert_eq!(settings.handler.source, Source::Flag("forward"));
    let error = resolve(&["--since", "1h", "--tail", "3"], &[], None).unwrap_err();
    assert_eq!(error, "the flag --since and the flag --tail exclude each other: keep one");
}

#[test]
fn errors_say_where_a_value_came_from_and_what_to_write() {
    let no_file = None;
    for (flags, environment, file, expected) in [
        (
            &["--concurrency", "many"][..],
            &[][..],
            no_file,
            "the flag --concurrency is wrong: \"many\" is not a number from 1 to 256. Write for \
             example: --concurrency 4",
        ),
        (
            &[],
            &[("EDGERELAY_TRANSPORT", "carrier-pigeon")],
            no_file,
            "the environment variable EDGERELAY_TRANSPORT is wrong: \"carrier-pigeon\" is not one \
             of ws, ndjson. Write for example: EDGERELAY_TRANSPORT=ws",
        ),
        (
            &[],
            &[],
            Some("heartbeat = 1"),
            "heartbeat in config.toml is wrong: \"1\" is not a number from 5 to 60. Write for \
             example: heartbeat = \"15\"",
        ),
        (&["--local", "0.0.0.0:80"], &[], no_file, "only loopback is served"),
        (&["--kind", "*"], &[], no_file, "the flag --kind is wrong: \"*\" is not a filter"),
        (&["--channel", "team"], &[], no_file, "is not a channel: user:ID, team:ID or org"),
        (&["--credential-store", "cloud"], &[], no_file, "is not one of auto, keyring, file"),
        (&["--exec", "cat", "--progress-fd", "2"], &[], no_file, "is not a number from 3 to 255"),
        (&["--grace", "soon"], &[], no_file, "is not a duration"),
        (&[], &[("PROXY_URL", "relay")], no_file, "PROXY_URL is wrong: \"relay\" is not a URL"),
        (&[], &[("PROXY_URL", "ftp://relay")], no_file, "is not an http or https URL"),
        (&[], &[("PROXY_URL", "https://r/?token=1")], no_file, "has more than scheme, host"),
        (&[], &[], Some("concurency = 2"), "config.toml has an unknown key concurency; known are"),
        (&[], &[], Some("exec = { a = 1 }"), "exec in config.toml is a table: write a plain value"),
        (&[], &[], Some("exec = "), "config.toml is not TOML"),
    ] {
        let error = resolve(flags, environment, file).unwrap_err();
        assert!(error.contains(expected), "{error}\n— should contain —\n{expected}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let arguments = Arguments::parse(["edgerelay", "listen"]).unwrap();
    let error = Settings::resolve(&arguments, &|_| None, None).unwrap_err().to_string();
    assert!(error.contains("PROXY_URL=https://relay.example.com"), "{error}");
}

#[test]
fn a_credential_is_never_shown() {
    let settings = resolve(&[], &[], None).unwrap();
    let token = credential("edge_1");
    let (_, secret_part) = token.rsplit_once('.').unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains(secret_part) && shown.contains("edge_1"), "{shown}");
    let broken = format!("{token}.more");
    for error in [
        resolve(&[], &[("EDGE_API_KEY", &broken)], None).unwrap_err(),
        resolve(&["--credential", "s3cret"], &[], None).unwrap_err(),
        resolve(&["--credential", "s3cret.s3cret.s3cret"], &[], None).unwrap_err(),
    ] {
        assert!(!error.contains(secret_part) && !error.contains("s3cret"), "{error}");
        assert!(error.contains("credential"), "{error}");
    }
}

#[test]
fn the_example_file_holds_every_key_and_each_of_its_lines_works() {
    resolve(&[], &[], Some(EXAMPLE)).unwrap();
    let mut shown = 0;
    for line in EXAMPLE.lines() {
        let Some(line) = line.strip_prefix("#") else { continue };
        if line.starts_with(' ') || !line.contains(" = ") {
            continue;
        }
        let line = if line.starts_with("credential") {
            format!("credential = \"{}\"", credential("edge_2"))
        } else {
            line.to_owned()
        };
        resolve(&[], &[], Some(&line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        shown += 1;
    }
    let unknown = resolve(&[], &[], Some("no_such_key = 1")).unwrap_err();
    let known = unknown.split_once("known are ").unwrap().1.split(", ").count();
    assert_eq!(shown, known, "the example shows each key once");
}

#[test]
fn without_reports_scope_nothing_is_reported_unless_asked() {
    let reports = |flags: &[&str]| resolve(flags, &[], None).unwrap().reports.value;
    assert!(!reports(&[]));
    assert!(reports(&["--report", "on"]));
    assert!(reports(&["--exec", "cat"]));
    assert!(!reports(&["--exec", "cat", "--report", "off"]));
    let activities = |flags: &[&str]| resolve(flags, &[], None).unwrap().activities.value;
    assert!(!activities(&[]) && !activities(&["--forward", "http://127.0.0.1:1"]));
    assert!(
        activities(&["--exec", "cat"]) && !activities(&["--exec", "cat", "--activities", "off"])
    );
}
