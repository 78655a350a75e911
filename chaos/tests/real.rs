//! A short run on real processes: Debian's etcd stands in as the store that is known to keep its promises.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chaos::check::Verdict;
use chaos::check::judge::judge;
use chaos::nemesis::{Kind, Turn, try_kind};
use chaos::run::{Folder, Options, run};

/// Runs one at a time: they want the machine, and each looks for what it left behind.
static ONE_RUN: Mutex<()> = Mutex::new(());

const ETCD: &str = "/usr/bin/etcd";

/// Says why faults cannot be injected here.
fn missing() -> Option<&'static str> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("it needs root");
    }
    (!Path::new(ETCD).exists()).then_some("there is no /usr/bin/etcd")
}

#[test]
fn etcd_passes_a_kill_and_a_partition_of_its_leader_and_the_folder_gives_the_same_verdict_again() {
    if let Some(reason) = missing() {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes()).unwrap();
        return;
    }
    let _one_run = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let options = Options {
        workload: chaos::workload::named("register").unwrap(),
        nemesis: vec![Kind::Kill.into(), Kind::Partition.into()],
        members: 3,
        time_limit: Duration::from_secs(12),
        nemesis_interval: Duration::from_secs(4),
        // Far below what a busy machine can do: the verdict must not depend on its speed.
        rate: 60,
        concurrency: 12,
        seed: 3,
        binary: PathBuf::from(ETCD),
        environment: Vec::new(),
        leave_running: false,
        endpoints: Vec::new(),
    };
    let outcome = run(&options, &Folder::create(&path).unwrap()).unwrap();
    assert_eq!(outcome.verdict, Verdict::Pass, "{}", outcome.text(&options.reproduce()));
    assert_eq!(outcome.counts.faults, BTreeMap::from([(Kind::Kill, 1), (Kind::Partition, 1)]));

    let folder = Folder::open(&path).unwrap();
    let events = chaos::history::read(&folder.history()).unwrap();
    let record = folder.record(events).unwrap();
    assert_eq!(judge(&record, &folder.minimums().unwrap()), outcome);
    assert!(path.join("report.txt").exists() && path.join("result.json").exists());
    assert!(!path.join("data").exists(), "the members' data stays behind");
    let names: Vec<_> = std::fs::read_dir("/run/netns").into_iter().flatten().flatten().collect();
    let own = format!("keelson-chaos-{}-", std::process::id());
    assert!(names.iter().all(|name| !name.file_name().to_string_lossy().starts_with(&own)), "{names:?}");
}

#[test]
fn etcd_passes_a_mixture_of_faults_and_each_leaves_its_witness() {
    if let Some(reason) = missing() {
        std::io::stderr().write_all(format!("skipped: {reason}\n").as_bytes()).unwrap();
        return;
    }
    let kinds =
        [Kind::Pause, Kind::PowerLoss, Kind::Refuse, Kind::Cable, Kind::SlowLink, Kind::Loss, Kind::Transfer];
    for kind in kinds {
        if let Err(reason) = try_kind(kind) {
            std::io::stderr().write_all(format!("skipped: {kind}: {reason}\n").as_bytes()).unwrap();
            return;
        }
    }
    let _one_run = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let options = Options {
        workload: chaos::workload::named("register").unwrap(),
        nemesis: kinds.map(Turn::from).to_vec(),
        members: 3,
        time_limit: Duration::from_secs(28),
        nemesis_interval: Duration::from_millis(2500),
        rate: 40,
        concurrency: 12,
        seed: 4,
        binary: PathBuf::from(ETCD),
        environment: Vec::new(),
        leave_running: false,
        endpoints: Vec::new(),
    };
    let outcome = run(&options, &Folder::create(&path).unwrap()).unwrap();
    assert_eq!(outcome.verdict, Verdict::Pass, "{}", outcome.text(&options.reproduce()));
    let came: BTreeSet<Kind> = outcome.counts.faults.into_keys().collect();
    assert_eq!(came, BTreeSet::from(kinds));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*path.to_string_lossy()), "a disk of the run stays mounted: {mounts}");
    assert!(!path.join("data").exists(), "the members' data stays behind");
}
