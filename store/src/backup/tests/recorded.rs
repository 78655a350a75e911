//! The recorded snapshots of real servers come in as these answered, and go out unchanged. The folder is beside the repository, and not
//! part of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use proto::authpb;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Case, everything, read_at};
use crate::backup::read::{Snapshot, SnapshotError};
use crate::backup::{HashCheck, Past, layout, show, write};
use crate::bbolt::Reader;
use crate::mvcc::{EventKind, HistoryLimits, KeyValue, LeaseId, Refusal, Revision, Store};
use crate::wire::permission_to_wire;

const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/etcd-snapshots");

/// Returns the names of the recordings, none where the folder is not there.
fn recordings(suffix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(RECORDINGS) else {
        // Past the capture of output, because the test runner counts these lines.
        std::io::stderr()
            .write_all(b"skipped: the recorded snapshots are not beside the repository\n")
            .unwrap();
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(suffix).map(str::to_owned)).collect();
    names.sort();
    names
}

fn unpacked(name: &str) -> Vec<u8> {
    let output = Command::new("gzip").arg("-dc").arg(Path::new(RECORDINGS).join(name)).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Returns the recorded snapshots.
pub(crate) fn recorded_files() -> Vec<Vec<u8>> {
    recordings(".expected.json").iter().map(|name| unpacked(&format!("{name}.db.gz"))).collect()
}

fn recorded(name: &str) -> Case {
    Case::of(&unpacked(&format!("{name}.db.gz")))
}

/// Bytes as the recordings show them.
fn bytes(shown: &Value) -> Vec<u8> {
    match shown {
        Value::String(text) => text.clone().into_bytes(),
        Value::Object(object) => match object.get("hex") {
            Some(hex) => hex::decode(hex.as_str().unwrap()).unwrap(),
            None => {
                let length = usize::try_from(object["len"].as_u64().unwrap()).unwrap();
                object["repeat"].as_str().unwrap().repeat(length).into_bytes()
            }
        },
        Value::Null => Vec::new(),
        other => panic!("{other}"),
    }
}

fn key_value(shown: &Value) -> KeyValue {
    let number = |name: &str| shown[name].as_i64().unwrap_or(0);
    KeyValue {
        key: bytes(&shown["key"]).into(),
        value: bytes(&shown["value"]).into(),
        create_revision: Revision(number("create_revision")),
        mod_revision: Revision(number("mod_revision")),
        version: number("version"),
        lease: LeaseId(number("lease")),
    }
}

fn check_keys(store: &Store, expected: &Value) {
    assert_eq!(store.current_revision().0, expected["revision"]);
    assert_eq!(store.compact_revision().0, expected["compact_revision"]);
    for (revision, kvs) in expected["rangeAllAtRevision"].as_object().unwrap() {
        let found = read_at(store, Revision(revision.parse().unwrap()));
        match kvs.as_array() {
            Some(kvs) => assert_eq!(found.unwrap(), kvs.iter().map(key_value).collect::<Vec<_>>()),
            None => assert!(matches!(found, Err(Refusal::Compacted { .. })), "{revision}"),
        }
    }
}

fn check_leases(store: &Store, expected: &Value) {
    let expected = expected["leases"].as_array().unwrap();
    assert_eq!(store.leases().count(), expected.len());
    for lease in expected {
        let found = store.lease(LeaseId(lease["ID"].as_i64().unwrap())).unwrap();
        assert_eq!(found.ttl_seconds, lease["grantedTTL"]);
        let mut keys: Vec<Vec<u8>> = lease["keys"].as_array().unwrap().iter().map(bytes).collect();
        keys.sort();
        assert_eq!(found.keys.iter().map(|key| key.to_vec()).collect::<Vec<_>>(), keys);
    }
}

fn check_events(store: &Store, expected: &Value, dialect: &str) {
    let messages = expected["watchFromCompactRevision"].as_array().unwrap();
    let events = messages.iter().filter_map(|message| message["events"].as_array()).flatten();
    let expected: Vec<(EventKind, KeyValue)> = events
        .map(|event| {
            let kind = if event["type"] == "DELETE" { EventKind::Delete } else { EventKind::Put };
            (kind, key_value(&event["kv"]))
        })
        .collect();
    let limits = HistoryLimits { rows_max: usize::MAX, bytes_max: usize::MAX };
    let history = store.history(&everything(), store.compact_revision(), limits).unwrap().unwrap();
    let found: Vec<(EventKind, KeyValue)> = history
        .revisions
        .into_iter()
        .filter(|revision| revision.revision >= store.compact_revision())
        .flat_map(|revision| revision.events)
        .map(|event| (event.kind, event.kv))
        .collect();
    assert_eq!(found, expected, "{dialect}");
}

fn permission(shown: &Value) -> authpb::Permission {
    let kind = shown["permType"].as_str().unwrap_or("READ");
    authpb::Permission {
        perm_type: authpb::permission::Type::from_str_name(kind).unwrap().into(),
        key: bytes(&shown["key"]).into(),
        range_end: bytes(&shown["range_end"]).into(),
    }
}

fn check_auth(store: &Store, expected: &Value) {
    let auth = store.auth();
    let expected = &expected["auth"];
    assert_eq!(auth.is_enabled(), expected["enabled"].as_bool().unwrap_or(false));
    let users = expected["users"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(auth.users().count(), users.len());
    for user in users {
        let name = user["name"].as_str().unwrap();
        let found = auth.user(name).unwrap();
        let roles: Vec<&str> =
            user["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
        assert!(found.roles.iter().map(String::as_str).eq(roles));
        let password = expected["passwords"][name].as_str().unwrap();
        assert!(bcrypt::verify(password, &found.password_hash.as_ref().unwrap().0).unwrap());
    }
    for (name, permissions) in expected["roles"].as_object().into_iter().flatten() {
        let found = auth.role(name).unwrap();
        // What the root role may do is said by its name; later versions show it as a permission.
        let expected = permissions.as_array().filter(|_| name != crate::auth::ROOT);
        let expected: Vec<_> = expected.into_iter().flatten().map(permission).collect();
        assert_eq!(found.permissions().map(permission_to_wire).collect::<Vec<_>>(), expected, "{name}");
    }
}

/// Keys and values by bucket.
type Content = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

fn content(file: &Path) -> Content {
    let opened = File::open(file).unwrap();
    let reader = Reader::open(opened, fs::metadata(file).unwrap().len()).unwrap();
    let mut content = BTreeMap::new();
    for (name, bucket) in reader.buckets().unwrap() {
        let mut pairs = Vec::new();
        reader
            .visit(&bucket, &mut |key, value| {
                pairs.push((key.to_vec(), value.to_vec()));
                Ok::<(), SnapshotError>(())
            })
            .unwrap();
        content.insert(String::from_utf8(name).unwrap(), pairs);
    }
    content
}

#[test]
fn recorded_snapshots_of_etcd_are_restored_as_their_servers_answered() {
    for name in recordings(".expected.json") {
        let expected: Value = {
            let path = Path::new(RECORDINGS).join(format!("{name}.expected.json"));
            serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
        };
        let case = recorded(&name);
        case.restore(Past::Kept).unwrap();
        let store = case.store();
        check_keys(&store, &expected);
        check_leases(&store, &expected);
        check_events(&store, &expected, &name);
        check_auth(&store, &expected);
    }
}

/// Writes what was restored as a file again.
fn written(case: &Case) -> PathBuf {
    let path = case.directory.path().join("written.db");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    write(&**case.store().engine(), file, &mut || Ok(())).unwrap();
    path
}

#[test]
fn what_came_in_goes_out_byte_for_byte() {
    for name in recordings(".db.gz") {
        let case = recorded(&name);
        case.restore(Past::Kept).unwrap();
        let (before, after) = (content(&case.file), content(&written(&case)));
        for bucket in [layout::KEY, layout::LEASE, layout::AUTH_ROLES, layout::AUTH_USERS] {
            assert_eq!(before.get(bucket), after.get(bucket), "{name}: {bucket}");
        }
        let revision = |content: &Content| {
            let meta = &content[layout::META];
            let key = layout::SCHEDULED_COMPACT.as_bytes();
            meta.iter().find(|(found, _)| found == key).map(|(_, value)| value.clone())
        };
        assert_eq!(revision(&before), revision(&after), "{name}");
    }
}

fn check_status(file: &Path, name: &str) {
    let status = Snapshot::open(file, HashCheck::Skipped).unwrap().status().unwrap();
    for (output, flag) in [(show::Output::Simple, "simple"), (show::Output::Table, "table")] {
        let theirs = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "status", "-w", flag])
            .arg(file)
            .output()
            .unwrap();
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        assert_eq!(theirs.trim_end(), show::shown(&status, output), "{name}");
    }
}

#[test]
fn a_status_is_what_etcdctl_shows() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("etcdctl").is_file()) {
        return;
    }
    for name in recordings(".db.gz") {
        let case = recorded(&name);
        check_status(&case.file, &name);
        case.restore(Past::Kept).unwrap();
        check_status(&written(&case), &name);
    }
}

#[test]
fn the_store_of_an_api_server_comes_in_key_by_key() {
    for name in recordings(".index.json.gz") {
        let index: Value = serde_json::from_slice(&unpacked(&format!("{name}.index.json.gz"))).unwrap();
        let case = recorded(&name);
        case.restore(Past::Kept).unwrap();
        let store = case.store();
        let last = store.current_revision();
        let kvs = read_at(&store, last).unwrap();
        let keys = index["keys"].as_array().unwrap();
        // Some heartbeats came between the snapshot and the reading.
        let keys: Vec<&Value> =
            keys.iter().filter(|key| key["mod_revision"].as_i64() <= Some(last.0)).collect();
        assert!(keys.len() > 100 && kvs.len() < keys.len() + 4, "{} of {} keys", keys.len(), kvs.len());
        for key in keys {
            let expected = key_value(key);
            let found = kvs.iter().find(|kv| kv.key == expected.key).unwrap();
            assert_eq!(hex::encode(Sha256::digest(&found.value)), key["valueSha256"]);
            assert_eq!(KeyValue { value: expected.value.clone(), ..found.clone() }, expected);
        }
    }
}
