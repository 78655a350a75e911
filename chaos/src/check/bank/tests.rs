//! The smallest example of each rule.

use super::*;
use crate::history::{KeyState, Process, Range, Txn};

fn read(index: u64, balances: &[i64], is_nested: bool) -> Exchange {
    let rows: Vec<Row> = (0..)
        .zip(balances)
        .map(|(number, balance): (u32, &i64)| Row {
            key: format!("bank/{number}"),
            state: KeyState {
                value: format!("{balance} x{index}"),
                version: 1,
                create_revision: 2,
                mod_revision: 2,
                lease: 0,
            },
        })
        .collect();
    let mut request =
        Request::Range(Range { key: "bank/".to_owned(), end: Some("bank0".to_owned()), ..Range::default() });
    let count = i64::try_from(rows.len()).unwrap();
    let mut response = Response::Range { rows, count };
    if is_nested {
        request = Request::Txn(Txn { otherwise: vec![request], ..Txn::default() });
        response = Response::Txn { succeeded: false, responses: vec![response] };
    }
    let end = ExchangeEnd::Ok { response, revision: 2, returned_at: index + 1 };
    let (process, node) = (Process::Client(0), String::new());
    Exchange { index, process, node, request, invoked_at: index, end }
}

fn rules(exchanges: &[Exchange]) -> Vec<&'static str> {
    let mut reads = Vec::new();
    for exchange in exchanges {
        let ExchangeEnd::Ok { response, .. } = &exchange.end else { panic!() };
        collect(exchange, &exchange.request, response, &mut reads);
    }
    judge(&reads).into_iter().map(|violation| violation.rule).collect()
}

#[test]
fn the_total_stays() {
    assert!(rules(&[read(0, &[100, 100], false), read(2, &[30, 170], true)]).is_empty());
    for is_nested in [false, true] {
        let half = read(2, &[30, 100], is_nested);
        assert_eq!(rules(&[read(0, &[100, 100], false), half]), ["total changed"]);
    }
}

#[test]
fn nobody_is_overdrawn() {
    assert_eq!(rules(&[read(0, &[100, 100], false), read(2, &[-1, 201], false)]), ["account overdrawn"]);
}
