//! The append workload: transactions that read and append to a few lists.
//!
//! A list is one key that holds its elements. A transaction reads all its lists at once, then writes those it appends to, on
//! condition that nobody has written any of its lists meanwhile; where somebody has, it failed. Lists are retired together
//! after a number of transactions, which bounds their length. At the end every list is read through every member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::values::{Counter, first, read, unchanged, write};
use super::{Asked, Client, Entry, Nodes, Setup, Tier, Workload};
use crate::etcd::Failure;
use crate::history::{Function, KeyState, Request, Response, Step, Txn};

pub(super) const ENTRY: Entry = Entry {
    name: "append",
    about: "transactions of reads and appends on three to five lists",
    checkers: &["list-append", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Append { generator: Mutex::new(Generator::new(setup)) }),
};

/// Transactions after which the lists are retired.
const TRANSACTIONS_PER_BATCH: u32 = 120;

struct Append {
    generator: Mutex<Generator>,
}

impl Append {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Workload for Append {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        while client.turn().await {
            let steps = self.generator().next_transaction();
            transact(&mut client, steps).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let batches = self.generator().batches();
        for lists in batches {
            let steps = lists.into_iter().map(|key| Step::Read { key, list: None }).collect();
            transact(&mut client, steps).await?;
        }
        Ok(())
    }
}

/// Does one transaction and records it, and each of its requests.
async fn transact(client: &mut Client, steps: Vec<Step>) -> std::io::Result<()> {
    let compound = client.begin(Asked {
        f: Function::Txn,
        key: None,
        value: Value::Array(steps.iter().map(shown).collect()),
    })?;
    let end = attempt(client, steps).await?;
    client.end(&compound, end)
}

async fn attempt(
    client: &mut Client,
    mut steps: Vec<Step>,
) -> std::io::Result<Result<(Value, i64), Failure>> {
    let keys: BTreeSet<String> = steps.iter().map(|step| key(step).to_owned()).collect();
    let reads = keys.iter().map(|key| read(key)).collect();
    let request = Request::Txn(Txn { then: reads, ..Txn::default() });
    let (answer, mut revision) = match client.exchange(&request).await? {
        Ok(answered) => answered,
        // It has written nothing yet.
        Err(Failure::NotApplied(error) | Failure::Unknown(error)) => {
            return Ok(Err(Failure::NotApplied(error)));
        }
    };
    let seen = seen(&keys, &answer);
    let writes = perform(&mut steps, &seen);
    if !writes.is_empty() {
        let compares = keys.iter().map(|key| unchanged(key, mod_revision(&seen, key))).collect();
        let then = writes.into_iter().map(|(key, list)| write(&key, joined(&list))).collect();
        match client.exchange(&Request::Txn(Txn { compares, then, otherwise: Vec::new() })).await? {
            Ok((Response::Txn { succeeded: true, .. }, written)) => revision = written,
            Ok(_) => return Ok(Err(Failure::NotApplied("somebody else wrote first".to_owned()))),
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Ok((Value::Array(steps.iter().map(shown).collect()), revision)))
}

/// State of each list, as the first request has read it.
fn seen(keys: &BTreeSet<String>, answer: &Response) -> BTreeMap<String, KeyState> {
    let Response::Txn { responses, .. } = answer else { return BTreeMap::new() };
    let states = keys.iter().zip(responses);
    states.filter_map(|(key, response)| Some((key.clone(), first(response)?.clone()))).collect()
}

fn mod_revision(seen: &BTreeMap<String, KeyState>, key: &str) -> i64 {
    seen.get(key).map_or(0, |state| state.mod_revision)
}

/// Does the steps in order: fills in what reads see; returns the lists to write.
fn perform(steps: &mut [Step], seen: &BTreeMap<String, KeyState>) -> BTreeMap<String, Vec<i64>> {
    let mut lists: BTreeMap<String, Vec<i64>> =
        seen.iter().map(|(key, state)| (key.clone(), split(&state.value))).collect();
    let mut written = BTreeSet::new();
    for step in steps {
        match step {
            Step::Append { key, element } => {
                lists.entry(key.clone()).or_default().push(*element);
                written.insert(key.clone());
            }
            Step::Read { key, list } => *list = Some(lists.get(key).cloned().unwrap_or_default()),
        }
    }
    lists.retain(|key, _| written.contains(key));
    lists
}

fn split(value: &str) -> Vec<i64> {
    value.split_whitespace().filter_map(|element| element.parse().ok()).collect()
}

fn joined(list: &[i64]) -> String {
    list.iter().map(i64::to_string).collect::<Vec<_>>().join(" ")
}

fn key(step: &Step) -> &str {
    match step {
        Step::Append { key, .. } | Step::Read { key, .. } => key,
    }
}

fn shown(step: &Step) -> Value {
    match step {
        Step::Append { key, element } => json!(["append", key, element]),
        Step::Read { key, list } => json!(["r", key, list]),
    }
}

/// Draws transactions from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    /// Number of lists of each batch; the last is in use.
    batches: Vec<u32>,
    left: u32,
    elements: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        Self {
            prefix: setup.prefix.clone(),
            random,
            batches: Vec::new(),
            left: 0,
            elements: Counter::default(),
        }
    }

