//! Updates of a server that does everything right pass; whatever is changed in their record is found.

use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::super::example::Example;
use super::tests::{object, valid};
use super::{list_of, revision};
use crate::check::mutation::{self, Mutation, place};
use crate::history::EventKind;

/// Draws a request of a kind that was answered with a code; returns the place of the answer.
fn answered(example: &Example, random: &mut StdRng, kind: &str, code: u64) -> Option<usize> {
    let events = &example.events;
    let asked: Vec<usize> = (0..events.len() - 1)
        .filter(|at| events[*at].kind == EventKind::Invoke && events[*at].value.get(kind).is_some())
        .filter(|at| events[*at + 1].value["code"] == code)
        .collect();
    Some(asked[place(&asked, random, |_| true)?] + 1)
}

/// Draws a read that shows two elements at least, and changes what it shows.
fn reread(example: &mut Example, random: &mut StdRng, change: impl Fn(&mut Vec<String>)) -> Option<()> {
    let at = answered(example, random, "get", 200)?;
    let shown = example.events[at].value["object"].clone();
    let mut list = list_of(&shown);
    (list.len() > 1).then_some(())?;
    change(&mut list);
    example.events[at].value["object"] = object(revision(&shown), &list.join(" "));
    Some(())
}

/// Draws a version of the log but for the first; returns its place and its object.
fn version(example: &Example, random: &mut StdRng) -> Option<(usize, Value)> {
    let at = place(&example.log, random, |entry| entry.revision > 10)?;
    let state = example.log[at].state.as_ref()?;
    Some((at, serde_json::from_str(&state.value).ok()?))
}

fn refused() -> Value {
    json!({ "code": 409, "reason": "Conflict" })
}

const ANSWERS: &[Mutation<Example>] = &[
    Mutation {
        name: "an update is told as refused",
        found_by: &["refused update was done"],
        change: |example, random| {
            let at = answered(example, random, "update", 200)?;
            example.events[at].value = refused();
            Some(())
        },
    },
    Mutation {
        name: "an update of what is old is told as done",
        found_by: &["two updates of one version"],
        change: |example, random| {
            let at = answered(example, random, "update", 409)?;
            let written = example.events[at - 1].value["update"]["object"].clone();
            let list = list_of(&written).join(" ");
            let now = revision(&written) + 4;
            example.events[at].value = json!({ "code": 200, "revision": now, "object": object(now, &list) });
            Some(())
        },
    },
    Mutation {
        name: "an update is told with another revision",
        found_by: &["stale update succeeded"],
        change: |example, random| {
            let at = answered(example, random, "update", 200)?;
            let revision = example.events[at].value["revision"].as_i64()?;
            example.events[at].value["revision"] = json!(revision + 1);
            Some(())
        },
    },
    Mutation {
        name: "a read shows an old version",
        found_by: &["stale read"],
        change: |example, random| {
            let newer = answered(example, random, "get", 200)?;
            let older = answered(example, random, "get", 200)?;
            (older < newer).then_some(())?;
            example.events[newer].value = example.events[older].value.clone();
            Some(())
        },
    },
    Mutation {
        name: "a read lacks an element",
        found_by: &["lost update"],
        change: |example, random| reread(example, random, |list| drop(list.pop())),
    },
    Mutation {
        name: "a read shows an element twice",
        found_by: &["element twice"],
        change: |example, random| reread(example, random, |list| list.push(list[0].clone())),
    },
    Mutation {
        name: "a read shows what was refused",
        found_by: &["refused update was done"],
        change: |example, random| reread(example, random, |list| list.push("102".to_owned())),
    },
    Mutation {
        name: "a read shows another order",
        found_by: &["not what the log shows"],
        change: |example, random| reread(example, random, |list| list.swap(0, 1)),
    },
];

const VERSIONS: &[Mutation<Example>] = &[
    Mutation {
        name: "the log lacks a version",
        found_by: &["not what the log shows"],
        change: |example, random| {
            let (at, _) = version(example, random)?;
            example.log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "the log has a version at another revision",
        found_by: &["not what the log shows"],
        change: |example, random| {
            let (at, _) = version(example, random)?;
            example.log[at].revision += 1;
            Some(())
        },
    },
    Mutation {
        name: "a version lacks an element",
        found_by: &["update lost something", "not what the log shows"],
        change: |example, random| {
            let (at, shown) = version(example, random)?;
            let mut list = list_of(&shown);
            list.remove(0);
            let value = object(revision(&shown), &list.join(" ")).to_string();
            example.log[at].state.as_mut()?.value = value;
            Some(())
        },
    },
    Mutation {
        name: "nobody's version lacks an element",
        found_by: &["update lost something"],
        change: |example, random| {
            let (at, shown) = version(example, random)?;
            let mut list = list_of(&shown);
            list.pop();
            let between = example.log[at].revision + 1;
            let key = example.log[at].key.clone();
            example.log(between, &key, Some(object(between, &list.join(" "))));
            Some(())
        },
    },
    Mutation {
        name: "the log has what was refused",
        found_by: &["refused update was done"],
        change: |example, random| {
            let (at, shown) = version(example, random)?;
            let between = example.log[at].revision + 1;
            let list = format!("{} 102", list_of(&shown).join(" "));
            let key = example.log[at].key.clone();
            example.log(between, &key, Some(object(between, &list)));
            Some(())
        },
    },
    Mutation {
        name: "the object goes, and comes back",
        found_by: &["update lost something"],
        change: |example, random| {
            let (at, _) = version(example, random)?;
            let (between, key) = (example.log[at].revision + 1, example.log[at].key.clone());
            example.log(between, &key, None);
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_updates_passes() {
    mutation::check(|_| valid(), Example::rules, ANSWERS);
    mutation::check(|_| valid(), Example::rules, VERSIONS);
}
