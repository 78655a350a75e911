//! A restored state is another cluster's; what is no snapshot of etcd is refused by name.

mod recorded;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;
use sha2::{Digest, Sha256};

use super::*;
use crate::bbolt::{Tree, Writer};
use crate::config::InitialMember;
use crate::engine::{Engine, MemoryEngine};
use crate::env::Engines;
use crate::env::engines::FsEngines;
use crate::mvcc::{
    Collection, Command, DeleteRange, EventKind, KeyRange, KeyValue, MetaKey, Op, Put, Range, RangeEnd,
    Refusal, Revision, RowId, Store, Txn,
};
use crate::wal::WalConfig;

pub(crate) use recorded::recorded_files;

/// A folder with one snapshot in it.
struct Case {
    directory: tempfile::TempDir,
    file: PathBuf,
}

impl Case {
    fn of(bytes: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("snapshot.db");
        fs::write(&file, bytes).unwrap();
        Self { directory, file }
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn restore(&self, past: Past) -> Result<Restored, RestoreError> {
        self.restore_to("data", past)
    }

    fn restore_to(&self, name: &str, past: Past) -> Result<Restored, RestoreError> {
        restore(&self.request(name, past))
    }

    fn request(&self, name: &str, past: Past) -> Restore {
        let urls = vec!["http://127.0.0.1:1".to_owned()];
        Restore {
            origin: Origin::Snapshot { file: self.file.clone(), hash_check: HashCheck::Required },
            past,
            data_dir: self.directory.path().join(name),
            name: "a".to_owned(),
            advertise_peer_urls: urls.clone(),
            initial_cluster: vec![InitialMember { name: "a".to_owned(), peer_urls: urls }],
            cluster_token: "t".to_owned(),
            wal: WalConfig { segment_bytes: 1 << 20, ..WalConfig::default() },
        }
    }

    fn store(&self) -> Store {
        Store::open(FsEngines::new(&self.data_dir().join("db")).open().unwrap()).unwrap()
    }
}

fn everything() -> KeyRange {
    KeyRange { start: vec![0].into(), end: RangeEnd::Unbounded }
}

fn read_at(store: &Store, revision: Revision) -> Result<Vec<KeyValue>, Refusal> {
    let range = Range { revision: Some(revision), ..Range::new(everything()) };
    store.range(&range).unwrap().map(|result| result.kvs)
}

#[test]
fn a_data_directory_that_holds_anything_is_left_alone() {
    let case = Case::of(&snapshot_of(&sound()));
    fs::create_dir(case.data_dir()).unwrap();
    fs::write(case.data_dir().join("mine"), "mine").unwrap();
    let error = case.restore(Past::Kept).unwrap_err();
    assert!(error.to_string().ends_with("not empty or could not be read"), "{error}");
    fs::remove_file(case.data_dir().join("mine")).unwrap();
    case.restore(Past::Kept).unwrap();
}

/// A deletion that was collected stays for a saved index that shows the key, and for nobody else.
#[test]
fn what_only_a_saved_index_needs_is_no_part_of_a_snapshot() {
    let engine = MemoryEngine::new();
    let mut store = Store::open(Arc::new(engine.clone())).unwrap();
    let apply = |store: &mut Store, op: Op| {
        store.apply(&Command::Txn(Txn::of(op))).unwrap().answer.unwrap();
    };
    let put = |key: &'static str| Op::Put(Put { key: key.into(), ..Put::default() });
    apply(&mut store, put("stays"));
    apply(&mut store, put("goes"));
    store.begin_saving().unwrap();
    apply(&mut store, Op::DeleteRange(DeleteRange { range: KeyRange::single("goes"), prev_kv: false }));
    // A tombstone at just the compact revision would stay.
    apply(&mut store, put("stays"));
    store.apply(&Command::Compact { revision: store.current_revision() }).unwrap().answer.unwrap();
    store.commit().unwrap();
    while store.collect(10).unwrap() == Collection::MoreToDo {
        store.commit().unwrap();
    }
    store.commit().unwrap();
    let mut remembered = 0;
    let mut count = |key: &[u8], _: &[u8]| {
        remembered += usize::from(MetaKey::of(key).unwrap() == Some(MetaKey::Deletion));
        ControlFlow::Continue(())
    };
    engine.scan(b"", None, &mut count).unwrap();
    assert_eq!(remembered, 1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&engine, File::create_new(&path).unwrap(), &mut || Ok(())).unwrap();
    let case = Case::of(&sealed(fs::read(&path).unwrap()));
    case.restore(Past::Kept).unwrap();
    let keys: Vec<_> = read_at(&case.store(), store.current_revision()).unwrap();
    assert_eq!(keys.into_iter().map(|kv| kv.key).collect::<Vec<_>>(), ["stays"]);
}

type Pairs = BTreeMap<&'static str, Vec<(Vec<u8>, Vec<u8>)>>;

/// The least that is a snapshot.
fn sound() -> Pairs {
    Pairs::from([
        (layout::KEY, Vec::new()),
        (layout::META, vec![(layout::STORAGE_VERSION.into(), b"3.6.0".to_vec())]),
    ])
}

fn snapshot_of(buckets: &Pairs) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut writer = Writer::new(File::create(&path).unwrap()).unwrap();
    for (name, pairs) in buckets {
        let mut tree = Tree::default();
        for (key, value) in pairs {
            tree.put(&mut writer, key, value).unwrap();
        }
        writer.add(name, tree).unwrap();
    }
    writer.finish().unwrap();
    sealed(fs::read(&path).unwrap())
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::digest(&bytes);
    bytes.extend(hash);
    bytes
}

