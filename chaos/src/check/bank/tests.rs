//! The smallest example of each rule.

use super::mutations::{all_accounts, rules};
use crate::check::exchanged::{End, exchange, put, rows, swapped, txn};
use crate::history::{Exchange, ExchangeEnd, Request, Response, Txn};

fn read(index: u64, balances: &[i64], is_nested: bool) -> Exchange {
    let all: Vec<(String, String)> = (0..)
        .zip(balances)
        .map(|(number, balance): (u32, &i64)| (format!("bank/{number}"), format!("{balance} x{index}")))
        .collect();
    let shown = rows(all.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let mut read = exchange(index, (index, index + 1), all_accounts(), shown);
    if is_nested {
        read.request = Request::Txn(Txn { otherwise: vec![read.request], ..Txn::default() });
        let ExchangeEnd::Ok { response, .. } = &mut read.end else { panic!("not answered") };
        *response = Response::Txn { succeeded: false, responses: vec![response.clone()] };
    }
    read
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

#[test]
fn accounts_stay_open() {
    assert!(rules(&[read(0, &[], false), read(2, &[100, 0], false)]).is_empty());
    for closed in [&[100][..], &[]] {
        assert_eq!(rules(&[read(0, &[100, 0], false), read(2, closed, false)]), ["account missing"]);
    }
}

#[test]
fn balances_are_those_that_somebody_wrote_last() {
    let write = |index: u64, value: &str, end| {
        exchange(index, (index, index + 1), txn(Vec::new(), vec![put("bank/0", value)]), end)
    };
    let found = |second: End, shown: &str| {
        let shown = exchange(8, (8, 9), all_accounts(), rows([("bank/0", shown)]));
        rules(&[write(0, "5 a", swapped(1)), write(4, "5 b", second), shown])
    };
    assert!(found(swapped(1), "5 b").is_empty());
    assert_eq!(found(swapped(1), "5 a"), ["transfer lost"]);
    assert_eq!(found(swapped(1), "5 c"), ["balance from nowhere"]);
    assert_eq!(found(End::Fail, "5 b"), ["balance from nowhere"]);
    assert!(found(End::Unknown, "5 a").is_empty() && found(End::Unknown, "5 b").is_empty());
}

#[test]
fn a_transfer_replaces_what_was_on_both_accounts() {
    let write = |index: u64, puts: [(&str, &str); 2], end| {
        let puts = puts.map(|(key, value)| put(key, value)).to_vec();
        exchange(index, (index, index + 1), txn(Vec::new(), puts), end)
    };
    // Nothing is moved, so that no total tells.
    let found = |last: [(&str, &str); 3]| {
        rules(&[
            write(0, [("bank/0", "5 a"), ("bank/1", "5 a")], swapped(2)),
            write(2, [("bank/1", "5 b"), ("bank/2", "5 b")], swapped(2)),
            write(4, [("bank/0", "5 c"), ("bank/1", "5 c")], End::Unknown),
            exchange(6, (6, 7), all_accounts(), rows(last)),
        ])
    };
    assert!(found([("bank/0", "5 c"), ("bank/1", "5 c"), ("bank/2", "5 b")]).is_empty());
    assert!(found([("bank/0", "5 a"), ("bank/1", "5 b"), ("bank/2", "5 b")]).is_empty());
    let half = found([("bank/0", "5 c"), ("bank/1", "5 b"), ("bank/2", "5 b")]);
    assert_eq!(half, ["half a transfer"]);
}
