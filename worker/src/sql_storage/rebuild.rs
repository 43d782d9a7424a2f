use relay_durable::{LogHead, LogStorage, Move, Rebuilt};
use relay_schemas::{Seq, StreamKey};
use worker::Result;

use super::{SqlLogStorage, segments, values::integer};

/// Positions are moved by way of negative ones, which no others have.
pub(super) fn rebuild(
    storage: &mut SqlLogStorage,
    stream: &StreamKey,
    rebuilt: &Rebuilt,
) -> Result<()> {
    // The new incarnation first: whatever fails behind it, no old cursor names another event.
    let stream = Some(stream.clone());
    storage.save_head(&LogHead { epoch: rebuilt.epoch, trimmed: Seq::ZERO, stream })?;
    for one in &rebuilt.moves {
        shift(storage, one)?;
    }
    // What no move names has no position any more: its segment is gone, or holds it.
    storage.write("DELETE FROM log WHERE first > 0", vec![])?;
    storage.write("DELETE FROM report WHERE seq > 0", vec![])?;
    storage.write("DELETE FROM given_up WHERE seq > 0", vec![])?;
    storage.write("UPDATE log SET first = -first, last = -last", vec![])?;
    storage.write("UPDATE report SET seq = -seq", vec![])?;
    storage.write("UPDATE given_up SET seq = -seq", vec![])?;
    storage.write("DELETE FROM segment", vec![])?;
    for segment in &rebuilt.segments {
        segments::save(storage, segment)?;
    }
    if let Some(last) = rebuilt.segments.last() {
        let last = integer(last.entry.last.get());
        storage.write("DELETE FROM log WHERE last <= ?", vec![last])?;
    }
    Ok(())
}

fn shift(storage: &SqlLogStorage, one: &Move) -> Result<()> {
    let values = || vec![integer(one.first.get()), integer(one.last.get()), integer(one.to.get())];
    storage.write(
        "UPDATE log SET first = -(first - ?1 + ?3), last = -(last - ?1 + ?3)
         WHERE first >= ?1 AND last <= ?2",
        values(),
    )?;
    for table in ["report", "given_up"] {
        let query =
            format!("UPDATE {table} SET seq = -(seq - ?1 + ?3) WHERE seq >= ?1 AND seq <= ?2");
        storage.write(&query, values())?;
    }
    Ok(())
}
