//! Readers of fields that several resources have.

use schemas::input::Fields;
use schemas::target::{self, TargetFault};

/// A change to a field that may be taken away: absent leaves it, `null` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    /// Not in the body.
    #[default]
    Keep,
    /// `null`.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Patch<T> {
    /// Applies the change.
    pub(crate) fn apply(self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }
}

/// What a patch does to member `name`, whose value `read` reads.
pub(crate) fn patch<T>(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    read: impl FnOnce(&mut Fields<'_, '_>) -> Option<T>,
) -> Patch<T> {
    if fields.is_null(name) {
        return Patch::Clear;
    }
    read(fields).map_or(Patch::Keep, Patch::Set)
}

/// A name that rules, operators or people use: text of `1..=len` bytes without control characters.
pub(crate) fn name(fields: &mut Fields<'_, '_>, name: &'static str, len: usize) -> Option<String> {
    let text = fields.text(name, 1..=len)?;
    printable(fields, name, text)
}

/// The same, where it may be absent.
pub(crate) fn optional_name(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    len: usize,
) -> Option<String> {
    let text = fields.optional_text(name, 1..=len)?;
    printable(fields, name, text)
}

fn printable(fields: &mut Fields<'_, '_>, name: &'static str, text: &str) -> Option<String> {
    if text.chars().any(char::is_control) || text.trim().is_empty() {
        fields.fault(name, "invalid_format", "must be visible text without control characters");
        return None;
    }
    Some(text.to_owned())
}

/// Free text of at most `len` bytes.
pub(crate) fn text(fields: &mut Fields<'_, '_>, name: &'static str, len: usize) -> Option<String> {
    fields.optional_text(name, 0..=len).map(str::to_owned)
}

/// A country: ISO 3166-1 alpha-2, upper case.
pub(crate) fn country(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<String> {
    let text = fields.optional_text(name, 0..=16)?;
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        return Some(text.to_owned());
    }
    fields.fault(name, "invalid_format", "must be two upper-case letters of ISO 3166-1, like US");
    None
}

/// Checks a URL that was read from member `name`.
pub(crate) fn url<T>(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    text: &str,
    check: impl FnOnce(&str) -> Result<T, TargetFault>,
) -> Option<String> {
    match check(text) {
        Ok(_) => Some(text.to_owned()),
        Err(fault) => {
            fields.fault(name, fault.code(), fault.to_string());
            None
        }
    }
}

/// An https page, where there is one.
pub(crate) fn optional_page(fields: &mut Fields<'_, '_>, name: &'static str) -> Option<String> {
    let text = fields.optional_text(name, 0..=target::URL_LEN_MAX)?;
    url(fields, name, text, |text| target::web_page(text, false))
}
