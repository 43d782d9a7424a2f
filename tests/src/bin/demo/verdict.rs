/// What was promised, and whether it held.
#[derive(Default)]
pub(crate) struct Verdict(Vec<(String, bool)>);

impl Verdict {
    /// Notes whether a promise held.
    pub(crate) fn check(&mut self, promise: &str, holds: bool) {
        self.0.push((promise.to_owned(), holds));
    }

    /// Whether all of them held, and prints each.
    pub(crate) fn print(&self) -> bool {
        for (promise, holds) in &self.0 {
            println!("{}  {promise}", if *holds { "held  " } else { "FAILED" });
        }
        self.0.iter().all(|(_, holds)| *holds)
    }
}
