//! The smallest example of what a request does and answers.

use super::*;
use crate::history::{Delete, Range, Txn};

fn state(value: &str, version: i64, create_revision: i64, mod_revision: i64) -> KeyState {
    KeyState { value: value.to_owned(), version, create_revision, mod_revision, lease: 0 }
}

/// `a` is put, put again, deleted and put once more; `b` is put.
fn log() -> Vec<LogEntry> {
    let entry = |revision, key: &str, state| LogEntry { revision, key: key.to_owned(), state };
    vec![
        entry(2, "a", Some(state("1", 1, 2, 2))),
        entry(3, "b", Some(state("2", 1, 3, 3))),
        entry(4, "a", Some(state("3", 2, 2, 4))),
        entry(5, "a", None),
        entry(6, "a", Some(state("4", 1, 6, 6))),
    ]
}

fn put(key: &str, value: &str) -> Request {
    Request::Put(Put { key: key.to_owned(), value: value.to_owned(), lease: 0, prev_kv: true })
}

fn read(key: &str) -> Request {
    Request::Range(Range { key: key.to_owned(), ..Range::default() })
}

fn compare(key: &str, target: CompareTarget, relation: Relation) -> Compare {
    Compare { key: key.to_owned(), end: None, target, relation }
}

fn check(request: &Request, revision: i64, response: &str, changed: &[(&str, Option<KeyState>)]) {
    let log = log();
    let effect = effect(&Versions::new(&log), request, revision);
    let changed: BTreeMap<String, Option<KeyState>> =
        changed.iter().map(|(key, state)| ((*key).to_owned(), state.clone())).collect();
    assert_eq!(effect.changes, changed);
    assert_eq!(
        serde_json::to_value(&effect.response).unwrap(),
        serde_json::from_str::<serde_json::Value>(response).unwrap()
    );
}

#[test]
fn a_read_shows_what_was_there_at_its_revision() {
    let rows = |revision, key: &str, end: Option<&str>| {
        let log = log();
        let rows = Versions::new(&log).range(key, end, revision);
        rows.into_iter().map(|row| format!("{}={}", row.key, row.state.value)).collect::<Vec<_>>()
    };
    assert_eq!(rows(1, "a", Some("c")), [""; 0]);
    assert_eq!(rows(3, "a", Some("c")), ["a=1", "b=2"]);
    assert_eq!(rows(4, "a", Some("b")), ["a=3"]);
    assert_eq!(rows(5, "a", Some("c")), ["b=2"]);
    assert_eq!(rows(5, "a", None), [""; 0]);
    assert_eq!(rows(9, "b", Some("a")), [""; 0]);
}

