//! Bytes to a flat tape of JSON nodes (simd-json), and walking it without building a document.
//!
//! The parser writes into its input, so the body is first copied into a buffer of the thread; tape
//! and buffers are kept from one body to the next, up to a bound.

use std::cell::RefCell;

use schemas::fault::Fault;
use simd_json::{Buffers, ErrorType, Node, StaticNode, Tape};

/// Nodes of a tape that stay allocated between bodies (24 bytes each); a thousand usual events
/// need thirty thousand.
const NODES_KEPT: usize = 128 * 1024;

#[derive(Default)]
struct Scratch {
    input: Vec<u8>,
    buffers: Buffers,
    nodes: Vec<Node<'static>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Parses `bytes` and hands the root to `read`.
///
/// # Errors
/// One [`Fault`] at the root: `malformed_json`, `invalid_utf8`, or `too_deep` beyond the parser's
/// 1,024 levels (no reader of this crate goes deeper than seven).
pub(crate) fn with_tape<R>(
    bytes: &[u8],
    read: impl FnOnce(Value<'_, '_>) -> R,
) -> Result<R, Fault> {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { input, buffers, nodes } = scratch;
        input.clear();
        input.extend_from_slice(bytes);
        let mut tape = Tape(std::mem::take(nodes)).reset();
        let result = match simd_json::fill_tape(input, buffers, &mut tape) {
            Ok(()) if !tape.0.is_empty() => Ok(read(Value(&tape.0))),
            Ok(()) => Err(malformed(bytes, &ErrorType::Eof)),
            Err(error) => Err(malformed(bytes, error.error())),
        };
        *nodes = tape.reset().0;
        if nodes.capacity() > NODES_KEPT {
            *scratch = Scratch::default();
        }
        result
    })
}

/// Why `bytes` are not JSON. Off the usual path, so it reads them again with a parser that knows
/// lines and columns.
#[cold]
fn malformed(bytes: &[u8], error: &ErrorType) -> Fault {
    if *error == ErrorType::DepthLimitExceeded {
        return Fault::new("", "too_deep", "has too many levels of nesting");
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        let message = format!("is not UTF-8 at byte {}", error.valid_up_to());
        return Fault::new("", "invalid_utf8", message);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Fault::new("", "malformed_json", "is empty");
    }
    let message = match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        Err(error) => format!("is not JSON: {error}"),
        Ok(_) => "is not JSON".to_owned(),
    };
    Fault::new("", "malformed_json", message)
}

/// A JSON value on the tape: its own node, and everything inside it.
#[derive(Clone, Copy)]
pub(crate) struct Value<'t, 'i>(&'t [Node<'i>]);

/// What a [`Value`] is.
pub(crate) enum Kind<'t, 'i> {
    Text(&'i str),
    Object(Children<'t, 'i>),
    Array(Children<'t, 'i>),
    Integer(i64),
    /// A whole number from 2^63 to 2^64 - 1.
    Large,
    Float(f64),
    Bool(bool),
    Null,
}

impl<'t, 'i> Value<'t, 'i> {
    /// What it is.
    pub(crate) fn kind(self) -> Kind<'t, 'i> {
        let children = |len| Children { rest: self.0.get(1..).unwrap_or_default(), len };
        match self.0.first() {
            Some(&Node::String(text)) => Kind::Text(text),
            Some(&Node::Object { len, .. }) => Kind::Object(children(len)),
            Some(&Node::Array { len, .. }) => Kind::Array(children(len)),
            Some(&Node::Static(StaticNode::I64(n))) => Kind::Integer(n),
            Some(&Node::Static(StaticNode::U64(n))) => {
                i64::try_from(n).map_or(Kind::Large, Kind::Integer)
            }
            Some(&Node::Static(StaticNode::F64(n))) => Kind::Float(n),
            Some(&Node::Static(StaticNode::Bool(b))) => Kind::Bool(b),
            Some(&Node::Static(StaticNode::Null)) | None => Kind::Null,
        }
    }

    /// The string it is, if it is one.
    pub(crate) fn text(self) -> Option<&'i str> {
        match self.kind() {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Is it `null`?
    pub(crate) fn is_null(self) -> bool {
        matches!(self.kind(), Kind::Null)
    }
}

/// The members of an object or the elements of an array.
#[derive(Clone, Copy)]
pub(crate) struct Children<'t, 'i> {
    rest: &'t [Node<'i>],
    len: usize,
}

impl<'t, 'i> Children<'t, 'i> {
    /// How many.
    pub(crate) fn len(self) -> usize {
        self.len
    }

