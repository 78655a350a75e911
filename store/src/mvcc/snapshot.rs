//! Whole-state copies: every row and record of the engine, in key order, in chunks of bounded size. A chunk stream is
//! self-contained: the replication layer's records (applied id, membership) travel in it like everything else.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use proto::store as wire;

use super::meta::{STATE_FORMAT, check_format};
use super::row::corrupt;
use crate::engine::{Batch, Engine, EngineError};

/// A chunk is closed when it holds this much; one row may exceed it.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Hands the state of `engine`, as it is at the call, to `send` in encoded chunks. `send` may block; `Break` ends the export.
///
/// # Errors
/// When the engine fails.
pub fn export(
    engine: &dyn Engine,
    send: &mut dyn FnMut(Bytes) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, EngineError> {
    let mut chunk = Chunk::default();
    let mut flow = ControlFlow::Continue(());
    engine.scan(b"", None, &mut |key, value| {
        chunk.push(key, value);
        if chunk.size >= CHUNK_BYTES {
            flow = send(std::mem::take(&mut chunk).encode());
        }
        flow
    })?;
    if flow.is_continue() && chunk.size > 0 {
        flow = send(chunk.encode());
    }
    Ok(flow)
}

/// Writes one chunk of an export to an engine that held nothing before the first one. Flush and `Store::open`, which
/// checks the digest, come after the last.
///
/// # Errors
/// When the chunk is damaged or of a later version, or the engine fails.
pub fn import(engine: &dyn Engine, chunk: Bytes) -> Result<(), EngineError> {
    let chunk =
        wire::SnapshotChunk::decode(chunk).map_err(|error| corrupt(b"snapshot", &error.to_string()))?;
    check_format(chunk.format)?;
    let mut batch = Batch::default();
    for row in chunk.rows {
        batch.put(row.key, row.value);
    }
    engine.write(&batch)
}

#[derive(Default)]
struct Chunk {
    rows: Vec<wire::SnapshotRow>,
    size: usize,
}

impl Chunk {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.size += key.len() + value.len();
        self.rows.push(wire::SnapshotRow {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
        });
    }

    fn encode(self) -> Bytes {
        wire::SnapshotChunk { format: STATE_FORMAT, rows: self.rows }.encode_to_vec().into()
    }
}
