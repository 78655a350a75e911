//! Sets of a store that does everything right pass; whatever is changed in one is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{collect, judge};
use crate::check::exchanged::{
    End, exchange, not_swapped, put, read, read_folder, rows, swapped, txn, written,
};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{Delete, Exchange, ExchangeEnd, Request, Response};

const FOLDER: &str = "set/each/1/";
const LIST: &str = "set/one/1";
/// Behind the return of every other request.
const LAST_AT: u64 = 10_000;

pub(super) fn remove(element: &str) -> Request {
    Request::Delete(Delete { key: format!("{FOLDER}{element}"), end: None })
}

pub(super) fn removed(deleted: i64) -> End {
    End::Ok(Response::Delete { deleted, prev: Vec::new() })
}

pub(super) fn add(element: &str) -> Request {
    put(&format!("{FOLDER}{element}"), element)
}

pub(super) fn shows(elements: &[String]) -> End {
    let all: Vec<(String, &str)> =
        elements.iter().map(|element| (format!("{FOLDER}{element}"), element.as_str())).collect();
    rows(all.iter().map(|(key, element)| (key.as_str(), *element)))
}

pub(super) fn read_all() -> Request {
    read_folder(FOLDER)
}

pub(super) fn rules(exchanges: &[Exchange]) -> Vec<&'static str> {
    let mut violations = Vec::new();
    for (name, mut set) in collect(exchanges) {
        judge(&name, &mut set, &mut violations);
    }
    violations.into_iter().map(|violation| violation.rule).collect()
}

/// Requests that overlap; what is of unknown fate happened or did not.
fn valid(random: &mut StdRng) -> Vec<Exchange> {
    let (mut there, mut list, mut history) = (Vec::new(), Vec::<String>::new(), Vec::new());
    for number in 0..40_u64 {
        let effect_at = 20 + 4 * number;
        let span = (effect_at - random.random_range(0..12), effect_at + random.random_range(0..12));
        let (element, fate) = (number.to_string(), random.random_range(0..10_u8));
        let (request, end) = match random.random_range(0..8_u8) {
            0..=2 => {
                if fate > 1 {
                    there.push(element.clone());
                }
                let end = [End::Fail, End::Unknown, End::Unknown].into_iter().nth(usize::from(fate));
                (add(&element), end.unwrap_or_else(written))
            }
            3 if !there.is_empty() => {
                let at = random.random_range(0..there.len());
                // An element is removed at most once: what may yet be removed is not there for others to remove.
                let element: String = there.swap_remove(at);
                (remove(&element), if fate == 0 { End::Unknown } else { removed(1) })
            }
            4 | 5 => {
                let grown = txn(
                    Vec::new(),
                    vec![put(LIST, &[&list[..], std::slice::from_ref(&element)].concat().join(" "))],
                );
                match fate {
                    0 | 1 => (grown, if fate == 0 { not_swapped() } else { End::Unknown }),
                    _ => {
                        list.push(element);
                        (grown, swapped(1))
                    }
                }
            }
            6 => (read(LIST), rows([(LIST, list.join(" ").as_str())])),
            _ => (read_all(), shows(&there)),
        };
        history.push(exchange(number, span, request, end));
    }
    history.push(exchange(98, (LAST_AT, LAST_AT + 1), read(LIST), rows([(LIST, list.join(" ").as_str())])));
    history.push(exchange(99, (LAST_AT, LAST_AT + 1), read_all(), shows(&there)));
    history
}

/// The elements that the last read shows.
fn last(history: &[Exchange]) -> Vec<String> {
    let ExchangeEnd::Ok { response: Response::Range { rows, .. }, .. } = &history[history.len() - 1].end
    else {
        panic!("not a read")
    };
    rows.iter().map(|row| row.state.value.clone()).collect()
}

/// Has another read come last.
fn read_again(history: &mut Vec<Exchange>, elements: &[String]) {
    let at = history[history.len() - 1].invoked_at + 10;
    history.push(exchange(at, (at, at + 1), read_all(), shows(elements)));
}

fn adding(history: &[Exchange], element: &str) -> Option<usize> {
    history.iter().position(|exchange| exchange.request == add(element))
}

fn is_done(exchange: &Exchange) -> bool {
    matches!(exchange.end, ExchangeEnd::Ok { .. })
}

/// Draws an element that the last read shows.
fn any_of_last(history: &[Exchange], random: &mut StdRng) -> Option<String> {
    let elements = last(history);
    let at =
        place(&elements, random, |element| adding(history, element).is_some_and(|at| is_done(&history[at])))?;
    Some(elements[at].clone())
}

