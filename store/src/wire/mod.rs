//! Between the core's types and protobuf, once for all edges: etcd's messages are both what clients send and what the log
//! keeps, so there is one conversion and no third form.

mod answer;
mod auth;
mod command;
mod request;

pub use answer::{decode_answer, encode_answer};
pub(crate) use answer::{key_value_to_wire, range_to_wire, txn_result_to_wire};
pub(crate) use auth::{permission_from_wire, permission_to_wire};
pub use command::{COMMAND_FORMAT, decode_command, encode_command};
#[cfg(test)]
pub(crate) use request::txn_to_wire;
pub(crate) use request::{delete_from_wire, key_range, put_from_wire, range_from_wire, txn_from_wire};

/// Why a message cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a step of the transaction holds no request")]
    EmptyOp,
    #[error("unknown sort order or target")]
    InvalidSort,
    #[error("unknown kind of permission")]
    InvalidPermission,
    #[error("a field is missing: {0}")]
    Missing(&'static str),
    #[error("message of format {found}, this version reads up to {supported}")]
    Format { found: u32, supported: u32 },
    #[error("message cannot be decoded")]
    Decode(#[from] prost::DecodeError),
}
