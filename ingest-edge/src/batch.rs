//! Many events in one body: a JSON array, or JSON lines. Each is read by itself, so that one that is
//! not valid does not hold up the others.

use schemas::fault::{ApiError, Fault};

use crate::event::{Accepted, EventReader, Refused};
use crate::tape::{Kind, Value, with_tape};

/// Events in one batch.
pub const BATCH_EVENTS_MAX: usize = 1_000;

/// How a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// An array where the first character is `[`, lines otherwise.
    Sniffed,
    /// One JSON object per line (NDJSON); blank lines do not count.
    Lines,
}

/// One event of a batch.
pub(crate) type Item = Result<Accepted, Refused>;

/// Reads every event of `body`, in order.
///
/// # Errors
/// 400 where the body as a whole is not JSON or holds no event, 413 where it holds more than
/// [`BATCH_EVENTS_MAX`].
pub(crate) fn read(
    body: &[u8],
    format: Format,
    reader: &mut EventReader<'_>,
) -> Result<Vec<Item>, ApiError> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let items = match (format, first) {
        (Format::Sniffed, Some(b'[')) => {
            with_tape(body, |root| array(root, reader)).map_err(|fault| invalid(vec![fault]))??
        }
        _ => lines(body, reader)?,
    };
    if items.is_empty() {
        return Err(invalid(vec![Fault::new("", "required", "must hold at least one event")]));
    }
    Ok(items)
}

fn array(root: Value<'_, '_>, reader: &mut EventReader<'_>) -> Result<Vec<Item>, ApiError> {
    let Kind::Array(children) = root.kind() else { return Ok(Vec::new()) };
    within_bound(children.len())?;
    Ok(children.elements().map(|event| reader.read(event)).collect())
}

fn lines(body: &[u8], reader: &mut EventReader<'_>) -> Result<Vec<Item>, ApiError> {
    let lines = || body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = || lines().filter(|line| !line.is_empty());
    // A thousand and one already decide.
    within_bound(lines().take(BATCH_EVENTS_MAX + 1).count())?;
    Ok(lines().map(|line| single(line, reader)).collect())
}

/// Reads one event.
pub(crate) fn single(body: &[u8], reader: &mut EventReader<'_>) -> Item {
    with_tape(body, |root| reader.read(root))
        .unwrap_or_else(|fault| Err(Refused { idempotency_key: None, faults: vec![fault] }))
}

fn within_bound(events: usize) -> Result<(), ApiError> {
    if events > BATCH_EVENTS_MAX {
        let message = format!("A batch holds at most {BATCH_EVENTS_MAX} events; send several.");
        return Err(ApiError::new(413, "too_many_events", message));
    }
    Ok(())
}

fn invalid(faults: Vec<Fault>) -> ApiError {
    ApiError::validation(faults)
}

#[cfg(test)]
mod tests {
    use schemas::id::OrganizationId;
    use schemas::partition::{Mode, Scope};
    use schemas::time::Timestamp;

    use super::*;
    use crate::click::ClickKey;

    const EVENT: &str = r#"{"eventType":"e","idempotencyKey":"k","attributionCode":"C"}"#;

    /// Which items are taken, or status and code of the refusal.
    fn taken(body: &[u8], format: Format) -> Result<Vec<bool>, (u16, String)> {
        let scope = Scope { organization: OrganizationId::from_u128(1), mode: Mode::Live };
        let key = ClickKey::new(&[0; 32]);
        let items = read(body, format, &mut EventReader::new(scope, Timestamp::from_ms(0), &key));
        items.map(|items| items.iter().map(Result::is_ok).collect()).map_err(|error| {
            let code = error.errors.first().map_or(error.code.to_owned(), |f| f.code.to_string());
            (error.status, code)
        })
    }

    #[test]
    fn how_bodies_split() {
        let refused = |status, code: &str| Err((status, code.to_owned()));
        let (array, lines) = (format!("[{EVENT},{EVENT}]"), format!("{EVENT}\n{EVENT}"));
        let huge_number = EVENT.replace('}', r#","amount":99999999999999999999999}"#);
        let cases = [
            (array.clone(), Format::Sniffed, Ok(vec![true, true])),
            (format!(" \n{array}\n "), Format::Sniffed, Ok(vec![true, true])),
            (lines.clone(), Format::Sniffed, Ok(vec![true, true])),
            (lines, Format::Lines, Ok(vec![true, true])),
            (
                format!("\n{EVENT}\r\n\r\n{{\n\n{EVENT}\n"),
                Format::Lines,
                Ok(vec![true, false, true]),
            ),
            (
                format!("[{EVENT},{huge_number},{EVENT}]"),
                Format::Sniffed,
                Ok(vec![true, false, true]),
            ),
            (
                format!("[{EVENT},null,[],{{}}]"),
                Format::Sniffed,
                Ok(vec![true, false, false, false]),
            ),
            (array, Format::Lines, Ok(vec![false])),
            (String::new(), Format::Sniffed, refused(400, "required")),
            (" \n ".to_owned(), Format::Lines, refused(400, "required")),
            ("[]".to_owned(), Format::Sniffed, refused(400, "required")),
            (format!("[{EVENT},"), Format::Sniffed, refused(400, "malformed_json")),
            ("[".repeat(50_000), Format::Sniffed, refused(400, "too_deep")),
            (format!("[{}0]", "0,".repeat(999)), Format::Sniffed, Ok(vec![false; 1_000])),
            (
                format!("[{}0]", "0,".repeat(1_000)),
                Format::Sniffed,
                refused(413, "too_many_events"),
            ),
            ("0\n".repeat(1_001), Format::Sniffed, refused(413, "too_many_events")),
        ];
        for (body, format, want) in cases {
            let shown = &body[..body.len().min(80)];
            assert_eq!(taken(body.as_bytes(), format), want, "{shown}");
        }
    }
}
