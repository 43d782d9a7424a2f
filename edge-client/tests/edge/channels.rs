//! Goal: each channel is asked for by its name, and read from where it was. Method: one state, and a
//! relay that notes what it is asked.

use edgerelay::{Arguments, ExportSettings, export_to};
use futures::stream;

use crate::{
    fake_relay::FakeRelay,
    harness::{Recorder, Running, settings},
};

#[tokio::test]
async fn channels_have_cursors_of_their_own_and_are_asked_for() {
    let relay = FakeRelay::start().await;
    relay.push(&["s"; 2]);
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state.db");
    for flags in [&["--channel", "team:t", "--own", "include"][..], &[], &["--channel", "org"]] {
        let recorder = Recorder::new();
        let all = [flags, &["--exit-when-caught-up"]].concat();
        Running::start(settings(&relay, &state, &all), recorder.clone()).exit().await;
        assert_eq!(recorder.events().len(), 2, "{flags:?} starts from the beginning");
    }
    relay.seen(|seen| {
        assert!(seen.dials[0].ends_with("&channel=team%3At&own=include"), "{:?}", seen.dials);
        assert!(!seen.dials[1].contains("channel") && !seen.dials[1].contains("own"));
        assert!(seen.dials[2].ends_with("&channel=org"));
    });
    let recorder = Recorder::new();
    let flags = ["--channel", "team:t", "--exit-when-caught-up"];
    Running::start(settings(&relay, &state, &flags), recorder.clone()).exit().await;
    assert_eq!(recorder.events(), [], "it goes on where it was");
}

#[tokio::test]
async fn an_export_asks_for_its_channel() {
    let relay = FakeRelay::start().await;
    let directory = tempfile::tempdir().unwrap();
    let arguments = Arguments::parse(["edgerelay", "export", "--channel", "org"]).unwrap();
    let settings = settings(&relay, &directory.path().join("state.db"), &["--channel", "org"]);
    let export = ExportSettings::resolve(&arguments, &|_| None).unwrap();
    export_to(&settings, &export, std::io::sink(), stream::empty()).await;
    let asked = relay.seen(|seen| seen.others.first().cloned()).unwrap();
    assert!(asked.starts_with("/events/segments?") && asked.ends_with("channel=org"), "{asked}");
}
