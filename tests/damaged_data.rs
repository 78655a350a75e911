//! A data directory that is damaged, incomplete or someone else's: the member names file and reason, ends, and changes
//! nothing in it; the other members go on.

mod cluster;
mod members;

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chaos::etcd::MemberClient;
use chaos::history::Answer;
use cluster::{Cluster, KEELSON};
use members::{Members, Writers, last_words, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Whatever is wrong is found long before.
const PATIENCE: Duration = Duration::from_secs(60);
/// Exit codes: a failure of the world, and wrong use.
const DAMAGE: i32 = 1;
const WRONG_USE: i32 = 64;
const KEYS: u32 = 200;
const SEGMENT: &str = "wal/0000000000000001.wal";
/// Inside the batch that every segment begins with. Where later ones begin depends on how many writes met.
const IN_FIRST_BATCH: usize = 4096 + 40;

/// Every way to ruin a directory, the exit code, and what is said of it.
type Case = (&'static str, fn(&Path), i32, &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "a flipped byte in the log below what was synced",
        |data| flip(&data.join(SEGMENT), 3 * 4096 + 40),
        DAMAGE,
        &["/wal cannot be used", "0000000000000001.wal is corrupt at offset 12"],
    ),
    (
        "a flipped byte in the head of the log",
        |data| flip(&data.join(SEGMENT), 3),
        DAMAGE,
        &["0000000000000001.wal is corrupt at offset 0"],
    ),
    ("a lost log", |data| fs::remove_dir_all(data.join("wal")).unwrap(), DAMAGE, &["log directory was lost"]),
    (
        "a lost database",
        |data| fs::remove_dir_all(data.join("db")).unwrap(),
        DAMAGE,
        &["the database directory was lost"],
    ),
    (
        "a lost name of the current database",
        |data| fs::remove_file(data.join("db/CURRENT")).unwrap(),
        DAMAGE,
        &["the database directory was lost"],
    ),
    (
        "a wrong name of the current database",
        |data| fs::write(data.join("db/CURRENT"), "something").unwrap(),
        DAMAGE,
        &["/db", "CURRENT names no engine"],
    ),
    (
        "a lost CURRENT of the engine",
        |data| fs::remove_file(data.join("db/000001/CURRENT")).unwrap(),
        DAMAGE,
        &["db/000001", "CURRENT"],
    ),
    (
        "an overwritten CURRENT of the engine",
        |data| fs::write(data.join("db/000001/CURRENT"), "something\n").unwrap(),
        DAMAGE,
        &["db/000001"],
    ),
    ("a MANIFEST that was cut off", |data| cut(&engine_file(data, "MANIFEST-", "")), DAMAGE, &["db/000001"]),
    ("an overwritten MANIFEST", |data| flip(&engine_file(data, "MANIFEST-", ""), 20), DAMAGE, &["db/000001"]),
    (
        "a flipped byte in a table",
        |data| {
            flip(&engine_file(data, "", ".sst"), 100);
            // With it, a start does not read the row.
            fs::remove_file(data.join("db/000001.index")).unwrap();
        },
        DAMAGE,
        &["db/000001/", ".sst"],
    ),
    ("a table that was cut off", |data| cut(&engine_file(data, "", ".sst")), DAMAGE, &["db/000001/", ".sst"]),
    (
        "a lost table",
        |data| fs::remove_file(engine_file(data, "", ".sst")).unwrap(),
        DAMAGE,
        &["db/000001/", ".sst"],
    ),
    ("a damaged identity", |data| flip(&data.join("member"), 8), DAMAGE, &["damaged identity file `member`"]),
    (
        "an identity of a newer version",
        |data| set(&data.join("member"), 1, &[2]),
        WRONG_USE,
        &["newer version", "format 2", "upgrade"],
    ),
    (
        "a log of a newer version",
        |data| make_newer(&data.join(SEGMENT)),
        WRONG_USE,
        &["0000000000000001.wal has log format 2"],
    ),
];

#[tokio::test]
async fn damage_is_named_and_nothing_is_changed() {
    let folder = tempfile::Builder::new().prefix("keelson-damage-").tempdir().unwrap();
    let intact = folder.path().join("intact");
    fill(&intact).await;
    for (name, ruin, code, words) in CASES {
        let data = folder.path().join("ruined");
        copy(&intact, &data);
        ruin(&data);
        refused(name, &store_flags(&data, "a", 1), &data, *code, words);
        fs::remove_dir_all(&data).unwrap();
    }
    // Nothing of that was an accident: without damage the same start works, and all is there.
    let (member, client) = start(&intact).await;
    for number in 0..KEYS {
        let (answer, _) = client.read(&key(number)).await.unwrap();
        assert!(matches!(answer, Answer::Read(Some(_))), "{number}: {answer:?}");
    }
    stop(member);
}

#[tokio::test]
async fn the_directory_of_another_member_is_refused() {
    let folder = tempfile::Builder::new().prefix("keelson-damage-").tempdir().unwrap();
    let data = folder.path().join("data");
    fill(&data).await;
    let words = &["belongs to member", "check name, peer URLs, initial cluster and token"];
    refused("another member", &store_flags(&data, "a", 2), &data, WRONG_USE, words);
    let mut flags = store_flags(&data, "a", 1);
    flags.extend(["--initial-cluster-token".to_owned(), "another".to_owned()]);
    refused("another cluster", &flags, &data, WRONG_USE, words);
    fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    let flags = store_flags(folder.path(), "a", 1);
    refused("somebody's files", &flags, folder.path(), WRONG_USE, &["holds files of something else"]);
}

