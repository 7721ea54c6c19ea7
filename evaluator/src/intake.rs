//! Takes the next records from the events log and decodes them. Damaged bytes go to the dead letters,
//! durably, before anything behind them is decided.

use bytes::Bytes;
use engine::{Entry, Undecodable};
use prost::Message;
use schemas::proto::DeadLetter;
use storage::error::Error;
use storage::log::{EventLog, LogRecord, ReadLimit, Topic};

/// What was read in one go.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Records that can be decided, in log order.
    pub(crate) entries: Vec<Entry>,
    /// The offset after the last record read, damaged ones included.
    pub(crate) next_offset: u64,
    /// Damaged records, now in the dead letters.
    pub(crate) dead_letters: usize,
    /// The offset of a record of a kind or version that is not known: nothing behind it may be read.
    pub(crate) unknown: Option<u64>,
}

/// The records from `from` on, none where the log has no more.
pub(crate) async fn read(
    log: &EventLog,
    partition: u16,
    from: u64,
    limit: ReadLimit,
) -> Result<Batch, Error> {
    let records = log.read(Topic::Events, partition, from, limit).await?;
    let (batch, damaged) = decode(records, partition, from);
    if !damaged.is_empty() {
        log.append(Topic::DeadLetters, damaged).await?;
    }
    Ok(batch)
}

/// The batch, and what is to be appended to the dead letters.
fn decode(records: Vec<LogRecord>, partition: u16, from: u64) -> (Batch, Vec<(u16, Bytes)>) {
    let mut entries = Vec::with_capacity(records.len());
    let mut damaged = Vec::new();
    let mut next_offset = from;
    let mut unknown = None;
    for LogRecord { offset, bytes } in records {
        match Entry::decode(offset, bytes.clone()) {
            Ok(entry) => entries.push(entry),
            Err(Undecodable::Malformed(reason)) => {
                tracing::warn!(
                    partition,
                    offset,
                    reason,
                    "record cannot be decoded, dead-lettered"
                );
                damaged.push((partition, dead_letter(partition, offset, reason, bytes)));
            }
            Err(Undecodable::Unknown(what)) => {
                tracing::error!(partition, offset, what, "record of an unknown kind or version");
                unknown = Some(offset);
                break;
            }
        }
        next_offset = offset + 1;
    }
    (Batch { entries, next_offset, dead_letters: damaged.len(), unknown }, damaged)
}

fn dead_letter(partition: u16, offset: u64, reason: &str, bytes: Bytes) -> Bytes {
    DeadLetter { partition: partition.into(), offset, reason: reason.to_owned(), bytes }
        .encode_to_vec()
        .into()
}
