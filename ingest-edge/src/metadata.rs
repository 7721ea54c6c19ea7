//! `metadata`: free-form JSON within bounds, written again compactly, in source order.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use crate::fields::{At, Faults, TWO_POW_63};
use crate::tape::{Children, Kind, Value};

/// Bytes of compact metadata.
pub(crate) const BYTES_MAX: usize = 16 * 1024;
/// Levels of objects and arrays, the metadata object itself being the first.
pub(crate) const DEPTH_MAX: usize = 4;
/// Members of an object up to which comparing each with each is the fastest search for duplicates.
const FEW_MEMBERS: usize = 16;

/// What metadata says of the customer, and where the plain address stands.
#[derive(Default)]
pub(crate) struct Metadata<'i> {
    /// `customerId`, where it is a string or a whole number.
    pub(crate) customer_id: Option<Cow<'i, str>>,
    /// `email`, as given.
    pub(crate) email: Option<&'i str>,
    /// Bytes of the compact form that hold the member `email`.
    email_member: Option<Range<usize>>,
}

impl<'i> Metadata<'i> {
    /// Reads metadata `value` at `at`, and appends its compact form to `out`, which is empty.
    /// Duplicate keys, U+0000, more levels than [`DEPTH_MAX`], numbers beyond 64 bits and more bytes than
    /// [`BYTES_MAX`] are noted.
    pub(crate) fn read(
        value: Value<'_, 'i>,
        at: At<'_>,
        out: &mut Vec<u8>,
        faults: &mut Faults,
    ) -> Self {
        let mut metadata = Self::default();
        let Kind::Object(children) = value.kind() else {
            faults.note(at, "wrong_type", "must be an object");
            return metadata;
        };
        no_duplicates(children, at, faults);
        out.push(b'{');
        for (key, value) in children.members() {
            let start = out.len();
            member(key, value, at, 1, out, faults);
            metadata.notice(key, value, start..out.len(), at, faults);
        }
        out.push(b'}');
        if out.len() > BYTES_MAX {
            faults.note(at, "too_large", format!("must have at most {BYTES_MAX} bytes"));
        }
        metadata
    }

    fn notice(
        &mut self,
        key: &str,
        value: Value<'_, 'i>,
        written: Range<usize>,
        at: At<'_>,
        faults: &mut Faults,
    ) {
        match (key, value.kind()) {
            ("customerId", Kind::Text(id)) => self.customer_id = Some(Cow::Borrowed(id)),
            ("customerId", Kind::Integer(id)) => self.customer_id = Some(id.to_string().into()),
            ("email", kind) => {
                self.email_member = Some(written);
                match kind {
                    Kind::Text(email) => self.email = Some(email),
                    Kind::Null => {}
                    _ => faults.note(At::Member(&at, key), "wrong_type", "must be a string"),
                }
            }
            _ => {}
        }
    }

    /// `compact` without the plain `email`: only its hash is kept, in the customer.
    pub(crate) fn redacted<'c>(&self, compact: &'c [u8]) -> Cow<'c, [u8]> {
        let Some(member) = &self.email_member else { return Cow::Borrowed(compact) };
        let (before, after) = (&compact[..member.start], &compact[member.end..]);
        // One comma goes with the member: the one before it, or, of the first member, the one after.
        let after = match after.strip_prefix(b",") {
            Some(after) if before.ends_with(b"{") => after,
            _ => after,
        };
        Cow::Owned([before, after].concat())
    }
}

/// Appends `,"key":value`, the comma unless it is the first.
fn member(
    key: &str,
    value: Value<'_, '_>,
    parent: At<'_>,
    depth: usize,
    out: &mut Vec<u8>,
    faults: &mut Faults,
) {
    let at = At::Member(&parent, key);
    separate(out);
    text(key, at, out, faults);
    out.push(b':');
    write(value, at, depth, out, faults);
}

/// Appends `value`, which stands inside `depth` levels, compactly.
fn write(value: Value<'_, '_>, at: At<'_>, depth: usize, out: &mut Vec<u8>, faults: &mut Faults) {
    match value.kind() {
        Kind::Object(_) | Kind::Array(_) if depth == DEPTH_MAX => {
            faults.note(at, "too_deep", format!("metadata nests at most {DEPTH_MAX} levels"));
        }
        Kind::Object(children) => {
            no_duplicates(children, at, faults);
            out.push(b'{');
            for (key, value) in children.members() {
                member(key, value, at, depth + 1, out, faults);
            }
            out.push(b'}');
        }
        Kind::Array(children) => {
            out.push(b'[');
            for (index, value) in children.elements().enumerate() {
                separate(out);
                write(value, At::Element(&at, index), depth + 1, out, faults);
            }
            out.push(b']');
        }
        Kind::Text(value) => text(value, at, out, faults),
        Kind::Integer(n) => json(&n, out),
        Kind::Float(n) if n.abs() < TWO_POW_63 => json(&n, out),
        Kind::Large | Kind::Float(_) => {
            faults.note(at, "out_of_range", "must be a number below 2^63 in magnitude");
        }
        Kind::Bool(b) => json(&b, out),
        Kind::Null => out.extend_from_slice(b"null"),
    }
}

fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

fn text(value: &str, at: At<'_>, out: &mut Vec<u8>, faults: &mut Faults) {
    if value.contains('\0') {
        faults.note(at, "nul_character", "holds U+0000");
    }
    json(value, out);
}

