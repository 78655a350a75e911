//! A short run on real processes: Debian's etcd stands in as the store that is known to keep its promises.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chaos::check::Verdict;
use chaos::check::judge::judge;
use chaos::nemesis::Kind;
use chaos::run::{Folder, Options, Workload, run};

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
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let options = Options {
        workload: Workload::Register,
        nemesis: vec![Kind::Kill, Kind::Partition],
        members: 3,
        time_limit: Duration::from_secs(12),
        nemesis_interval: Duration::from_secs(4),
        // Far below what a busy machine can do: the verdict must not depend on its speed.
        rate: 60,
        concurrency: 12,
        seed: 3,
        binary: PathBuf::from(ETCD),
        environment: Vec::new(),
    };
    let outcome = run(&options, &Folder::create(&path).unwrap()).unwrap();
    assert_eq!(outcome.verdict, Verdict::Pass, "{}", outcome.text(&options.reproduce()));
    assert_eq!((outcome.counts.kills, outcome.counts.partitions), (1, 1));

    let folder = Folder::open(&path).unwrap();
    let events = chaos::history::read(&folder.history()).unwrap();
    let again = judge(&events, &folder.logs().unwrap(), &folder.minimums().unwrap());
    assert_eq!(again, (outcome.verdict, outcome.counts));
    assert!(path.join("report.txt").exists() && path.join("result.json").exists());
    assert!(!path.join("data").exists(), "the members' data stays behind");
    let names: Vec<_> = std::fs::read_dir("/run/netns").into_iter().flatten().flatten().collect();
    let own = format!("keelson-chaos-{}-", std::process::id());
    assert!(names.iter().all(|name| !name.file_name().to_string_lossy().starts_with(&own)), "{names:?}");
}
