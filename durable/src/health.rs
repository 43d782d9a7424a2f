//! How the edges of a stream do, as far as the relay sees it.

use std::collections::{BTreeMap, BTreeSet};

use relay_schemas::{
    EdgeId, ReportStatus, StoredReport, UnixMillis,
    limits::{REPORTS_SHOWN_MAX, RESPONSES_SHOWN_MAX},
};
use serde::Serialize;

use crate::{storage::LogStorage, stream::Stream};

/// One edge, in the answer of `GET /state/{organization}/{channel}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EdgeState {
    /// Which.
    pub edge: EdgeId,
    /// Its display name.
    pub name: Option<String>,
    /// Its open connections.
    pub connections: usize,
    /// Since when it has none.
    pub disconnected_at: Option<UnixMillis>,
    /// When it last reported.
    pub last_report_at: Option<UnixMillis>,
    /// From sending to its last report, in ms.
    pub response_ms_last: Option<u64>,
    /// The median of the same over its last reports.
    pub response_ms_median: Option<u64>,
    /// Events in a row over which it fell silent.
    pub timeouts_in_a_row: u32,
    /// Events in a row that failed there.
    pub failures_in_a_row: usize,
    /// Events that it was given and has not finished.
    pub open_leases: usize,
    /// Whether it is given events though others are there.
    pub is_healthy: bool,
}

impl<S: LogStorage> Stream<S> {
    /// How each edge does that is connected, or was lately.
    pub(crate) fn edge_states(&self) -> Result<Vec<EdgeState>, S::Error> {
        let mut reports: BTreeMap<String, Vec<StoredReport>> = BTreeMap::new();
        for report in self.log().storage().latest_reports(REPORTS_SHOWN_MAX)? {
            reports.entry(report.edge.clone()).or_default().push(report);
        }
        reports.values_mut().for_each(|theirs| theirs.sort_by_key(|one| (one.at, one.status)));
        let connected = self.connections().values().map(|one| &one.edge);
        let edges: BTreeSet<&EdgeId> = self.assignment().edges().keys().chain(connected).collect();
        let states = edges.into_iter().map(|edge| {
            let theirs = reports.get(edge.as_str()).map(Vec::as_slice).unwrap_or_default();
            self.edge_state(edge, theirs)
        });
        Ok(states.collect())
    }

    fn edge_state(&self, edge: &EdgeId, reports: &[StoredReport]) -> EdgeState {
        let assignment = self.assignment();
        let record = assignment.edges().get(edge);
        let last = reports.last();
        let theirs = || self.connections().values().filter(|one| one.edge == *edge);
        let (connections, known) = (theirs().count(), record.and_then(|one| one.name.clone()));
        EdgeState {
            edge: edge.clone(),
            name: known.or_else(|| theirs().find_map(|one| one.name.clone())),
            connections,
            disconnected_at: record.and_then(|one| one.gone_at).filter(|_| connections == 0),
            last_report_at: last.map(|report| report.at),
            response_ms_last: last.and_then(|report| report.response_ms),
            response_ms_median: median_of(reports),
            timeouts_in_a_row: record.map_or(0, |record| record.timeouts_in_a_row),
            failures_in_a_row: failures_in_a_row(reports),
            open_leases: assignment.leased_to(edge).len(),
            is_healthy: assignment.is_healthy(edge),
        }
    }
}

/// The greater one of the two in the middle, where there are two.
fn median_of(reports: &[StoredReport]) -> Option<u64> {
    let newest_first = reports.iter().rev().filter_map(|report| report.response_ms);
    let mut times: Vec<u64> = newest_first.take(RESPONSES_SHOWN_MAX).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn failures_in_a_row(reports: &[StoredReport]) -> usize {
    let ends = reports.iter().rev().filter(|report| report.status != ReportStatus::Processing);
    ends.take_while(|report| report.status == ReportStatus::Failed).count()
}
