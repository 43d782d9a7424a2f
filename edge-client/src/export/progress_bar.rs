use std::io::IsTerminal;

use indicatif::{HumanBytes, ProgressBar as Bar, ProgressStyle};
use tracing::warn;

use super::{notice::Notice, transfer::Tally};

const TEMPLATE: &str =
    "{bar:30} {percent}% of {human_len} events, {msg}, {elapsed_precise}, {eta} to go";

/// A bar on standard error, when that is a terminal.
#[derive(Debug)]
pub(super) struct ProgressBar(Option<Bar>);

impl ProgressBar {
    /// No bar.
    pub(super) fn hidden() -> Self {
        Self(None)
    }

    /// Lines on the same terminal would tear a bar apart, so then there is none.
    pub(super) fn new(is_output_terminal: bool) -> Self {
        if is_output_terminal || !std::io::stderr().is_terminal() {
            return Self::hidden();
        }
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well formed");
        Self(Some(Bar::no_length().with_style(style)))
    }

    pub(super) fn show(&self, tally: &Tally) {
        let (Some(bar), Some((passed, total))) = (&self.0, tally.passed) else { return };
        bar.set_length(total);
        bar.set_position(passed);
        bar.set_message(HumanBytes(tally.bytes).to_string());
    }

    pub(super) fn tell(&self, notice: &Notice) {
        match &self.0 {
            Some(bar) => bar.suspend(|| warn!("{notice}")),
            None => warn!("{notice}"),
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
