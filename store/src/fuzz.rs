//! Bytes from outside: whatever they are, they are refused, or taken and understood in one way; they never cause a panic.
//!
//! Each target is a plain function of bytes. It meets a corpus, which is made here or was saved in `testdata/fuzz`, and a fixed number of
//! inputs that are a corpus with some damage. `KEELSON_FUZZ_INPUTS=n` runs more.

use std::io::{Read, Seek};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::backup::{self, HashCheck, Snapshot, SnapshotError};
use crate::engine::MemoryEngine;
use crate::mvcc::model::program::commands;
use crate::mvcc::{Assembly, Command, Store, TXN_OPS_MAX, snapshot};
use crate::wal::disk_sim::SimDisk;
use crate::wal::{Disk, Entry, LogPosition, Record, Vote, Wal, WalConfig};
use crate::wire::{decode_command, encode_command, txn_from_wire, txn_to_wire};

/// Damaged inputs per target, where one costs microseconds.
const INPUTS: u64 = 20_000;
/// And where one is a whole segment.
const LOG_INPUTS: u64 = 2_000;
/// And where one is a file of some pages.
const FILE_INPUTS: u64 = 6_000;
/// Seeds of programs whose commands are the corpus.
const PROGRAMS: u64 = 40;

const LOG: WalConfig = WalConfig {
    segment_bytes: 32 * 1024,
    batch_bytes_max: 4 * 1024,
    spares_max: 1,
    cache_bytes_max: 1 << 20,
};
const SEGMENT: &str = "0000000000000001.wal";

/// Runs `target` on the corpus, on what was saved, and on damaged copies.
fn fuzz(corpus: &[Vec<u8>], saved: &str, inputs: u64, target: impl Fn(&[u8])) {
    let saved = saved.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let saved: Vec<Vec<u8>> = saved.map(|line| hex::decode(line).unwrap()).collect();
    let corpus: Vec<&Vec<u8>> = corpus.iter().chain(&saved).collect();
    corpus.iter().for_each(|input| target(input));
    let inputs = std::env::var("KEELSON_FUZZ_INPUTS").map_or(inputs, |number| number.parse().unwrap());
    for seed in 0..inputs {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut input = corpus[rng.random_range(0..corpus.len())].clone();
        for _ in 0..rng.random_range(1..4) {
            let other = corpus[rng.random_range(0..corpus.len())];
            damage(&mut input, other, &mut rng);
        }
        let shown = Shown(&input);
        target(&input);
        std::mem::forget(shown);
    }
}

/// Shows the input when the target panics.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        println!("this input fails: {}", hex::encode(self.0));
    }
}

fn damage(input: &mut Vec<u8>, other: &[u8], rng: &mut SmallRng) {
    let at = rng.random_range(0..=input.len());
    match rng.random_range(0..6) {
        0 => input.truncate(at),
        1 => input.insert(at, (rng.next_u32() & 0xff) as u8),
        2 => drop(input.splice(at.., other[other.len().min(at)..].iter().copied())),
        3 => {
            let end = (at + rng.random_range(0..8)).min(input.len());
            input.drain(at..end);
        }
        4 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)];
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
    }
}

fn all_commands() -> impl Iterator<Item = Command> {
    (0..PROGRAMS).flat_map(commands)
}

/// A transaction as a client sends it; what passes the checks can be carried, applied and read again.
fn request(bytes: &[u8]) {
    let Ok(request) = pb::TxnRequest::decode(bytes) else { return };
    let Ok(txn) = txn_from_wire(request) else { return };
    if txn.validate(TXN_OPS_MAX).is_err() {
        return;
    }
    let command = Command::Txn(txn);
    assert_eq!(decode_command(encode_command(&command)).unwrap(), command);
    let engine = MemoryEngine::new();
    let mut store = Store::open(Arc::new(engine.clone())).unwrap();
    for _ in 0..2 {
        let _refused = store.apply(&command).unwrap();
        store.commit().unwrap();
    }
    assert_eq!(Store::open(Arc::new(engine)).unwrap().digest(), store.digest());
}

#[test]
fn any_bytes_as_a_request_are_refused_or_applied() {
    let txns = all_commands().filter_map(|command| match command {
        Command::Txn(txn) => Some(txn_to_wire(txn).encode_to_vec()),
        _ => None,
    });
    fuzz(&txns.collect::<Vec<_>>(), include_str!("../testdata/fuzz/requests.hex"), INPUTS, request);
}

/// A command as the log holds it: it is said in one way only.
fn command(bytes: &[u8]) {
    let Ok(command) = decode_command(Bytes::copy_from_slice(bytes)) else { return };
    assert_eq!(decode_command(encode_command(&command)).unwrap(), command);
}

#[test]
fn any_bytes_as_a_command_are_refused_or_said_again_in_the_same_way() {
    let corpus: Vec<Vec<u8>> = all_commands().map(|command| encode_command(&command).to_vec()).collect();
    fuzz(&corpus, include_str!("../testdata/fuzz/commands.hex"), INPUTS, command);
}

