//! Rows of the revision log: one per change, never rewritten.
//!
//! Key: main revision (8 bytes, big endian) ‖ sub revision (4 bytes, big endian), so that engine order is revision order.
//! Value: one byte of kind and format ‖ the `mvccpb.KeyValue` as it goes over the wire. Revisions are positive, so no row
//! key begins with 0xff, where the meta keys are.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::mvccpb;

use super::{EventKind, KeyValue, LeaseId, Revision};
use crate::engine::EngineError;

/// Position of a change: the transaction's revision and the place inside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    pub main: Revision,
    pub sub: u32,
}

/// Length of an engine key.
pub(crate) const ROW_KEY_BYTES: usize = 12;
/// Format 1 of the two kinds of rows.
const PUT_ROW: u8 = 0x01;
const TOMBSTONE_ROW: u8 = 0x02;

impl RowId {
    /// Returns the first possible row of a revision.
    #[must_use]
    pub const fn first_of(main: Revision) -> Self {
        Self { main, sub: 0 }
    }

    /// Returns the engine key of this row.
    #[must_use]
    pub fn to_key(self) -> Bytes {
        let mut key = BytesMut::with_capacity(ROW_KEY_BYTES);
        key.put_i64(self.main.0);
        key.put_u32(self.sub);
        key.freeze()
    }

    /// Reads an engine key.
    ///
    /// # Errors
    /// When the key is not that of a row.
    pub fn from_key(key: &[u8]) -> Result<Self, EngineError> {
        let (main, sub) = key.split_at_checked(8).ok_or_else(|| corrupt(key, "row key is too short"))?;
        let main = main.try_into().map_err(|_| corrupt(key, "row key is too short"))?;
        let sub = sub.try_into().map_err(|_| corrupt(key, "row key has a wrong length"))?;
        Ok(Self { main: Revision(i64::from_be_bytes(main)), sub: u32::from_be_bytes(sub) })
    }
}

/// One change as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub kind: EventKind,
    pub kv: KeyValue,
}

impl Row {
    /// Returns the stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let wire = mvccpb::KeyValue {
            key: self.kv.key.clone(),
            create_revision: self.kv.create_revision.0,
            mod_revision: self.kv.mod_revision.0,
            version: self.kv.version,
            value: self.kv.value.clone(),
            lease: self.kv.lease.0,
        };
        let mut row = BytesMut::with_capacity(1 + wire.encoded_len());
        row.put_u8(match self.kind {
            EventKind::Put => PUT_ROW,
            EventKind::Delete => TOMBSTONE_ROW,
        });
        row.put_slice(&wire.encode_to_vec());
        row.freeze()
    }

    /// Reads the stored form; key and value are slices of it.
    ///
    /// # Errors
    /// When the bytes are not a row.
    pub fn decode(id: RowId, mut row: Bytes) -> Result<Self, EngineError> {
        let kind = match row.first() {
            Some(&PUT_ROW) => EventKind::Put,
            Some(&TOMBSTONE_ROW) => EventKind::Delete,
            Some(_) | None => return Err(corrupt(&id.to_key(), "unknown kind of row")),
        };
        let wire = mvccpb::KeyValue::decode(row.split_off(1))
            .map_err(|error| corrupt(&id.to_key(), &error.to_string()))?;
        if wire.mod_revision != id.main.0 {
            return Err(corrupt(&id.to_key(), "row does not belong to its revision"));
        }
        let kv = KeyValue {
            key: wire.key,
            value: wire.value,
            create_revision: Revision(wire.create_revision),
            mod_revision: Revision(wire.mod_revision),
            version: wire.version,
            lease: LeaseId(wire.lease),
        };
        Ok(Self { kind, kv })
    }

    /// Reads the key of a stored row and leaves the rest, which may be large, where it is.
    ///
    /// # Errors
    /// When the bytes are not a row.
    pub(crate) fn key_of(id: RowId, row: &[u8]) -> Result<Bytes, EngineError> {
        let Some((&(PUT_ROW | TOMBSTONE_ROW), wire)) = row.split_first() else {
            return Err(corrupt(&id.to_key(), "unknown kind of row"));
        };
        let part = KeyPart::decode(wire).map_err(|error| corrupt(&id.to_key(), &error.to_string()))?;
        if part.mod_revision != id.main.0 {
            return Err(corrupt(&id.to_key(), "row does not belong to its revision"));
        }
        Ok(part.key)
    }
}

/// The fields of `mvccpb.KeyValue` that say whose row it is.
#[derive(Clone, PartialEq, Message)]
struct KeyPart {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
}

pub(crate) fn corrupt(key: &[u8], reason: &str) -> EngineError {
    EngineError::Corrupt { key: hex::encode(key), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 2,
            lease: LeaseId(-5),
        };
        Row { kind: EventKind::Put, kv }
    }

    #[test]
    fn row_keys_sort_like_revisions() {
        let ids = [(1, 0), (1, 1), (1, 256), (2, 0), (255, 9), (256, 0), (i64::MAX, u32::MAX)];
        let keys: Vec<Bytes> =
            ids.iter().map(|&(main, sub)| RowId { main: Revision(main), sub }.to_key()).collect();
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| key < &Bytes::from_static(&[0xff])));
        assert_eq!(RowId::from_key(&keys[2]).unwrap(), RowId { main: Revision(1), sub: 256 });
    }

    #[test]
    fn stored_bytes_of_format_1_stay_readable() {
        let stored = "010a016b100218032002 2a0176 30fbffffffffffffffff01".replace(' ', "");
        assert_eq!(hex::encode(row().encode()), stored);
        let id = RowId { main: Revision(3), sub: 0 };
        let stored = hex::decode(stored).unwrap();
        assert_eq!(Row::key_of(id, &stored).unwrap(), row().kv.key);
        assert_eq!(Row::decode(id, stored.into()).unwrap(), row());
    }

    #[test]
    fn damaged_rows_are_refused() {
        let id = RowId { main: Revision(3), sub: 0 };
        let other = RowId { main: Revision(4), sub: 0 };
        let is_refused = |id, row: Bytes| Row::key_of(id, &row).is_err() && Row::decode(id, row).is_err();
        assert!(is_refused(other, row().encode()), "row of another revision");
        assert!(is_refused(id, Bytes::new()), "empty");
        assert!(is_refused(id, Bytes::from_static(b"\x07\x0a\x01k")), "unknown kind");
        assert!(is_refused(id, row().encode().slice(..4)), "cut");
        assert!(RowId::from_key(b"short").is_err());
    }
}
