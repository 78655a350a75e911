//! The txn workload: money moves between accounts, and transactions of every shape do and read what they like.
//!
//! A transfer reads all accounts at once, then changes two on condition that nobody has touched them. The other transactions draw
//! conditions, nested branches, reads, writes and deletes on a few keys; the witness knows what each must do and answer. At
//! the end all is read through every member.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, read, read_folder, rows, unchanged, write};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::check::bank::balance;
use crate::history::{Compare, CompareTarget, Delete, Put, Relation, Request, Row, Txn};

pub(super) const ENTRY: Entry = Entry {
    name: "txn",
    about: "transfers between accounts, and transactions of every shape",
    checkers: &["bank", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Transactions { generator: Mutex::new(Generator::new(setup)) }),
};

const ACCOUNTS: u32 = 5;
/// What each account begins with.
const BALANCE: i64 = 100;
/// Keys of the other transactions: few, so that conditions hold as often as not.
const KEYS: u32 = 8;
/// Keys that a condition on several is about.
const COMPARED: u32 = 3;
/// How deep transactions nest.
const DEPTH_MAX: u32 = 2;

struct Transactions {
    generator: Mutex<Generator>,
}

impl Transactions {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn transfer(&self, client: &mut Client) -> std::io::Result<()> {
        let all = self.generator().all_accounts();
        if let Ok((answer, _)) = client.exchange(&all).await? {
            let next = self.generator().next_transfer(rows(&answer));
            let _ = client.exchange(&next).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Workload for Transactions {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        while client.turn().await {
            let other = self.generator().next_other();
            match other {
                Some(request) => drop(client.exchange(&request).await?),
                None => self.transfer(&mut client).await?,
            }
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let (accounts, keys) = {
            let generator = self.generator();
            (generator.all_accounts(), read_folder(&format!("{}txn/", generator.prefix)))
        };
        let _ = client.exchange(&accounts).await?;
        let _ = client.exchange(&keys).await?;
        Ok(())
    }
}

/// Draws transactions from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    tags: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        Self { prefix: setup.prefix.clone(), random, tags: Counter::default() }
    }

    fn all_accounts(&self) -> Request {
        read_folder(&format!("{}bank/", self.prefix))
    }

    fn account(&self, number: u32) -> String {
        format!("{}bank/{number}", self.prefix)
    }

    fn key(&self, number: u32) -> String {
        format!("{}txn/{number}", self.prefix)
    }

    fn value(&mut self, balance: i64) -> String {
        format!("{balance} {}", self.tags.next())
    }

    /// Opens all accounts where there are none, else moves some of one balance to another account.
    fn next_transfer(&mut self, accounts: &[Row]) -> Request {
        let from = self.random.random_range(0..accounts.len().max(1));
        let to = self.random.random_range(0..accounts.len().max(1));
        let all = self.all_accounts();
        let (Some(from), Some(to)) = (accounts.get(from), accounts.get(to)) else {
            let compares = (0..ACCOUNTS).map(|number| unchanged(&self.account(number), 0)).collect();
            let then = (0..ACCOUNTS).map(|number| write(&self.account(number), self.value(BALANCE)));
            let then = then.collect();
            return Request::Txn(Txn { compares, then, otherwise: vec![all] });
        };
        if from.key == to.key {
            return all;
        }
        let has = balance(&from.state.value);
        let moved = self.random.random_range(0..=has.max(0));
        let given = write(&from.key, self.value(has - moved));
        let taken = write(&to.key, self.value(balance(&to.state.value) + moved));
        let compares = [from, to].iter().map(|row| unchanged(&row.key, row.state.mod_revision)).collect();
        // What it reads in between shows its own writes.
        Request::Txn(Txn { compares, then: vec![given, taken, all.clone()], otherwise: vec![all] })
    }

    /// A transaction of another kind, or nothing: then a transfer is due.
    fn next_other(&mut self) -> Option<Request> {
        if self.random.random_bool(0.5) {
            return None;
        }
        // Every key is written at most once in a transaction, on all branches together (etcd refuses others).
        let mut free: Vec<u32> = (0..KEYS).collect();
        Some(self.transaction(&mut free, 1))
    }

    fn transaction(&mut self, free: &mut Vec<u32>, depth: u32) -> Request {
        let compares = (0..self.random.random_range(0..=2)).map(|_| self.compare()).collect();
        let then = self.branch(free, depth);
        let otherwise = self.branch(free, depth);
        Request::Txn(Txn { compares, then, otherwise })
    }

