//! A command on its way to whoever leads, and the feature level that it needs (safety rule 9).

use bytes::Bytes;

use crate::level::Level;
use crate::mvcc::Command;
use crate::wire::encode_command;

/// A command as it goes into the log.
pub(crate) struct Request {
    pub(super) bytes: Bytes,
    pub(super) level: Level,
}

impl Request {
    pub(crate) fn of(command: &Command) -> Self {
        Self { bytes: encode_command(command), level: command.level() }
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }
}
