//! The smallest example of each rule.

use super::*;
use crate::history::{KeyState, Process, Put, Range, Row, Txn};

fn exchange(index: u64, span: (u64, u64), request: Request, response: Option<Response>) -> Exchange {
    let end = response.map_or(ExchangeEnd::Unknown, |response| ExchangeEnd::Ok {
        response,
        revision: 2,
        returned_at: span.1,
    });
    let (process, node) = (Process::Client(0), String::new());
    Exchange { index, process, node, request, invoked_at: span.0, end }
}

fn increment(index: u64, span: (u64, u64), to: u64, is_known: bool) -> Exchange {
    let (key, value) = ("counter/0".to_owned(), format!("{to} {index}"));
    let put = Request::Put(Put { key, value, ..Put::default() });
    let response = Response::Txn { succeeded: true, responses: vec![Response::Put { prev: None }] };
    let request = Request::Txn(Txn { then: vec![put], ..Txn::default() });
    exchange(index, span, request, is_known.then_some(response))
}

fn read(index: u64, span: (u64, u64), shown: u64) -> Exchange {
    let key = "counter/0".to_owned();
    let state =
        KeyState { value: format!("{shown} x"), version: 1, create_revision: 2, mod_revision: 2, lease: 0 };
    let rows = vec![Row { key: key.clone(), state }];
    let request = Request::Range(Range { key, ..Range::default() });
    exchange(index, span, request, Some(Response::Range { rows, count: 1 }))
}

fn rules(exchanges: &[Exchange]) -> Vec<&'static str> {
    let mut violations = Vec::new();
    for (key, counter) in collect(exchanges) {
        same_number(key, &counter, &mut violations);
        bounds(key, &counter, &mut violations);
    }
    violations.into_iter().map(|violation| violation.rule).collect()
}

#[test]
fn a_valid_counter_passes() {
    let history = [
        increment(0, (0, 10), 1, true),
        increment(1, (5, 20), 2, false),
        increment(2, (30, 40), 2, true),
        read(3, (35, 45), 1),
        read(4, (50, 60), 2),
        read(5, (50, 60), 3),
    ];
    assert!(rules(&history).is_empty());
}

#[test]
fn a_lost_increment_and_one_that_counts_twice_are_found() {
    let acknowledged = [increment(0, (0, 10), 1, true), increment(1, (20, 30), 2, true)];
    let with = |shown| rules(&[&acknowledged[..], &[read(2, (40, 50), shown)]].concat());
    assert_eq!(with(1), ["lost increment"]);
    assert!(with(2).is_empty());
    assert_eq!(with(3), ["increment counted twice"]);
}

#[test]
fn two_increments_to_the_same_number_are_a_lost_update() {
    assert_eq!(rules(&[increment(0, (0, 10), 1, true), increment(1, (5, 15), 1, true)]), ["lost update"]);
}