fn json<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Scalars into memory: there is nothing that can fail.
    let _ = serde_json::to_writer(out, value);
}

fn no_duplicates(children: Children<'_, '_>, at: At<'_>, faults: &mut Faults) {
    let mut note =
        |key| faults.note(At::Member(&at, key), "duplicate_key", "stands more than once");
    if children.len() <= FEW_MEMBERS {
        for (i, (key, _)) in children.members().enumerate() {
            if children.members().take(i).any(|(earlier, _)| earlier == key) {
                note(key);
            }
        }
    } else {
        let mut seen = HashSet::with_capacity(children.len());
        children.members().filter(|(key, _)| !seen.insert(*key)).for_each(|(key, _)| note(key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tape::with_tape;

    struct Read {
        compact: String,
        redacted: String,
        email: Option<String>,
        customer_id: Option<String>,
        faults: Vec<(String, String)>,
    }

    fn read(text: &str) -> Read {
        with_tape(text.as_bytes(), |value| {
            let (mut out, mut faults) = (Vec::new(), Faults::default());
            let metadata = Metadata::read(value, At::Root, &mut out, &mut faults);
            let faults = faults.into_vec();
            Read {
                redacted: String::from_utf8(metadata.redacted(&out).into_owned()).expect("UTF-8"),
                compact: String::from_utf8(out).expect("UTF-8"),
                email: metadata.email.map(str::to_owned),
                customer_id: metadata.customer_id.map(Cow::into_owned),
                faults: faults.into_iter().map(|f| (f.path, f.code.into_owned())).collect(),
            }
        })
        .expect("JSON")
    }

    #[test]
    fn the_plain_address_goes_and_one_comma_with_it() {
        let cases = [
            (r#"{ "email" : "a@b.c" }"#, "{}"),
            (r#"{"email":"a@b.c","x":1}"#, r#"{"x":1}"#),
            (r#"{"x":1,"email":"a@b.c"}"#, r#"{"x":1}"#),
            (
                r#"{"x":1,"email":"a@b.c","y":[2,{"email":"kept"}]}"#,
                r#"{"x":1,"y":[2,{"email":"kept"}]}"#,
            ),
            (r#"{"x":1,"e\u006dail":"a@b.c","y":2}"#, r#"{"x":1,"y":2}"#),
        ];
        for (text, want) in cases {
            let read = read(text);
            assert_eq!(read.redacted, want, "{text}");
            assert_eq!(read.email.as_deref(), Some("a@b.c"), "{text}");
            assert_eq!(read.faults, [], "{text}");
        }
        assert_eq!(read(r#"{"x": {"email": 1}}"#).redacted, r#"{"x":{"email":1}}"#);
    }

    #[test]
    fn the_customer_is_found() {
        assert_eq!(read(r#"{"customerId":"c1"}"#).customer_id.as_deref(), Some("c1"));
        assert_eq!(read(r#"{"customerId":77}"#).customer_id.as_deref(), Some("77"));
        assert_eq!(read(r#"{"customerId":true}"#).customer_id, None);
    }

    #[test]
    fn what_is_refused() {
        let many = (0..20).map(|i| format!(r#""k{i}":{i}"#)).collect::<Vec<_>>().join(",");
        let cases = [
            ("[]".to_owned(), "", "wrong_type"),
            (r#"{"a":1,"a":2}"#.to_owned(), "/a", "duplicate_key"),
            (r#"{"a":1,"\u0061":2}"#.to_owned(), "/a", "duplicate_key"),
            (r#"{"o":[{"a":1,"b":2,"a":3}]}"#.to_owned(), "/o/0/a", "duplicate_key"),
            (format!(r#"{{{many},"k3":0}}"#), "/k3", "duplicate_key"),
            (r#"{"a":"x\u0000"}"#.to_owned(), "/a", "nul_character"),
            (r#"{"a~/":18446744073709551615}"#.to_owned(), "/a~0~1", "out_of_range"),
            (r#"{"a":123456789012345678901234567890}"#.to_owned(), "/a", "out_of_range"),
            (r#"{"email":1}"#.to_owned(), "/email", "wrong_type"),
            (r#"{"a":{"b":{"c":{"d":1}}}}"#.to_owned(), "/a/b/c/d", ""),
            (r#"{"a":{"b":{"c":{"d":[]}}}}"#.to_owned(), "/a/b/c/d", "too_deep"),
            (format!(r#"{{"a":"{}"}}"#, "x".repeat(BYTES_MAX)), "", "too_large"),
        ];
        for (text, path, code) in cases {
            let want: Vec<_> = (!code.is_empty())
                .then(|| (path.to_owned(), code.to_owned()))
                .into_iter()
                .collect();
            assert_eq!(read(&text).faults, want, "{text}");
        }
        assert_eq!(read(&format!(r#"{{"a":"{}"}}"#, "x".repeat(BYTES_MAX - 8))).faults, []);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e18..1e18f64).prop_map(Into::into),
            "[^\0]{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(2, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map("[^\0]{0,6}", inner, 0..5)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compact_means_the_same(
            members in prop::collection::btree_map("[^\0]{0,6}", any_json(), 0..6),
            pretty: bool,
        ) {
            let value = serde_json::Value::Object(members.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let read = read(&text.expect("JSON"));
            prop_assert_eq!(&read.faults, &vec![]);
            prop_assert_eq!(read.compact, serde_json::to_string(&value).expect("JSON"));
        }
    }
}
