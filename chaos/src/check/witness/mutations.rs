//! Histories of a store that does everything right pass; whatever is changed in one is found.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{LogEntry, check, gaps};
use crate::check::versions::{Versions, effect};
use crate::history::{
    Compare, CompareTarget, Delete, Exchange, ExchangeEnd, Process, Put, Range, Relation, Request, Response,
    Row, Txn,
};

/// Requests one behind the other, and the log that they make.
struct History {
    exchanges: Vec<Exchange>,
    log: Vec<LogEntry>,
}

fn request(random: &mut StdRng, number: u64) -> Request {
    let mut key = || format!("k{}", random.random_range(0..4_u8));
    let (one, two) = (key(), key());
    let put = |key: &str, part: &str| {
        Request::Put(Put { key: key.to_owned(), value: format!("{number}{part}"), lease: 0, prev_kv: true })
    };
    let all = || Request::Range(Range { key: "k".to_owned(), end: Some("l".to_owned()), ..Range::default() });
    match random.random_range(0..6_u8) {
        0 => put(&one, ""),
        1 => Request::Range(Range { key: one, ..Range::default() }),
        2 => all(),
        3 => Request::Delete(Delete { key: one, end: None }),
        _ => {
            let target = CompareTarget::Version(random.random_range(0..3));
            let end = random.random_bool(0.3).then(|| "l".to_owned());
            let compares = vec![Compare { key: one.clone(), end, target, relation: Relation::Greater }];
            let mut then = vec![put(&one, "a"), all()];
            if one != two {
                then.push(put(&two, "b"));
            }
            Request::Txn(Txn { compares, then, otherwise: vec![all()] })
        }
    }
}

fn history(random: &mut StdRng, count: u64) -> History {
    let mut history = History { exchanges: Vec::new(), log: Vec::new() };
    let mut revision = 1;
    for number in 0..count {
        let request = request(random, number);
        let done = effect(&Versions::new(&history.log), &request, revision + 1);
        if !done.changes.is_empty() {
            revision += 1;
        }
        history.log.extend(done.changes.into_iter().map(|(key, state)| LogEntry { revision, key, state }));
        let end = ExchangeEnd::Ok { response: done.response, revision, returned_at: 10 * number + 5 };
        history.exchanges.push(Exchange {
            index: 2 * number,
            process: Process::Client(0),
            node: "n1".to_owned(),
            request,
            invoked_at: 10 * number,
            end,
        });
    }
    history
}

fn passes(history: &History) -> bool {
    let versions = Versions::new(&history.log);
    check(&history.exchanges, &[], &versions).is_ok() && gaps(2, &history.exchanges, &versions).is_empty()
}

/// Changes one row that an answer shows; `false` where it shows none.
fn change_row(response: &mut Response, change: &mut impl FnMut(&mut Row)) -> bool {
    match response {
        Response::Range { rows, .. } | Response::Delete { prev: rows, .. } => {
            rows.first_mut().map(&mut *change).is_some()
        }
        Response::Put { prev } => prev.as_mut().map(&mut *change).is_some(),
        Response::Txn { responses, .. } => responses.iter_mut().any(|response| change_row(response, change)),
    }
}

/// One random change; `None` where it changes nothing that anybody could see.
fn mutate(history: &mut History, random: &mut StdRng) -> Option<String> {
    let at = random.random_range(0..history.exchanges.len());
    let exchange = &mut history.exchanges[at];
    let is_write = exchange.may_write();
    let ExchangeEnd::Ok { response, revision, returned_at } = &mut exchange.end else { return None };
    let kind = random.random_range(0..7_u8);
    match kind {
        0 => change_row(response, &mut |row| row.state.value.push('x')).then_some(())?,
        1 => change_row(response, &mut |row| row.state.version += 1).then_some(())?,
        2 => change_row(response, &mut |row| row.state.create_revision -= 1).then_some(())?,
        3 => {
            // A revision too low. That of a read goes unseen where nothing was written in between.
            is_write.then_some(())?;
            *revision -= 1;
        }
        4 => {
            // An acknowledged write is not in the log.
            is_write.then_some(())?;
            let lost = *revision;
            history.log.retain(|entry| entry.revision != lost);
        }
        5 => {
            // A write that nobody knows of.
            let entry = history.log.last()?.clone();
            history.log.push(LogEntry { revision: entry.revision + 1, ..entry });
        }
        _ => {
            // A write was told as failed.
            is_write.then_some(())?;
            (!exchange.request.puts().is_empty()).then_some(())?;
            exchange.end = ExchangeEnd::Fail { error: String::new(), returned_at: *returned_at };
        }
    }
    Some(format!("kind {kind} at {at}"))
}

#[test]
fn no_mutation_of_a_valid_history_passes() {
    let mut mutated = 0;
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut history = history(&mut random, 25);
        assert!(passes(&history), "seed {seed}");
        if let Some(what) = mutate(&mut history, &mut random) {
            mutated += 1;
            assert!(!passes(&history), "seed {seed}: {what}");
        }
    }
    assert!(mutated > 150, "{mutated}");
}

#[test]
fn a_write_of_unknown_fate_is_found_in_the_log_whatever_it_is() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut history = history(&mut random, 25);
        for exchange in &mut history.exchanges {
            if random.random_bool(0.3) {
                exchange.end = ExchangeEnd::Unknown;
            }
        }
        assert!(passes(&history), "seed {seed}");
    }
}
