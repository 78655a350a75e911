//! Owners and dependents that are collected well pass; whatever is changed in their record is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::super::example::Example;
use super::tests::{fell, key, object, valid};
use crate::check::mutation::{self, Mutation, place};
use crate::check::witness::LogEntry;

/// Behind all that `valid` logs.
const LATE: i64 = 90;

/// Draws the end of one of these objects.
fn end(example: &Example, random: &mut StdRng, names: &[&str]) -> Option<usize> {
    place(&example.log, random, |entry| entry.state.is_none() && is_one(entry, names))
}

fn is_one(entry: &LogEntry, names: &[&str]) -> bool {
    names.iter().any(|name| entry.key == key(name))
}

/// Has two changes come at each other's revision.
fn exchange_times(example: &mut Example, one: usize, two: usize) -> Option<()> {
    let (first, second) = (example.log[one].revision, example.log[two].revision);
    (example.log[one].revision, example.log[two].revision) = (second, first);
    Some(())
}

fn one_of<'a>(names: &[&'a str], random: &mut StdRng) -> &'a str {
    names[random.random_range(0..names.len())]
}

fn is_marked(entry: &LogEntry, finalizer: &str) -> bool {
    entry.state.as_ref().is_some_and(|state| state.value.contains(&format!("\"{finalizer}\"")))
}

const MUTATIONS: &[Mutation<Example>] = &[
    Mutation {
        name: "a dependent is left",
        found_by: &["orphan is left"],
        change: |example, random| {
            let at = end(example, random, &["b0", "b1"])?;
            example.log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "a dependent comes too late and stays",
        found_by: &["orphan is left"],
        change: |example, random| {
            let owner = one_of(&["b", "f", "o"], random);
            example.log(LATE, &key("late"), object("late", Some(owner), None));
            Some(())
        },
    },
    Mutation {
        name: "a dependent goes while its owner stands",
        found_by: &["dependent of a living owner was deleted"],
        change: |example, random| {
            let dependent = one_of(&["s0", "s1"], random);
            example.log(LATE, &key(dependent), None);
            Some(())
        },
    },
    Mutation {
        name: "dependents go before their owner is deleted",
        found_by: &["dependent of a living owner was deleted"],
        change: |example, random| {
            let dependent = end(example, random, &["b0", "b1"])?;
            exchange_times(example, end(example, random, &["b"])?, dependent)
        },
    },
    Mutation {
        name: "an owner goes that nobody deleted",
        found_by: &["deleted by nobody"],
        change: |example, _| {
            example.log(LATE, &key("s"), None);
            Some(())
        },
    },
    Mutation {
        name: "what was let go is deleted",
        found_by: &["orphan was deleted"],
        change: |example, random| {
            let orphan = one_of(&["o0", "o1"], random);
            example.log(LATE, &key(orphan), None);
            Some(())
        },
    },
    Mutation {
        name: "what was to be let go still names its owner",
        found_by: &["orphan is left"],
        change: |example, random| {
            let is_free = |entry: &LogEntry| {
                is_one(entry, &["o0", "o1"])
                    && entry.state.as_ref().is_some_and(|state| !state.value.contains("ownerReferences"))
            };
            let at = place(&example.log, random, is_free)?;
            example.log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "an owner goes without letting go",
        found_by: &["orphan policy ignored"],
        change: |example, _| {
            example.log.retain(|entry| !is_marked(entry, "orphan"));
            Some(())
        },
    },
    Mutation {
        name: "an owner goes before what it is to wait for",
        found_by: &["owner went before its dependents"],
        change: |example, random| {
            let dependent = end(example, random, &["f0", "f1"])?;
            exchange_times(example, end(example, random, &["f"])?, dependent)
        },
    },
    Mutation {
        name: "an object is stuck on its way out",
        found_by: &["stuck"],
        change: |example, random| {
            let dependent = one_of(&["s0", "s1"], random);
            example.log(LATE, &key(dependent), object(dependent, Some("s"), Some("foregroundDeletion")));
            Some(())
        },
    },
    Mutation {
        name: "an owner does not go",
        found_by: &["stuck"],
        change: |example, random| {
            let at = end(example, random, &["f", "o"])?;
            example.log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "another owner is deleted and its dependents stay",
        found_by: &["orphan is left"],
        change: |example, _| {
            fell(example, "s", "Background");
            example.log(LATE, &key("s"), None);
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_owners_passes() {
    mutation::check(|_| valid(), Example::rules, MUTATIONS);
}
