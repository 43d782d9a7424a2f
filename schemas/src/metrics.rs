//! What is counted, and how counts travel from where they are made to the object that adds them
//! up: as differences, one call per batch of the queue at most.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    command::Dialect,
    cursor::Cursor,
    identifier::{OrganizationId, StreamKey},
    installation::AppState,
    time::UnixMillis,
};

/// A counter and its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Webhooks by result: `accepted` or an error code.
    Webhooks(&'static str),
    /// Events given a stream, by the rule that did it.
    Routed(&'static str),
    /// Events that found nobody.
    Unroutable,
    /// Events that an operator has had routed again.
    Rerouted,
    /// Events that tell what the app itself did.
    Own,
    /// Events that got a place in a log.
    Appended,
    /// Events that had one already.
    Duplicates,
    /// Frames of events sent to connections.
    Delivered,
    /// Messages kept as dead letters.
    DeadLettered,
    /// Messages given back to the queue.
    Retried,
    /// Reports of edges.
    Reports(&'static str),
    /// Connections opened.
    ConnectionsOpened(Dialect),
    /// Connections ended.
    ConnectionsClosed(Dialect),
    /// Segments put into R2 and into the index.
    SegmentsSealed,
    /// Events in them.
    EventsSealed,
    /// Attempts at sealing that failed, by what refused.
    SealFailures(&'static str),
    /// Segments that a reader was told are lost.
    SegmentsLost,
    /// Segments read for readers.
    SegmentsRead,
    /// Objects of R2 deleted because nothing needs them.
    OrphansDeleted,
    /// Connections found dead by missing heartbeats.
    HeartbeatLosses,
    /// Events and single edges: `given`, taken away by reason, or `given_up`.
    Assignments(&'static str),
    /// Signals sent to connections.
    Signals,
    /// Calls to Linear by what came of them.
    LinearCalls(&'static str),
    /// Refreshes of Linear's tokens by what came of them.
    LinearRefreshes(&'static str),
    /// Activities that the relay showed itself, by why no machine did.
    LinearStandIns(&'static str),
    /// New agent sessions, by whether the first activity came within Linear's ten seconds.
    LinearFirstActivities(bool),
    /// People who have signed in: `install` or `person`.
    SignIns(&'static str),
    /// Machines that a person has signed in.
    MachineLogins,
    /// Machines that asked for their next tokens, by what came of it.
    MachineRefreshes(&'static str),
    /// Edges that were revoked, by reason.
    EdgesRevoked(&'static str),
}

impl Counter {
    /// Metric name and label, `name|label|value`; the label is empty where there is none.
    pub fn series(self) -> String {
        let (name, label, value) = match self {
            Self::Webhooks(result) => ("webhooks_total", "result", result),
            Self::Routed(rule) => ("events_routed_total", "rule", rule),
            Self::Unroutable => ("events_unroutable_total", "", ""),
            Self::Rerouted => ("events_rerouted_total", "", ""),
            Self::Own => ("events_own_total", "", ""),
            Self::Appended => ("events_appended_total", "", ""),
            Self::Duplicates => ("events_duplicate_total", "", ""),
            Self::Delivered => ("events_delivered_total", "", ""),
            Self::DeadLettered => ("dead_letters_total", "", ""),
            Self::Retried => ("queue_retries_total", "", ""),
            Self::Reports(status) => ("reports_total", "status", status),
            Self::ConnectionsOpened(dialect) => {
                ("connections_opened_total", "dialect", dialect.as_str())
            }
            Self::ConnectionsClosed(dialect) => {
                ("connections_closed_total", "dialect", dialect.as_str())
            }
            Self::SegmentsSealed => ("segments_sealed_total", "", ""),
            Self::EventsSealed => ("events_sealed_total", "", ""),
            Self::SealFailures(store) => ("seal_failures_total", "store", store),
            Self::SegmentsLost => ("segments_lost_total", "", ""),
            Self::SegmentsRead => ("segments_read_total", "", ""),
            Self::OrphansDeleted => ("orphans_deleted_total", "", ""),
            Self::HeartbeatLosses => ("heartbeat_losses_total", "", ""),
            Self::Assignments(result) => ("assignments_total", "result", result),
            Self::Signals => ("signals_total", "", ""),
            Self::LinearCalls(result) => ("linear_calls_total", "result", result),
            Self::LinearRefreshes(result) => ("linear_refreshes_total", "result", result),
            Self::LinearStandIns(reason) => ("linear_stand_ins_total", "reason", reason),
            Self::LinearFirstActivities(in_time) => {
                let in_time = if in_time { "true" } else { "false" };
                ("linear_first_activity_total", "in_time", in_time)
            }
            Self::SignIns(purpose) => ("sign_ins_total", "purpose", purpose),
            Self::MachineLogins => ("machine_logins_total", "", ""),
            Self::MachineRefreshes(result) => ("machine_refreshes_total", "result", result),
            Self::EdgesRevoked(reason) => ("edges_revoked_total", "reason", reason),
        };
        format!("{name}|{label}|{value}")
    }
}

/// A distribution of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histogram {
    /// From a webhook's receipt to the start of its batch.
    QueueLatency,
    /// From a webhook's receipt until it is durable in its stream.
    WebhookToAppend,
    /// From Linear's sending a new agent session's event until Linear had its first activity.
    FirstActivity,
}

impl Histogram {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::QueueLatency, Self::WebhookToAppend, Self::FirstActivity];

    /// Upper bounds of the buckets in ms; the last bucket has none.
    pub const BOUNDS_MS: [u64; 12] =
        [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000, 600_000];

    /// The metric's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueLatency => "queue_latency_seconds",
            Self::WebhookToAppend => "webhook_to_append_seconds",
            Self::FirstActivity => "linear_first_activity_seconds",
        }
    }
}

/// Observations since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramDelta {
    /// Per bucket, not added up.
    pub counts: Vec<u64>,
    /// Of all observations.
    pub sum_ms: u64,
}

/// A stream that events were appended to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTouch {
    /// Its newest position.
    pub tail: Cursor,
    /// When.
    pub at: UnixMillis,
}

/// How an organization's installation does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationTouch {
    /// Whether each app can speak, by client id.
    pub apps: BTreeMap<String, AppState>,
    /// Calls that wait for Linear; unknown where it is only remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<usize>,
    /// Calls that were given up in the last days.
    pub given_up: usize,
    /// When that was so.
    pub at: UnixMillis,
}

impl InstallationTouch {
    /// Whether somebody must install an app again.
    pub fn needs_sign_in(&self) -> bool {
        self.apps.values().any(|state| *state == AppState::NeedsSignIn)
    }

    /// What is worth remembering: all but what changes with every call.
    #[must_use]
    pub fn lasting(&self) -> Self {
        Self { waiting: None, ..self.clone() }
    }

    /// Whether what lasts is the same.
    pub fn lasts_as(&self, other: &Self) -> bool {
        self.apps == other.apps && self.given_up == other.given_up
    }
}

/// What was counted since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsDelta {
    /// By series.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// By name.
    #[serde(default)]
    pub histograms: BTreeMap<String, HistogramDelta>,
    /// By stream name.
    #[serde(default)]
    pub streams: BTreeMap<String, StreamTouch>,
    /// By organization.
    #[serde(default)]
    pub installations: BTreeMap<String, InstallationTouch>,
}

impl MetricsDelta {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts.
    pub fn add(&mut self, counter: Counter, count: u64) {
        if count > 0 {
            *self.counters.entry(counter.series()).or_default() += count;
        }
    }

    /// Observes a duration.
    pub fn observe(&mut self, histogram: Histogram, milliseconds: u64) {
        let delta = self.histograms.entry(histogram.name().to_owned()).or_default();
        delta.counts.resize(Histogram::BOUNDS_MS.len() + 1, 0);
        let bucket = Histogram::BOUNDS_MS.partition_point(|bound| *bound < milliseconds);
        delta.counts[bucket] += 1;
        delta.sum_ms += milliseconds;
    }

    /// Notes where a stream's newest event is.
    pub fn touch(&mut self, stream: &StreamKey, tail: Cursor, at: UnixMillis) {
        self.streams.insert(stream.to_string(), StreamTouch { tail, at });
    }

    /// Notes how an installation does.
    pub fn touch_installation(&mut self, organization: &OrganizationId, touch: InstallationTouch) {
        self.installations.insert(organization.to_string(), touch);
    }

    /// Adds another report to this one. Of two words about the same the later counts: reports that
    /// could not be sent are added again after newer ones.
    pub fn merge(&mut self, other: Self) {
        for (series, count) in other.counters {
            *self.counters.entry(series).or_default() += count;
        }
        for (name, theirs) in other.histograms {
            let ours = self.histograms.entry(name).or_default();
            ours.counts.resize(ours.counts.len().max(theirs.counts.len()), 0);
            ours.counts.iter_mut().zip(theirs.counts).for_each(|(ours, theirs)| *ours += theirs);
            ours.sum_ms += theirs.sum_ms;
        }
        for (stream, touch) in other.streams {
            let is_news = self.streams.get(&stream).is_none_or(|ours| ours.at <= touch.at);
            if is_news {
                self.streams.insert(stream, touch);
            }
        }
        for (organization, touch) in other.installations {
            let ours = self.installations.get(&organization);
            if ours.is_none_or(|ours| ours.at <= touch.at) {
                self.installations.insert(organization, touch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_add_up() {
        let mut left = MetricsDelta::default();
        left.add(Counter::Appended, 2);
        left.observe(Histogram::QueueLatency, 5);
        let mut right = MetricsDelta::default();
        right.add(Counter::Appended, 3);
        right.observe(Histogram::QueueLatency, 6);
        right.observe(Histogram::QueueLatency, 10_000_000);
        left.merge(right);
        assert_eq!(left.counters["events_appended_total||"], 5);
        let histogram = &left.histograms["queue_latency_seconds"];
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[12]), (1, 1, 1));
        assert_eq!(histogram.sum_ms, 10_000_011);
    }

    #[test]
    fn of_two_words_about_the_same_the_later_counts() {
        let touch = |at, given_up| InstallationTouch {
            apps: BTreeMap::new(),
            waiting: Some(1),
            given_up,
            at: UnixMillis::new(at),
        };
        let organization = "o".parse().unwrap();
        let (mut old, mut new) = (MetricsDelta::default(), MetricsDelta::default());
        old.touch_installation(&organization, touch(1, 1));
        new.touch_installation(&organization, touch(2, 2));
        for (mut left, right) in [(old.clone(), new.clone()), (new, old)] {
            left.merge(right);
            assert_eq!(left.installations["o"].given_up, 2);
        }
    }

    #[test]
    fn a_report_of_an_older_relay_is_read() {
        let old = r#"{"counters":{"x||":1},"histograms":{},"streams":{}}"#;
        assert_eq!(serde_json::from_str::<MetricsDelta>(old).unwrap().counters["x||"], 1);
    }
}
