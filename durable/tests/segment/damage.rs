use brotli::enc::BrotliEncoderInitParams;
use proptest::prelude::*;

use super::*;

fn corrupt(found: (Vec<(u64, String)>, Option<SegmentError>)) -> &'static str {
    match found.1 {
        Some(SegmentError::Corrupt(reason)) => reason,
        other => panic!("expected a corrupt segment, found {other:?}"),
    }
}

/// Compresses text that no encoder of segments would write.
fn compress(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    brotli::BrotliCompress(&mut &*text, &mut bytes, &BrotliEncoderInitParams()).unwrap();
    bytes
}

/// A segment of this text, with an entry for `count` records of `raw_bytes` bytes.
fn forged(text: &[u8], count: u64, raw_bytes: u64) -> (Vec<(u64, String)>, Option<SegmentError>) {
    let sound = encode(1, &vec![""; usize::try_from(count).unwrap()]);
    let bytes = compress(text);
    let entry = SegmentEntry { raw_bytes, ..fitted(&sound.entry, &bytes) };
    read_after(&bytes, &entry, 0)
}

#[test]
fn other_bytes_are_refused_before_anything_is_decoded() {
    let segment = encode(1, &some_records(20));
    let refused = |bytes: Vec<u8>| SegmentReader::new(bytes, &segment.entry).err();
    for place in 0..segment.bytes.len() {
        for bit in [1, 128] {
            let mut flipped = segment.bytes.clone();
            flipped[place] ^= bit;
            assert_eq!(refused(flipped), Some(SegmentError::Digest));
        }
        let expected = segment.entry.bytes;
        let cut = SegmentError::Length { expected, found: place as u64 };
        assert_eq!(refused(segment.bytes[..place].to_vec()), Some(cut));
    }
    let longer = [&segment.bytes[..], b"\n"].concat();
    let found = segment.entry.bytes + 1;
    let expected = segment.entry.bytes;
    assert_eq!(refused(longer), Some(SegmentError::Length { expected, found }));
}

#[test]
fn a_cut_segment_ends_with_an_error_even_with_a_fitting_digest() {
    let records = some_records(60);
    let segment = encode(1, &records);
    for length in 0..segment.bytes.len() {
        let bytes = &segment.bytes[..length];
        let found = read_after(bytes, &fitted(&segment.entry, bytes), 0);
        assert!(found.0.iter().zip(&records).all(|((_, found), record)| found == record));
        assert_eq!(corrupt(found), "it ends early");
    }
}

#[test]
fn what_follows_the_end_is_an_error_even_with_a_fitting_digest() {
    let segment = encode(1, &some_records(20));
    for more in [&b"\0"[..], b"{}\n", &segment.bytes] {
        let bytes = [&segment.bytes[..], more].concat();
        let found = read_after(&bytes, &fitted(&segment.entry, &bytes), 0);
        assert_eq!(corrupt(found), "something follows its end");
    }
}

#[test]
fn the_entry_has_the_count_and_the_length() {
    let sound = (vec![(1, "ab".to_owned()), (2, "c".to_owned())], None);
    assert_eq!(forged(b"ab\nc\n", 2, 5), sound);
    assert_eq!(corrupt(forged(b"ab\nc\n", 1, 5)), "it holds more records than its entry says");
    assert_eq!(corrupt(forged(b"ab\nc\n", 3, 5)), "it holds fewer records than its entry says");
    assert_eq!(corrupt(forged(b"ab\nc\n", 2, 4)), "it holds more bytes than its entry says");
    assert_eq!(corrupt(forged(b"ab\nc\n", 2, 0)), "it holds more bytes than its entry says");
    assert_eq!(corrupt(forged(b"ab\nc\n", 2, 6)), "it holds fewer bytes than its entry says");
    assert_eq!(corrupt(forged(b"ab\nc", 2, 4)), "its last record has no end");
    assert_eq!(corrupt(forged(b"ab\nc", 1, 4)), "its last record has no end");
    assert_eq!(corrupt(forged(b"", 1, 0)), "it holds fewer records than its entry says");
}

#[test]
fn records_beyond_the_count_are_not_given() {
    assert_eq!(forged(b"a\nb\nc\n", 2, 6).0, [(1, "a".to_owned()), (2, "b".to_owned())]);
}

#[test]
fn a_record_that_is_not_text_is_an_error_unless_it_is_passed_over() {
    let text = b"a\n\xff\nb\n";
    let found = forged(text, 3, 6);
    assert_eq!(found.0, [(1, "a".to_owned())]);
    assert_eq!(corrupt(found), "a record is not UTF-8");
    let (sound, bytes) = (encode(1, &["a", "?", "b"]), compress(text));
    let found = read_after(&bytes, &fitted(&sound.entry, &bytes), 2);
    assert_eq!(found, (vec![(3, "b".to_owned())], None));
}

#[test]
fn the_end_is_checked_when_all_is_passed_over() {
    let (sound, bytes) = (encode(1, &["a", "b"]), compress(b"a\n"));
    for raw_bytes in [2, 4] {
        let entry = SegmentEntry { raw_bytes, ..fitted(&sound.entry, &bytes) };
        corrupt(read_after(&bytes, &entry, 2));
    }
}

#[test]
fn what_is_not_brotli_is_an_error() {
    let entry = encode(1, &["a"]).entry;
    let bytes = [0xff; 100];
    assert_eq!(corrupt(read_after(&bytes, &fitted(&entry, &bytes), 0)), "it is not brotli");
}

#[test]
fn a_window_beyond_the_standard_is_refused() {
    // An empty stream with the header of a window of 2^28 bytes, which only an extension has.
    let bytes = [0x11, 0b1101_1100];
    let sound = encode(1, &["a"]);
    let found = read_after(&bytes, &fitted(&sound.entry, &bytes), 0);
    assert_eq!(corrupt(found), "it is not brotli");
}

proptest! {
    /// What a flipped bit makes of compressed text is any text. It must have the right length and
    /// count to pass without the digest, and then the relay can't tell.
    #[test]
    fn flipped_bytes_end_or_fail_without_the_digest(place in any::<prop::sample::Index>(), bit in 0..8) {
        let segment = encode(1, &some_records(60));
        let mut bytes = segment.bytes.clone();
        bytes[place.index(segment.bytes.len())] ^= 1_u8 << bit;
        let (found, error) = read_after(&bytes, &fitted(&segment.entry, &bytes), 0);
        let length: usize = found.iter().map(|(_, record)| record.len() + 1).sum();
        prop_assert!(length as u64 <= segment.entry.raw_bytes);
        let is_whole = found.len() == 60 && length as u64 == segment.entry.raw_bytes;
        prop_assert!(error.is_some() || is_whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), after in 0u64..9) {
        let entry = encode(1, &some_records(5)).entry;
        let _ = read_after(&bytes, &fitted(&entry, &bytes), after);
    }
}
