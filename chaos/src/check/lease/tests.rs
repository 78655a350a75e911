//! Leases that keep their time pass; each way of breaking one is named.

use serde_json::{Value, json};

use super::opinion;
use crate::check::Record;
use crate::check::witness::LogEntry;
use crate::history::{Event, EventKind, FaultKind, Function, KeyState, Process};

pub(super) const S: u64 = 1_000_000_000;

/// A run under way.
#[derive(Clone, Default)]
pub(super) struct Run {
    pub(super) record: Record,
}

impl Run {
    pub(super) fn event(
        &mut self,
        time: u64,
        kind: EventKind,
        process: u32,
        f: Function,
        value: Value,
        rev: Option<i64>,
    ) {
        let index = u64::try_from(self.record.events.len()).unwrap();
        let process = Process::Client(process);
        let (key, node, error) = (None, None, None);
        self.record.events.push(Event { index, time, kind, process, f, key, value, node, rev, error });
    }

    pub(super) fn call(
        &mut self,
        span: (u64, u64),
        f: Function,
        asked: Value,
        answer: Value,
        revision: i64,
    ) -> &mut Self {
        let process = u32::try_from(self.record.events.len()).unwrap();
        self.event(span.0, EventKind::Invoke, process, f, asked, None);
        self.event(span.1, EventKind::Ok, process, f, answer, Some(revision));
        self
    }

    pub(super) fn grant(&mut self, at: u64, id: i64, ttl: i64) -> &mut Self {
        self.call(
            (at, at + 1),
            Function::LeaseGrant,
            json!({ "ttl": ttl }),
            json!({ "id": id, "ttl": ttl }),
            1,
        )
    }

    pub(super) fn keep_alive(&mut self, at: u64, id: i64, ttl: i64) -> &mut Self {
        self.call((at, at + 1), Function::KeepAlive, json!({ "id": id }), json!({ "id": id, "ttl": ttl }), 1)
    }

    pub(super) fn revoke(&mut self, at: u64, id: i64, revision: i64) -> &mut Self {
        let answer = json!({ "id": id, "ttl": 0 });
        self.call((at, at + 1), Function::LeaseRevoke, json!({ "id": id }), answer, revision)
    }

    /// A read that shows a revision, and these keys of a lease.
    pub(super) fn read(&mut self, at: u64, revision: i64, keys: &[(&str, i64)]) -> &mut Self {
        let rows: Vec<Value> = keys
            .iter()
            .map(|(key, lease)| {
                json!({"key": key, "value": "v", "version": 1, "create_revision": 2, "mod_revision": 2, "lease": lease})
            })
            .collect();
        let answer = json!({"range": {"rows": rows, "count": rows.len()}});
        self.call((at, at + 1), Function::Kv, json!({"range": {"key": "a", "end": "z"}}), answer, revision)
    }

    pub(super) fn log(&mut self, revision: i64, key: &str, lease: Option<i64>) -> &mut Self {
        let state = lease.map(|lease| KeyState {
            value: "v".to_owned(),
            version: 1,
            create_revision: revision,
            mod_revision: revision,
            lease,
        });
        if self.record.logs.is_empty() {
            self.record.logs.push(("n1".to_owned(), Vec::new()));
        }
        self.record.logs[0].1.push(LogEntry { revision, key: key.to_owned(), state });
        self
    }

    pub(super) fn rules(&self) -> Vec<&'static str> {
        let opinion = opinion(&self.record).unwrap().unwrap();
        opinion.violations.into_iter().map(|violation| violation.rule).collect()
    }
}

/// A lease of two seconds with two keys, renewed after one second.
fn renewed() -> Run {
    let mut run = Run::default();
    run.grant(0, 7, 2).keep_alive(S, 7, 2).log(2, "k1", Some(7)).log(3, "k2", Some(7));
    run
}

#[test]
fn a_lease_that_ends_in_time_passes() {
    let mut run = renewed();
    run.log(4, "k1", None).log(4, "k2", None).read(3 * S, 4, &[]);
    assert!(run.rules().is_empty(), "{:?}", run.rules());
}

#[test]
fn an_early_end_is_found() {
    let mut run = renewed();
    run.log(4, "k1", None).log(4, "k2", None).read(3 * S - 10, 4, &[]);
    assert_eq!(run.rules(), ["lease ended early"]);
}

