//! Settings: from flags, then the environment, then a file; each knows where it came from.

mod arguments;
mod export;
mod keys;
mod orders;
mod settings;
mod sources;
mod values;

pub use self::{
    arguments::{Arguments, Order},
    export::{ExportSettings, ExportStart, Retry},
    settings::{HandlerSettings, LogLevel, Settings},
    sources::{ConfigError, Setting, Source},
};
