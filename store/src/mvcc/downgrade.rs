//! A downgrade that an operator has announced: as long as it is enabled, the feature level stays where it is. It is part of the replicated
//! state, so that every member knows it and no restart forgets it. Nothing is rewritten, now or later.

use bytes::Bytes;
use prost::Message;
use proto::store as wire;

use super::meta::{STATE_FORMAT, check_format};
use super::row::corrupt;
use crate::engine::EngineError;

/// What was announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downgrade {
    /// Version of etcd's API that is to be gone back to, such as 3.6.0.
    pub target: String,
}

impl Downgrade {
    pub(crate) fn encode(&self) -> Bytes {
        let record = wire::DowngradeRecord { format: STATE_FORMAT, target: self.target.clone() };
        record.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, EngineError> {
        let record = wire::DowngradeRecord::decode(bytes)
            .map_err(|error| corrupt(b"downgrade", &error.to_string()))?;
        check_format(record.format)?;
        Ok(Self { target: record.target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_format_1_stay_readable() {
        let downgrade = Downgrade { target: "3.6.0".to_owned() };
        assert_eq!(hex::encode(downgrade.encode()), "08011205332e362e30");
        assert_eq!(Downgrade::decode(downgrade.encode()).unwrap(), downgrade);
        assert!(Downgrade::decode(Bytes::from_static(b"\x08\x02\x12\x01x")).is_err(), "later format");
    }
}
