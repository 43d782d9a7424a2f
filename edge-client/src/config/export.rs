use std::path::{Path, PathBuf};

use relay_schemas::Cursor;

use super::{
    arguments::Arguments,
    keys,
    sources::{ConfigError, Setting, Sources, Stronger},
    values,
};
use crate::limits::{
    EXPORT_ATTEMPTS_MAX, EXPORT_BACKOFF_BASE_MS, EXPORT_BACKOFF_CAP_MS, EXPORT_CONNECTIONS_MAX,
};

/// What an export is to do, besides the relay and the credential.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// Where it begins.
    pub start: Setting<ExportStart>,
    /// The file that is written; `None` for standard output.
    pub output: Setting<Option<PathBuf>>,
    /// Segments that are fetched at the same time, and at most in memory.
    pub connections: Setting<usize>,
    /// How often requests are made again.
    pub retry: Retry,
}

/// Where an export begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportStart {
    /// At the oldest event kept.
    Earliest,
    /// As the relay reads it: a duration, an instant, an event id, `now`.
    Since(String),
    /// After this position.
    From(Cursor),
}

/// How often requests are made again, and after which waits.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Attempts without progress.
    pub attempts_max: u32,
    /// First range of waits.
    pub base_ms: u64,
    /// Greatest range of waits.
    pub cap_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts_max: EXPORT_ATTEMPTS_MAX,
            base_ms: EXPORT_BACKOFF_BASE_MS,
            cap_ms: EXPORT_BACKOFF_CAP_MS,
        }
    }
}

impl ExportSettings {
    /// Reads the process' environment.
    pub fn read(arguments: &Arguments) -> Result<Self, ConfigError> {
        Self::resolve(arguments, &|name| std::env::var(name).ok())
    }

    /// Reads settings from these sources only. None is in the configuration file, whose `since`
    /// is for the first start of `listen`.
    pub fn resolve(
        arguments: &Arguments,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let sources = Sources::new(&arguments.flags, environment, None)?;
        Ok(Self {
            start: read_start(&sources)?,
            output: sources.or_default(&keys::EXPORT_OUTPUT, output, None)?,
            connections: sources.or_default(
                &keys::EXPORT_CONNECTIONS,
                values::number(1, EXPORT_CONNECTIONS_MAX),
                4,
            )?,
            retry: Retry::default(),
        })
    }
}

fn read_start(sources: &Sources<'_>) -> Result<Setting<ExportStart>, ConfigError> {
    let since = sources.optional(&keys::EXPORT_SINCE, values::text)?;
    let from = sources.optional(&keys::EXPORT_FROM, cursor)?;
    Ok(match Stronger::of(since, from)? {
        Stronger::Left(Setting { value, source }) if value == "earliest" => {
            Setting { value: ExportStart::Earliest, source }
        }
        Stronger::Left(Setting { value, source }) => {
            Setting { value: ExportStart::Since(value), source }
        }
        Stronger::Right(Setting { value, source }) => {
            Setting { value: ExportStart::From(value), source }
        }
        Stronger::Neither => Setting::default(ExportStart::Earliest),
    })
}

fn cursor(text: &str) -> Result<Cursor, String> {
    text.parse().map_err(|_| "is not a cursor, such as the last line of an export names".into())
}

fn output(text: &str) -> Result<Option<PathBuf>, String> {
    let path = values::path(text)?;
    Ok((path != Path::new("-")).then_some(path))
}
