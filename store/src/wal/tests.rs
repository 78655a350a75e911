//! What the log promises, on the simulated disk with every fault, and the same basics on real files.

use std::sync::Arc;

use prost::Message;
use proto::raft as wire;

use super::disk_fs::FsDisk;
use super::disk_sim::SimDisk;
use super::*;

const SMALL: WalConfig = WalConfig {
    segment_bytes: 32 * 1024,
    batch_bytes_max: 8 * 1024,
    spares_max: 1,
    cache_bytes_max: 1 << 20,
};

fn position(term: u64, index: u64) -> LogPosition {
    LogPosition { term, index }
}

fn entry(term: u64, index: u64, size: usize) -> Record {
    let message = wire::Entry {
        id: Some(position(term, index).into()),
        payload: Some(wire::entry::Payload::Proposal(wire::Proposal {
            command: vec![7; size].into(),
            ..wire::Proposal::default()
        })),
    };
    Record::Entry(Entry { id: position(term, index), bytes: message.encode_to_vec().into() })
}

/// The naive log that the real one must equal.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    state: LogState,
    entries: Vec<Entry>,
}

impl Model {
    fn apply(&mut self, record: &Record) {
        self.state.apply(record).unwrap();
        match record {
            Record::Entry(entry) => self.entries.push(entry.clone()),
            Record::TruncateAfter(keep) => {
                self.entries.retain(|entry| Some(entry.id.index) <= keep.map(|keep| keep.index));
            }
            Record::PurgedUpto(upto) => self.entries.retain(|entry| entry.id.index > upto.index),
            Record::Vote(_) | Record::Committed(_) => {}
        }
    }

    fn of(recovered: &Recovered, disk: &dyn Disk) -> Self {
        let entries = recovered.entries.iter().map(|logged| {
            let on_disk = read_entry(disk, logged.location).unwrap();
            if let Some(cached) = &logged.bytes {
                assert_eq!(cached, &on_disk, "cache and disk differ at {:?}", logged.id);
            }
            Entry { id: logged.id, bytes: on_disk }
        });
        Self { state: recovered.state, entries: entries.collect() }
    }
}

/// Flushes of records: appends, truncation by a new leader, purges, a snapshot beyond the end, votes.
fn script() -> Vec<Vec<Record>> {
    let mut flushes = vec![vec![Record::Vote(Vote { term: 1, voted_for: 1, committed: false })]];
    for index in 0..40 {
        flushes.push(vec![entry(1, index, 700), Record::Committed(Some(position(1, index)))]);
    }
    flushes.push((40..60).map(|index| entry(1, index, 900)).collect());
    flushes.push(vec![Record::TruncateAfter(Some(position(1, 49)))]);
    flushes.push(vec![Record::Vote(Vote { term: 2, voted_for: 2, committed: true }), entry(2, 50, 10)]);
    flushes.push(vec![Record::PurgedUpto(position(1, 30))]);
    flushes.push((51..80).map(|index| entry(2, index, 2000)).collect());
    flushes.push(vec![Record::PurgedUpto(position(2, 70)), entry(2, 80, 40_000)]);
    flushes.push(vec![Record::PurgedUpto(position(3, 200))]);
    flushes.push(vec![entry(3, 201, 100), entry(3, 202, 100)]);
    flushes
}

/// Runs flushes until one fails. Returns how many records were acknowledged and how many submitted.
fn run(wal: &mut Wal, flushes: &[Vec<Record>]) -> (usize, usize) {
    let (mut acknowledged, mut submitted) = (0, 0);
    for flush in flushes {
        flush.iter().cloned().for_each(|record| wal.submit(record));
        submitted += flush.len();
        match wal.flush() {
            Ok(flushed) if flushed.synced => acknowledged = submitted,
            Ok(_) => {}
            Err(_) => return (acknowledged, submitted),
        }
    }
    (acknowledged, submitted)
}

fn models(flushes: &[Vec<Record>]) -> Vec<Model> {
    let mut model = Model::default();
    let mut all = vec![model.clone()];
    for record in flushes.iter().flatten() {
        model.apply(record);
        all.push(model.clone());
    }
    all
}

