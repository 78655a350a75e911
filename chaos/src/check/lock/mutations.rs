//! Locks of a store that does everything right pass; whatever is changed in their history is found.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Lock, collect, held, judge, list_key};
use crate::check::clocks::Clocks;
use crate::check::exchanged::{End, exchange, not_swapped, put, read, rows, swapped, take, txn};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{Exchange, ExchangeEnd, Function, LeaseAnswer, LeaseCall, LeaseEnd, Request, Response};

const MS: u64 = 1_000_000;
const LOCK: &str = "lock/fenced";
/// Seconds that a lease lives.
const TTL: i64 = 2;

/// What clients asked of the store.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) calls: Vec<LeaseCall>,
}

impl History {
    pub(super) fn ask(&mut self, span: (u64, u64), request: Request, end: End) {
        let index = u64::try_from(self.exchanges.len()).unwrap();
        self.exchanges.push(exchange(index, span, request, end));
    }

    pub(super) fn grant(&mut self, id: i64, ttl: i64, invoked_at: u64) {
        let returned_at = invoked_at + MS;
        let end = LeaseEnd::Ok { answer: LeaseAnswer { id, ttl }, revision: 2, returned_at };
        self.calls.push(LeaseCall { index: 1000, f: Function::LeaseGrant, id, invoked_at, end });
    }

    pub(super) fn revoke(&mut self, id: i64, invoked_at: u64, end: LeaseEnd) {
        self.calls.push(LeaseCall { index: 1000, f: Function::LeaseRevoke, id, invoked_at, end });
    }

    /// The rules that are broken under the fenced lock.
    pub(super) fn rules(&self) -> Vec<&'static str> {
        let (exchanges, leases) = (&self.exchanges[..], &self.calls[..]);
        let asked = held::Asked { exchanges, locks: &[], unlocks: &[], leases };
        let mut violations = held::twice(&asked, &Clocks::default());
        for (key, list) in collect(&self.exchanges) {
            violations.extend(judge(key, &list));
        }
        violations.into_iter().map(|violation| violation.rule).collect()
    }
}

pub(super) fn list() -> String {
    list_key("", Lock::Fenced, 0)
}

pub(super) fn update(elements: &[String]) -> Request {
    txn(Vec::new(), vec![put(&list(), &elements.join(" "))])
}

pub(super) fn shows(elements: &[String]) -> End {
    rows([(list().as_str(), elements.join(" ").as_str())])
}

/// One section behind the other; whoever pauses is overtaken, and refused then.
fn valid(random: &mut StdRng) -> History {
    let (mut history, mut elements, mut now) = (History::default(), Vec::<String>::new(), 0);
    for lease in 1..=12 {
        let mut next = |ms: u64| {
            now += ms * MS;
            (now, now + random.random_range(1..40) * MS)
        };
        let (asked, takes, reads, writes) = (next(50), next(50), next(50), next(50));
        history.grant(lease, TTL, asked.0);
        history.ask(takes, take(LOCK, &lease.to_string(), lease), swapped(1));
        history.ask((takes.0 + MS, takes.1 + MS), take(LOCK, "other", 100 + lease), not_swapped());
        history.ask(reads, read(&list()), shows(&elements));
        let grown = [&elements[..], &[lease.to_string()]].concat();
        match random.random_range(0..6_u8) {
            0 => {
                // It pauses for longer than its lease lives; another one is in between.
                now += 4000 * MS;
                history.grant(50 + lease, TTL, now - 1000 * MS);
                history.ask((now - 900 * MS, now - 800 * MS), take(LOCK, "next", 50 + lease), swapped(1));
                let other = [&elements[..], &[(50 + lease).to_string()]].concat();
                history.ask((now - 700 * MS, now - 600 * MS), update(&other), swapped(1));
                elements = other;
                history.ask((now, now + MS), update(&grown), not_swapped());
                history.revoke(50 + lease, now, LeaseEnd::Unknown);
            }
            1 => history.ask(writes, update(&grown), End::Unknown),
            2 => {
                history.ask(writes, update(&grown), End::Unknown);
                elements = grown;
            }
            _ => {
                history.ask(writes, update(&grown), swapped(1));
                elements = grown;
            }
        }
        let (invoked_at, returned_at) = (now + 50 * MS, now + 60 * MS);
        let end = LeaseEnd::Ok { answer: LeaseAnswer { id: lease, ttl: 0 }, revision: 2, returned_at };
        history.revoke(lease, invoked_at, end);
        now = returned_at;
    }
    history.ask((now + 1000 * MS, now + 1001 * MS), read(&list()), shows(&elements));
    history
}

/// The elements that the last answer shows.
fn last(history: &History) -> Option<Vec<String>> {
    let ExchangeEnd::Ok { response: Response::Range { rows, .. }, .. } = &history.exchanges.last()?.end
    else {
        return None;
    };
    Some(rows[0].state.value.split_whitespace().map(str::to_owned).collect())
}

fn read_again(history: &mut History, elements: &[String]) {
    let at = 1_000_000 * MS;
    history.ask((at, at + MS), read(&list()), shows(elements));
}

/// Reads the last list again, with a change at an element that is drawn.
fn reread(
    history: &mut History,
    random: &mut StdRng,
    change: impl Fn(&mut Vec<String>, usize),
) -> Option<()> {
    let mut elements = last(history)?;
    let at = place(&elements, random, |_| true)?;
    change(&mut elements, at);
    read_again(history, &elements);
    Some(())
}