#[tokio::test]
async fn two_members_go_on_beside_a_damaged_one() {
    let folder = tempfile::Builder::new().prefix("keelson-damage-").tempdir().unwrap();
    let mut members = Members::start(folder.path()).await;
    let writers = Writers::start(&members);
    writers.acknowledged(&[0, 1, 2], 20).await;
    members.cluster.members[0].kill().await.unwrap();
    flip(&members.data(0).join(SEGMENT), IN_FIRST_BATCH);
    let before = contents(&members.data(0));
    members.cluster.members[0].start().unwrap();
    let (status, said) = members.end_of(0).await;
    assert_eq!(status, "exit status: 1", "{said}");
    assert!(said.contains("0000000000000001.wal is corrupt at offset 4096"), "{said}");
    assert_eq!(contents(&members.data(0)), before);
    writers.acknowledged(&[1, 2], 100).await;
    let ledger = writers.stop().await;
    members.keeps(1, &ledger).await;
    members.cluster.stop().await;
}

#[test]
fn two_servers_go_on_beside_a_damaged_one() {
    let mut cluster = Cluster::start(&["--servers", "3", "--agents", "0"]);
    cluster.kubectl_ok(&["create", "configmap", "before"]);
    cluster.stop();
    let data = cluster.data_dir.join("server-2/store");
    flip(&data.join(SEGMENT), IN_FIRST_BATCH);
    let before = contents(&data);
    cluster.start_again();
    cluster.wait("the reason in what `up` says", PATIENCE, |cluster| {
        let log = cluster.up_log();
        log.lines().any(|line| line.contains("server-2") && line.contains("is corrupt at offset 4096"))
    });
    cluster.kubectl_ok(&["get", "configmap", "before"]);
    cluster.kubectl_ok(&["create", "configmap", "after"]);
    assert_eq!(contents(&data), before);
    cluster.stop();
}

/// Expects a start to end with `code`, one line with all `words`, and an untouched directory.
fn refused(name: &str, flags: &[String], data: &Path, code: i32, words: &[&str]) {
    let before = contents(data);
    let output = Command::new(KEELSON).args(flags).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{name}: {log}");
    let said = last_words(&log);
    assert_eq!(said.len(), 1, "{name}: {log}");
    assert!(!log.contains("panicked"), "{name}: {log}");
    assert!(said[0].contains(data.to_str().unwrap()), "{name}: {}", said[0]);
    assert!(words.iter().all(|word| said[0].contains(word)), "{name}: {}", said[0]);
    assert_eq!(contents(data), before, "{name}: the directory was changed");
    println!("{name}: {}", said[0]);
}

/// The same member wherever it listens: its id comes from the URL that it advertises.
fn store_flags(data: &Path, name: &str, advertised: u16) -> Vec<String> {
    let url = format!("http://127.0.0.1:{advertised}");
    let flags = format!(
        "store --name {name} --data-dir {} --listen-client-urls http://127.0.0.1:0 --listen-peer-urls \
         http://127.0.0.1:0 --initial-advertise-peer-urls {url} --initial-cluster {name}={url}",
        data.display()
    );
    flags.split(' ').map(str::to_owned).collect()
}

/// Makes a directory with keys in log and database, and a member that ended cleanly.
async fn fill(data: &Path) {
    let (member, client) = start(data).await;
    for number in 0..KEYS {
        client.write(&key(number), &"value".repeat(50)).await.unwrap();
    }
    stop(member);
}

fn key(number: u32) -> String {
    format!("key{number}")
}

/// Starts a member on a free port and waits until it serves.
async fn start(data: &Path) -> (Child, MemberClient) {
    let url = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let flags = store_flags(data, "a", 1);
    // The first of the two that take any port is the clients' one.
    let clients = flags.iter().position(|flag| flag == "http://127.0.0.1:0").unwrap();
    let flags = flags.iter().enumerate().map(|(place, flag)| if place == clients { &url } else { flag });
    let member = Command::new(KEELSON).args(flags).stderr(Stdio::null()).spawn().unwrap();
    let client = MemberClient::new(&url).unwrap();
    until("a member that serves", async || client.read("ready").await.ok()).await;
    (member, client)
}

fn stop(mut member: Child) {
    kill(Pid::from_raw(i32::try_from(member.id()).unwrap()), Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while member.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the member does not stop");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn copy(from: &Path, to: &Path) {
    // Log segments are mostly zeros.
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Everything below a directory: a hash of each file, nothing for a folder.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Option<u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut contents(&path));
            found.insert(path, None);
        } else {
            let mut hasher = DefaultHasher::new();
            fs::read(&path).unwrap().hash(&mut hasher);
            found.insert(path, Some(hasher.finish()));
        }
    }
    found
}

fn engine_file(data: &Path, prefix: &str, suffix: &str) -> PathBuf {
    let files = fs::read_dir(data.join("db/000001")).unwrap().map(|entry| entry.unwrap().path());
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(prefix) && name.ends_with(suffix)
    };
    files.filter(is_wanted).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn flip(file: &Path, offset: usize) {
    let byte = fs::read(file).unwrap()[offset];
    set(file, offset, &[byte ^ 0xff]);
}

fn set(file: &Path, offset: usize, bytes: &[u8]) {
    let mut content = fs::read(file).unwrap();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    fs::write(file, content).unwrap();
}

fn cut(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    fs::File::options().write(true).open(file).unwrap().set_len(length / 2).unwrap();
}

/// Raises the version in the head of a log segment and keeps the head's checksum right.
fn make_newer(segment: &Path) {
    let mut head = [0; 24];
    fs::File::open(segment).unwrap().read_exact(&mut head).unwrap();
    head[8..12].copy_from_slice(&2_u32.to_le_bytes());
    set(segment, 0, &head[..20]);
    set(segment, 20, &crc32(&head[..20]).to_le_bytes());
}

/// CRC-32 as in IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    };
    !bytes.iter().fold(!0, step)
}
