use std::io::{Read, Write};

use brotli::enc::{BrotliEncoderInitParams, BrotliEncoderParams};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use relay_durable::{SegmentEncoder, SegmentReader};
use relay_schemas::{SegmentEntry, Seq, Sha256Digest};
use structured_zstd::{
    decoding::StreamingDecoder,
    encoding::{CompressionLevel, StreamingEncoder},
};

const CHUNK_BYTES: usize = 64 * 1024;

/// Lengths told to brotli. Beyond 4 MiB, with a window of 2^19 or more, levels 5 to 8 look for
/// matches of five bytes, else of four.
const FIVE_BYTES: usize = (1 << 22) + 1;
const FOUR_BYTES: usize = 1 << 22;

/// What can be measured.
pub(crate) enum Codec {
    /// What the relay does, with its level and window, digests and lines.
    Segment,
    Brotli {
        size_hint: usize,
    },
    Gzip,
    Zstd,
}

impl Codec {
    /// As the caller in JavaScript counts them.
    pub(crate) fn numbered(number: u32) -> Self {
        match number {
            0 => Self::Segment,
            1 => Self::Brotli { size_hint: FIVE_BYTES },
            2 => Self::Gzip,
            3 => Self::Zstd,
            4 => Self::Brotli { size_hint: FOUR_BYTES },
            _ => panic!("there are five codecs"),
        }
    }

    pub(crate) fn encode(&self, lines: &[u8], level: i32, window_bits: i32) -> Vec<u8> {
        match self {
            Self::Segment => encode_segment(lines),
            Self::Brotli { size_hint } => {
                let parameters = BrotliEncoderParams {
                    quality: level,
                    lgwin: window_bits,
                    size_hint: *size_hint,
                    ..BrotliEncoderInitParams()
                };
                encode_brotli(lines, &parameters)
            }
            Self::Gzip => {
                let level = Compression::new(level.unsigned_abs());
                let mut encoder = GzEncoder::new(Vec::new(), level);
                write_lines(lines, &mut encoder);
                encoder.finish().expect("memory")
            }
            Self::Zstd => {
                let level = CompressionLevel::Level(level);
                let mut encoder = StreamingEncoder::new(Vec::new(), level);
                write_lines(lines, &mut encoder);
                encoder.finish().expect("memory")
            }
        }
    }

    /// Gives each chunk to `take`, and the sum of their lengths back.
    pub(crate) fn decode(&self, encoded: &[u8], take: impl FnMut(&[u8])) -> usize {
        match self {
            Self::Segment => decode_segment(encoded, take),
            Self::Brotli { .. } => drain(brotli::Decompressor::new(encoded, CHUNK_BYTES), take),
            Self::Gzip => drain(GzDecoder::new(encoded), take),
            Self::Zstd => drain(StreamingDecoder::new(encoded), take),
        }
    }
}

fn write_lines(lines: &[u8], encoder: &mut impl Write) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        encoder.write_all(line).expect("memory");
    }
}

fn drain(mut decoder: impl Read, mut take: impl FnMut(&[u8])) -> usize {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut length = 0;
    loop {
        let read = decoder.read(&mut chunk).expect("what was encoded here");
        if read == 0 {
            return length;
        }
        take(&chunk[..read]);
        length += read;
    }
}

fn encode_brotli(lines: &[u8], parameters: &BrotliEncoderParams) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::with_params(Vec::new(), CHUNK_BYTES, parameters);
    write_lines(lines, &mut encoder);
    encoder.into_inner()
}

/// The object, and behind it the lengths that its entry holds.
fn encode_segment(lines: &[u8]) -> Vec<u8> {
    let mut encoder = SegmentEncoder::new(Seq::new(1));
    let text = str::from_utf8(lines).expect("records are text");
    text.lines().for_each(|line| encoder.push(line));
    let mut segment = encoder.finish().expect("some records");
    segment.bytes.extend(segment.entry.raw_bytes.to_le_bytes());
    segment.bytes.extend(segment.entry.last.get().to_le_bytes());
    segment.bytes
}

fn decode_segment(encoded: &[u8], mut take: impl FnMut(&[u8])) -> usize {
    let (encoded, last) = encoded.split_last_chunk().expect("two numbers");
    let (bytes, raw_bytes) = encoded.split_last_chunk().expect("two numbers");
    let entry = SegmentEntry {
        first: Seq::new(1),
        last: Seq::new(u64::from_le_bytes(*last)),
        received_at_min: Default::default(),
        received_at_max: Default::default(),
        bytes: bytes.len() as u64,
        raw_bytes: u64::from_le_bytes(*raw_bytes),
        sha256: Sha256Digest::of(&[bytes]),
        origin: None,
    };
    let mut reader = SegmentReader::new(bytes.to_vec(), &entry).expect("what was encoded here");
    let mut length = 0;
    while let Some((_, record)) = reader.next().expect("what was encoded here") {
        take(record.as_bytes());
        take(b"\n");
        length += record.len() + 1;
    }
    length
}
