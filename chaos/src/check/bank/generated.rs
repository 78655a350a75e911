//! Accounts against every order of transfers: the checker finds what no order leads to, and nothing else.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::balance;
use super::mutations::{account, all_accounts, rules, shows};
use crate::check::exchanged::{End, exchange, put, swapped, txn};
use crate::history::Exchange;

const HISTORIES: u64 = 5000;
const ACCOUNTS: usize = 3;
/// Behind the return of every transfer.
const LAST_AT: u64 = 100;

type Accounts = BTreeMap<String, String>;

/// A transfer: what was read before, what of it is to be changed, and into what.
#[derive(Clone, Debug)]
struct Transfer {
    read: Accounts,
    seen: Accounts,
    writes: Accounts,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    Failed,
    Unknown,
}

/// Transfers one behind the other, and what a last read shows of a store that is broken in at most one way.
fn draw(random: &mut StdRng) -> (Accounts, Vec<Transfer>, Accounts) {
    let opened: Accounts = (0..ACCOUNTS).map(|number| (account(number), format!("40 o{number}"))).collect();
    let (mut now, mut transfers) = (opened.clone(), Vec::new());
    let mut earlier = vec![opened.clone()];
    for number in 0..random.random_range(1..=4_u8) {
        let from = random.random_range(0..ACCOUNTS);
        let to = (from + random.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let (from, to) = (account(from), account(to));
        // No transfer moves as much as others together: the half of one always shows in the total.
        let moved = 1 << number;
        let given = format!("{} g{number}", balance(&now[&from]) - moved);
        let taken = format!("{} t{number}", balance(&now[&to]) + moved);
        let seen = [&from, &to].map(|key| (key.clone(), now[key].clone())).into();
        let read = now.clone();
        let writes = Accounts::from([(from, given), (to, taken)]);
        let fate = [Fate::Done, Fate::Done, Fate::Failed, Fate::Unknown][random.random_range(0..4)];
        if fate == Fate::Done || (fate == Fate::Unknown && random.random_bool(0.5)) {
            now.extend(writes.clone());
            earlier.push(now.clone());
        }
        transfers.push(Transfer { read, seen, writes, fate });
    }
    let any = random.random_range(0..transfers.len().max(1));
    let key = account(random.random_range(0..ACCOUNTS));
    match (random.random_range(0..8_u8), transfers.get(any)) {
        // Half of a transfer, whatever became of it.
        (0, Some(transfer)) => now.extend(transfer.writes.clone().into_iter().take(1)),
        // All of it, once more; whether one of unknown fate might is a question of its condition.
        (1, Some(transfer)) if transfer.fate != Fate::Unknown => now.extend(transfer.writes.clone()),
        (2, Some(_)) => drop(now.remove(&key)),
        (3, Some(_)) => now = earlier[random.random_range(0..earlier.len())].clone(),
        (4, Some(_)) => {
            let old = earlier[random.random_range(0..earlier.len())][&key].clone();
            now.insert(key, old);
        }
        (5, Some(_)) => drop(now.insert(key, "40 x".to_owned())),
        _ => {}
    }
    (opened, transfers, now)
}

fn exchanges(opened: &Accounts, transfers: &[Transfer], shown: &Accounts) -> Vec<Exchange> {
    let puts = |accounts: &Accounts| accounts.iter().map(|(key, value)| put(key, value)).collect();
    let opening = txn(Vec::new(), puts(opened));
    // How many accounts there are is known from a read before.
    let mut history = vec![
        exchange(0, (0, 1), opening, swapped(ACCOUNTS)),
        exchange(1, (2, 3), all_accounts(), shows(opened)),
    ];
    for (number, transfer) in (0..).zip(transfers) {
        let end = match transfer.fate {
            Fate::Done => swapped(2),
            Fate::Failed => End::Fail,
            Fate::Unknown => End::Unknown,
        };
        let at = 10 * (number + 1);
        history.push(exchange(number + 20, (at - 2, at - 1), all_accounts(), shows(&transfer.read)));
        history.push(exchange(number + 2, (at, at + 1), txn(Vec::new(), puts(&transfer.writes)), end));
    }
    history.push(exchange(50, (LAST_AT, LAST_AT + 1), all_accounts(), shows(shown)));
    history
}

/// Whether some order explains what was read: reads and transfers that are known to be done come one behind the other, others
/// when their conditions hold, at any time behind their invocation, or never.
fn is_possible(now: &Accounts, late: &[&Transfer], transfers: &[Transfer], shown: &Accounts) -> bool {
    let holds = |transfer: &Transfer| transfer.seen.iter().all(|(key, value)| now.get(key) == Some(value));
    let done = |transfer: &Transfer| {
        let mut behind = now.clone();
        behind.extend(transfer.writes.clone());
        behind
    };
    let comes_late = (0..late.len()).any(|chosen| {
        let mut rest = late.to_vec();
        let transfer = rest.remove(chosen);
        holds(transfer) && is_possible(&done(transfer), &rest, transfers, shown)
    });
    let goes_on = || match transfers.split_first() {
        None => now == shown,
        Some((transfer, rest)) => {
            let may_follow = now == &transfer.read;
            may_follow
                && match transfer.fate {
                    Fate::Failed => is_possible(now, late, rest, shown),
                    Fate::Done => is_possible(&done(transfer), late, rest, shown),
                    Fate::Unknown => is_possible(now, &[late, &[transfer]].concat(), rest, shown),
                }
        }
    };
    comes_late || goes_on()
}

#[test]
fn random_accounts_get_the_verdict_of_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..HISTORIES {
        let (opened, transfers, shown) = draw(&mut StdRng::seed_from_u64(seed));
        let found = rules(&exchanges(&opened, &transfers, &shown));
        let is_good = is_possible(&opened, &[], &transfers, &shown);
        assert_eq!(found.is_empty(), is_good, "seed {seed}: {found:?} of {transfers:?}, {shown:?}");
        *(if is_good { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > HISTORIES / 10 && bad > HISTORIES / 10, "{good} good, {bad} bad");
}
