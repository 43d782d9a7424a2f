//! Storage in memory, with the row writes counted as the platform counts them.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use relay_schemas::{EdgeId, EventId, SegmentEntry, Seq, StoredReport, StreamKey, UnixMillis};

pub use crate::counted_writes::StorageFault;

use crate::assignment::{AssignedHead, EdgeRecord, Holder, Lease};
use crate::counted_writes::CountedWrites;
use crate::rebuild::Rebuilt;
use crate::storage::{LogHead, LogRow, LogStorage, RowIndex, SealPlan, SegmentIds, SegmentRow};

/// A stream's storage in memory. Clones share what is stored, as a reloaded object would find it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    state: Rc<RefCell<State>>,
    writes: CountedWrites,
}

#[derive(Debug, Default)]
struct State {
    head: Option<LogHead>,
    rows: BTreeMap<Seq, LogRow>,
    plan: Option<SealPlan>,
    segments: BTreeMap<Seq, SegmentRow>,
    reports: BTreeMap<(Seq, String), StoredReport>,
    revoked: BTreeMap<EdgeId, UnixMillis>,
    assigned: Option<AssignedHead>,
    leases: BTreeMap<Seq, Lease>,
    given_up: BTreeMap<EventId, Seq>,
    holders: BTreeMap<String, Holder>,
    edges: BTreeMap<EdgeId, EdgeRecord>,
}

impl MemoryStorage {
    /// Row writes so far, deletes included.
    pub fn rows_written(&self) -> u64 {
        self.writes.rows()
    }

    /// Lets so many writes pass and fails the next: lost, or landed and answered with an error.
    pub fn fail_after(&self, writes: u64, lands: bool) {
        self.writes.fail_after(writes, lands);
    }

    fn write(&self, rows: u64, change: impl FnOnce(&mut State)) -> Result<(), StorageFault> {
        self.writes.write(rows, || change(&mut self.state.borrow_mut()))
    }
}

impl LogStorage for MemoryStorage {
    type Error = StorageFault;

    fn load_head(&self) -> Result<Option<LogHead>, StorageFault> {
        Ok(self.state.borrow().head.clone())
    }

    fn save_head(&mut self, head: &LogHead) -> Result<(), StorageFault> {
        self.write(1, |state| state.head = Some(head.clone()))
    }

    fn insert(&mut self, row: &LogRow) -> Result<(), StorageFault> {
        self.write(1, |state| {
            let replaced = state.rows.insert(row.index.first, row.clone());
            assert!(replaced.is_none(), "a position is written once");
        })
    }

    fn extend(&mut self, first: Seq, row: &LogRow) -> Result<(), StorageFault> {
        self.write(1, |state| {
            let newest = state.rows.last_entry().expect("a row to extend");
            assert_eq!(*newest.key(), first, "only the newest row grows");
            let newest = newest.into_mut();
            assert_eq!(newest.index.last().next(), row.index.first, "events follow one another");
            newest.records.push('\n');
            newest.records.push_str(&row.records);
            let index = &mut newest.index;
            index.ids.extend(&row.index.ids);
            index.appended_at_max = row.index.appended_at_max;
            index.received_at_max = index.received_at_max.max(row.index.received_at_max);
            index.bytes = newest.records.len() as u64;
        })
    }

    fn delete_until(&mut self, last: Seq) -> Result<(), StorageFault> {
        let old: Vec<Seq> = self
            .state
            .borrow()
            .rows
            .values()
            .filter(|row| row.index.last() <= last)
            .map(|row| row.index.first)
            .collect();
        self.write(old.len() as u64, |state| {
            state.rows.retain(|first, _| !old.contains(first));
        })
    }

    fn row_at(&self, seq: Seq) -> Result<Option<LogRow>, StorageFault> {
        let state = self.state.borrow();
        let row = state.rows.range(..=seq).next_back().map(|(_, row)| row);
        Ok(row.filter(|row| row.index.last() >= seq).cloned())
    }

    fn visit_newest_first(
        &self,
        visit: &mut dyn FnMut(RowIndex) -> bool,
    ) -> Result<(), StorageFault> {
        let _ = self.state.borrow().rows.values().rev().all(|row| visit(row.index.clone()));
        Ok(())
    }

    fn first_after(&self, after: Seq) -> Result<Option<RowIndex>, StorageFault> {
        let state = self.state.borrow();
        Ok(state.rows.values().find(|row| row.index.last() > after).map(|row| row.index.clone()))
    }

    fn first_received_since(
        &self,
        after: Seq,
        at: UnixMillis,
    ) -> Result<Option<RowIndex>, StorageFault> {
        let state = self.state.borrow();
        let mut rows = state.rows.values().filter(|row| row.index.first > after);
        Ok(rows.find(|row| row.index.received_at_max >= at).map(|row| row.index.clone()))
    }

