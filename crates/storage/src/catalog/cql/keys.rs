//! Names and bytes of the catalog's rows.
//!
//! A key is one byte of what the row is, and the rest so that rows of a list sort as the list does:
//! (created at, id), big-endian, the sign turned.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use schemas::id::OrganizationId;
use schemas::partition::Mode;
use schemas::time::Timestamp;

use crate::catalog::{Document, Kind, OutboxRow};

const DOCUMENT: u8 = 1;
const NAME: u8 = 2;
const BY_KIND: u8 = 3;
const BY_OWNER: u8 = 4;
const BY_MODE: u8 = 5;
const BY_PARENT: u8 = 6;
const OUTBOX: u8 = 7;
const SETTING: u8 = 8;
const FLOOR: u8 = 9;

/// First byte of a stored document; another would be another encoding.
const VERSION: u8 = 1;
const ID_BYTES: usize = 16;

/// What a list has in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List(Bytes);

impl List {
    /// Every document of the kind.
    pub(super) fn of_kind(kind: Kind) -> Self {
        Self(Bytes::copy_from_slice(&[BY_KIND, kind as u8]))
    }

    /// Those of one organization.
    pub(super) fn of_owner(kind: Kind, organization: OrganizationId) -> Self {
        let mut key = BytesMut::from(&[BY_OWNER, kind as u8][..]);
        key.put_slice(&organization.to_bytes());
        Self(key.freeze())
    }

    /// Those of one organization and mode.
    pub(super) fn of_mode(kind: Kind, organization: OrganizationId, mode: Mode) -> Self {
        let mut key = BytesMut::from(&[BY_MODE, kind as u8][..]);
        key.put_slice(&organization.to_bytes());
        key.put_u8(mode.byte());
        Self(key.freeze())
    }

    /// Those under one parent.
    pub(super) fn of_parent(kind: Kind, parent: &str) -> Self {
        let mut key = BytesMut::from(&[BY_PARENT, kind as u8][..]);
        // So that no parent's list begins like another's.
        key.put_u32(parent.len() as u32);
        key.put_slice(parent.as_bytes());
        Self(key.freeze())
    }

    /// Every list the document is in.
    pub(super) fn all_of(document: &Document) -> Vec<Self> {
        let Document { kind, organization, mode, parent, .. } = document;
        let mut lists = vec![Self::of_kind(*kind)];
        if let Some(organization) = organization {
            lists.push(Self::of_owner(*kind, *organization));
            lists.extend(mode.map(|mode| Self::of_mode(*kind, *organization, mode)));
        }
        lists.extend(parent.iter().map(|parent| Self::of_parent(*kind, parent)));
        lists
    }

    /// The first place of those made at or after.
    pub(super) fn from(&self, created_at: Timestamp) -> Bytes {
        self.place(created_at, "")
    }

    /// A document's place.
    pub(super) fn place(&self, created_at: Timestamp, id: &str) -> Bytes {
        let mut key = BytesMut::from(&self.0[..]);
        key.put_u64(created_at.as_ms().cast_unsigned() ^ (1 << 63));
        key.put_slice(id.as_bytes());
        key.freeze()
    }

    pub(super) fn start(&self) -> Bytes {
        self.0.clone()
    }

    /// Behind every place.
    pub(super) fn end(&self) -> Bytes {
        // Nothing is made in the last millisecond of time.
        self.place(Timestamp::from_ms(i64::MAX), "")
    }

    /// Whose place it is.
    pub(super) fn id_at(&self, place: &[u8]) -> Option<String> {
        let id = place.get(self.0.len() + 8..)?;
        String::from_utf8(id.to_vec()).ok()
    }
}

pub(super) fn document(kind: Kind, id: &str) -> Bytes {
    let mut key = BytesMut::from(&[DOCUMENT, kind as u8][..]);
    key.put_slice(id.as_bytes());
    key.freeze()
}

pub(super) fn name(unique: &str) -> Bytes {
    text(NAME, unique)
}

pub(super) fn setting(name: &str) -> Bytes {
    text(SETTING, name)
}

/// Where the lowest id that may be in the outbox stands.
pub(super) fn floor() -> Bytes {
    Bytes::from_static(&[FLOOR])
}

pub(super) fn outbox(id: u64) -> Bytes {
    let mut key = BytesMut::from(&[OUTBOX][..]);
    key.put_u64(id);
    key.freeze()
}

/// Behind every row of the outbox.
pub(super) fn outbox_end() -> Bytes {
    Bytes::from_static(&[OUTBOX + 1])
}

fn text(first: u8, rest: &str) -> Bytes {
    let mut key = BytesMut::from(&[first][..]);
    key.put_slice(rest.as_bytes());
    key.freeze()
}

/// The holder of a name, as its row's value: its document's key.
pub(super) fn held_by(kind: Kind, id: &str) -> Bytes {
    document(kind, id)
}

