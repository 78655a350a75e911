//! Informers of a server that does everything right pass; whatever is changed in what they are shown is found.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::super::example::Example;
use super::NAMESPACE;
use super::tests::{INFORMER, item, key, list, valid};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{ApiAnswer, ApiCall, Function, Informed, Written};

/// Draws something that an informer was shown, of a kind, but for the last that it waits for.
fn any(example: &Example, random: &mut StdRng, kind: &str) -> Option<usize> {
    place(&example.events, random, |event| {
        let is_last = event.value[kind]["name"] == "a8";
        event.f == Function::Inform && event.value.get(kind).is_some() && !is_last
    })
}

fn shown_revision(example: &Example, at: usize) -> Option<i64> {
    example.events[at].value["event"]["revision"].as_i64()
}

/// Changes what the first request listed.
fn relist(example: &mut Example, change: impl Fn(&mut Value)) -> Option<()> {
    change(&mut example.events[1].value);
    Some(())
}

const EVENTS: &[Mutation<Example>] = &[
    Mutation {
        name: "an event is missing",
        found_by: &["missed event", "bookmark ahead of events"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            example.events.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "an event comes twice",
        found_by: &["event twice or late"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            example.events.insert(at, example.events[at].clone());
            Some(())
        },
    },
    Mutation {
        name: "two events change places",
        found_by: &["missed event"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            example.events[at + 1].value.get("event")?;
            example.events.swap(at, at + 1);
            Some(())
        },
    },
    Mutation {
        name: "an event is of another type",
        found_by: &["event of another type"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            let kinds = ["ADDED", "MODIFIED", "DELETED"];
            let kind = kinds[random.random_range(0..kinds.len())];
            (example.events[at].value["event"]["type"] != kind).then_some(())?;
            example.events[at].value["event"]["type"] = json!(kind);
            Some(())
        },
    },
    Mutation {
        name: "an event is of another object",
        found_by: &["event from nowhere"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            example.events[at].value["event"]["name"] = json!("b");
            Some(())
        },
    },
    Mutation {
        name: "an event is of the revision behind",
        found_by: &["missed event"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            example.events[at].value["event"]["revision"] = json!(shown_revision(example, at)? + 1);
            Some(())
        },
    },
    Mutation {
        name: "an event is of the revision before",
        found_by: &["event twice or late", "event from nowhere"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            example.events[at].value["event"]["revision"] = json!(shown_revision(example, at)? - 1);
            Some(())
        },
    },
    Mutation {
        name: "a bookmark comes too early",
        found_by: &["bookmark ahead of events"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            let early = example.events[at].clone();
            let revision = shown_revision(example, at)?;
            example.events.insert(at, early);
            example.events[at].value = json!(Informed::Bookmark { revision });
            Some(())
        },
    },
    Mutation {
        name: "a bookmark goes back",
        found_by: &["bookmark went back"],
        change: |example, random| {
            let at = any(example, random, "bookmark")?;
            example.events[at].value = json!(Informed::Bookmark { revision: random.random_range(1..14) });
            Some(())
        },
    },
    Mutation {
        name: "the log lacks a change",
        found_by: &["event from nowhere", "event of another type", "list is not the state"],
        change: |example, random| {
            let at = place(&example.log, random, |_| true)?;
            example.log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "the log has another change",
        found_by: &["missed event", "bookmark ahead of events"],
        change: |example, random| {
            let between = random.random_range(15..20);
            example.log(between, &key("b"), Some(json!({})));
            Some(())
        },
    },
    Mutation {
        name: "the last event does not come",
        found_by: &["informer stalled"],
        change: |example, _| {
            let failed = crate::history::EventKind::Fail;
            example.event(INFORMER, Function::Inform, failed, Value::Null);
            Some(())
        },
    },
];

const LISTS: &[Mutation<Example>] = &[
    Mutation {
        name: "a list lacks an object",
        found_by: &["list is not the state"],
        change: |example, _| relist(example, |answer| answer["items"] = json!([])),
    },
    Mutation {
        name: "a list has an object too many",
        found_by: &["list is not the state"],
        change: |example, _| {
            relist(example, |answer| answer["items"] = json!([item("a", 3), item("old", 5)]))
        },
    },
    Mutation {
        name: "a list has an object at another revision",
        found_by: &["list is not the state"],
        change: |example, _| relist(example, |answer| answer["items"] = json!([item("old", 4)])),
    },
    Mutation {
        name: "a list is said to be newer",
        found_by: &["list is not the state"],
        change: |example, _| relist(example, |answer| answer["revision"] = json!(12)),
    },
    Mutation {
        name: "a list is older than it was asked to be",
        found_by: &["list of another revision"],
        change: |example, _| {
            list(example, "9", (8, vec![item("old", 5)]));
            Some(())
        },
    },
    Mutation {
        name: "a list is older than what was acknowledged",
        found_by: &["stale list"],
        change: |example, random| {
            let written = Written { namespace: NAMESPACE.to_owned(), ..Written::default() };
            let revision = random.random_range(9..28);
            let answer = ApiAnswer { code: 200, revision, ..ApiAnswer::default() };
            example.call(8, &ApiCall::Create(written), Some(answer));
            list(example, "", (8, vec![item("old", 5)]));
            Some(())
        },
    },
    Mutation {
        name: "an informer's list has an object that comes later",
        found_by: &["informer differs"],
        change: |example, random| {
            let at = any(example, random, "listed")?;
            let items = vec![("a1".to_owned(), 3), ("old".to_owned(), 5)];
            example.events[at].value = json!(Informed::Listed { revision: 8, items });
            Some(())
        },
    },
    Mutation {
        name: "an informer's list lacks an object",
        found_by: &["informer differs"],
        change: |example, random| {
            let at = any(example, random, "listed")?;
            example.events[at].value = json!(Informed::Listed { revision: 8, items: Vec::new() });
            Some(())
        },
    },
    Mutation {
        name: "an informer's list goes back",
        found_by: &["informer went back"],
        change: |example, random| {
            let at = any(example, random, "event")?;
            let again = example.events[at].clone();
            example.events.insert(at + 1, again);
            let items = vec![("old".to_owned(), 5)];
            example.events[at + 1].value = json!(Informed::Listed { revision: 8, items });
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_informers_passes() {
    mutation::check(|_| valid(), Example::rules, EVENTS);
    mutation::check(|_| valid(), Example::rules, LISTS);
}