/// Draws a removal that found its element, which had been added for certain.
fn any_removal(history: &[Exchange], random: &mut StdRng) -> Option<(usize, String)> {
    let at = place(history, random, |exchange| {
        let Request::Delete(delete) = &exchange.request else { return false };
        let element = delete.key.trim_start_matches(FOLDER);
        let before = |adding: &Exchange| match adding.end {
            ExchangeEnd::Ok { returned_at, .. } => returned_at < exchange.invoked_at,
            ExchangeEnd::Fail { .. } | ExchangeEnd::Unknown => false,
        };
        is_done(exchange) && adding(history, element).is_some_and(|adding| before(&history[adding]))
    })?;
    let Request::Delete(delete) = &history[at].request else { return None };
    Some((at, delete.key.trim_start_matches(FOLDER).to_owned()))
}

const LEFT_OUT: &[Mutation<Vec<Exchange>>] = &[
    Mutation {
        name: "an element is left out",
        found_by: &["lost element"],
        change: |history, random| {
            let left_out = any_of_last(history, random)?;
            let mut elements = last(history);
            elements.retain(|element| *element != left_out);
            read_again(history, &elements);
            Some(())
        },
    },
    Mutation {
        name: "an element is left out of the list",
        found_by: &["lost element"],
        change: |history, random| {
            let at = history.len() - 2;
            let ExchangeEnd::Ok { response: Response::Range { rows, .. }, .. } = &mut history[at].end else {
                return None;
            };
            let mut list: Vec<&str> = rows[0].state.value.split_whitespace().collect();
            let at = place(&list, random, |_| true)?;
            list.remove(at);
            rows[0].state.value = list.join(" ");
            Some(())
        },
    },
    Mutation {
        name: "a removal does not find what was added",
        found_by: &["lost element"],
        change: |history, random| {
            let (at, element) = any_removal(history, random)?;
            let span = (history[at].invoked_at, history[at].invoked_at + 1);
            history[at] = exchange(history[at].index, span, remove(&element), removed(0));
            Some(())
        },
    },
];

const WRONGLY_THERE: &[Mutation<Vec<Exchange>>] = &[
    Mutation {
        name: "a removed element is back",
        found_by: &["back from the dead"],
        change: |history, random| {
            let (_, element) = any_removal(history, random)?;
            let mut elements = last(history);
            elements.push(element);
            read_again(history, &elements);
            Some(())
        },
    },
    Mutation {
        name: "an element that was missed is back",
        found_by: &["back from the dead"],
        change: |history, random| {
            // A removal of unknown fate happened, as a read shows, and then it did not.
            let element = any_of_last(history, random)?;
            let mut elements = last(history);
            let late = exchange(200, (LAST_AT, LAST_AT + 1), remove(&element), End::Unknown);
            history.insert(0, late);
            elements.retain(|other| *other != element);
            read_again(history, &elements);
            elements.push(element);
            read_again(history, &elements);
            Some(())
        },
    },
    Mutation {
        name: "an element is there twice",
        found_by: &["element twice"],
        change: |history, random| {
            let element = any_of_last(history, random)?;
            let mut elements = last(history);
            elements.push(element);
            read_again(history, &elements);
            Some(())
        },
    },
    Mutation {
        name: "an element is there that nobody added",
        found_by: &["element from nowhere"],
        change: |history, _| {
            let mut elements = last(history);
            elements.push("nobody's".to_owned());
            read_again(history, &elements);
            Some(())
        },
    },
    Mutation {
        name: "an element is there before it is added",
        found_by: &["element from nowhere"],
        change: |history, random| {
            let at = adding(history, &any_of_last(history, random)?)?;
            let added = history.remove(at);
            let late = exchange(added.index, (2 * LAST_AT, 2 * LAST_AT + 1), added.request, written());
            history.insert(0, late);
            Some(())
        },
    },
    Mutation {
        name: "a removal finds what nobody added",
        found_by: &["element from nowhere"],
        change: |history, random| {
            let (_, element) = any_removal(history, random)?;
            let at = adding(history, &element)?;
            history.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "an adding is told as failed",
        found_by: &["failed element is there"],
        change: |history, random| {
            let at = adding(history, &any_of_last(history, random)?)?;
            let returned_at = history[at].invoked_at + 1;
            history[at].end = ExchangeEnd::Fail { error: String::new(), returned_at };
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_a_valid_set_passes() {
    let rules = |history: &Vec<Exchange>| rules(history);
    mutation::check(valid, rules, LEFT_OUT);
    mutation::check(valid, rules, WRONGLY_THERE);
}

#[test]
fn what_is_not_known_is_no_violation() {
    // The adding may come behind the removal, which then does nothing.
    let late = [
        exchange(0, (0, 1), add("a"), End::Unknown),
        exchange(1, (2, 3), remove("a"), removed(0)),
        exchange(2, (4, 5), read_all(), shows(&["a".to_owned()])),
    ];
    assert_eq!(rules(&late), [""; 0]);
}
