use std::{collections::BTreeMap, fmt::Write};

use relay_schemas::{
    Dialect, Histogram, HistogramDelta, InstallationTouch, MetricsDelta, StreamTouch,
};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "edgerelay_";

const HELP: &[(&str, &str)] = &[
    ("webhooks_total", "Webhooks by result: accepted, or the code of the refusal."),
    ("events_routed_total", "Places of events in streams, by the rule that chose the stream."),
    ("events_unroutable_total", "Events that found nobody and went to the unrouted stream."),
    ("events_rerouted_total", "Events of the unrouted stream sent on their way again."),
    ("events_own_total", "Places of events that tell what the app itself did."),
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
    ("assignments_total", "Events given to single edges, taken away, and given up, by result."),
    ("signals_total", "Stop signals sent to connections."),
    ("linear_calls_total", "Calls to Linear, by what came of them."),
    ("linear_refreshes_total", "Refreshes of Linear's tokens, by what came of them."),
    ("linear_stand_ins_total", "Activities of the relay itself, by why no machine spoke."),
    ("linear_first_activity_total", "New agent sessions, by whether they were answered in time."),
    ("sign_ins_total", "People who have signed in with Linear, by purpose."),
    ("machine_logins_total", "Machines that a person has signed in."),
    ("machine_refreshes_total", "Machines that asked for their next tokens, by result."),
    ("edges_revoked_total", "Edges that were revoked, by reason."),
];

const HISTOGRAM_HELP: [&str; 3] = [
    "Time from a webhook's receipt to the start of its batch.",
    "Time from a webhook's receipt until it is in its stream.",
    "Time from Linear's sending a new agent session until it had the first activity.",
];

/// Streams that are listed; counts include all. About 150 bytes of memory each.
const STREAMS_MAX: usize = 50_000;

/// Organizations whose installations are listed. About 500 bytes of memory each.
const INSTALLATIONS_MAX: usize = 10_000;

/// Adds up what every isolate counts, and writes it for Prometheus. What is serialised are the
/// counts: streams are stored by name, each once, and installations as often as they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsRegistry {
    totals: MetricsDelta,
    #[serde(skip)]
    streams: BTreeMap<String, Option<StreamTouch>>,
    #[serde(skip)]
    installations: BTreeMap<String, InstallationTouch>,
}

/// What a report has brought that is to be stored by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsaved {
    /// Streams not known before.
    pub streams: Vec<String>,
    /// Installations of which something lasting has changed.
    pub installations: Vec<(String, InstallationTouch)>,
}

impl MetricsRegistry {
    /// Adds a report.
    pub fn merge(&mut self, mut delta: MetricsDelta) -> Unsaved {
        let mut unknown = Vec::new();
        let installations = self.note_installations(std::mem::take(&mut delta.installations));
        for (stream, touch) in std::mem::take(&mut delta.streams) {
            if let Some(known) = self.streams.get_mut(&stream) {
                *known = Some(touch);
            } else if self.streams.len() < STREAMS_MAX {
                unknown.push(stream.clone());
                self.streams.insert(stream, Some(touch));
            }
        }
        self.totals.merge(delta);
        Unsaved { streams: unknown, installations }
    }

    fn note_installations(
        &mut self,
        touches: BTreeMap<String, InstallationTouch>,
    ) -> Vec<(String, InstallationTouch)> {
        let mut changed = Vec::new();
        for (organization, touch) in touches {
            let known = self.installations.get(&organization);
            let is_late = known.is_some_and(|known| known.at > touch.at);
            let has_room = known.is_some() || self.installations.len() < INSTALLATIONS_MAX;
            if is_late || !has_room {
                continue;
            }
            if known.is_none_or(|known| !known.lasts_as(&touch)) {
                changed.push((organization.clone(), touch.lasting()));
            }
            self.installations.insert(organization, touch);
        }
        changed
    }

    /// Adds an installation as it was stored.
    pub fn remember_installation(&mut self, organization: String, touch: InstallationTouch) {
        self.installations.entry(organization).or_insert(touch);
    }

    /// How the installations do, by organization.
    pub fn installations(&self) -> &BTreeMap<String, InstallationTouch> {
        &self.installations
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
        self.render_installations(&mut text);
        for (histogram, help) in Histogram::ALL.into_iter().zip(HISTOGRAM_HELP) {
            self.render_histogram(histogram.name(), help, &mut text);
        }
        text
    }