    fn next_transaction(&mut self) -> Vec<Step> {
        if self.left == 0 {
            self.left = TRANSACTIONS_PER_BATCH;
            self.batches.push(self.random.random_range(3..=5));
        }
        self.left -= 1;
        let lists = self.batches.last().copied().unwrap_or(1);
        let count = self.random.random_range(1..=4);
        (0..count)
            .map(|_| {
                let number = self.random.random_range(0..lists);
                let key = self.list(self.batches.len() - 1, number);
                if self.random.random_bool(0.5) {
                    Step::Read { key, list: None }
                } else {
                    let element = i64::try_from(self.elements.next()).unwrap_or(i64::MAX);
                    Step::Append { key, element }
                }
            })
            .collect()
    }

    /// The lists of each batch so far.
    fn batches(&self) -> Vec<Vec<String>> {
        let batches = self.batches.iter().enumerate();
        batches.map(|(batch, lists)| (0..*lists).map(|list| self.list(batch, list)).collect()).collect()
    }

    fn list(&self, batch: usize, number: u32) -> String {
        format!("{}list/{batch}/{number}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator() -> Generator {
        Generator::new(&Setup { seed: 4, prefix: String::new(), members: 3 })
    }

    #[test]
    fn equal_seeds_give_equal_transactions_and_elements_are_unique() {
        let draw = || {
            let mut generator = generator();
            (0..1000).map(|_| generator.next_transaction()).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
        let mut elements = BTreeSet::new();
        for step in draw().iter().flatten() {
            if let Step::Append { element, .. } = step {
                assert!(elements.insert(*element));
            }
        }
    }

    #[test]
    fn every_list_is_known_for_the_final_reads() {
        let mut generator = generator();
        let drawn: BTreeSet<String> =
            (0..1000).flat_map(|_| generator.next_transaction()).map(|step| key(&step).to_owned()).collect();
        let known: BTreeSet<String> = generator.batches().into_iter().flatten().collect();
        assert!(drawn.is_subset(&known) && drawn.len() > 20, "{} of {}", drawn.len(), known.len());
    }

    #[test]
    fn steps_see_those_before_them() {
        let state =
            KeyState { value: "1 2".to_owned(), version: 1, create_revision: 2, mod_revision: 2, lease: 0 };
        let seen = BTreeMap::from([("x".to_owned(), state)]);
        let read = |key: &str| Step::Read { key: key.to_owned(), list: None };
        let mut steps =
            vec![read("x"), Step::Append { key: "x".to_owned(), element: 3 }, read("x"), read("y")];
        let written = perform(&mut steps, &seen);
        assert_eq!(written, BTreeMap::from([("x".to_owned(), vec![1, 2, 3])]));
        let lists: Vec<Value> = steps.iter().map(|step| shown(step)[2].clone()).collect();
        assert_eq!(lists, [json!([1, 2]), json!(3), json!([1, 2, 3]), json!([])]);
    }
}
