//! `keelson chaos` on our own store: it passes, and the program that ships holds none of the bugs that `keelson-plant` has.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs three members of `binary` under faults; `None` when this machine cannot inject them.
fn run(binary: &str, seed: u32, arguments: &[&str]) -> Option<Output> {
    if !nix::unistd::Uid::effective().is_root() {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr().write_all(b"skipped: it needs root\n").unwrap();
        return None;
    }
    let parent = tempfile::tempdir().unwrap();
    let output = Command::new(binary)
        .args(["chaos", "run", "--seed", &seed.to_string(), "--output"])
        .arg(parent.path().join("run"))
        .args(arguments)
        .output()
        .unwrap();
    Some(output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_store_passes_kills_and_partitions() {
    let arguments = ["--nemesis", "kill,partition", "--time-limit", "14s", "--rate", "100"];
    let Some(output) = run(env!("CARGO_BIN_EXE_keelson"), 1, &arguments) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("PASS"), "{}", text(&output));
}

#[test]
fn an_interrupted_run_keeps_what_it_recorded_and_leaves_nothing_behind() {
    if !nix::unistd::Uid::effective().is_root() {
        std::io::stderr().write_all(b"skipped: it needs root\n").unwrap();
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_keelson"))
        .args(["chaos", "run", "--time-limit", "5h", "--nemesis", "kill", "--rate", "60", "--seed", "1"])
        .arg("--output")
        .arg(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    // The first line that counts operations: something has been recorded.
    assert!(lines.any(|line| line.contains(" ok ") && line.contains(" failed ")));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{rest:?}");
    assert!(rest.iter().any(|line| line.trim() == "interrupted"), "{rest:?}");
    assert!(folder.join("report.html").exists() && !folder.join("data").exists());
    let own = format!("keelson-chaos-{}-", child.id());
    let namespaces: Vec<_> = std::fs::read_dir("/run/netns").into_iter().flatten().flatten().collect();
    assert!(namespaces.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(&own)));
}

#[test]
fn the_program_that_ships_holds_no_planted_bugs() {
    let keelson = env!("CARGO_BIN_EXE_keelson");
    let output = Command::new(keelson).args(["chaos", "plants", "--list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(254));
    assert!(text(&output).contains("holds no planted bugs"), "{}", text(&output));
    // What switches one on, in a program that has them.
    let switch = b"KEELSON_PLANT";
    let program = std::fs::read(keelson).unwrap();
    assert!(!program.windows(switch.len()).any(|bytes| bytes == switch));
}
