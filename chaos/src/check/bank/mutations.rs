//! Accounts of a store that does everything right pass; whatever is changed in them is found.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::StdRng;

use super::{balance, judge, reads};
use crate::check::exchanged::{End, exchange, not_swapped, put, read_folder, rows, swapped, txn};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{Exchange, ExchangeEnd, Request, Response, Row};

const ACCOUNTS: usize = 4;

pub(super) fn all_accounts() -> Request {
    read_folder("bank/")
}

pub(super) fn account(number: usize) -> String {
    format!("bank/{number}")
}

pub(super) fn rules(exchanges: &[Exchange]) -> Vec<&'static str> {
    judge(exchanges, &reads(exchanges)).into_iter().map(|violation| violation.rule).collect()
}

pub(super) fn shows(accounts: &BTreeMap<String, String>) -> End {
    rows(accounts.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// Opens all accounts, then moves money and reads; requests overlap, and what is of unknown fate happened or did not.
fn valid(random: &mut StdRng) -> Vec<Exchange> {
    let opened: BTreeMap<String, String> =
        (0..ACCOUNTS).map(|number| (account(number), format!("{} o{number}", 50 * number))).collect();
    let opening = opened.iter().map(|(key, value)| put(key, value)).collect();
    let mut history = vec![
        exchange(0, (0, 1), all_accounts(), rows([])),
        exchange(1, (2, 3), txn(Vec::new(), opening), swapped(ACCOUNTS)),
    ];
    let mut accounts = opened;
    for index in 2..40_u64 {
        let effect_at = 20 + 4 * index;
        let span = (effect_at - random.random_range(0..12), effect_at + random.random_range(0..12));
        let (from, to) = (random.random_range(0..ACCOUNTS), random.random_range(0..ACCOUNTS));
        if from == to || random.random_bool(0.4) {
            history.push(exchange(index, span, all_accounts(), shows(&accounts)));
            continue;
        }
        let moved = random.random_range(0..=balance(&accounts[&account(from)]));
        let given = format!("{} g{index}", balance(&accounts[&account(from)]) - moved);
        let taken = format!("{} t{index}", balance(&accounts[&account(to)]) + moved);
        let transfer = txn(Vec::new(), vec![put(&account(from), &given), put(&account(to), &taken)]);
        let (end, is_done) = match random.random_range(0..8_u8) {
            0 => (not_swapped(), false),
            1 => (End::Unknown, false),
            2 => (End::Unknown, true),
            _ => (swapped(2), true),
        };
        if is_done {
            accounts.extend([(account(from), given), (account(to), taken)]);
        }
        history.push(exchange(index, span, transfer, end));
    }
    let last_at = 10_000;
    history.push(exchange(99, (last_at, last_at + 1), all_accounts(), shows(&accounts)));
    history
}

/// The rows of a request that reads all accounts.
fn shown(exchange: &mut Exchange) -> Option<&mut Vec<Row>> {
    match &mut exchange.end {
        ExchangeEnd::Ok { response: Response::Range { rows, .. }, .. } if !rows.is_empty() => Some(rows),
        ExchangeEnd::Ok { .. } | ExchangeEnd::Fail { .. } | ExchangeEnd::Unknown => None,
    }
}

/// Draws one of the reads that show accounts, but for the first.
fn any_read<'a>(history: &'a mut [Exchange], random: &mut StdRng) -> Option<&'a mut Vec<Row>> {
    let first = history.iter_mut().position(|exchange| shown(exchange).is_some())?;
    let at = place(history, random, |exchange| {
        exchange.index > history[first].index && shown(&mut exchange.clone()).is_some()
    })?;
    shown(&mut history[at])
}