    /// Key and value of each member, in source order.
    pub(crate) fn members(mut self) -> impl Iterator<Item = (&'i str, Value<'t, 'i>)> {
        (0..self.len).map_while(move |_| {
            let key = self.take()?.text()?;
            Some((key, self.take()?))
        })
    }

    /// Each element, in source order.
    pub(crate) fn elements(mut self) -> impl Iterator<Item = Value<'t, 'i>> {
        (0..self.len).map_while(move |_| self.take())
    }

    fn take(&mut self) -> Option<Value<'t, 'i>> {
        let span = match self.rest.first()? {
            Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
            Node::String(_) | Node::Static(_) => 1,
        };
        let (taken, rest) = self.rest.split_at_checked(span)?;
        self.rest = rest;
        Some(Value(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value written back, to compare with what went in.
    fn written(value: Value<'_, '_>) -> String {
        match value.kind() {
            Kind::Text(text) => format!("{text:?}"),
            Kind::Object(c) => {
                let all: Vec<_> =
                    c.members().map(|(key, value)| format!("{key:?}:{}", written(value))).collect();
                assert_eq!(all.len(), c.len());
                format!("{{{}}}", all.join(","))
            }
            Kind::Array(c) => {
                let all: Vec<_> = c.elements().map(written).collect();
                assert_eq!(all.len(), c.len());
                format!("[{}]", all.join(","))
            }
            Kind::Integer(n) => n.to_string(),
            Kind::Large => "large".to_owned(),
            Kind::Float(n) => format!("{n:?}"),
            Kind::Bool(b) => b.to_string(),
            Kind::Null => "null".to_owned(),
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for text in [
            r#"{"a":{"b":[1,[],{},[2,{"c":"d"}]],"e":null},"f":true,"g":-5}"#,
            "[9223372036854775807,-9223372036854775808]",
            r#"[0.5,"x",[[[]]]]"#,
            r#""only""#,
            "7",
        ] {
            assert_eq!(with_tape(text.as_bytes(), written).expect("JSON"), text);
        }
        let beyond = b"[18446744073709551615,9223372036854775808]";
        assert_eq!(with_tape(beyond, written).expect("JSON"), "[large,large]");
        // Beyond 64 bits: a float, so that only the field that holds it is at fault.
        assert_eq!(with_tape(b"[1000000000000000000000]", written).expect("JSON"), "[1e21]");
        assert_eq!(
            with_tape(br#"["\u0041\n\ud83d\ude00"]"#, written).expect("JSON"),
            "[\"A\\n😀\"]"
        );
    }

    #[test]
    fn what_is_not_json_says_why() {
        let deep = "[".repeat(50_000);
        let deep_closed = deep.clone() + &"]".repeat(50_000);
        let cases: [(&[u8], &str); 14] = [
            (b"", "malformed_json"),
            (b"  \n", "malformed_json"),
            (b"{", "malformed_json"),
            (b"{} {}", "malformed_json"),
            (b"{}\0", "malformed_json"),
            (b"{\"a\":01}", "malformed_json"),
            (b"[1e999]", "malformed_json"),
            (b"[NaN]", "malformed_json"),
            (b"{\"a\" 1}", "malformed_json"),
            (b"[\"a\nb\"]", "malformed_json"),
            (b"[\"\xff\"]", "invalid_utf8"),
            (b"[\"\xed\xa0\x80\"]", "invalid_utf8"),
            (deep.as_bytes(), "too_deep"),
            (deep_closed.as_bytes(), "too_deep"),
        ];
        for (bytes, code) in cases {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
            let fault = with_tape(bytes, |_| ()).expect_err("must be refused");
            assert_eq!(fault.code, code, "{shown}: {}", fault.message);
        }
    }

    #[test]
    fn a_huge_tape_is_not_kept() {
        let many = format!("[{}1]", "1,".repeat(NODES_KEPT * 2));
        assert_eq!(with_tape(many.as_bytes(), |v| v.is_null()), Ok(false));
        SCRATCH.with_borrow(|scratch| assert_eq!(scratch.nodes.capacity(), 0));
    }
}