#[test]
fn a_place_in_a_queue_that_was_left_is_no_end_of_its_lease() {
    let ended = |f: Function, key: &str, kind: EventKind| {
        let mut run = Run::default();
        run.grant(0, 7, 2).log(2, "lk/7", Some(7)).log(3, "lk/7", None).read(S, 3, &[]);
        let answer = if f == Function::Lock { json!({ "key": "lk/7" }) } else { Value::Null };
        run.event(10, EventKind::Invoke, 99, f, json!({ "lease": 7 }), None);
        run.event(20, kind, 99, f, answer, Some(2));
        for event in run.record.events.iter_mut().filter(|event| event.f == f) {
            event.key = Some(key.to_owned());
        }
        run.rules()
    };
    assert_eq!(ended(Function::Unlock, "lk/7", EventKind::Info), [""; 0]);
    assert_eq!(ended(Function::Unlock, "lk/8", EventKind::Ok), ["lease ended early"]);
    assert_eq!(ended(Function::Lock, "lk", EventKind::Info), [""; 0]);
    assert_eq!(ended(Function::Lock, "lk", EventKind::Ok), ["lease ended early"]);
}

#[test]
fn a_clock_that_runs_fast_may_end_a_lease_sooner() {
    let told = json!({
        "fault": 0, "phase": "witness", "members": ["n1"], "leader": null, "hit_leader": true, "witness": { "permille": 2000 },
    });
    for (ends_at, rules) in [(2 * S, &[][..]), (2 * S - 10, &["lease ended early"])] {
        let mut run = renewed();
        run.event(S, EventKind::Info, 0, Function::Fault(FaultKind::Clock), told.clone(), None);
        run.record.events.last_mut().unwrap().process = Process::NEMESIS;
        run.log(4, "k1", None).log(4, "k2", None).read(ends_at, 4, &[]);
        assert_eq!(run.rules(), rules);
    }
}

#[test]
fn a_renewal_behind_the_end_promises_nothing_for_it() {
    let mut run = Run::default();
    run.grant(0, 7, 2).log(2, "k1", Some(7)).log(3, "k1", None).read(2 * S, 3, &[]).keep_alive(3 * S, 7, 2);
    assert!(run.rules().is_empty(), "{:?}", run.rules());
}

#[test]
fn a_revoked_lease_ends_at_once() {
    let mut run = renewed();
    run.revoke(S + 10, 7, 4).log(4, "k1", None).log(4, "k2", None).read(S + 20, 4, &[]);
    assert!(run.rules().is_empty(), "{:?}", run.rules());
    let mut run = renewed();
    run.revoke(S + 10, 7, 3).log(4, "k1", None).log(4, "k2", None).read(S + 20, 4, &[]);
    assert_eq!(run.rules(), ["lease outlived its end", "lease outlived its end"]);
    let mut run = renewed();
    run.revoke(S + 10, 7, 4).log(4, "k1", None).log(4, "k2", None).log(5, "k3", Some(7)).read(S + 20, 5, &[]);
    assert_eq!(run.rules(), ["lease outlived its end"]);
}

#[test]
fn all_keys_go_together() {
    let mut run = renewed();
    run.log(4, "k1", None).log(5, "k2", None).read(3 * S, 5, &[]);
    assert_eq!(run.rules(), ["lease ended in parts"]);
}

#[test]
fn a_lease_ends_at_last() {
    let mut run = renewed();
    run.read(9 * S, 3, &[("k1", 7)]);
    assert!(run.rules().is_empty(), "{:?}", run.rules());
    run.read(11 * S, 3, &[("k1", 7), ("k2", 7)]);
    assert_eq!(run.rules(), ["lease never ended"]);
}

#[test]
fn what_a_client_deletes_is_no_end() {
    let delete = |answer: bool| {
        let mut run = renewed();
        let asked = json!({"delete": {"key": "k1"}});
        if answer {
            run.call((S, S + 1), Function::Kv, asked, json!({"delete": {"deleted": 1, "prev": []}}), 4);
        } else {
            run.event(S, EventKind::Invoke, 99, Function::Kv, asked, None);
        }
        run.log(4, "k1", None);
        run
    };
    for answer in [false, true] {
        let mut run = delete(answer);
        run.read(2 * S, 4, &[]).log(5, "k3", Some(7)).log(6, "k2", None).log(6, "k3", None).read(
            3 * S,
            6,
            &[],
        );
        assert!(run.rules().is_empty(), "{:?}", run.rules());
        // It says nothing of other keys.
        let mut run = delete(answer);
        run.log(5, "k2", None).read(2 * S, 5, &[]);
        assert_eq!(run.rules(), ["lease ended early"]);
    }
}

#[test]
fn nothing_is_given_to_a_lease_that_has_ended() {
    let mut run = renewed();
    run.log(4, "k1", None).log(4, "k2", None).log(5, "k3", Some(7)).read(3 * S, 5, &[]);
    assert_eq!(run.rules(), ["lease outlived its end"]);
}
