//! Small internal records that only this program reads: kind, version, checksum, then bincode.

use bincode::config::{self, Configuration};
use bincode::{Decode, Encode};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Who a data directory belongs to.
    Identity,
    /// That a data directory holds a state that must not be served.
    Divergence,
}

impl Kind {
    const fn tag(self) -> u8 {
        match self {
            Self::Identity => 1,
            Self::Divergence => 2,
        }
    }

    /// Version that this program writes and reads.
    const fn version(self) -> u8 {
        match self {
            Self::Identity | Self::Divergence => 1,
        }
    }
}

/// Why a record cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("the record is damaged")]
    Damaged,
    #[error("the record has format {found}, this version reads {supported}")]
    Version { found: u8, supported: u8 },
}

/// Kind, version and checksum.
const HEADER_BYTES: usize = 2 + 4;
const FORMAT: Configuration = config::standard();

/// Encodes a record.
pub(crate) fn encode(kind: Kind, record: &impl Encode) -> Vec<u8> {
    let body =
        bincode::encode_to_vec(record, FORMAT).expect("encoding to memory cannot fail for plain records");
    let mut bytes = vec![kind.tag(), kind.version()];
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Decodes a record.
pub(crate) fn decode<T: Decode<()>>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(CodecError::Damaged)?;
    let [tag, version, crc @ ..] = header else { return Err(CodecError::Damaged) };
    if *tag != kind.tag() || crc != crc32fast::hash(body).to_le_bytes() {
        return Err(CodecError::Damaged);
    }
    if *version != kind.version() {
        return Err(CodecError::Version { found: *version, supported: kind.version() });
    }
    match bincode::decode_from_slice(body, FORMAT) {
        Ok((record, length)) if length == body.len() => Ok(record),
        Ok(_) | Err(_) => Err(CodecError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_survives_and_any_flipped_bit_is_found() {
        let record = (7_u64, "name".to_owned());
        let bytes = encode(Kind::Identity, &record);
        assert_eq!(decode::<(u64, String)>(Kind::Identity, &bytes), Ok(record));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<(u64, String)>(Kind::Identity, &flipped).is_err(), "bit {bit}");
        }
    }
}
