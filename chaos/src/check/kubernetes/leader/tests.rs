//! A valid record passes; each broken promise is found by its name.

use serde_json::json;

use super::super::example::{Example, done, refused};
use super::*;
use crate::history::Lock;

pub(super) fn tenancy(identity: &str, epoch: u64) -> Tenancy {
    Tenancy { lock: LOCK.to_owned(), identity: identity.to_owned(), ttl_seconds: 2, epoch }
}

pub(super) fn held(epoch: u64) -> Option<ApiAnswer> {
    let revision = i64::try_from(epoch).unwrap();
    Some(ApiAnswer { code: 200, held: true, epoch, revision, ..ApiAnswer::default() })
}

pub(super) fn write(identity: &str, epoch: u64, number: u64) -> ApiCall {
    let data = json!({ "holder": identity, "epoch": epoch.to_string(), "number": number.to_string() });
    let fence = Some(Lock { lock: LOCK.to_owned(), epoch });
    ApiCall::Patch(Written { object: json!({ "data": data }), fence, ..Written::default() })
}

pub(super) fn object(call: &ApiCall) -> Value {
    let ApiCall::Patch(written) = call else { panic!("not a patch") };
    written.object.clone()
}

pub(super) const LEDGER_KEY: &str = "/registry/configmaps/k-leader/ledger";
pub(super) const LOCK_KEY: &str = "/keelson/leaders/k-leader";

/// Three leaders one after the other, each with four writes; each but the first tries to write once more when it is over.
pub(super) fn valid() -> Example {
    let mut example = Example::judged_by(opinion);
    for leader in 0..3_u64 {
        let (name, epoch) = (format!("c{leader}"), 100 * (leader + 1));
        let at = i64::try_from(epoch).unwrap();
        example.log(at, LOCK_KEY, Some(json!({ "identity": name })));
        example.call(0, &ApiCall::Acquire(tenancy(&name, 0)), held(epoch));
        example.call(0, &ApiCall::Renew(tenancy(&name, epoch)), held(0));
        if leader > 0 {
            let late = write(&format!("c{}", leader - 1), epoch - 100, 50 + leader);
            example.call(1, &late, refused(409, "FencedOut"));
        }
        for number in 0..4 {
            let call = write(&name, epoch, 10 * leader + number);
            let revision = at + 1 + i64::try_from(number).unwrap();
            example.log(revision, LEDGER_KEY, Some(object(&call)));
            example.call(0, &call, done(revision, Value::Null));
        }
        example.log(at + 50, LOCK_KEY, None);
    }
    example
}

#[test]
fn a_valid_history_passes() {
    assert_eq!(valid().rules(), [""; 0]);
}

#[test]
fn a_write_of_an_overtaken_leader_is_found_by_time_and_by_the_log() {
    let mut example = valid();
    let late = write("c0", 100, 77);
    example.log(210, LEDGER_KEY, Some(object(&late)));
    example.call(1, &late, done(210, Value::Null));
    assert_eq!(example.rules(), ["an overtaken leader acts", "write of a leader that was none"]);
}

#[test]
fn each_broken_promise_is_found_by_its_name() {
    let mut renewed = valid();
    renewed.call(1, &ApiCall::Renew(tenancy("c0", 100)), held(0));
    assert_eq!(renewed.rules(), ["an overtaken leader acts"]);

    let mut two = valid();
    two.call(1, &ApiCall::Acquire(tenancy("c9", 0)), held(300));
    assert_eq!(two.rules(), ["two leaders of one epoch", "epoch from nowhere"]);

    let mut back = valid();
    back.log(250, "/keelson/leaders/other", Some(json!({ "identity": "c9" })));
    let other = Tenancy { lock: "other".to_owned(), ..tenancy("c9", 0) };
    back.call(1, &ApiCall::Acquire(other), held(250));
    assert_eq!(back.rules(), ["epoch went back"]);

    let mut replaced = valid();
    replaced.log(310, LOCK_KEY, Some(json!({ "identity": "c9" })));
    assert_eq!(replaced.rules(), ["leader replaced"]);

    let mut lost = valid();
    lost.log.retain(|entry| entry.revision != 303);
    assert_eq!(lost.rules(), ["acknowledged write lost"]);

    let mut done_all_the_same = valid();
    done_all_the_same.log(310, LEDGER_KEY, Some(object(&write("c2", 300, 51))));
    assert_eq!(done_all_the_same.rules(), ["refused write was done"]);

    let mut twice = valid();
    twice.log(310, LEDGER_KEY, Some(object(&write("c2", 300, 23))));
    assert_eq!(twice.rules(), ["write done twice"]);
}

#[test]
fn a_run_in_which_nobody_was_overtaken_shows_nothing() {
    let mut example = valid();
    for event in &mut example.events {
        if event.value["reason"] == "FencedOut" {
            event.value["reason"] = json!("Conflict");
        }
    }
    let opinion = example.opinion();
    assert!(opinion.unknown[0].contains("overtaken"), "{:?}", opinion.unknown);
}
