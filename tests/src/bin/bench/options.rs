use std::str::FromStr;

/// Which parts were asked for, and how large they are to be: `replay cold events=20000`.
pub(crate) struct Options {
    parts: Vec<String>,
    values: Vec<(String, String)>,
}

impl Options {
    /// Reads the command line: a word with `=` sets a value, any other chooses a part.
    pub(crate) fn read() -> Self {
        let mut options = Self { parts: Vec::new(), values: Vec::new() };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some((name, value)) => options.values.push((name.into(), value.into())),
                None => options.parts.push(argument),
            }
        }
        options
    }

    /// Whether a part is to run: it was named, or none was.
    pub(crate) fn is_chosen(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|name| name == part)
    }

    /// A value, or what it is by default.
    pub(crate) fn value<T: FromStr>(&self, name: &str, default: T) -> T {
        let found = self.values.iter().find(|(found, _)| found == name);
        found.map_or(default, |(_, text)| {
            text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
        })
    }
}