fn open(disk: &SimDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(disk.clone()), SMALL)
}

/// Returns the disk behind a run in which nothing fails.
fn undisturbed(flushes: &[Vec<Record>]) -> SimDisk {
    let disk = SimDisk::new(0);
    run(&mut open(&disk).unwrap().0, flushes);
    disk
}

/// Asserts that the log holds every acknowledged record and no more than was submitted.
fn assert_survived(disk: &SimDisk, acknowledged: usize, submitted: usize, models: &[Model], what: &str) {
    let (_, recovered) = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = Model::of(&recovered, disk);
    assert!(
        models[acknowledged..=submitted].contains(&found),
        "{what}: {} acknowledged, {submitted} submitted, found {:?}",
        acknowledged,
        found.state
    );
    disk.crash();
    let (_, again) = open(disk).unwrap_or_else(|error| panic!("{what}, second cut: {error}"));
    assert_eq!(Model::of(&again, disk), found, "{what}: what was reported was lost by a second power cut");
}

/// One suite for every disk.
fn check_reopened_log_equals_model(disk: Arc<dyn Disk>) {
    let flushes = script();
    let (mut wal, recovered) = Wal::open(Arc::clone(&disk), SMALL).unwrap();
    assert_eq!(recovered, Recovered::default());
    let (acknowledged, submitted) = run(&mut wal, &flushes);
    assert_eq!(acknowledged, submitted);
    drop(wal);
    let expected = models(&flushes).pop().unwrap();
    for _ in 0..3 {
        let (mut wal, recovered) = Wal::open(Arc::clone(&disk), SMALL).unwrap();
        assert_eq!(Model::of(&recovered, &*disk), expected);
        wal.close().unwrap();
    }
}

#[test]
fn reopened_log_equals_model_on_simulated_disk() {
    check_reopened_log_equals_model(Arc::new(SimDisk::new(1)));
}

#[test]
fn reopened_log_equals_model_on_real_files() {
    let directory = tempfile::tempdir().unwrap();
    check_reopened_log_equals_model(Arc::new(FsDisk::new(&directory.path().join("wal"))));
}

#[test]
fn acknowledged_records_survive_a_power_cut_at_every_operation() {
    let flushes = script();
    let models = models(&flushes);
    let total = undisturbed(&flushes).operations();
    for seed in 0..6 {
        for operation in 1..=total {
            let disk = SimDisk::new(seed * 1000 + operation);
            disk.cut_power_in(operation);
            let (acknowledged, submitted) = match open(&disk) {
                Ok((mut wal, _)) => run(&mut wal, &flushes),
                Err(_) => (0, 0),
            };
            disk.crash();
            assert_survived(
                &disk,
                acknowledged,
                submitted,
                &models,
                &format!("seed {seed}, cut at {operation}"),
            );
        }
    }
}

#[test]
fn recovery_itself_survives_a_power_cut_at_every_operation() {
    let flushes = script();
    let models = models(&flushes);
    for seed in 0..20 {
        for operation in 1..12 {
            let disk = SimDisk::new(seed);
            disk.cut_power_in(90 + seed * 5);
            let (acknowledged, submitted) = run(&mut open(&disk).unwrap().0, &flushes);
            disk.crash();
            disk.cut_power_in(operation);
            let _ = open(&disk);
            disk.crash();
            assert_survived(
                &disk,
                acknowledged,
                submitted,
                &models,
                &format!("seed {seed}, cut at {operation}"),
            );
        }
    }
}

/// Safety rule 2: a process crash leaves un-synced bytes in the page cache, which recovery reads; a power cut after
/// that must not take back what recovery reported.
#[test]
fn recovered_tail_is_durable_before_it_is_reported() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (mut wal, _) = open(&disk).unwrap();
        (0..5).for_each(|index| wal.submit(entry(1, index, 300)));
        wal.flush().unwrap();
        (5..9).for_each(|index| wal.submit(entry(1, index, 300)));
        disk.fail_sync_in(1);
        wal.flush().unwrap_err();
        disk.restart_process();
        let (_, reported) = open(&disk).unwrap();
        assert_eq!(reported.entries.len(), 9, "the page cache still holds the tail");
        let reported = Model::of(&reported, &disk);
        disk.crash();
        let (_, after) = open(&disk).unwrap();
        assert_eq!(Model::of(&after, &disk), reported);
    }
}