/// Draws an acknowledged transfer whose first account the last read shows as it left it.
fn any_transfer(history: &[Exchange], random: &mut StdRng) -> Option<usize> {
    let mut last = history[history.len() - 1].clone();
    let last = shown(&mut last)?.clone();
    place(history, random, |exchange| {
        let is_known = matches!(exchange.end, ExchangeEnd::Ok { .. }) && exchange.may_write();
        is_known
            && exchange
                .request
                .puts()
                .iter()
                .take(1)
                .any(|put| last.iter().any(|row| row.key == put.key && row.state.value == put.value))
    })
}

const MUTATIONS: &[Mutation<Vec<Exchange>>] = &[
    Mutation {
        name: "an account has more",
        found_by: &["total changed"],
        change: |history, random| {
            let rows = any_read(history, random)?;
            let more = balance(&rows[0].state.value) + 1;
            rows[0].state.value = format!("{more} x");
            Some(())
        },
    },
    Mutation {
        name: "two accounts have what nobody gave",
        found_by: &["balance from nowhere"],
        change: |history, random| {
            let rows = any_read(history, random)?;
            for (place, by) in [(0, 1), (1, -1)] {
                let other = balance(&rows[place].state.value) + by;
                rows[place].state.value = format!("{other} x");
            }
            Some(())
        },
    },
    Mutation {
        name: "an account is overdrawn",
        found_by: &["account overdrawn"],
        change: |history, random| {
            let rows = any_read(history, random)?;
            let all = balance(&rows[0].state.value) + balance(&rows[1].state.value);
            rows[0].state.value = "-1 x".to_owned();
            rows[1].state.value = format!("{} x", all + 1);
            Some(())
        },
    },
    Mutation {
        name: "an account without money is missing",
        found_by: &["account missing"],
        change: |history, random| {
            let rows = any_read(history, random)?;
            let at = place(rows, random, |row| balance(&row.state.value) == 0)?;
            rows.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "no account is there any more",
        found_by: &["account missing"],
        change: |history, _| {
            let at = history.len() - 1;
            shown(&mut history[at])?.clear();
            Some(())
        },
    },
    Mutation {
        name: "a transfer is told as refused",
        found_by: &["balance from nowhere"],
        change: |history, random| {
            let at = any_transfer(history, random)?;
            let returned_at = history[at].invoked_at + 1;
            history[at].end = ExchangeEnd::Fail { error: String::new(), returned_at };
            Some(())
        },
    },
    Mutation {
        name: "a transfer comes after it was seen",
        found_by: &["balance from nowhere"],
        change: |history, random| {
            let at = any_transfer(history, random)?;
            history[at] = exchange(99, (20_000, 20_001), history[at].request.clone(), swapped(2));
            Some(())
        },
    },
    Mutation {
        name: "half a transfer is read",
        found_by: &["half a transfer"],
        change: |history, random| {
            // One account as the transfer left it, the other as it was when the accounts were opened.
            let at = any_transfer(history, random)?;
            let puts = history[at].request.puts();
            let (shows, hides) = (puts[0].clone(), puts[1].key.clone());
            let opened = history[1].request.puts();
            let old = opened.iter().find(|put| put.key == hides)?.value.clone();
            let last = history.len() - 1;
            for row in shown(&mut history[last])? {
                if row.key == shows.key {
                    row.state.value.clone_from(&shows.value);
                } else if row.key == hides {
                    row.state.value.clone_from(&old);
                }
            }
            Some(())
        },
    },
    Mutation {
        name: "an old state is read",
        found_by: &["transfer lost"],
        change: |history, _| {
            // What the accounts were opened with, long after one of them gave or took something.
            let is_late = |exchange: &Exchange| {
                exchange.index > 1 && matches!(exchange.end, ExchangeEnd::Ok { .. }) && exchange.may_write()
            };
            history.iter().any(is_late).then_some(())?;
            let opened = history[1].request.puts().into_iter();
            let opened = opened.map(|put| (put.key.clone(), put.value.clone())).collect();
            history.push(exchange(100, (20_000, 20_001), all_accounts(), shows(&opened)));
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_accounts_passes() {
    mutation::check(valid, |history: &Vec<Exchange>| rules(history), MUTATIONS);
}
