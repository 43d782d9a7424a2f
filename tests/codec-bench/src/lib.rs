//! Codecs for segments, to be measured in wasm from outside: `tests/relay/codec.mjs` calls what is
//! exported here and holds the clock.
//!
//! In scope: what one user's traffic looks like, the codecs and their settings, counting memory.
//! Out of scope: time, and choosing.

#![allow(unsafe_code, reason = "exported names, and an allocator that counts")]

mod codec;
mod memory;
mod traffic;

use std::cell::RefCell;

use codec::Codec;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Makes room for so much input and says where.
#[unsafe(no_mangle)]
pub extern "C" fn input(length: usize) -> *mut u8 {
    INPUT.with_borrow_mut(|input| {
        *input = vec![0; length];
        input.as_mut_ptr()
    })
}

/// Where the output is.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const u8 {
    OUTPUT.with_borrow(|output| output.as_ptr())
}

/// How long the output is.
#[unsafe(no_mangle)]
pub extern "C" fn output_length() -> usize {
    OUTPUT.with_borrow(Vec::len)
}

/// Puts the records of so many bytes, or a few more, into the output.
#[unsafe(no_mangle)]
pub extern "C" fn make_traffic(bytes: usize) {
    OUTPUT.set(traffic::lines(bytes));
}

/// Encodes the input, which is lines, into the output. Every codec gets it line by line.
#[unsafe(no_mangle)]
pub extern "C" fn encode(codec: u32, level: i32, window_bits: i32) {
    let encoded =
        INPUT.with_borrow(|input| Codec::numbered(codec).encode(input, level, window_bits));
    OUTPUT.set(encoded);
}

/// Decodes the input chunk by chunk and says how many bytes that were. They become the output only
/// if they are to be kept.
#[unsafe(no_mangle)]
pub extern "C" fn decode(codec: u32, is_kept: bool) -> usize {
    let mut kept = Vec::new();
    let length = INPUT.with_borrow(|input| {
        Codec::numbered(codec).decode(input, |chunk| {
            if is_kept {
                kept.extend_from_slice(chunk);
            }
        })
    });
    OUTPUT.set(kept);
    length
}

/// Lets go of the output and begins to look for the greatest use of memory from here.
#[unsafe(no_mangle)]
pub extern "C" fn begin_peak() {
    OUTPUT.take();
    memory::begin_peak();
}

/// The greatest use of memory since then, beyond what was in use.
#[unsafe(no_mangle)]
pub extern "C" fn peak() -> usize {
    memory::peak()
}
