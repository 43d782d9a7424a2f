use std::{collections::BTreeMap, fmt::Write};

use relay_schemas::{Dialect, Histogram, HistogramDelta, MetricsDelta, StreamTouch};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "edgerelay_";

const HELP: &[(&str, &str)] = &[
    ("webhooks_total", "Webhooks by result: accepted, or the code of the refusal."),
    ("events_routed_total", "Events given a person's stream, by the rule that found the person."),
    ("events_unroutable_total", "Events that found nobody and went to the unrouted stream."),
    ("events_appended_total", "Events that got a place in a log."),
    ("events_duplicate_total", "Deliveries of events that had a place already."),
    ("events_delivered_total", "Events sent to connections."),
    ("dead_letters_total", "Messages kept as dead letters."),
    ("queue_retries_total", "Messages given back to the queue."),
    ("reports_total", "Status reports of edges."),
    ("connections_opened_total", "Connections opened, by dialect."),
    ("connections_closed_total", "Connections ended, by dialect."),
    ("segments_sealed_total", "Segments put into R2 and into the index."),
    ("events_sealed_total", "Events in them."),
    ("seal_failures_total", "Attempts at sealing that failed, by the store that refused."),
    ("segments_read_total", "Segments read for readers, pages and downloads."),
    ("segments_lost_total", "Segments that a reader was told are gone or damaged."),
    ("orphans_deleted_total", "Objects of R2 that a sweep deleted because nothing needs them."),
    ("heartbeat_losses_total", "Connections found dead by missing heartbeats."),
];

/// Streams that are listed; counts include all. About 150 bytes of memory each.
const STREAMS_MAX: usize = 50_000;

/// Adds up what every isolate counts, and writes it for Prometheus. What is serialised are the
/// counts: streams are stored by name, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsRegistry {
    totals: MetricsDelta,
    #[serde(skip)]
    streams: BTreeMap<String, Option<StreamTouch>>,
}

impl MetricsRegistry {
    /// Adds a report, and answers with the streams not known before.
    pub fn merge(&mut self, mut delta: MetricsDelta) -> Vec<String> {
        let mut unknown = Vec::new();
        for (stream, touch) in std::mem::take(&mut delta.streams) {
            if let Some(known) = self.streams.get_mut(&stream) {
                *known = Some(touch);
            } else if self.streams.len() < STREAMS_MAX {
                unknown.push(stream.clone());
                self.streams.insert(stream, Some(touch));
            }
        }
        self.totals.merge(delta);
        unknown
    }

    /// Adds a stream known from before, whose newest position is not.
    pub fn remember_stream(&mut self, stream: String) {
        self.streams.entry(stream).or_insert(None);
    }

    /// Streams that events were appended to, with their newest positions where these were told
    /// since the registry was loaded.
    pub fn streams(&self) -> &BTreeMap<String, Option<StreamTouch>> {
        &self.streams
    }