    fn bytes_after(&self, after: Seq) -> Result<u64, StorageFault> {
        let state = self.state.borrow();
        let rows = state.rows.values().filter(|row| row.index.first > after);
        Ok(rows.map(|row| row.records.len() as u64).sum())
    }

    fn position_of(&self, id: EventId) -> Result<Option<Seq>, StorageFault> {
        let state = self.state.borrow();
        let rows = state.rows.iter().map(|(first, row)| (*first, &row.index.ids));
        let segments = state.segments.iter().map(|(first, segment)| (*first, &segment.ids));
        let place = |(first, ids): (Seq, &Vec<EventId>)| {
            ids.iter().rposition(|known| *known == id).map(|place| first.plus(place as u64))
        };
        Ok(rows.chain(segments).filter_map(place).max())
    }

    fn load_plan(&self) -> Result<Option<SealPlan>, StorageFault> {
        Ok(self.state.borrow().plan)
    }

    fn save_plan(&mut self, plan: Option<SealPlan>) -> Result<(), StorageFault> {
        self.write(1, |state| state.plan = plan)
    }

    fn save_segment(&mut self, segment: &SegmentRow) -> Result<(), StorageFault> {
        self.write(1, |state| {
            let replaced = state.segments.insert(segment.entry.first, segment.clone());
            assert!(replaced.is_none(), "a segment is kept once");
            state.plan = None;
        })
    }

    fn segments_after(&self, after: Seq, count: usize) -> Result<Vec<SegmentEntry>, StorageFault> {
        let state = self.state.borrow();
        let entries = state.segments.values().map(|segment| &segment.entry);
        Ok(entries.filter(|entry| entry.last > after).take(count).cloned().collect())
    }

    fn segments_until(&self, at: Seq, count: usize) -> Result<Vec<SegmentEntry>, StorageFault> {
        let state = self.state.borrow();
        let newest_first = state.segments.range(..=at).rev();
        Ok(newest_first.map(|(_, segment)| segment.entry.clone()).take(count).collect())
    }

    fn segment_received_since(&self, at: UnixMillis) -> Result<Option<SegmentEntry>, StorageFault> {
        let state = self.state.borrow();
        let mut entries = state.segments.values().map(|segment| &segment.entry);
        Ok(entries.find(|entry| entry.received_at_max >= at).cloned())
    }

    fn oldest_segment_appended_at(&self) -> Result<Option<UnixMillis>, StorageFault> {
        let state = self.state.borrow();
        Ok(state.segments.values().next().map(|segment| segment.appended_at_max))
    }

    fn segments_appended_until(&self, at: UnixMillis) -> Result<Vec<SegmentEntry>, StorageFault> {
        let state = self.state.borrow();
        let old = state.segments.values().take_while(|segment| segment.appended_at_max <= at);
        Ok(old.map(|segment| segment.entry.clone()).collect())
    }

    fn visit_segments_newest_first(
        &self,
        visit: &mut dyn FnMut(SegmentIds) -> bool,
    ) -> Result<(), StorageFault> {
        let state = self.state.borrow();
        let mut newest_first = state.segments.iter().rev().map(|(first, row)| SegmentIds {
            first: *first,
            ids: row.ids.clone(),
            appended_at_max: row.appended_at_max,
        });
        let _ = newest_first.all(visit);
        Ok(())
    }

    fn segment_totals(&self) -> Result<(u64, u64), StorageFault> {
        let state = self.state.borrow();
        let bytes = state.segments.values().map(|segment| segment.entry.bytes).sum();
        Ok((state.segments.len() as u64, bytes))
    }

    fn delete_segments_until(&mut self, last: Seq) -> Result<(), StorageFault> {
        let old =
            self.state.borrow().segments.values().filter(|one| one.entry.last <= last).count();
        self.write(old as u64, |state| state.segments.retain(|_, one| one.entry.last > last))
    }