/// A key with two values, at revisions 2 and 5.
fn two_rows() -> Pairs {
    let mut buckets = sound();
    let row = |main, version, value: &'static [u8]| {
        let kv = proto::mvccpb::KeyValue {
            key: "k".into(),
            value: value.into(),
            create_revision: 2,
            mod_revision: main,
            version,
            lease: 0,
        };
        (layout::row_key(RowId::first_of(Revision(main)), EventKind::Put), kv.encode_to_vec())
    };
    buckets.insert(layout::KEY, vec![row(2, 1, b"one"), row(5, 2, b"two")]);
    buckets
}

/// Safety rule 10.
#[test]
fn by_default_no_revision_that_the_source_may_have_given_comes_again() {
    let case = Case::of(&snapshot_of(&two_rows()));
    let kept = case.restore(Past::Kept).unwrap();
    assert_eq!((kept.revision, kept.compacted), (Revision(5), Revision::NEVER_COMPACTED));
    assert_eq!(read_at(&case.store(), Revision(2)).unwrap()[0].value, "one");
    fs::remove_dir_all(case.data_dir()).unwrap();
    let raised = case.restore(Past::Raised { by: 1_000_000 }).unwrap();
    assert_eq!((raised.revision, raised.compacted), (Revision(1_000_005), Revision(1_000_005)));
    let store = case.store();
    assert_eq!((store.current_revision(), store.compact_revision()), (raised.revision, raised.revision));
    for revision in [2, 5, 1_000_004] {
        assert!(matches!(read_at(&store, Revision(revision)), Err(Refusal::Compacted { .. })));
    }
    assert_eq!(read_at(&store, raised.revision).unwrap()[0].value, "two");
    let too_high = case.restore_to("other", Past::Raised { by: i64::MAX - 5 });
    assert!(matches!(too_high, Err(RestoreError::TooHigh { revision: 5, .. })));
}

/// etcd's data directory has the database alone, and a copy of it may be all that is left.
#[test]
fn a_database_without_a_hash_is_taken_only_when_that_is_said() {
    let whole = snapshot_of(&two_rows());
    let case = Case::of(&whole);
    let with_hash = case.restore(Past::Kept).unwrap();
    let digest = case.store().digest();
    fs::remove_dir_all(case.data_dir()).unwrap();
    fs::write(&case.file, &whole[..whole.len() - 32]).unwrap();
    assert!(matches!(case.restore(Past::Kept), Err(RestoreError::Snapshot(SnapshotError::NoHash))));
    let origin = Origin::Snapshot { file: case.file.clone(), hash_check: HashCheck::Skipped };
    let without = restore(&Restore { origin, ..case.request("data", Past::Kept) }).unwrap();
    assert_eq!((without, case.store().digest()), (with_hash, digest));
}

