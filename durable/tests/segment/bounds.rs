use super::*;

const CHUNK_BYTES: usize = 64 * 1024;

/// A vector doubles when it grows.
fn bound(longest: usize) -> usize {
    2 * (longest + CHUNK_BYTES) + CHUNK_BYTES
}

/// Reads on after a position and says the most that was buffered, and at how many records.
fn peak_after(segment: &EncodedSegment, after: u64) -> (usize, u64) {
    let mut reader = SegmentReader::new(segment.bytes.clone(), &segment.entry).unwrap();
    reader.skip_to(Seq::new(after));
    let (mut peak, mut count) = (0, 0);
    while reader.next().unwrap().is_some() {
        peak = peak.max(reader.buffered_bytes());
        count += 1;
    }
    (peak.max(reader.buffered_bytes()), count)
}

#[test]
fn a_reader_buffers_a_record_and_a_chunk() {
    let record = "0123456789 abcdef".repeat(100);
    let segment = encode(1, &vec![record.clone(); 5_000]);
    assert!(segment.entry.raw_bytes > 8 << 20);
    for after in [0, 1, 2_500, 4_999] {
        let (peak, count) = peak_after(&segment, after);
        assert_eq!(count, 5_000 - after);
        assert!(peak <= bound(record.len()), "{peak} bytes");
    }
}

#[test]
fn nothing_is_decoded_before_it_is_asked_for() {
    let segment = encode(1, &vec!["x".repeat(1_000); 5_000]);
    let mut reader = SegmentReader::new(segment.bytes, &segment.entry).unwrap();
    assert_eq!(reader.buffered_bytes(), 0);
    reader.next().unwrap();
    assert!(reader.buffered_bytes() <= CHUNK_BYTES);
}

#[test]
fn a_long_record_leaves_the_buffer_again() {
    let mut records = vec!["short".repeat(100); 1_000];
    records.insert(500, "y".repeat(5 << 20));
    let segment = encode(1, &records);
    let mut reader = SegmentReader::new(segment.bytes.clone(), &segment.entry).unwrap();
    let (mut peak, mut now) = (0, 0);
    while reader.next().unwrap().is_some() {
        now = reader.buffered_bytes();
        peak = peak.max(now);
    }
    assert!(peak <= bound(5 << 20), "{peak} bytes");
    assert!(now <= 256 * 1024, "{now} bytes");
    let (peak, count) = peak_after(&segment, 501);
    assert_eq!(count, 500);
    assert!(peak <= 256 * 1024, "a record that is passed over is not buffered: {peak} bytes");
}

#[test]
fn a_bomb_stops_where_its_entry_does() {
    let bomb = encode(1, &["z".repeat(32 << 20)]);
    assert!(bomb.bytes.len() < 4_096, "{} bytes", bomb.bytes.len());
    for raw_bytes in [0, 1, 100_000] {
        let entry = SegmentEntry { raw_bytes, ..bomb.entry.clone() };
        let mut reader = SegmentReader::new(bomb.bytes.clone(), &entry).unwrap();
        let error = reader.next().unwrap_err();
        assert_eq!(error, SegmentError::Corrupt("it holds more bytes than its entry says"));
        assert!(reader.buffered_bytes() <= 2 * 100_000 + CHUNK_BYTES);
    }
}
