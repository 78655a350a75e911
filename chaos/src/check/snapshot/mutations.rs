//! Snapshots that were saved and restored well pass; whatever is changed in one is found.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::opinion;
use crate::check::Record;
use crate::check::mutation::{self, Mutation, place};
use crate::check::versions::Versions;
use crate::check::witness::LogEntry;
use crate::history::{Event, EventKind, Function, KeyState, Process, Row};

const GONE: &str = "OutOfRange: etcdserver: mvcc: required revision has been compacted";

/// A store's log, and a snapshot of it.
#[derive(Clone, Debug)]
struct History {
    log: Vec<LogEntry>,
    /// What the member had shown when it was asked to save.
    shown: i64,
    rows: Vec<Row>,
    /// Of the restored store.
    revision: i64,
    past: Value,
    error: Option<String>,
}

fn valid(random: &mut StdRng) -> History {
    let mut log: Vec<LogEntry> = Vec::new();
    let last = random.random_range(20..40);
    for revision in 2..=last {
        let key = format!("k{}", random.random_range(0..6_u8));
        let before = log.iter().rev().find(|entry| entry.key == key).and_then(|entry| entry.state.clone());
        let is_delete = before.is_some() && random.random_bool(0.3);
        let state = (!is_delete).then(|| KeyState {
            value: format!("v{revision}"),
            version: before.as_ref().map_or(0, |before| before.version) + 1,
            create_revision: before.as_ref().map_or(revision, |before| before.create_revision),
            mod_revision: revision,
            lease: 0,
        });
        log.push(LogEntry { revision, key, state });
    }
    let saved = random.random_range(10..=last);
    let rows = Versions::new(&log).all(saved);
    let shown = saved - random.random_range(0..3);
    History { log, shown, rows, revision: saved + 1_000_000_000, past: json!(GONE), error: None }
}

fn rules(history: &History) -> Vec<&'static str> {
    let event = |index, kind, process, f, value, rev| Event {
        index,
        time: index,
        kind,
        process,
        f,
        key: (f == Function::Snapshot).then(|| "1.db".to_owned()),
        value,
        node: (f != Function::Restore).then(|| "n1".to_owned()),
        rev,
        error: None,
    };
    let client = Process::Client(0);
    let value = json!({
        "file": "1.db",
        "rows": history.rows,
        "revision": history.revision,
        "raises": true,
        "past": { "revision": history.log.len(), "error": history.past },
    });
    let mut restored = event(2, EventKind::Info, Process::NEMESIS, Function::Restore, value, None);
    restored.error.clone_from(&history.error);
    let events = vec![
        event(0, EventKind::Ok, client, Function::Kv, Value::Null, Some(history.shown)),
        event(1, EventKind::Invoke, client, Function::Snapshot, Value::Null, None),
        restored,
    ];
    let record = Record { events, logs: vec![("n1".to_owned(), history.log.clone())], live: Vec::new() };
    let violations = opinion(&record).unwrap().unwrap().violations;
    violations.into_iter().map(|violation| violation.rule).collect()
}

/// Whether the rows are not those of any revision that the snapshot may be of.
fn is_wrong(history: &History) -> Option<()> {
    let versions = Versions::new(&history.log);
    let is_right = |revision| versions.all(revision) == history.rows;
    (!(history.shown..=history.log.last()?.revision).any(is_right)).then_some(())
}

/// A change of the rows: they are then those of no revision, or of an old one.
const ROWS: &[&str] = &["wrong state restored", "old state saved"];

const MUTATIONS: &[Mutation<History>] = &[
    Mutation {
        name: "a key is missing",
        found_by: ROWS,
        change: |history, random| {
            let at = place(&history.rows, random, |_| true)?;
            history.rows.remove(at);
            is_wrong(history)
        },
    },
    Mutation {
        name: "a key is there twice",
        found_by: &["wrong state restored"],
        change: |history, random| {
            let at = place(&history.rows, random, |_| true)?;
            history.rows.insert(at, history.rows[at].clone());
            Some(())
        },
    },
    Mutation {
        name: "keys are in another order",
        found_by: &["wrong state restored"],
        change: |history, _| (history.rows.len() > 1).then(|| history.rows.reverse()),
    },
    Mutation {
        name: "a value is another",
        found_by: &["wrong state restored"],
        change: |history, random| {
            let at = place(&history.rows, random, |_| true)?;
            history.rows[at].state.value.push('x');
            Some(())
        },
    },
    Mutation {
        name: "a version is one too high",
        found_by: &["wrong state restored"],
        change: |history, random| {
            let at = place(&history.rows, random, |_| true)?;
            history.rows[at].state.version += 1;
            Some(())
        },
    },
    Mutation {
        name: "a key's revision is one too low",
        found_by: &["wrong state restored"],
        change: |history, random| {
            let at = place(&history.rows, random, |_| true)?;
            history.rows[at].state.mod_revision -= 1;
            Some(())
        },
    },
    Mutation {
        name: "a deleted key is there",
        found_by: ROWS,
        change: |history, random| {
            let is_gone = |entry: &LogEntry| {
                entry.state.is_some()
                    && entry.revision <= history.shown
                    && !history.rows.iter().any(|row| row.key == entry.key)
            };
            let at = place(&history.log, random, is_gone)?;
            let (key, state) = (history.log[at].key.clone(), history.log[at].state.clone()?);
            history.rows.push(Row { key, state });
            history.rows.sort_by(|one, two| one.key.cmp(&two.key));
            is_wrong(history)
        },
    },
    Mutation {
        name: "the state is older than what the member had shown",
        found_by: &["old state saved"],
        change: |history, random| {
            let versions = Versions::new(&history.log);
            let is_other = |revision: &i64| versions.all(*revision) != versions.all(history.shown);
            let older: Vec<i64> = (5..history.shown).filter(is_other).collect();
            history.rows = versions.all(older[place(&older, random, |_| true)?]);
            is_wrong(history)
        },
    },
    Mutation {
        name: "the file cannot be restored",
        found_by: &["no restore"],
        change: |history, _| {
            history.error = Some("the hash differs".to_owned());
            Some(())
        },
    },
    Mutation {
        name: "revisions are not raised",
        found_by: &["revisions not raised"],
        change: |history, _| {
            history.revision -= 1_000_000_000;
            Some(())
        },
    },
    Mutation {
        name: "revisions are raised, but for one too few",
        found_by: &["revisions not raised"],
        change: |history, _| {
            history.revision = history.log.last()?.revision;
            Some(())
        },
    },
    Mutation {
        name: "the revision falls below a key's",
        found_by: &["revision below its keys"],
        change: |history, _| {
            history.revision = history.rows.iter().map(|row| row.state.mod_revision).max()? - 1;
            Some(())
        },
    },
    Mutation {
        name: "the past can be read",
        found_by: &["past readable"],
        change: |history, _| {
            history.past = Value::Null;
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_a_valid_snapshot_passes() {
    mutation::check(valid, rules, MUTATIONS);
}