    fn render_installations(&self, text: &mut String) {
        type Value = fn(&InstallationTouch) -> Option<usize>;
        let gauges: [(&str, &str, Value); 3] = [
            (
                "installation_needs_sign_in",
                "Whether an app's tokens are dead, so that it must be installed again.",
                |one| Some(usize::from(one.needs_sign_in())),
            ),
            ("installation_outbox_waiting", "Calls that wait for Linear.", |one| one.waiting),
            ("installation_given_up", "Calls that were given up in the last days.", |one| {
                Some(one.given_up)
            }),
        ];
        for (name, help, value) in gauges {
            let _ = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} gauge");
            for (organization, touch) in &self.installations {
                if let Some(value) = value(touch) {
                    let _ =
                        writeln!(text, "{PREFIX}{name}{{organization=\"{organization}\"}} {value}");
                }
            }
        }
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

    fn render_histogram(&self, name: &str, help: &str, text: &mut String) {
        let empty = HistogramDelta::default();
        let histogram = self.totals.histograms.get(name).unwrap_or(&empty);
        let _ = writeln!(text, "# HELP {PREFIX}{name} {help}");
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
    use relay_schemas::{AppState, Counter};

    use super::*;

    #[test]
    fn streams_are_known_by_name_and_counts_by_value() {
        let mut delta = MetricsDelta::default();
        let tail = "0123456789ab0000000000v".parse().unwrap();
        delta.touch(&"o/user:u".parse().unwrap(), tail, relay_schemas::UnixMillis::new(1));
        delta.add(Counter::Appended, 2);
        let mut registry = MetricsRegistry::default();
        assert_eq!(registry.merge(delta.clone()).streams, ["o/user:u"]);
        assert_eq!(registry.merge(delta).streams, [""; 0]);
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

    fn told(organization: &str, state: AppState, waiting: usize, at: u64) -> MetricsDelta {
        let mut delta = MetricsDelta::default();
        let touch = InstallationTouch {
            apps: [("app".to_owned(), state)].into(),
            waiting: Some(waiting),
            given_up: 0,
            at: relay_schemas::UnixMillis::new(at),
        };
        delta.touch_installation(&organization.parse().unwrap(), touch);
        delta
    }

    #[track_caller]
    fn check_gauges(registry: &MetricsRegistry, expected: &[&str]) {
        let text = registry.render("1.0");
        let found: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("edgerelay_installation_")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn installations_are_shown_and_stored_when_something_lasting_changes() {
        let mut registry = MetricsRegistry::default();
        let mut stored = Vec::new();
        for (state, waiting, at) in [
            (AppState::Ready, 0, 1),
            (AppState::Ready, 7, 2),
            (AppState::NeedsSignIn, 7, 3),
            // A report that comes late.
            (AppState::Ready, 7, 2),
        ] {
            stored.extend(registry.merge(told("o", state, waiting, at)).installations);
        }
        let states: Vec<_> = stored.iter().map(|(_, touch)| touch.apps["app"]).collect();
        assert_eq!(states, [AppState::Ready, AppState::NeedsSignIn]);
        let whole = [
            "needs_sign_in{organization=\"o\"} 1",
            "outbox_waiting{organization=\"o\"} 7",
            "given_up{organization=\"o\"} 0",
        ];
        check_gauges(&registry, &whole);

        // What is stored says nothing about what waits now.
        let mut loaded = MetricsRegistry::default();
        for (organization, touch) in stored.into_iter().skip(1) {
            let text = serde_json::to_string(&touch).unwrap();
            loaded.remember_installation(organization, serde_json::from_str(&text).unwrap());
        }
        check_gauges(&loaded, &[whole[0], whole[2]]);
        assert_eq!(loaded.merge(told("o", AppState::NeedsSignIn, 7, 4)).installations, []);
        check_gauges(&loaded, &whole);
    }

    #[test]
    fn installations_are_bounded() {
        let mut registry = MetricsRegistry::default();
        for number in 0..=INSTALLATIONS_MAX {
            registry.merge(told(&format!("o{number}"), AppState::Ready, 0, 1));
        }
        assert_eq!(registry.installations().len(), INSTALLATIONS_MAX);
        registry.merge(told("o0", AppState::Revoked, 0, 2));
        assert_eq!(registry.installations()["o0"].apps["app"], AppState::Revoked);
    }
}