fn is_update(exchange: &Exchange) -> bool {
    exchange.request.puts().iter().any(|put| put.key == list())
}

fn is_done(exchange: &Exchange) -> bool {
    matches!(&exchange.end, ExchangeEnd::Ok { response, .. } if response.wrote())
}

/// Draws the place of a revoke in time.
fn any_revoke(history: &History, random: &mut StdRng) -> Option<usize> {
    let is_next_soon = |call: &LeaseCall| {
        let after = history.calls.iter().filter(|other| other.invoked_at > call.invoked_at);
        let next = after.filter(|other| other.f == Function::LeaseGrant).map(|other| other.invoked_at).min();
        let granted =
            history.calls.iter().find(|other| other.f == Function::LeaseGrant && other.id == call.id);
        granted.zip(next).is_some_and(|(granted, next)| next < granted.invoked_at + 1000 * MS)
    };
    place(&history.calls, random, |call| call.f == Function::LeaseRevoke && is_next_soon(call))
}

const HOLDS: &[Mutation<History>] = &[
    Mutation {
        name: "a lock is taken that is held",
        found_by: &["lock held twice"],
        change: |history, random| {
            let is_taken = |exchange: &Exchange| {
                is_done(exchange) && exchange.request.puts().iter().any(|put| put.key == LOCK)
            };
            let at = place(&history.exchanges, random, is_taken)?;
            let ExchangeEnd::Ok { returned_at, .. } = history.exchanges[at].end else { return None };
            history.grant(200, TTL, returned_at);
            history.ask((returned_at + 1, returned_at + 2), take(LOCK, "late", 200), swapped(1));
            Some(())
        },
    },
    Mutation {
        name: "a lease is not ended by hand",
        found_by: &["lock held twice"],
        change: |history, random| {
            let at = any_revoke(history, random)?;
            history.calls[at].end = LeaseEnd::Fail;
            Some(())
        },
    },
    Mutation {
        name: "a lease lives for longer",
        found_by: &["lock held twice"],
        change: |history, random| {
            // The one that a pause is too long for.
            let overtaken = place(&history.calls, random, |call| {
                call.f == Function::LeaseGrant && history.calls.iter().any(|other| other.id == 50 + call.id)
            })?;
            let id = history.calls[overtaken].id;
            let LeaseEnd::Ok { answer, .. } = &mut history.calls[overtaken].end else { return None };
            answer.ttl = 60;
            history.calls.retain(|call| call.f == Function::LeaseGrant || call.id != id);
            Some(())
        },
    },
];

const LISTS: &[Mutation<History>] = &[
    Mutation {
        name: "an update is lost",
        found_by: &["lost update under a lock"],
        change: |history, random| {
            let at = place(&history.exchanges, random, |exchange| is_update(exchange) && is_done(exchange))?;
            let value = history.exchanges[at].request.puts()[0].value.clone();
            let mut elements = last(history)?;
            elements.retain(|element| Some(element.as_str()) != value.split_whitespace().last());
            read_again(history, &elements);
            Some(())
        },
    },
    Mutation {
        name: "two elements change places",
        found_by: &["list rewritten"],
        change: |history, random| {
            (last(history)?.len() > 1).then_some(())?;
            reread(history, random, |elements, at| elements.swap(at, if at > 0 { at - 1 } else { 1 }))
        },
    },
    Mutation {
        name: "an old list is read",
        found_by: &["list rewritten"],
        change: |history, random| reread(history, random, |elements, at| elements.truncate(at)),
    },
    Mutation {
        name: "an element is there twice",
        found_by: &["element twice"],
        change: |history, random| reread(history, random, |elements, at| elements.push(elements[at].clone())),
    },
    Mutation {
        name: "an element is there that nobody added",
        found_by: &["element from nowhere"],
        change: |history, random| reread(history, random, |elements, _| elements.push("nobody's".to_owned())),
    },
    Mutation {
        name: "an update comes after it was seen",
        found_by: &["element from nowhere"],
        change: |history, random| {
            let elements = last(history)?;
            let at = place(&history.exchanges, random, |exchange| {
                is_update(exchange)
                    && is_done(exchange)
                    && exchange.request.puts()[0].value.split_whitespace().last()
                        == elements.last().map(String::as_str)
            })?;
            history.exchanges[at].invoked_at = 2_000_000 * MS;
            let ExchangeEnd::Ok { returned_at, .. } = &mut history.exchanges[at].end else { return None };
            *returned_at = 2_000_001 * MS;
            Some(())
        },
    },
    Mutation {
        name: "the update of an overtaken holder is in the list",
        found_by: &["refused update was done"],
        change: |history, random| {
            let at =
                place(&history.exchanges, random, |exchange| is_update(exchange) && !exchange.may_write())?;
            let value = history.exchanges[at].request.puts()[0].value.clone();
            let mut elements = last(history)?;
            elements.push(value.split_whitespace().last()?.to_owned());
            read_again(history, &elements);
            Some(())
        },
    },
    Mutation {
        name: "the update of an overtaken holder is done",
        found_by: &["lost update under a lock"],
        change: |history, random| {
            let at =
                place(&history.exchanges, random, |exchange| is_update(exchange) && !exchange.may_write())?;
            let Exchange { index, invoked_at, request, .. } = history.exchanges[at].clone();
            history.exchanges[at] = exchange(index, (invoked_at, invoked_at + MS), request, swapped(1));
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_a_valid_lock_passes() {
    mutation::check(valid, History::rules, HOLDS);
    mutation::check(valid, History::rules, LISTS);
}
