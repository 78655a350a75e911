//! What every engine must do, checked on all of them.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Batch, Engine, MemoryEngine, RocksEngine, RocksOptions};

/// Runs `check` on a fresh engine of each kind.
fn on_every_engine(check: impl Fn(&dyn Engine)) {
    check(&MemoryEngine::new());
    let directory = tempfile::tempdir().unwrap();
    check(&RocksEngine::create(&directory.path().join("db"), RocksOptions::default()).unwrap());
}

fn put(engine: &dyn Engine, pairs: &[(&'static str, &'static str)]) {
    let mut batch = Batch::default();
    for (key, value) in pairs {
        batch.put(key.as_bytes(), value.as_bytes());
    }
    engine.write(&batch).unwrap();
}

fn keys(engine: &dyn Engine, from: &str, before: Option<&str>) -> Vec<String> {
    let mut keys = Vec::new();
    engine
        .scan(from.as_bytes(), before.map(str::as_bytes), &mut |key, _| {
            keys.push(String::from_utf8(key.to_vec()).unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
    keys
}

#[test]
fn a_batch_is_visible_as_a_whole_and_its_last_change_of_a_key_wins() {
    on_every_engine(|engine| {
        let mut batch = Batch::default();
        batch.put(&b"a"[..], &b"1"[..]);
        batch.delete(&b"a"[..]);
        batch.put(&b"b"[..], &b"1"[..]);
        batch.put(&b"b"[..], &b"2"[..]);
        batch.delete(&b"missing"[..]);
        engine.write(&batch).unwrap();
        assert_eq!(engine.get(b"a").unwrap(), None);
        assert_eq!(engine.get(b"b").unwrap(), Some(Bytes::from_static(b"2")));
    });
}

#[test]
fn a_range_goes_as_a_whole_and_what_comes_behind_it_in_the_batch_stays() {
    on_every_engine(|engine| {
        put(engine, &[("a", ""), ("b", ""), ("c", ""), ("d", "")]);
        let mut batch = Batch::default();
        batch.put(&b"bb"[..], &b""[..]);
        batch.delete_range(&b"b"[..], &b"d"[..]);
        batch.put(&b"c"[..], &b"again"[..]);
        engine.write(&batch).unwrap();
        assert_eq!(keys(engine, "", None), ["a", "c", "d"]);
        assert_eq!(engine.get(b"b").unwrap(), None);
        assert_eq!(engine.get(b"c").unwrap(), Some(Bytes::from_static(b"again")));
        for (from, before) in [(b"a", b"a"), (b"d", b"a")] {
            let mut batch = Batch::default();
            batch.delete_range(&from[..], &before[..]);
            engine.write(&batch).unwrap();
            assert_eq!(keys(engine, "", None), ["a", "c", "d"], "a range without keys");
        }
        engine.flush().unwrap();
        assert_eq!(keys(engine, "b", None), ["c", "d"]);
    });
}

#[test]
fn a_scan_is_ordered_and_half_open() {
    on_every_engine(|engine| {
        put(engine, &[("c", ""), ("a", ""), ("b", ""), ("\u{7f}", "")]);
        assert_eq!(keys(engine, "", None), ["a", "b", "c", "\u{7f}"]);
        assert_eq!(keys(engine, "a", Some("c")), ["a", "b"]);
        assert_eq!(keys(engine, "aa", Some("b")), Vec::<String>::new());
        assert_eq!(keys(engine, "c", Some("a")), Vec::<String>::new());
    });
}

#[test]
fn a_scan_sees_the_state_at_its_start_and_can_be_ended() {
    on_every_engine(|engine| {
        put(engine, &[("a", "1"), ("b", "1"), ("c", "1")]);
        let mut seen = Vec::new();
        engine
            .scan(b"", None, &mut |key, _| {
                put(engine, &[("bb", "late")]);
                seen.push(key.to_vec());
                if key == b"c" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(seen, [b"a", b"b", b"c"]);
        assert_eq!(keys(engine, "b", None), ["b", "bb", "c"]);
    });
}

#[test]
fn size_grows_with_the_data() {
    on_every_engine(|engine| {
        let before = engine.size_bytes();
        let mut batch = Batch::default();
        for number in 0..2000_u32 {
            batch.put(number.to_be_bytes().to_vec(), vec![7_u8; 1000]);
        }
        engine.write(&batch).unwrap();
        assert!(engine.size_bytes() > before + 1_000_000);
    });
}

#[test]
fn flushed_batches_are_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let engine = RocksEngine::create(&path, RocksOptions::default()).unwrap();
    put(&engine, &[("a", "1")]);
    engine.flush().unwrap();
    drop(engine);
    let engine = RocksEngine::open(&path, RocksOptions::default()).unwrap();
    assert_eq!(keys(&engine, "", None), ["a"]);
}

#[test]
fn a_checkpoint_holds_unflushed_batches_too_and_opens_on_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let engine = RocksEngine::create(&directory.path().join("db"), RocksOptions::default()).unwrap();
    put(&engine, &[("a", "1"), ("b", "2")]);
    let copy = directory.path().join("copy");
    engine.checkpoint(&copy).unwrap();
    put(&engine, &[("c", "3")]);
    let copy = RocksEngine::open(&copy, RocksOptions::default()).unwrap();
    assert_eq!(keys(&copy, "", None), ["a", "b"]);
}
