//! `keelson chaos` on our own store: the real one passes, a planted stale read is found.

use std::io::Write;
use std::process::{Command, Output};

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

#[cfg(feature = "plant")]
#[test]
fn a_planted_stale_read_is_found_on_five_of_five_seeds() {
    let planted =
        ["--nemesis", "partition", "--time-limit", "15s", "--member-env", "KEELSON_PLANT=stale-read"];
    for seed in 1..=5 {
        let Some(output) = run(env!("CARGO_BIN_EXE_keelson-plant"), seed, &planted) else { return };
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "seed {seed}: {text}");
        let named = text.lines().find(|line| line.contains("stale read: #"));
        assert!(named.is_some_and(|line| line.contains("after #")), "seed {seed}: {text}");
    }
}
