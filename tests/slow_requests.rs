//! A request that takes longer than it may is logged by the member that was asked, with where its time went, and counted.

mod members;

use std::path::Path;

use chaos::cluster::{Cluster, Program};
use members::{places, until};

/// Where the time of a write can go.
const WRITE_PARTS: &[&str] = &["queue", "fsync", "consensus", "apply"];
/// Where that of a read's confirmation can go.
const READ_PARTS: &[&str] = &["consensus", "apply"];

/// Returns the value of a field of a log line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Returns a duration as the log writes it, in seconds.
fn seconds(text: &str) -> f64 {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        other => panic!("{text} has the unit {other}"),
    };
    digits.parse::<f64>().unwrap() * unit
}

/// Checks that the parts are there and add up to the whole.
fn check(line: &str, parts: &[&str]) {
    let spent: f64 = parts.iter().map(|part| seconds(field(line, part).expect(line))).sum();
    let took = seconds(field(line, "took").expect(line));
    assert!(took > 0.0 && (spent - took).abs() <= took * 0.05, "{spent} of {took}: {line}");
}

#[tokio::test]
async fn a_slow_request_is_logged_where_it_was_asked_with_where_its_time_went() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::new(Path::new(env!("CARGO_BIN_EXE_keelson")));
    program.environment.push(("ETCD_WARNING_APPLY_DURATION".to_owned(), "1ns".to_owned()));
    let places = places();
    let mut cluster = Cluster::start(&program, &places, "keelson-test", folder.path()).await.unwrap();
    let leader = until("a leader", async || cluster.leader().await).await;
    // One that leads knows each part of the way; one that does not, how long the leader took.
    for member in [leader, (leader + 1) % places.len()] {
        let client = cluster.connect(member).unwrap();
        client.write(&format!("key{member}"), &"value".repeat(100)).await.unwrap();
        client.read("key").await.unwrap();
        let log = folder.path().join(format!("{}.log", places[member].name));
        let log = std::fs::read_to_string(log).unwrap();
        let slow = || log.lines().filter(|line| line.contains("slow request"));
        let write = slow().find(|line| line.contains(r#"kind="txn""#));
        check(write.unwrap_or_else(|| panic!("no slow write in\n{log}")), WRITE_PARTS);
        let read = slow().find(|line| line.contains(r#"kind="read index""#));
        check(read.unwrap_or_else(|| panic!("no slow read in\n{log}")), READ_PARTS);
    }
    cluster.stop().await;
}