/// The reverse of [`held_by`].
pub(super) fn holder(value: &[u8]) -> Option<(Kind, String)> {
    let [DOCUMENT, kind, id @ ..] = value else { return None };
    let kind = *Kind::ALL.get(usize::from(*kind))?;
    Some((kind, String::from_utf8(id.to_vec()).ok()?))
}

/// A document without what its key says.
pub(super) fn encode(document: &Document) -> Bytes {
    let mut to = BytesMut::new();
    to.put_u8(VERSION);
    to.put_u64(document.version);
    to.put_i64(document.created_at.as_ms());
    match document.organization {
        Some(organization) => to.put_slice(&[&[1][..], &organization.to_bytes()].concat()),
        None => to.put_u8(0),
    }
    match document.mode {
        Some(mode) => to.put_slice(&[1, mode.byte()]),
        None => to.put_u8(0),
    }
    match &document.parent {
        Some(parent) => {
            to.put_u8(1);
            to.put_u32(parent.len() as u32);
            to.put_slice(parent.as_bytes());
        }
        None => to.put_u8(0),
    }
    to.put_slice(document.json.as_bytes());
    to.freeze()
}

/// `None` for anything else than what [`encode`] made.
pub(super) fn decode(kind: Kind, id: &str, mut from: Bytes) -> Option<Document> {
    if from.try_get_u8().ok()? != VERSION {
        return None;
    }
    let version = from.try_get_u64().ok()?;
    let created_at = Timestamp::from_ms(from.try_get_i64().ok()?);
    let organization = match from.try_get_u8().ok()? {
        0 => None,
        _ => {
            let id = (from.len() >= ID_BYTES).then(|| from.split_to(ID_BYTES))?;
            let id = u128::from_be_bytes(id[..].try_into().ok()?);
            Some(OrganizationId::from_u128(id))
        }
    };
    let mode = match from.try_get_u8().ok()? {
        0 => None,
        _ => Some(Mode::from_byte(from.try_get_u8().ok()?)?),
    };
    let parent = match from.try_get_u8().ok()? {
        0 => None,
        _ => {
            let len = usize::try_from(from.try_get_u32().ok()?).ok()?;
            let parent = (from.len() >= len).then(|| from.split_to(len))?;
            Some(String::from_utf8(parent.to_vec()).ok()?)
        }
    };
    let json = String::from_utf8(from.to_vec()).ok()?;
    let id = id.to_owned();
    Some(Document { kind, organization, mode, id, parent, version, created_at, json })
}

/// The value of an outbox row.
pub(super) fn encode_command(partition: u16, record: &[u8]) -> Bytes {
    let mut to = BytesMut::with_capacity(2 + record.len());
    to.put_u16(partition);
    to.put_slice(record);
    to.freeze()
}

/// An outbox row from its key and value.
pub(super) fn decode_command(key: &[u8], mut value: Bytes) -> Option<OutboxRow> {
    let [OUTBOX, id @ ..] = key else { return None };
    let id = u64::from_be_bytes(id.try_into().ok()?);
    let partition = value.try_get_u16().ok()?;
    Some(OutboxRow { id, partition, record: value })
}

pub(super) fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document_of(
        organization: Option<u128>,
        mode: Option<Mode>,
        parent: Option<&str>,
    ) -> Document {
        Document {
            kind: Kind::Link,
            organization: organization.map(OrganizationId::from_u128),
            mode,
            id: "lnk_1".to_owned(),
            parent: parent.map(str::to_owned),
            version: 7,
            created_at: Timestamp::from_ms(-3),
            json: r#"{"name":"Ü"}"#.to_owned(),
        }
    }

    #[test]
    fn a_document_survives_its_encoding() {
        for document in [
            document_of(None, None, None),
            document_of(Some(5), None, Some("")),
            document_of(Some(u128::MAX), Some(Mode::Test), Some("camp_1")),
        ] {
            let bytes = encode(&document);
            assert_eq!(decode(Kind::Link, "lnk_1", bytes.clone()), Some(document));
            assert_eq!(decode(Kind::Link, "lnk_1", bytes.slice(..9)), None);
        }
    }

    #[test]
    fn places_sort_by_time_and_id() {
        let list = List::of_parent(Kind::Gig, "camp");
        let at = Timestamp::from_ms;
        let places = [(-5, "z"), (0, "a"), (0, "aa"), (0, "b"), (1, ""), (i64::MAX - 1, "z")];
        let keys: Vec<_> = places.iter().map(|(ms, id)| list.place(at(*ms), id)).collect();
        assert!(keys.is_sorted() && list.start() < keys[0] && keys[5] < list.end());
        assert_eq!(list.id_at(&keys[2]), Some("aa".to_owned()));
        let longer = List::of_parent(Kind::Gig, "camp_1");
        assert!(longer.start() > list.end() || longer.end() < list.start());
    }

    #[test]
    fn a_holder_is_read_back() {
        assert_eq!(holder(&held_by(Kind::Code, "x")), Some((Kind::Code, "x".to_owned())));
        assert_eq!(holder(&[DOCUMENT, 200]), None);
        assert_eq!(holder(b""), None);
    }
}
