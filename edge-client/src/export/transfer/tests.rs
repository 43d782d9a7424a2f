//! Goal: what is asked for and written, and when it is over. Method: scripts of inputs and exact
//! commands, and a model that runs whole exports with faults in random order.

mod model;
mod script;

use relay_schemas::{Cursor, UnixMillis};

use super::{Command, Transfer};
use crate::{
    config::{ExportSettings, ExportStart, Retry, Setting, Source},
    fault::Fault,
};

fn settings(start: ExportStart, connections: usize) -> ExportSettings {
    fn setting<T>(value: T) -> Setting<T> {
        Setting { value, source: Source::Default }
    }
    ExportSettings {
        start: setting(start),
        output: setting(None),
        connections: setting(connections),
        retry: Retry { attempts_max: 3, base_ms: 1_000, cap_ms: 8_000 },
    }
}

fn drain(transfer: &mut Transfer) -> Vec<Command> {
    std::iter::from_fn(|| transfer.next_command()).collect()
}

fn at(milliseconds: u64) -> UnixMillis {
    UnixMillis::new(milliseconds)
}

fn passing() -> Fault {
    Fault::passing("as planned")
}

fn seq(cursor: Option<Cursor>) -> Option<u64> {
    cursor.map(|cursor| cursor.seq.get())
}
