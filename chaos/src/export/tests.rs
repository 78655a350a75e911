//! Each format in full for a small history, and the verdict that survives the way there and back.

use serde_json::{Value, json};

use super::{elle, knossos, porcupine};
use crate::check::linearizability::{Limits, Outcome, search};
use crate::golden::etcd_log;
use crate::history::{Event, EventKind, Function, Process};

fn event(index: u64, kind: EventKind, process: u32, f: Function, value: Value) -> Event {
    let key = (f != Function::Txn).then(|| "k".to_owned());
    let rev = (kind == EventKind::Ok).then_some(1);
    let process = Process::Client(process);
    Event { index, time: index * 10, kind, process, f, key, value, node: None, rev, error: None }
}

fn state(value: &str, mod_revision: i64) -> Value {
    json!({ "value": value, "version": 1, "create_revision": 2, "mod_revision": mod_revision })
}

/// A cas from nothing, a write of unknown fate, a refused cas, and a read.
fn register(read: &str) -> Vec<Event> {
    let swapped = Event { rev: Some(2), ..event(1, EventKind::Ok, 0, Function::Cas, json!("swapped")) };
    vec![
        event(0, EventKind::Invoke, 0, Function::Cas, json!({ "value": "a", "expected": 0 })),
        swapped,
        event(2, EventKind::Invoke, 1, Function::Write, json!({ "value": "b" })),
        event(3, EventKind::Invoke, 0, Function::Cas, json!({ "value": "c", "expected": 2 })),
        event(4, EventKind::Ok, 0, Function::Cas, json!({ "not_swapped": state("b", 3) })),
        event(5, EventKind::Invoke, 0, Function::Read, Value::Null),
        event(
            6,
            EventKind::Ok,
            0,
            Function::Read,
            json!({ "read": state(read, if read == "a" { 2 } else { 3 }) }),
        ),
    ]
}

#[test]
fn porcupine_reads_an_etcd_log() {
    let text = porcupine(&register("b"), None).unwrap();
    assert_eq!(
        text,
        "INFO  jepsen.util - 2\t:invoke\t:write\t0\n\
         INFO  jepsen.util - 2\t:ok\t:write\t0\n\
         INFO  jepsen.util - 0\t:invoke\t:cas\t[0 1]\n\
         INFO  jepsen.util - 0\t:ok\t:cas\t[0 1]\n\
         INFO  jepsen.util - 1\t:invoke\t:write\t2\n\
         INFO  jepsen.util - 0\t:invoke\t:cas\t[1 3]\n\
         INFO  jepsen.util - 0\t:fail\t:cas\t[1 3]\n\
         INFO  jepsen.util - 0\t:invoke\t:read\tnil\n\
         INFO  jepsen.util - 0\t:ok\t:read\t2\n\
         INFO  jepsen.util - 1\t:info\t:write\t:timed-out\n"
    );
}

#[test]
fn the_verdict_survives_the_way_to_porcupine_and_back() {
    for (read, is_good) in [("b", true), ("a", false)] {
        let log = porcupine(&register(read), Some("k")).unwrap();
        let outcome = search(&etcd_log::parse(&log).unwrap(), Limits::default());
        assert_eq!(matches!(outcome, Outcome::Linearizable(_)), is_good, "{log}");
    }
}

#[test]
fn knossos_reads_maps_of_one_register() {
    let text = knossos(&register("b"), None).unwrap();
    assert_eq!(
        text,
        "{:process 0, :type :invoke, :f :cas, :value [nil 1]}\n\
         {:process 0, :type :ok, :f :cas, :value [nil 1]}\n\
         {:process 1, :type :invoke, :f :write, :value 2}\n\
         {:process 0, :type :invoke, :f :cas, :value [1 3]}\n\
         {:process 0, :type :fail, :f :cas, :value [1 3]}\n\
         {:process 0, :type :invoke, :f :read, :value nil}\n\
         {:process 0, :type :ok, :f :read, :value 2}\n\
         {:process 1, :type :info, :f :write, :value 2}\n"
    );
}

#[test]
fn elle_reads_transactions() {
    let asked = json!([["append", "x", 4], ["r", "y\"", null]]);
    let answered = json!([["append", "x", 4], ["r", "y\"", [1, 2]]]);
    let history = [
        event(0, EventKind::Invoke, 0, Function::Txn, asked.clone()),
        event(1, EventKind::Ok, 0, Function::Txn, answered),
        event(2, EventKind::Invoke, 0, Function::Txn, asked),
        event(3, EventKind::Info, 0, Function::Txn, Value::Null),
    ];
    assert_eq!(
        elle(&history).unwrap(),
        "{:index 0, :time 0, :type :invoke, :process 0, :f :txn, :value [[:append \"x\" 4] [:r \"y\\\"\" nil]]}\n\
         {:index 1, :time 10, :type :ok, :process 0, :f :txn, :value [[:append \"x\" 4] [:r \"y\\\"\" [1 2]]]}\n\
         {:index 2, :time 20, :type :invoke, :process 0, :f :txn, :value [[:append \"x\" 4] [:r \"y\\\"\" nil]]}\n\
         {:index 3, :time 30, :type :info, :process 0, :f :txn, :value [[:append \"x\" 4] [:r \"y\\\"\" nil]]}\n"
    );
}

#[test]
fn what_a_format_cannot_hold_is_said() {
    let mut two = register("b");
    two[5].key = Some("j".to_owned());
    two[6].key = Some("j".to_owned());
    let error = |events: &[Event], key| porcupine(events, key).unwrap_err().to_string();
    assert_eq!(
        error(&two, None),
        "the format holds one register, and the history has 2: name one with --key, such as j"
    );
    assert_eq!(error(&two, Some("z")), "the history has no register z; there are 2, such as j");
    assert_eq!(error(&[], None), "the history has no operations on registers");
    assert_eq!(elle(&two).unwrap_err().to_string(), "the history has no transactions");
    let unseen = event(0, EventKind::Invoke, 0, Function::Cas, json!({ "value": "a", "expected": 77 }));
    assert!(error(&[unseen], None).starts_with("#0 expects a revision"));
}
