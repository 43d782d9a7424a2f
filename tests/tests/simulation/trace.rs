use std::fmt::{self, Write};

/// The whole of a run in one number, and on request as text: the same seed must give the same.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, prints }
    }

    pub(crate) fn note(&mut self, text: fmt::Arguments<'_>) {
        if self.prints {
            println!("{:.400}", text.to_string());
        }
        let _ = writeln!(self, "{text}");
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

/// FNV-1a.
impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}
