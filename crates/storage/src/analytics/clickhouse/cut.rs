//! The bytes of a cut: what an INSERT sends, and what state keeps until it is known to be in. Pure.

use bytes::Bytes;

use crate::analytics::rollup::{self, RollupKey};
use crate::analytics::{Fact, Metrics, Step};

/// The columns of a row, in the order of [`encode`]. Rows in state are inserted by the build that
/// comes after a crash, which may be a newer one: another list is another [`super::fence::LAYOUT`].
pub(super) const COLUMNS: &str = "source, partition, seq, taken_at, organization, mode, campaign, \
    at, bucket_ms, gig, aktvator, link, code, event_type, clicks, conversions, revenue, rewards, \
    reward_amount";

/// Most bytes of a row without its texts.
const ROW_LEN: usize = 176;
/// The end of the year 2199, within what ClickHouse has months for.
const TAKEN_AT_MAX_MS: i64 = 7_258_118_399_999;

/// The rows of a cut in ClickHouse's RowBinary: whole numbers little-endian, texts after their
/// length in LEB128 (clickhouse.com/docs/interfaces/formats/RowBinary). `first` is the number of
/// its first fact.
pub(super) fn encode(step: &Step, first: u64, facts: &[Fact]) -> Bytes {
    let mut row = Vec::with_capacity(facts.len() * (ROW_LEN + 32));
    let taken_at = step.as_of_ms.clamp(0, TAKEN_AT_MAX_MS);
    for (seq, fact) in (first..).zip(facts) {
        row.push(step.source as u8);
        row.extend(step.partition.to_le_bytes());
        row.extend(seq.to_le_bytes());
        row.extend(taken_at.to_le_bytes());
        push_key(&mut row, &rollup::key(fact), fact.at.as_ms());
        push_metrics(&mut row, &rollup::metrics(fact));
    }
    row.into()
}

fn push_key(row: &mut Vec<u8>, key: &RollupKey, at_ms: i64) {
    row.extend(key.organization);
    row.push(key.mode);
    row.extend(key.campaign);
    row.extend(at_ms.to_le_bytes());
    row.extend(key.bucket_ms.to_le_bytes());
    for id in [key.gig, key.aktvator, key.link] {
        row.extend(id.unwrap_or_default());
    }
    push_text(row, &key.code);
    push_text(row, &key.event_type);
}

fn push_metrics(row: &mut Vec<u8>, metrics: &Metrics) {
    let Metrics { clicks, conversions, revenue, rewards, reward_amount } = *metrics;
    for figure in [clicks, conversions, revenue, rewards, reward_amount] {
        row.extend(figure.to_le_bytes());
    }
}

fn push_text(row: &mut Vec<u8>, text: &str) {
    let mut len = text.len();
    while len >= 0x80 {
        row.push(len as u8 | 0x80);
        len >>= 7;
    }
    row.push(len as u8);
    row.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_follows_its_length() {
        for (len, prefix) in [(0, &[0][..]), (127, &[127]), (128, &[0x80, 1]), (300, &[0xac, 2])] {
            let mut row = Vec::new();
            push_text(&mut row, &"x".repeat(len));
            assert_eq!(row, [prefix, &vec![b'x'; len]].concat());
        }
    }
}
