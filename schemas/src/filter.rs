use serde::{Deserialize, Serialize};

use crate::{
    error::{ErrorCode, Problem},
    limits::{KIND_PATTERN_LENGTH_MAX, KIND_PATTERNS_MAX},
    record::{Subject, record_is_own, record_kind},
};

/// `Issue.update` exactly, or `Issue.*` for every action of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KindPattern(String);

impl KindPattern {
    fn parse(text: &str) -> Result<Self, Problem> {
        let name = text.strip_suffix(".*").unwrap_or(text);
        let plain = !name.is_empty()
            && text.len() <= KIND_PATTERN_LENGTH_MAX
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !plain {
            return Err(Problem::new(
                ErrorCode::ParameterInvalid,
                "kind is Type, Type.action or Type.*, several separated by commas",
            )
            .with("parameter", "kind"));
        }
        Ok(Self(text.to_owned()))
    }

    fn matches(&self, kind: &str) -> bool {
        match self.0.strip_suffix(".*") {
            Some(prefix) => kind.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
            None if self.0.contains('.') => kind == self.0,
            None => kind.split('.').next() == Some(&self.0),
        }
    }
}

/// Which kinds a reader wants: any of the patterns; all when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KindFilter(Vec<KindPattern>);

impl KindFilter {
    /// Reads one `kind` parameter; several of them add up.
    pub fn add(&mut self, text: &str) -> Result<(), Problem> {
        for pattern in text.split(',') {
            self.0.push(KindPattern::parse(pattern.trim())?);
        }
        if self.0.len() > KIND_PATTERNS_MAX {
            return Err(Problem::new(
                ErrorCode::ParameterInvalid,
                format!("at most {KIND_PATTERNS_MAX} kinds"),
            )
            .with("parameter", "kind"));
        }
        Ok(())
    }

    /// The kinds of scopes, which the relay knows to be well written; more of them than a query
    /// may name.
    pub(crate) fn of_scopes(lists: &[&str]) -> Self {
        let names = lists.iter().flat_map(|list| list.split(','));
        Self(names.map(|name| KindPattern(name.trim().to_owned())).collect())
    }

    /// Whether everything passes.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether events of this kind pass.
    pub fn passes(&self, kind: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(kind))
    }
}

/// What a reader is sent: every part must let an event pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFilter {
    /// What the credential's scopes allow.
    #[serde(default)]
    pub allowed: KindFilter,
    /// What the reader asks for.
    #[serde(default)]
    pub kinds: KindFilter,
    /// Whether it wants what the app itself did.
    #[serde(default)]
    pub own: bool,
    /// Only what was sent to this app.
    #[serde(default)]
    pub app: Option<String>,
}

impl ReadFilter {
    /// Whether a stored record passes. `kind` is given by who knows it without looking.
    pub fn passes(&self, kind: Option<&str>, record: &str) -> bool {
        if !self.own && record_is_own(record) {
            return false;
        }
        let passes_kind = (self.allowed.is_open() && self.kinds.is_open())
            || match kind {
                Some(kind) => self.passes_kind(kind),
                None => record_kind(record).is_some_and(|kind| self.passes_kind(&kind)),
            };
        let Some(app) = self.app.as_deref().filter(|_| passes_kind) else { return passes_kind };
        Subject::read(record).is_some_and(|subject| subject.app.as_deref() == Some(app))
    }

    /// The same for what is known of an event without its record.
    pub fn passes_parts(&self, kind: &str, is_own: bool, app: Option<&str>) -> bool {
        (self.own || !is_own)
            && self.passes_kind(kind)
            && self.app.as_deref().is_none_or(|wanted| app == Some(wanted))
    }

    /// Whether events of this kind may pass.
    pub fn passes_kind(&self, kind: &str) -> bool {
        self.allowed.passes(kind) && self.kinds.passes(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("Issue.*", "Issue.update", true),
            ("Issue.*", "IssueLabel.update", false),
            ("Issue.*", "Issue", false),
            ("Issue", "Issue.update", true),
            ("Issue", "IssueSLA.set", false),
            ("Issue.update", "Issue.update", true),
            ("Issue.update", "Issue.updated", false),
            ("Comment, Issue.create", "Issue.create", true),
            ("Comment, Issue.create", "Issue.update", false),
        ];
        for (text, kind, expected) in cases {
            let mut filter = KindFilter::default();
            filter.add(text).unwrap();
            assert_eq!(filter.passes(kind), expected, "{text} {kind}");
        }
        assert!(KindFilter::default().passes("anything"));
    }

    #[test]
    fn impossible_patterns_are_refused() {
        for text in ["", "*", ".*", "Issue,", "Is sue", "Issue*", &"x".repeat(101)] {
            assert!(KindFilter::default().add(text).is_err(), "{text:?}");
        }
        assert!(KindFilter::default().add(&vec!["a"; KIND_PATTERNS_MAX + 1].join(",")).is_err());
    }
}