/// Safety rule 2, at every sync that can fail: the page cache shows recovery a segment that was never made durable.
#[test]
fn what_is_reported_after_any_failed_sync_is_durable() {
    let flushes = script();
    let syncs = undisturbed(&flushes).syncs();
    for sync in 1..=syncs {
        for seed in 0..4 {
            let disk = SimDisk::new(seed);
            disk.fail_sync_in(sync);
            if let Ok((mut wal, _)) = open(&disk) {
                run(&mut wal, &flushes);
            }
            disk.restart_process();
            let (_, reported) = open(&disk).unwrap();
            let reported = Model::of(&reported, &disk);
            disk.crash();
            let (_, after) = open(&disk).unwrap_or_else(|error| panic!("sync {sync}, seed {seed}: {error}"));
            assert_eq!(Model::of(&after, &disk), reported, "sync {sync}, seed {seed}");
        }
    }
}

/// Safety rule 2, while recovery is at it: what it builds on is durable before it builds.
#[test]
fn recovery_after_any_failed_sync_survives_a_power_cut_at_every_operation() {
    let flushes = script();
    let models = models(&flushes);
    let syncs = undisturbed(&flushes).syncs();
    for sync in 1..=syncs {
        for seed in 0..4 {
            for operation in 1.. {
                let what = format!("sync {sync}, seed {seed}, cut at {operation}");
                let disk = SimDisk::new(seed);
                disk.fail_sync_in(sync);
                let (acknowledged, submitted) = match open(&disk) {
                    Ok((mut wal, _)) => run(&mut wal, &flushes),
                    Err(_) => (0, 0),
                };
                disk.restart_process();
                disk.cut_power_in(operation);
                let recovery_ended = open(&disk).is_ok();
                disk.crash();
                assert_survived(&disk, acknowledged, submitted, &models, &what);
                if recovery_ended {
                    break;
                }
            }
        }
    }
}

/// Safety rule 1: damage below a proven offset is never taken for a torn tail.
#[test]
fn flipped_bit_below_a_proven_offset_is_refused_with_file_and_offset() {
    let disk = SimDisk::new(3);
    let (mut wal, _) = open(&disk).unwrap();
    for index in 0..5 {
        wal.submit(entry(1, index, 600));
        wal.flush().unwrap();
    }
    let file = disk.list().unwrap().into_iter().find(|name| name.ends_with(".wal")).unwrap();
    let proven = usize::try_from(segment::FIRST_BATCH + 5 * segment::BLOCK_BYTES).unwrap();
    for block in 0..=5 {
        for offset in [0, 5, 17, 40, 400] {
            let flipped = block * 4096 + offset;
            // The rest of the first two blocks is padding that nothing reads.
            if flipped >= proven || block == 0 && offset >= 24 || block == 1 && offset >= 60 {
                continue;
            }
            disk.flip_bit(&file, flipped);
            match open(&disk).map(|(_, recovered)| recovered.state) {
                Err(WalError::Corrupt { file: named, offset }) => {
                    assert_eq!(named, file);
                    assert!(offset <= u64::try_from(flipped).unwrap(), "flipped {flipped}, named {offset}");
                }
                other => panic!("flipped {flipped}: {other:?}"),
            }
            disk.flip_bit(&file, flipped);
        }
    }
    assert_eq!(open(&disk).unwrap().1.entries.len(), 5);
}

#[test]
fn flipped_bit_in_an_older_segment_is_refused() {
    let disk = SimDisk::new(4);
    let (mut wal, _) = open(&disk).unwrap();
    for index in 0..40 {
        wal.submit(entry(1, index, 600));
        wal.flush().unwrap();
    }
    let names = disk.list().unwrap();
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".wal")).collect();
    assert!(segments.len() > 3);
    disk.flip_bit(segments[1], 3 * 4096 + 50);
    let error = open(&disk).map(|_| ()).unwrap_err();
    assert!(matches!(&error, WalError::Corrupt { file, .. } if file == segments[1]), "{error}");
}

