//! Bad input gets one clear line and exit code 64, before anything is bound or written.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

const KEELSON: &str = env!("CARGO_BIN_EXE_keelson");

fn keelson(args: &[&str]) -> Output {
    Command::new(KEELSON).args(args).output().unwrap()
}

/// Expects wrong use: exit code 64 and `words` in what is said.
fn refused(args: &[&str], words: &str) {
    let output = keelson(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "keelson {args:?} said: {said}");
    assert!(said.contains(words), "keelson {args:?} said: {said}");
}

#[test]
fn unknown_flags_are_wrong_use() {
    refused(&["up", "--no-such-flag"], "--no-such-flag");
    refused(&["no-such-command"], "no-such-command");
}

#[test]
fn an_even_number_of_servers_is_refused_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    refused(&["up", "--servers", "2", "--data-dir", data_dir.to_str().unwrap()], "odd number");
    assert!(!data_dir.exists());
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    refused(
        &["up", "--agents", "0", "--data-dir", folder.path().to_str().unwrap()],
        "holds no Keelson cluster",
    );
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[test]
fn a_busy_port_is_named() {
    let busy = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let data_dir = data_dir.to_str().unwrap();
    refused(&["up", "--agents", "0", "--api-port", &port, "--data-dir", data_dir], &port);
}

#[test]
fn a_damaged_marker_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("keelson.json"), "{").unwrap();
    refused(&["up", "--agents", "0", "--data-dir", folder.path().to_str().unwrap()], "damaged");
}

#[test]
fn down_without_a_cluster_says_so() {
    let folder = tempfile::tempdir().unwrap();
    refused(&["down", "--data-dir", folder.path().to_str().unwrap()], "no cluster runs");
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    fs::write(&archive, "not a tar file").unwrap();
    refused(&["image", "import", "--data-dir", "/nonexistent", archive.to_str().unwrap()], "image.tar");
}

#[test]
fn a_malformed_token_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("agent");
    let data_dir = data_dir.to_str().unwrap();
    refused(
        &[
            "agent",
            "--data-dir",
            data_dir,
            "--server",
            "https://127.0.0.1:1",
            "--token",
            "secret",
            "--hollow-nodes",
            "1",
        ],
        "token",
    );
}
