use super::*;

/// Stored segments are read for as long as they are kept, and what is sealed again must give the
/// same bytes: this file never changes. A new format gets a new name.
const GOLDEN: &[u8] = include_bytes!("golden-v1.ndjson.br");
const ENTRY: &str = include_str!("golden-v1.json");
const LINES_SHA256: &str = "77e7707e519e33d1277cf941071e1f34bbf632d53dc59fd33bba6c08fef90e15";

fn golden_entry() -> SegmentEntry {
    serde_json::from_str(ENTRY).unwrap()
}

#[test]
fn the_golden_segment_is_read() {
    let (records, error) = read_after(GOLDEN, &golden_entry(), 0);
    assert_eq!((records.len(), error), (40, None));
    assert_eq!((records[0].0, records[39].0), (1_001, 1_040));
    let lines: String = records.iter().map(|(_, record)| format!("{record}\n")).collect();
    assert_eq!(Sha256Digest::of(&[lines.as_bytes()]).to_string(), LINES_SHA256);
}

#[test]
fn the_golden_segment_is_written() {
    let (numbered, _) = read_after(GOLDEN, &golden_entry(), 0);
    let records: Vec<String> = numbered.into_iter().map(|(_, record)| record).collect();
    let segment = encode(1_001, &records);
    assert_eq!(segment.entry, golden_entry());
    assert!(segment.bytes == GOLDEN, "the bytes differ");
}
