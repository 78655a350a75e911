//! `keelson chaos run` on whole clusters: servers with agents in namespaces of their own, killed, paused, cut off; judged by what clients of
//! the API saw and by the store's log.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// Runs one at a time: they want the machine.
static ONE_RUN: Mutex<()> = Mutex::new(());

/// Runs one workload under a kill, a partition, and a kill of the agents; returns what its folder says, or `None` where this machine cannot inject that.
fn run(workload: &str, nemesis: &str, seconds: u32) -> Option<Value> {
    if !nix::unistd::Uid::effective().is_root() {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr().write_all(b"skipped: it needs root\n").unwrap();
        return None;
    }
    let _one_run = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("run");
    let time_limit = format!("{seconds}s");
    let output = Command::new(env!("CARGO_BIN_EXE_keelson"))
        .args(["chaos", "run", "--seed", "1", "--rate", "40", "--time-limit", &time_limit])
        .args(["--nemesis-interval", "6s", "--workload", workload, "--nemesis", nemesis, "--output"])
        .arg(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{words}{}", last_words(&folder));
    assert!(folder.join("report.html").exists() && !folder.join("data").exists(), "{said}");
    let own = format!("keelson-chaos-{}-", output_pid(&said));
    let namespaces: Vec<_> = std::fs::read_dir("/run/netns").into_iter().flatten().flatten().collect();
    assert!(namespaces.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(&own)));
    Some(serde_json::from_slice(&std::fs::read(folder.join("result.json")).unwrap()).unwrap())
}

/// The harness says in which namespaces its members are: their names carry its process id.
fn output_pid(said: &str) -> String {
    let (_, rest) = said.split_once("keelson-chaos-").expect("the namespaces are named");
    rest.chars().take_while(char::is_ascii_digit).collect()
}

fn last_words(folder: &Path) -> String {
    let words = |name: &str| {
        let log = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        format!("\n{name}: {last:?}")
    };
    ["n1", "n2", "n3", "a1"].map(words).concat()
}

/// Prints what was done, and expects that each kind of fault left its witness.
fn check(workload: &str, nemesis: &str, seconds: u32) {
    let Some(result) = run(workload, nemesis, seconds) else { return };
    let (operations, faults) = (&result["counts"]["operations"], &result["counts"]["faults"]);
    println!("{workload}: {operations} operations, faults with witness {faults}");
    for checker in result["checkers"].as_array().unwrap() {
        println!("{workload}: {} judged {}", checker["name"], checker["scope"]);
    }
    assert!(operations.as_u64().unwrap() > 100, "{result}");
    for kind in nemesis.split(',') {
        assert!(faults[kind].as_u64() >= Some(1), "{kind}: {result}");
    }
}

#[test]
fn informers_miss_nothing_over_a_kill_and_a_partition() {
    check("k-listwatch", "kill,partition", 16);
}

#[test]
fn replicas_are_what_was_asked_for_after_kills_of_a_server_and_of_the_agents() {
    check("k-replicas", "kill,kill-agent", 16);
}

#[test]
fn pods_are_bound_once_and_where_there_is_room_over_a_kill_and_a_partition() {
    check("k-sched", "kill,partition", 16);
}