#[test]
fn missing_segment_is_refused() {
    for victim in [0, 1] {
        let disk = SimDisk::new(5);
        let (mut wal, _) = open(&disk).unwrap();
        for index in 0..40 {
            wal.submit(entry(1, index, 600));
            wal.flush().unwrap();
        }
        let names = disk.list().unwrap();
        disk.remove(names.iter().filter(|name| name.ends_with(".wal")).nth(victim).unwrap()).unwrap();
        let error = open(&disk).map(|_| ()).unwrap_err();
        assert!(matches!(error, WalError::MissingSegments { .. }), "{error}");
    }
}

#[test]
fn a_newest_segment_that_is_lost_as_a_whole_is_missed() {
    for loss in ["removed", "emptied"] {
        let disk = SimDisk::new(5);
        let (mut wal, _) = open(&disk).unwrap();
        for index in 0..40 {
            wal.submit(entry(1, index, 600));
            wal.flush().unwrap();
        }
        wal.close().unwrap();
        let names = disk.list().unwrap();
        let newest = names.iter().rfind(|name| name.ends_with(".wal")).unwrap();
        disk.remove(newest).unwrap();
        if loss == "emptied" {
            disk.create(newest, SMALL.segment_bytes).unwrap();
        }
        let error = open(&disk).map(|_| ()).unwrap_err();
        assert!(
            matches!(&error, WalError::MissingSuccessor { next, .. } if next == newest),
            "{loss}: {error}"
        );
    }
}

/// Safety rule 3: nothing is acknowledged after a failed sync, not even when the disk seems to work again.
#[test]
fn failed_sync_is_never_retried() {
    let disk = SimDisk::new(6);
    let (mut wal, _) = open(&disk).unwrap();
    disk.fail_sync_in(1);
    wal.submit(entry(1, 0, 10));
    assert!(matches!(wal.flush(), Err(WalError::Io { operation: "sync", .. })));
    disk.restart_process();
    wal.submit(entry(1, 1, 10));
    assert!(matches!(wal.flush(), Err(WalError::Poisoned)));
}

#[test]
fn full_disk_is_named_with_path_and_free_bytes_and_restart_is_clean() {
    let disk = SimDisk::new(7);
    let (mut wal, _) = open(&disk).unwrap();
    disk.limit_capacity(Some(70_000));
    let mut acknowledged = 0;
    let error = loop {
        wal.submit(entry(1, acknowledged, 3000));
        match wal.flush() {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, WalError::DiskFull { path, free_bytes, .. } if path == "simulated" && *free_bytes < 32 * 1024)
    );
    let said = error.to_string();
    assert!(said.ends_with("cannot create 0000000000000003.wal of 32768 bytes"), "{said}");
    disk.limit_capacity(None);
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(u64::try_from(recovered.entries.len()).unwrap(), acknowledged);
}

#[test]
fn one_flush_is_one_sync_and_segments_are_recycled() {
    let disk = SimDisk::new(8);
    let (mut wal, _) = open(&disk).unwrap();
    let mut next = 0;
    for _ in 0..60 {
        let before = disk.operations();
        for index in next..next + 4 {
            wal.submit(entry(1, index, 200));
        }
        next += 4;
        let flushed = wal.flush().unwrap();
        assert_eq!((flushed.batches, flushed.synced, flushed.entries.len()), (1, true, 4));
        assert!(disk.operations() - before <= 10, "write and sync, at most a rotation");
        wal.submit(Record::PurgedUpto(position(1, next - 1)));
        assert!(!wal.flush().unwrap().synced, "a purge does not wait for the disk");
    }
    let files = disk.list().unwrap();
    assert!(files.len() <= 4, "old segments go or wait as spares: {files:?}");
}

#[test]
fn foreign_version_is_refused() {
    let disk = SimDisk::new(9);
    drop(open(&disk).unwrap());
    let file = disk.list().unwrap().into_iter().find(|name| name.ends_with(".wal")).unwrap();
    let mut head = disk.read(&file, 0, 24).unwrap();
    head[8] = 9;
    let crc = crc32fast::hash(&head[..20]);
    head[20..].copy_from_slice(&crc.to_le_bytes());
    disk.write(&file, 0, &head).unwrap();
    assert!(matches!(open(&disk), Err(WalError::Version { found: 9, .. })));
}