/// Neither the same members without a file, nor with another file or other revisions, form a cluster of the same id.
#[test]
fn a_restored_cluster_has_an_id_of_its_own_and_the_same_on_every_member() {
    let raised = Past::Raised { by: 10 };
    let case = Case::of(&snapshot_of(&two_rows()));
    let (first, again) = (case.restore(raised).unwrap(), case.restore_to("again", raised).unwrap());
    assert_eq!(first, again);
    let others = [
        case.restore_to("kept", Past::Kept).unwrap(),
        case.restore_to("higher", Past::Raised { by: 11 }).unwrap(),
        Case::of(&snapshot_of(&sound())).restore(raised).unwrap(),
    ];
    for other in others {
        assert_eq!(other.member_id, first.member_id);
        assert_ne!(other.cluster_id, first.cluster_id);
    }
    assert_ne!(first.cluster_id, crate::config::cluster_id(std::iter::once(&first.member_id), "t"));
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    let check = |change: &dyn Fn(&mut Pairs), expected: &str| {
        let mut buckets = sound();
        change(&mut buckets);
        let case = Case::of(&snapshot_of(&buckets));
        let error = case.restore(Past::Kept).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!case.data_dir().exists());
    };
    let pair = |key: &[u8], value: &[u8]| vec![(key.to_vec(), value.to_vec())];
    check(&|buckets| drop(buckets.insert("keys2", Vec::new())), "a bucket `keys2`");
    check(&|buckets| drop(buckets.remove(layout::KEY)), "no bucket `key`");
    check(
        &|buckets| drop(buckets.insert(layout::META, pair(b"shards", b"7"))),
        "bucket `meta` holds a key `shards`",
    );
    check(
        &|buckets| drop(buckets.insert(layout::META, pair(b"storageVersion", b"3.8.0"))),
        "the file is of etcd 3.8.0",
    );
    check(
        &|buckets| drop(buckets.insert(layout::CLUSTER, pair(b"clusterVersion", b"3.3.0"))),
        "the file is of etcd 3.3.0",
    );
    check(&|buckets| drop(buckets.insert(layout::KEY, pair(b"k", b"v"))), "it is no revision");
    check(
        &|buckets| drop(buckets.insert(layout::LEASE, pair(b"12345678", b""))),
        "its id or time to live cannot be",
    );
    let key = hex::decode("00000000000000025f0000000000000000").unwrap();
    // A key at revision 3.
    let other = hex::decode("0a016b1003180320012a0176").unwrap();
    check(&|buckets| drop(buckets.insert(layout::KEY, pair(&key, &other))), "its revisions cannot be");
    check(
        &|buckets| drop(buckets.insert(layout::KEY, pair(&key, b"\xff"))),
        "bucket `key` is damaged at key",
    );
}

#[test]
fn the_row_by_which_etcd_raises_revisions_is_no_key() {
    let mut buckets = sound();
    let raised = layout::row_key(RowId::first_of(Revision(1000)), EventKind::Put);
    buckets.insert(layout::KEY, vec![(raised, Vec::new())]);
    let case = Case::of(&snapshot_of(&buckets));
    let restored = case.restore(Past::Kept).unwrap();
    assert_eq!(restored.revision, Revision(1000));
    assert_eq!(read_at(&case.store(), Revision(1000)), Ok(Vec::new()));
}

#[test]
fn a_snapshot_must_match_its_hash() {
    let whole = snapshot_of(&sound());
    let check = |bytes: &[u8], expected: &str| {
        let case = Case::of(bytes);
        let error = case.restore(Past::Kept).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    for at in [5000, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        check(&flipped, "expected sha256");
    }
    check(&whole[..whole.len() - 32], "snapshot missing hash but --skip-hash-check=false");
    check(&whole[..4096 + 32], "expected sha256");
    check(b"notes of mine", "this is no bbolt file");
    check(b"", "this is no bbolt file");
}