    fn branch(&mut self, free: &mut Vec<u32>, depth: u32) -> Vec<Request> {
        let mut steps = Vec::new();
        for _ in 0..self.random.random_range(0..=3) {
            let step = match self.random.random_range(0..6_u8) {
                0 | 1 => self.put(free),
                // A delete comes with a write, by which the log tells whether the transaction happened.
                2 => self.put(free).and_then(|put| {
                    steps.push(put);
                    let key = self.take(free)?;
                    Some(Request::Delete(Delete { key, end: None }))
                }),
                3 if depth < DEPTH_MAX => Some(self.transaction(free, depth + 1)),
                _ => {
                    let number = self.random.random_range(0..KEYS);
                    Some(read(&self.key(number)))
                }
            };
            steps.extend(step);
        }
        steps
    }

    fn put(&mut self, free: &mut Vec<u32>) -> Option<Request> {
        let key = self.take(free)?;
        let value = self.tags.next().to_string();
        let prev_kv = self.random.random_bool(0.5);
        Some(Request::Put(Put { key, value, lease: 0, prev_kv }))
    }

    fn take(&mut self, free: &mut Vec<u32>) -> Option<String> {
        if free.is_empty() {
            return None;
        }
        let position = self.random.random_range(0..free.len());
        Some(self.key(free.swap_remove(position)))
    }

    fn compare(&mut self) -> Compare {
        let number = self.random.random_range(0..KEYS);
        let target = match self.random.random_range(0..5_u8) {
            0 => CompareTarget::Version(self.random.random_range(0..6)),
            1 => CompareTarget::CreateRevision(self.random.random_range(0..200)),
            2 => CompareTarget::ModRevision(self.random.random_range(0..2000)),
            3 => CompareTarget::Value(self.random.random_range(0..2000).to_string()),
            _ => CompareTarget::Lease(0),
        };
        let relation = match self.random.random_range(0..4_u8) {
            0 => Relation::Equal,
            1 => Relation::NotEqual,
            2 => Relation::Less,
            _ => Relation::Greater,
        };
        // Some are about several keys; they draw nothing more, so that what a seed means stays.
        let is_about_many = matches!(target, CompareTarget::Version(wanted) if wanted < 2);
        let end = is_about_many.then(|| self.key((number + COMPARED).min(KEYS)));
        Compare { key: self.key(number), end, target, relation }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn generator() -> Generator {
        Generator::new(&Setup { seed: 6, prefix: String::new(), members: 3 })
    }

    /// The keys that a request writes on any branch, each as often as it does.
    fn written(request: &Request) -> Vec<&str> {
        match request {
            Request::Range(_) => Vec::new(),
            Request::Put(put) => vec![&put.key],
            Request::Delete(delete) => vec![&delete.key],
            Request::Txn(txn) => txn.then.iter().chain(&txn.otherwise).flat_map(written).collect(),
        }
    }

    #[test]
    fn no_transaction_writes_a_key_twice_and_some_nest() {
        let mut generator = generator();
        let mut nested = 0;
        for _ in 0..2000 {
            let Some(request) = generator.next_other() else { continue };
            let keys = written(&request);
            assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len());
            let Request::Txn(txn) = &request else { panic!("{request:?}") };
            nested += txn.then.iter().filter(|step| matches!(step, Request::Txn(_))).count();
        }
        assert!(nested > 50, "{nested}");
    }

    #[test]
    fn some_conditions_are_about_several_keys() {
        let mut generator = generator();
        let many: Vec<Compare> =
            (0..2000).map(|_| generator.compare()).filter(|compare| compare.end.is_some()).collect();
        assert!(many.len() > 50, "{}", many.len());
        assert!(many.iter().all(|compare| Some(&compare.key) < compare.end.as_ref()));
    }

    #[test]
    fn transfers_keep_the_total() {
        let mut generator = generator();
        let opened = generator.next_transfer(&[]);
        let state = |value: &str| crate::history::KeyState {
            value: value.to_owned(),
            version: 1,
            create_revision: 2,
            mod_revision: 2,
            lease: 0,
        };
        let row = |put: &Put| Row { key: put.key.clone(), state: state(&put.value) };
        let accounts: Vec<Row> = opened.puts().into_iter().map(row).collect();
        assert_eq!(accounts.len(), 5);
        for _ in 0..200 {
            let transfer = generator.next_transfer(&accounts);
            let total: i64 = transfer.puts().iter().map(|put| balance(&put.value)).sum();
            assert!(total == 2 * BALANCE || transfer.puts().is_empty(), "{transfer:?}");
        }
    }
}