    /// A counter's value over all its labels.
    pub fn total(&self, name: &str) -> u64 {
        self.totals
            .counters
            .iter()
            .filter(|(series, _)| series.split('|').next() == Some(name))
            .map(|(_, count)| count)
            .sum()
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self, version: &str) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "# HELP {PREFIX}build_info The relay's version.");
        let _ = writeln!(text, "# TYPE {PREFIX}build_info gauge");
        let _ = writeln!(text, "{PREFIX}build_info{{version=\"{version}\"}} 1");
        for (name, help) in HELP {
            self.render_counter(name, help, &mut text);
        }
        self.render_connections(&mut text);
        let _ = writeln!(text, "# HELP {PREFIX}streams Streams that events were appended to.");
        let _ = writeln!(text, "# TYPE {PREFIX}streams gauge");
        let _ = writeln!(text, "{PREFIX}streams {}", self.streams.len());
        for histogram in [Histogram::QueueLatency, Histogram::WebhookToAppend] {
            self.render_histogram(histogram.name(), &mut text);
        }
        text
    }

    fn render_counter(&self, name: &str, help: &str, text: &mut String) {
        let _ = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} counter");
        for (series, count) in &self.totals.counters {
            let mut parts = series.split('|');
            if parts.next() != Some(name) {
                continue;
            }
            let _ = match (parts.next(), parts.next()) {
                (Some(label), Some(value)) if !label.is_empty() => {
                    writeln!(text, "{PREFIX}{name}{{{label}=\"{value}\"}} {count}")
                }
                _ => writeln!(text, "{PREFIX}{name} {count}"),
            };
        }
    }

    fn render_connections(&self, text: &mut String) {
        let _ = writeln!(text, "# HELP {PREFIX}connections Open connections, by dialect.");
        let _ = writeln!(text, "# TYPE {PREFIX}connections gauge");
        for dialect in Dialect::ALL {
            let count = |name: &str| {
                let series = format!("{name}|dialect|{}", dialect.as_str());
                self.totals.counters.get(&series).copied().unwrap_or(0)
            };
            let open =
                count("connections_opened_total").saturating_sub(count("connections_closed_total"));
            let _ =
                writeln!(text, "{PREFIX}connections{{dialect=\"{}\"}} {open}", dialect.as_str());
        }
    }

    fn render_histogram(&self, name: &str, text: &mut String) {
        let empty = HistogramDelta::default();
        let histogram = self.totals.histograms.get(name).unwrap_or(&empty);
        let _ = writeln!(text, "# HELP {PREFIX}{name} Time since the webhook was received.");
        let _ = writeln!(text, "# TYPE {PREFIX}{name} histogram");
        let mut below = 0;
        for (place, bound_ms) in Histogram::BOUNDS_MS.into_iter().enumerate() {
            below += histogram.counts.get(place).copied().unwrap_or(0);
            let (seconds, rest) = (bound_ms / 1000, bound_ms % 1000);
            let _ = writeln!(text, "{PREFIX}{name}_bucket{{le=\"{seconds}.{rest:03}\"}} {below}");
        }
        let count: u64 = histogram.counts.iter().sum();
        let _ = writeln!(text, "{PREFIX}{name}_bucket{{le=\"+Inf\"}} {count}");
        let (seconds, rest) = (histogram.sum_ms / 1000, histogram.sum_ms % 1000);
        let _ =
            writeln!(text, "{PREFIX}{name}_sum {seconds}.{rest:03}\n{PREFIX}{name}_count {count}");
    }
}

#[cfg(test)]
mod tests {
    use relay_schemas::Counter;

    use super::*;

    #[test]
    fn streams_are_known_by_name_and_counts_by_value() {
        let mut delta = MetricsDelta::default();
        let tail = "0123456789ab0000000000v".parse().unwrap();
        delta.touch(&"o/user:u".parse().unwrap(), tail, relay_schemas::UnixMillis::new(1));
        delta.add(Counter::Appended, 2);
        let mut registry = MetricsRegistry::default();
        assert_eq!(registry.merge(delta.clone()), ["o/user:u"]);
        assert_eq!(registry.merge(delta), [""; 0]);
        let text = serde_json::to_string(&registry).unwrap();
        let mut loaded: MetricsRegistry = serde_json::from_str(&text).unwrap();
        assert_eq!((loaded.streams().len(), loaded.total("events_appended_total")), (0, 4));
        loaded.remember_stream("o/user:u".into());
        assert_eq!(loaded.streams()["o/user:u"], None);
    }

    #[test]
    fn text_is_what_prometheus_reads() {
        let mut delta = MetricsDelta::default();
        delta.add(Counter::Webhooks("accepted"), 3);
        delta.add(Counter::Appended, 2);
        delta.add(Counter::ConnectionsOpened(Dialect::Sse), 2);
        delta.add(Counter::ConnectionsClosed(Dialect::Sse), 1);
        delta.observe(Histogram::QueueLatency, 7);
        delta.observe(Histogram::QueueLatency, 1_500);
        let mut registry = MetricsRegistry::default();
        registry.merge(delta.clone());
        registry.merge(delta);
        let text = registry.render("1.0");
        for line in [
            "edgerelay_webhooks_total{result=\"accepted\"} 6",
            "edgerelay_events_appended_total 4",
            "edgerelay_connections{dialect=\"sse\"} 2",
            "edgerelay_connections{dialect=\"websocket\"} 0",
            "edgerelay_queue_latency_seconds_bucket{le=\"0.005\"} 0",
            "edgerelay_queue_latency_seconds_bucket{le=\"0.010\"} 2",
            "edgerelay_queue_latency_seconds_bucket{le=\"+Inf\"} 4",
            "edgerelay_queue_latency_seconds_sum 3.014",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert_eq!(registry.total("webhooks_total"), 6);
    }
}
