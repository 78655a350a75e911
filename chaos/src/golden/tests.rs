//! Every label is met, and a wrong folder is named.

use std::io::Write;
use std::path::Path;

use super::run;

const HISTORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/histories/porcupine");

#[test]
fn every_labelled_history_gets_its_label() {
    let folder = Path::new(HISTORIES);
    if !folder.exists() {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr()
            .write_all(b"skipped: the labelled histories are not beside the repository\n")
            .unwrap();
        return;
    }
    let rows = run(folder).unwrap();
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| !row.is_right())
        .map(|row| format!("{} {}", row.file, row.verdict()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let linearizable = rows.iter().filter(|row| row.is_linearizable).count();
    assert_eq!((rows.len(), linearizable), (108, 26));
}

#[test]
fn a_label_is_checked_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let log = "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t3\n";
    std::fs::write(folder.path().join("bad.log"), log).unwrap();
    std::fs::write(folder.path().join("labels.tsv"), "bad.log\tlinearizable\n").unwrap();
    let rows = run(folder.path()).unwrap();
    assert_eq!((rows[0].verdict(), rows[0].is_right()), ("not", false));
}

#[test]
fn a_folder_without_labels_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = run(folder.path()).err().unwrap().to_string();
    assert!(error.contains("holds no labelled histories"), "{error}");
    std::fs::write(folder.path().join("labels.tsv"), "a.log maybe\n").unwrap();
    let error = run(folder.path()).err().unwrap().to_string();
    assert!(error.contains("line 1 is not"), "{error}");
}
