//! Leaders of a lock that does everything right pass; whatever is changed in their record is found.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::super::example::{Example, done};
use super::tests::{LEDGER_KEY, LOCK_KEY, held, object, tenancy, valid, write};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{ApiCall, EventKind, Tenancy};

/// Draws a request of a kind that was answered so; returns the place of the answer.
fn answered(
    example: &Example,
    random: &mut StdRng,
    kind: &str,
    holds: impl Fn(&Value) -> bool,
) -> Option<usize> {
    let events = &example.events;
    let asked: Vec<usize> = (0..events.len() - 1)
        .filter(|at| events[*at].kind == EventKind::Invoke && events[*at].value.get(kind).is_some())
        .filter(|at| holds(&events[*at + 1].value))
        .collect();
    Some(asked[place(&asked, random, |_| true)?] + 1)
}

fn is_done(answer: &Value) -> bool {
    answer["code"] == 200
}

/// Draws a write of the log.
fn logged(example: &Example, random: &mut StdRng) -> Option<usize> {
    place(&example.log, random, |entry| entry.key == LEDGER_KEY)
}

const LOCKS: &[Mutation<Example>] = &[
    Mutation {
        name: "an epoch is another",
        found_by: &["epoch from nowhere"],
        change: |example, random| {
            let at = answered(example, random, "acquire", is_done)?;
            let epoch = example.events[at].value["epoch"].as_u64()?;
            example.events[at].value["epoch"] = json!(epoch + 1);
            Some(())
        },
    },
    Mutation {
        name: "two hold the lock under one epoch",
        found_by: &["two leaders of one epoch"],
        change: |example, random| {
            let epoch = 100 * random.random_range(1..=3_u64);
            example.call(1, &ApiCall::Acquire(tenancy("c9", 0)), held(epoch));
            Some(())
        },
    },
    Mutation {
        name: "a lower epoch is given",
        found_by: &["epoch went back"],
        change: |example, random| {
            let other = 100 * random.random_range(1..3_i64) + 60;
            example.log(other, "/keelson/leaders/other", Some(json!({ "identity": "c9" })));
            let tenancy = Tenancy { lock: "other".to_owned(), ..tenancy("c9", 0) };
            example.call(1, &ApiCall::Acquire(tenancy), held(other.unsigned_abs()));
            Some(())
        },
    },
    Mutation {
        name: "an overtaken leader renews",
        found_by: &["an overtaken leader acts"],
        change: |example, random| {
            let overtaken = random.random_range(0..2_u64);
            let renewal = ApiCall::Renew(tenancy(&format!("c{overtaken}"), 100 * (overtaken + 1)));
            example.call(1, &renewal, held(0));
            Some(())
        },
    },
    Mutation {
        name: "a lock goes over without an end",
        found_by: &["leader replaced"],
        change: |example, random| {
            let is_end =
                |entry: &crate::check::witness::LogEntry| entry.key == LOCK_KEY && entry.state.is_none();
            let at = place(&example.log, random, |entry| is_end(entry) && entry.revision < 300)?;
            example.log.remove(at);
            // There is still enough to judge.
            example.log(500, LOCK_KEY, Some(json!({ "identity": "c7" })));
            Some(())
        },
    },
    Mutation {
        name: "a lock changes hands",
        found_by: &["leader replaced"],
        change: |example, random| {
            let at = 100 * random.random_range(1..=3_i64) + random.random_range(10..40);
            example.log(at, LOCK_KEY, Some(json!({ "identity": "c9" })));
            Some(())
        },
    },
];

const WRITES: &[Mutation<Example>] = &[
    Mutation {
        name: "an overtaken leader writes",
        found_by: &["an overtaken leader acts"],
        change: |example, random| {
            let overtaken = random.random_range(0..2_u64);
            let late = write(&format!("c{overtaken}"), 100 * (overtaken + 1), 77);
            example.log(310, LEDGER_KEY, Some(object(&late)));
            example.call(1, &late, done(310, Value::Null));
            Some(())
        },
    },
    Mutation {
        name: "a write is of another holder",
        found_by: &["write of a leader that was none"],
        change: |example, random| {
            let at = logged(example, random)?;
            let state = example.log[at].state.as_mut()?;
            let mut object: Value = serde_json::from_str(&state.value).ok()?;
            object["data"]["holder"] = json!("c9");
            state.value = object.to_string();
            Some(())
        },
    },
    Mutation {
        name: "a write stands behind the end of its epoch",
        found_by: &["write of a leader that was none"],
        change: |example, random| {
            let at = logged(example, random)?;
            example.log[at].revision += 60;
            Some(())
        },
    },
    Mutation {
        name: "a write is lost",
        found_by: &["acknowledged write lost"],
        change: |example, random| {
            let at = logged(example, random)?;
            example.log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "a write is there twice",
        found_by: &["write done twice"],
        change: |example, random| {
            let at = logged(example, random)?;
            let mut again = example.log[at].clone();
            again.revision += 20;
            example.log.push(again);
            Some(())
        },
    },
    Mutation {
        name: "a write is told as refused",
        found_by: &["refused write was done"],
        change: |example, random| {
            let at = answered(example, random, "patch", is_done)?;
            example.events[at].value = json!({ "code": 409, "reason": "FencedOut" });
            Some(())
        },
    },
    Mutation {
        name: "a refused write is done",
        found_by: &["refused write was done"],
        change: |example, random| {
            let at = answered(example, random, "patch", |answer| !is_done(answer))?;
            let written = example.events[at - 1].value["patch"]["object"].clone();
            let epoch: i64 = written["data"]["epoch"].as_str()?.parse().ok()?;
            example.log(epoch + 30, LEDGER_KEY, Some(written));
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_leaders_passes() {
    mutation::check(|_| valid(), Example::rules, LOCKS);
    mutation::check(|_| valid(), Example::rules, WRITES);
}
