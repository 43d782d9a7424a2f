use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::keys::{CREDENTIAL, KEYS, Key};

/// Where a value came from. Earlier ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `--name`
    Flag(&'static str),
    /// A variable.
    Environment(&'static str),
    /// A key of a file.
    File(PathBuf, String),
    /// Nobody set it.
    Default,
}

impl Source {
    fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) => 0,
            Self::Environment(_) => 1,
            Self::File(..) => 2,
            Self::Default => 3,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "the flag --{name}"),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path, key) => write!(f, "{key} in {}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value, and where it came from.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Setting<T> {
    pub(super) fn default(value: T) -> Self {
        Self { value, source: Source::Default }
    }
}

/// A setting is missing or wrong. Says which, where it came from and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

/// Where values are looked up.
pub(super) struct Sources<'a> {
    flags: &'a [(&'static str, String)],
    environment: &'a dyn Fn(&str) -> Option<String>,
    file: Option<(PathBuf, BTreeMap<String, String>)>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        flags: &'a [(&'static str, String)],
        environment: &'a dyn Fn(&str) -> Option<String>,
        file: Option<(&Path, &str)>,
    ) -> Result<Self, ConfigError> {
        let file = match file {
            Some((path, text)) => Some((path.to_owned(), read_file(path, text)?)),
            None => None,
        };
        Ok(Self { flags, environment, file })
    }

    /// The value and its source, when anybody set it. An empty variable is none.
    fn text(&self, key: &Key) -> Option<Setting<String>> {
        let flag = self.flags.iter().find(|(name, _)| *name == key.name);
        if let Some((name, value)) = flag {
            return Some(Setting { value: value.clone(), source: Source::Flag(name) });
        }
        if let Some(value) = (self.environment)(key.environment).filter(|value| !value.is_empty()) {
            return Some(Setting { value, source: Source::Environment(key.environment) });
        }
        let (path, values) = self.file.as_ref()?;
        let name = key.in_file();
        let value = values.get(&name)?.clone();
        Some(Setting { value, source: Source::File(path.clone(), name) })
    }

    /// Reads a setting, if it is set.
    pub(super) fn optional<T>(
        &self,
        key: &Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<Setting<T>>, ConfigError> {
        let Some(Setting { value: text, source }) = self.text(key) else { return Ok(None) };
        match parse(&text) {
            Ok(value) => Ok(Some(Setting { value, source })),
            Err(fault) => Err(wrong(key, &text, &source, &fault)),
        }
    }

    /// Reads a setting that has a default.
    pub(super) fn or_default<T>(
        &self,
        key: &Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
        default: T,
    ) -> Result<Setting<T>, ConfigError> {
        Ok(self.optional(key, parse)?.unwrap_or_else(|| Setting::default(default)))
    }

    /// Reads a setting that must be made.
    pub(super) fn required<T>(
        &self,
        key: &Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Setting<T>, ConfigError> {
        self.optional(key, parse)?.ok_or_else(|| {
            ConfigError(format!(
                "{} is not set: write {}={} in the environment, or {} = \"{}\" in the \
                 configuration file",
                key.help.to_lowercase().split('.').next().unwrap_or(key.name),
                key.environment,
                key.example,
                key.in_file(),
                key.example,
            ))
        })
    }
}

/// Of two settings that exclude each other, at most one.
pub(super) enum Stronger<T, U> {
    Neither,
    Left(Setting<T>),
    Right(Setting<U>),
}

impl<T, U> Stronger<T, U> {
    /// The one from the stronger source; from the same one, both are a fault.
    pub(super) fn of(
        left: Option<Setting<T>>,
        right: Option<Setting<U>>,
    ) -> Result<Self, ConfigError> {
        Ok(match (left, right) {
            (None, None) => Self::Neither,
            (Some(left), None) => Self::Left(left),
            (None, Some(right)) => Self::Right(right),
            (Some(left), Some(right)) => match left.source.rank().cmp(&right.source.rank()) {
                Ordering::Less => Self::Left(left),
                Ordering::Greater => Self::Right(right),
                Ordering::Equal => {
                    let (left, right) = (left.source, right.source);
                    return Err(ConfigError(format!(
                        "{left} and {right} exclude each other: keep one"
                    )));
                }
            },
        })
    }
}

fn wrong(key: &Key, text: &str, source: &Source, fault: &str) -> ConfigError {
    let shown = if key.name == CREDENTIAL.name { String::new() } else { format!(" \"{text}\"") };
    let instead = match source {
        Source::Flag(name) => format!("--{name} {}", key.example),
        Source::Environment(name) => format!("{name}={}", key.example),
        Source::File(_, name) => format!("{name} = \"{}\"", key.example),
        Source::Default => String::new(),
    };
    ConfigError(format!("{source} is wrong:{shown} {fault}. Write for example: {instead}"))
}

/// Reads a file's keys as text, so that every source is read by the same rules.
fn read_file(path: &Path, text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| ConfigError(format!("{} is not TOML: {error}", path.display())))?;
    let mut values = BTreeMap::new();
    for (name, value) in table {
        if !KEYS.iter().any(|key| key.in_file() == name) {
            let known: Vec<String> = KEYS.iter().map(|key| key.in_file()).collect();
            return Err(ConfigError(format!(
                "{} has an unknown key {name}; known are {}",
                path.display(),
                known.join(", ")
            )));
        }
        let text = plain_text(&value).ok_or_else(|| {
            let path = path.display();
            ConfigError(format!("{name} in {path} is a {}: write a plain value", value.type_str()))
        })?;
        values.insert(name, text);
    }
    Ok(values)
}

fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(is_true) => Some(is_true.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<String>> = values.iter().map(plain_text).collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(instant) => Some(instant.to_string()),
        toml::Value::Float(_) | toml::Value::Table(_) => None,
    }
}