    fn rebuild(&mut self, stream: &StreamKey, rebuilt: &Rebuilt) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.head = Some(LogHead {
                epoch: rebuilt.epoch,
                trimmed: Seq::ZERO,
                stream: Some(stream.clone()),
            });
            state.plan = None;
            state.segments =
                rebuilt.segments.iter().map(|row| (row.entry.first, row.clone())).collect();
            let to = |seq: Seq| {
                let moved = rebuilt.moves.iter().find(|one| one.first <= seq && seq <= one.last)?;
                Some(moved.to.plus(seq.distance_from(moved.first)))
            };
            let rows = std::mem::take(&mut state.rows);
            state.rows.extend(rows.into_values().filter_map(|mut row| {
                row.index.first = to(row.index.first)?;
                let is_sealed =
                    rebuilt.segments.last().is_some_and(|last| row.index.first <= last.entry.last);
                (!is_sealed).then_some((row.index.first, row))
            }));
            let given_up = std::mem::take(&mut state.given_up);
            state.given_up =
                given_up.into_iter().filter_map(|(id, seq)| Some((id, to(seq)?))).collect();
            let reports = std::mem::take(&mut state.reports);
            state.reports.extend(
                reports
                    .into_iter()
                    .filter_map(|((seq, name), report)| Some(((to(seq)?, name), report))),
            );
        })
    }

    fn delete_reports_until(&mut self, last: Seq) -> Result<(), StorageFault> {
        let old = self.state.borrow().reports.keys().filter(|(seq, _)| *seq <= last).count();
        self.write(old as u64, |state| state.reports.retain(|(seq, _), _| *seq > last))
    }

    fn save_report(&mut self, seq: Seq, report: &StoredReport) -> Result<(), StorageFault> {
        let key = (seq, format!("{}/{}", report.edge, report.status.as_str()));
        self.write(1, |state| {
            state.reports.insert(key, report.clone());
        })
    }

    fn reports(&self, seq: Seq) -> Result<Vec<StoredReport>, StorageFault> {
        let state = self.state.borrow();
        let mut reports: Vec<StoredReport> = state
            .reports
            .iter()
            .filter(|((at, _), _)| *at == seq)
            .map(|(_, report)| report.clone())
            .collect();
        reports.sort_by_key(|report| (report.at, report.status));
        Ok(reports)
    }

    fn latest_reports(&self, count: usize) -> Result<Vec<StoredReport>, StorageFault> {
        let state = self.state.borrow();
        Ok(state.reports.values().rev().take(count).cloned().collect())
    }

    fn load_assigned(&self) -> Result<Option<AssignedHead>, StorageFault> {
        Ok(self.state.borrow().assigned.clone())
    }

    fn save_assigned(&mut self, head: &AssignedHead) -> Result<(), StorageFault> {
        self.write(1, |state| state.assigned = Some(head.clone()))
    }

    fn clear_assigned(&mut self) -> Result<(), StorageFault> {
        let rows = self.state.borrow().leases.len() as u64 + 1;
        self.write(rows, |state| {
            state.assigned = None;
            state.leases.clear();
        })
    }

    fn load_leases(&self) -> Result<Vec<Lease>, StorageFault> {
        Ok(self.state.borrow().leases.values().map(through_json).collect())
    }

    fn save_lease(&mut self, lease: &Lease) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.leases.insert(lease.seq, lease.clone());
        })
    }

    fn delete_lease(&mut self, seq: Seq) -> Result<(), StorageFault> {
        let rows = u64::from(self.state.borrow().leases.contains_key(&seq));
        self.write(rows, |state| {
            state.leases.remove(&seq);
        })
    }

    fn given_up(&self, id: EventId) -> Result<Option<Seq>, StorageFault> {
        Ok(self.state.borrow().given_up.get(&id).copied())
    }

    fn count_given_up(&self) -> Result<u64, StorageFault> {
        Ok(self.state.borrow().given_up.len() as u64)
    }

    fn save_given_up(&mut self, id: EventId, seq: Seq) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.given_up.insert(id, seq);
        })
    }

    fn delete_given_up(&mut self, id: EventId) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.given_up.remove(&id);
        })
    }

    fn delete_given_up_until(&mut self, last: Seq) -> Result<(), StorageFault> {
        let rows = self.state.borrow().given_up.values().filter(|seq| **seq <= last).count();
        self.write(rows as u64, |state| state.given_up.retain(|_, seq| *seq > last))
    }

    fn load_holders(&self) -> Result<Vec<Holder>, StorageFault> {
        Ok(self.state.borrow().holders.values().map(through_json).collect())
    }

    fn save_holder(&mut self, holder: &Holder) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.holders.insert(holder.key.clone(), holder.clone());
        })
    }

    fn delete_holder(&mut self, key: &str) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.holders.remove(key);
        })
    }

    fn load_edges(&self) -> Result<Vec<EdgeRecord>, StorageFault> {
        Ok(self.state.borrow().edges.values().map(through_json).collect())
    }

    fn save_edge(&mut self, record: &EdgeRecord) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.edges.insert(record.edge.clone(), record.clone());
        })
    }

    fn delete_edge(&mut self, edge: &EdgeId) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.edges.remove(edge);
        })
    }

    fn save_revocation(&mut self, edge: &EdgeId, at: UnixMillis) -> Result<(), StorageFault> {
        self.write(1, |state| {
            state.revoked.insert(edge.clone(), at);
        })
    }

    fn is_revoked(&self, edge: &EdgeId) -> Result<bool, StorageFault> {
        Ok(self.state.borrow().revoked.contains_key(edge))
    }
}

/// What storage keeps as text is read as text.
fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("plain fields serialise");
    serde_json::from_str(&text).expect("what was written")
}