#[test]
fn a_put_counts_versions_and_a_new_key_begins_anew() {
    let prev = r#"{"key":"a","value":"3","version":2,"create_revision":2,"mod_revision":4}"#;
    check(&put("a", "x"), 5, &format!(r#"{{"put":{{"prev":{prev}}}}}"#), &[("a", Some(state("x", 3, 2, 5)))]);
    check(&put("a", "x"), 6, r#"{"put":{"prev":null}}"#, &[("a", Some(state("x", 1, 6, 6)))]);
}

#[test]
fn a_delete_of_nothing_changes_nothing() {
    let delete = |key: &str| Request::Delete(Delete { key: key.to_owned(), end: None });
    check(&delete("a"), 6, r#"{"delete":{"deleted":0,"prev":[]}}"#, &[]);
    let prev = r#"{"key":"b","value":"2","version":1,"create_revision":3,"mod_revision":3}"#;
    check(&delete("b"), 6, &format!(r#"{{"delete":{{"deleted":1,"prev":[{prev}]}}}}"#), &[("b", None)]);
}

#[test]
fn a_transaction_sees_its_own_writes_but_its_conditions_do_not() {
    // The inner condition is about the state before the outer put.
    let inner = Request::Txn(Txn {
        compares: vec![compare("b", CompareTarget::Value("2".to_owned()), Relation::Equal)],
        then: vec![read("b")],
        otherwise: Vec::new(),
    });
    let outer = Request::Txn(Txn {
        compares: vec![compare("a", CompareTarget::ModRevision(6), Relation::Equal)],
        then: vec![put("b", "x"), inner],
        otherwise: Vec::new(),
    });
    let before = r#"{"key":"b","value":"2","version":1,"create_revision":3,"mod_revision":3}"#;
    let seen = r#"{"key":"b","value":"x","version":2,"create_revision":3,"mod_revision":7}"#;
    let expected = format!(
        r#"{{"txn":{{"succeeded":true,"responses":[{{"put":{{"prev":{before}}}}},
        {{"txn":{{"succeeded":true,"responses":[{{"range":{{"rows":[{seen}],"count":1}}}}]}}}}]}}}}"#
    );
    check(&outer, 7, &expected, &[("b", Some(state("x", 2, 3, 7)))]);
}

#[test]
fn all_conditions_must_hold_and_none_is_none_that_fails() {
    let succeeds = |wanted: &[i64]| {
        let target = |version: &i64| CompareTarget::Version(*version);
        let compares = wanted.iter().map(|version| compare("a", target(version), Relation::Equal));
        let request = Request::Txn(Txn { compares: compares.collect(), ..Txn::default() });
        let log = log();
        let response = effect(&Versions::new(&log), &request, 7).response;
        response == Response::Txn { succeeded: true, responses: Vec::new() }
    };
    assert!(succeeds(&[]));
    assert!(succeeds(&[1, 1]));
    assert!(!succeeds(&[1, 2]));
}

#[test]
fn conditions_hold_as_etcd_says() {
    use CompareTarget::{CreateRevision, Lease, ModRevision, Value, Version};
    let holds = |key: &str, target: CompareTarget, relation| {
        let compares = vec![compare(key, target, relation)];
        let request = Request::Txn(Txn { compares, ..Txn::default() });
        let log = log();
        let Response::Txn { succeeded, .. } = effect(&Versions::new(&log), &request, 7).response else {
            panic!("not a transaction")
        };
        succeeded
    };
    assert!(holds("a", Version(1), Relation::Equal));
    assert!(holds("a", Version(2), Relation::Less));
    assert!(!holds("a", Version(1), Relation::Greater));
    assert!(holds("a", CreateRevision(2), Relation::Greater));
    assert!(holds("a", ModRevision(5), Relation::NotEqual));
    assert!(holds("a", Value("4".to_owned()), Relation::Equal));
    assert!(holds("a", Lease(0), Relation::Equal));
    // What is not there has no value, but a version of 0.
    assert!(holds("z", Version(0), Relation::Equal));
    assert!(!holds("z", Value("x".to_owned()), Relation::NotEqual));
}

#[test]
fn a_condition_on_a_range_is_about_each_key_that_is_there() {
    use CompareTarget::{ModRevision, Value, Version};
    let holds = |key: &str, end: &str, target: CompareTarget, relation| {
        let compare = Compare { end: Some(end.to_owned()), ..compare(key, target, relation) };
        let log = log();
        let request = Request::Txn(Txn { compares: vec![compare], ..Txn::default() });
        effect(&Versions::new(&log), &request, 7).response
            == Response::Txn { succeeded: true, responses: Vec::new() }
    };
    assert!(holds("a", "z", Version(1), Relation::Equal));
    assert!(holds("a", "z", ModRevision(2), Relation::Greater));
    assert!(!holds("a", "z", ModRevision(3), Relation::Greater));
    assert!(holds("a", "b", ModRevision(6), Relation::Equal));
    assert!(!holds("a", "z", Value("4".to_owned()), Relation::Equal));
    // Where nothing is, it is about one key that is not there.
    assert!(holds("x", "z", Version(0), Relation::Equal));
    assert!(!holds("x", "z", Value(String::new()), Relation::NotEqual));
}