/// Returns a log of entries of term 1 that was opened by a member whose state ends at `applied`, and what it goes on with.
fn beside_a_state(applied: LogPosition) -> (Wal, Recovered) {
    let disk = SimDisk::new(12);
    let (mut wal, _) = open(&disk).unwrap();
    (0..8).for_each(|index| wal.submit(entry(1, index, 100)));
    wal.submit(Record::PurgedUpto(position(1, 1)));
    wal.flush().unwrap();
    drop(wal);
    let (mut wal, mut recovered) = open(&disk).unwrap();
    wal.drop_overruled(&mut recovered, applied).unwrap();
    let on_disk = Wal::inspect(Arc::new(disk.clone()), SMALL).unwrap().into_recovered().unwrap();
    assert_eq!(Model::of(&recovered, &disk), Model::of(&on_disk, &disk), "{applied:?}");
    (wal, recovered)
}

#[test]
fn entries_go_only_where_the_state_holds_another_one_in_the_place_of_its_last() {
    for applied in [position(1, 1), position(1, 5), position(1, 7), position(2, 8), position(2, 20)] {
        assert_eq!(beside_a_state(applied).1.entries.len(), 6, "{applied:?}");
    }
    for applied in [position(2, 2), position(2, 5), position(3, 7)] {
        let (mut wal, recovered) = beside_a_state(applied);
        assert_eq!((recovered.entries.len(), recovered.state.last), (0, Some(applied)));
        wal.submit(entry(3, applied.index + 1, 10));
        wal.flush().unwrap();
    }
}

#[test]
fn what_comes_behind_a_state_is_what_it_does_not_overrule() {
    let disk = SimDisk::new(12);
    let (mut wal, _) = open(&disk).unwrap();
    (0..8).for_each(|index| wal.submit(entry(1, index, 100)));
    wal.flush().unwrap();
    let behind = |applied| {
        let recovered = Wal::inspect(Arc::new(disk.clone()), SMALL).unwrap().into_recovered().unwrap();
        recovered.entries_behind(applied).iter().map(|entry| entry.id.index).collect::<Vec<_>>()
    };
    assert_eq!(behind(None), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(behind(Some(position(1, 5))), [6, 7]);
    assert!(behind(Some(position(2, 5))).is_empty() && behind(Some(position(2, 9))).is_empty());
}

#[test]
fn inspecting_a_log_with_a_torn_tail_changes_nothing_and_tells_what_a_start_finds() {
    let disk = SimDisk::new(9);
    let (mut wal, _) = open(&disk).unwrap();
    let vote = Vote { term: 3, voted_for: 1, committed: true };
    wal.submit(Record::Vote(vote));
    wal.flush().unwrap();
    wal.submit(entry(3, 0, 100));
    wal.flush().unwrap();
    disk.crash();
    // A rotation that was cut short leaves a file that never became a segment.
    disk.create("0000000000000002.wal", 32 * 1024).unwrap();
    let operations = disk.operations();
    let inspected = Wal::inspect(Arc::new(disk.clone()), SMALL).unwrap();
    assert_eq!(disk.operations(), operations, "nothing was written");
    let found = inspected.sum();
    assert_eq!((found.vote, found.last, inspected.is_new()), (Some(vote), Some(position(3, 0)), false));
    let (_, recovered) = inspected.start().unwrap();
    assert_eq!(recovered.state, found);
    assert_eq!(disk.list().unwrap(), ["0000000000000001.wal", "0000000000000003.wal"]);
    assert!(Wal::inspect(Arc::new(SimDisk::new(9)), SMALL).unwrap().is_new());
}

#[test]
fn a_segment_that_does_not_fit_is_refused_before_it_takes_the_last_room() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FsDisk::new(&directory.path().join("wal"));
    let error = disk.create("spare", u64::MAX / 2).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(disk.list().unwrap(), Vec::<String>::new());
}