/// A piece of a received state: a store opens on it, or says what is wrong.
fn chunk(bytes: &[u8]) {
    let engine = MemoryEngine::new();
    if snapshot::import(&engine, Bytes::copy_from_slice(bytes)).is_err() {
        return;
    }
    let Ok(store) = Store::open(Arc::new(engine)) else { return };
    store.hash_rows(None).unwrap().unwrap();
}

#[test]
fn any_bytes_as_a_snapshot_are_refused_or_opened() {
    let corpus = (0..PROGRAMS).map(|seed| {
        let engine = MemoryEngine::new();
        let mut store = Store::open(Arc::new(engine.clone())).unwrap();
        for command in commands(seed) {
            store.apply(&command).unwrap();
        }
        store.commit().unwrap();
        let mut chunks = Vec::new();
        let _whole = snapshot::export(&engine, &mut |chunk| {
            chunks.extend_from_slice(&chunk);
            ControlFlow::Continue(())
        });
        chunks
    });
    fuzz(&corpus.collect::<Vec<_>>(), include_str!("../testdata/fuzz/snapshots.hex"), INPUTS, chunk);
}

fn store_of(file: &Path) -> Result<Store, SnapshotError> {
    let snapshot = Snapshot::open(file, HashCheck::Skipped)?;
    let numbers = snapshot.numbers()?;
    let mut assembly = Assembly::new(Arc::new(MemoryEngine::new()));
    snapshot.bring_into(&mut assembly)?;
    Ok(assembly.finish(numbers)?)
}

/// Returns the bytes of a snapshot file, without the hash that follows them.
fn file_of(store: &Store) -> Vec<u8> {
    let mut file = backup::write(&**store.engine(), tempfile::tempfile().unwrap(), &mut || Ok(())).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A snapshot file: what is taken is a state, and the same when it was written and taken again.
fn snapshot_file(bytes: &[u8], file: &Path) {
    std::fs::write(file, bytes).unwrap();
    let Ok(store) = store_of(file) else { return };
    std::fs::write(file, file_of(&store)).unwrap();
    assert_eq!(store_of(file).unwrap().digest(), store.digest());
}

#[test]
fn any_bytes_as_a_snapshot_file_are_refused_or_taken_in_one_way() {
    let ours = (0..PROGRAMS).map(|seed| {
        let mut store = Store::open(Arc::new(MemoryEngine::new())).unwrap();
        for command in commands(seed) {
            store.apply(&command).unwrap();
        }
        store.commit().unwrap();
        file_of(&store)
    });
    let corpus: Vec<Vec<u8>> = ours.chain(backup::recorded_files()).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fuzz(&corpus, "", FILE_INPUTS, |bytes| snapshot_file(bytes, &file));
}

/// The bytes of a segment: they are refused with their place, or what is found is found again.
fn log(bytes: &[u8]) {
    let disk = SimDisk::new(1);
    disk.create(SEGMENT, u64::try_from(bytes.len()).unwrap()).unwrap();
    disk.write(SEGMENT, 0, bytes).unwrap();
    let Ok((_, found)) = Wal::open(Arc::new(disk.clone()), LOG) else { return };
    let (_, again) = Wal::open(Arc::new(disk), LOG).unwrap();
    assert_eq!((found.state, found.entries.len()), (again.state, again.entries.len()));
}

#[test]
fn any_bytes_as_a_log_are_refused_or_found_again() {
    let corpus = (1..8).map(|length| {
        let disk = SimDisk::new(1);
        let (mut wal, _) = Wal::open(Arc::new(disk.clone()), LOG).unwrap();
        wal.submit(Record::Vote(Vote { term: 1, voted_for: 1, committed: true }));
        for index in 0..length {
            let id = LogPosition { term: 1, index };
            wal.submit(Record::Entry(Entry { id, bytes: entry(id, index) }));
            if index % 3 == 2 {
                wal.submit(Record::TruncateAfter(Some(LogPosition { term: 1, index: index - 1 })));
                let id = LogPosition { term: 2, index };
                wal.submit(Record::Entry(Entry { id, bytes: entry(id, index) }));
            }
            wal.flush().unwrap();
        }
        disk.read(SEGMENT, 0, 32 * 1024).unwrap()
    });
    fuzz(&corpus.collect::<Vec<_>>(), "", LOG_INPUTS, log);
}

fn entry(id: LogPosition, size: u64) -> Bytes {
    let proposal = proto::raft::Proposal {
        command: vec![7; usize::try_from(size * 100).unwrap()].into(),
        ..proto::raft::Proposal::default()
    };
    let payload = Some(proto::raft::entry::Payload::Proposal(proposal));
    proto::raft::Entry { id: Some(id.into()), payload }.encode_to_vec().into()
}
