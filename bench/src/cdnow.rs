//! The CDNOW purchase log: every purchase of 23,570 customers who first bought in the first quarter
//! of 1997, followed until June 1998 (Fader and Hardie). Lines of customer, date, quantity, dollars.

use std::path::Path;

/// One purchase.
pub(crate) struct Purchase {
    /// Its line, from 1: what makes its idempotency key.
    pub(crate) line: usize,
    /// The customer's number.
    pub(crate) customer: u32,
    /// `YYYYMMDD`.
    pub(crate) date: String,
    /// Discs bought.
    pub(crate) quantity: u32,
    /// What was paid.
    pub(crate) cents: i64,
}

impl Purchase {
    /// The conversion event of this purchase, at noon UTC of its day.
    pub(crate) fn event(&self, campaign: &str, code: &str) -> String {
        let Self { line, customer, date, quantity, cents } = self;
        let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
        format!(
            r#"{{"eventType":"customer.purchase","campaignId":"{campaign}","idempotencyKey":"cdnow-{line}","attributionCode":"{code}","occurredAt":"{year}-{month}-{day}T12:00:00Z","amount":{cents},"currency":"USD","quantity":{quantity},"customer":{{"id":"cdnow-{customer}"}}}}"#
        )
    }
}

/// The first `limit` purchases of the file.
pub(crate) fn read(file: &Path, limit: Option<usize>) -> Result<Vec<Purchase>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        format!("{} cannot be read: {e}; bench/cdnow/fetch brings it", file.display())
    })?;
    let lines = text.lines().skip(1).take(limit.unwrap_or(usize::MAX)).enumerate();
    lines
        .map(|(i, line)| parse(i + 1, line).ok_or_else(|| format!("line {}: {line}", i + 1)))
        .collect()
}

fn parse(line: usize, text: &str) -> Option<Purchase> {
    let mut fields = text.split_whitespace();
    let customer = fields.next()?.parse().ok()?;
    let date = fields.next().filter(|d| d.len() == 8)?.to_owned();
    let quantity = fields.next()?.parse().ok()?;
    let (dollars, cents) = fields.next()?.split_once('.')?;
    let cents = dollars.parse::<i64>().ok()? * 100 + format!("{cents:0<2}").parse::<i64>().ok()?;
    Some(Purchase { line, customer, date, quantity, cents })
}
