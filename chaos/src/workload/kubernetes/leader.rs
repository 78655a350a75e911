//! The leader workload: clients contend for one lock, and whoever holds it writes under its epoch.
//!
//! Every call is made by itself: there is no deadline of a client's own that would keep a leader from acting too long. Some pause for longer than
//! the lock lives and write then, as a process does that was stopped. Writes have no condition but the epoch. The servers' own controllers hold
//! their lock in the same way; the checker looks at that one, too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::super::values::Counter;
use super::super::{Client, Entry, Nodes, Setup, Tier, Workload};
use super::{config_map, get, list, written};
use crate::check::kubernetes::leader::{LEDGER, LOCK, NAMESPACE};
use crate::history::{ApiAnswer, ApiCall, Face, Lock, Resource, Tenancy, Written};

pub(in super::super) const ENTRY: Entry = Entry {
    name: "k-leader",
    about: "clients contend for a lock and write under its epoch; some sleep longer than it lives",
    checkers: &["k-leader", "convergence"],
    needs_own_store: true,
    tier: Tier::Kubernetes,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Leader { generator: Mutex::new(Generator::new(setup)) }),
};

/// The shortest that servers grant, so that leaders change often.
const TTL_SECONDS: u32 = 2;
/// How long a leader sleeps that is to be overtaken.
const SLEEP_MS: std::ops::Range<u64> = 2500..4000;

struct Leader {
    generator: Mutex<Generator>,
}

impl Leader {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lead(&self, client: &mut Client, tenancy: &mut Tenancy) -> std::io::Result<()> {
        let deed = self.generator().next_deed();
        match deed {
            Deed::Renew => {
                let answer = client.request(&ApiCall::Renew(tenancy.clone())).await?;
                if answer.is_ok_and(|answer| !answer.held) {
                    tenancy.epoch = 0;
                }
            }
            Deed::Release => {
                let answer = client.request(&ApiCall::Release(tenancy.clone())).await?;
                if answer.is_ok() {
                    tenancy.epoch = 0;
                }
            }
            Deed::Write { number, sleep } => {
                if let Some(sleep) = sleep {
                    tokio::time::sleep(sleep).await;
                }
                let mut answer = self.write(client, tenancy, number).await?;
                if answer.as_ref().is_some_and(|answer| answer.code == 404) {
                    answer = self.create(client, tenancy).await?;
                }
                if answer.is_some_and(|answer| answer.reason == "FencedOut") {
                    tenancy.epoch = 0;
                }
            }
        }
        Ok(())
    }

    async fn write(
        &self,
        client: &mut Client,
        tenancy: &Tenancy,
        number: u64,
    ) -> std::io::Result<Option<ApiAnswer>> {
        let patch = fenced(tenancy, json!({ "data": stamped(tenancy, number) }));
        Ok(client.request(&ApiCall::Patch(patch)).await?.ok())
    }

    /// The number of a write is its own: that of the patch that found nothing is spent.
    async fn create(&self, client: &mut Client, tenancy: &Tenancy) -> std::io::Result<Option<ApiAnswer>> {
        let number = self.generator().numbers.next();
        let object = config_map(NAMESPACE, LEDGER, &stamped(tenancy, number));
        Ok(client.request(&ApiCall::Create(fenced(tenancy, object))).await?.ok())
    }
}

fn stamped(tenancy: &Tenancy, number: u64) -> Value {
    json!({ "holder": tenancy.identity, "epoch": tenancy.epoch.to_string(), "number": number.to_string() })
}

fn fenced(tenancy: &Tenancy, object: Value) -> Written {
    let fence = Some(Lock { lock: tenancy.lock.clone(), epoch: tenancy.epoch });
    Written { fence, ..written(Face::Grpc, Resource::ConfigMaps, NAMESPACE, LEDGER, object) }
}

#[async_trait]
impl Workload for Leader {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.ensure_namespace(NAMESPACE).await?;
        let identity = format!("client-{}", client.number());
        let lock = LOCK.to_owned();
        let mut tenancy = Tenancy { lock, identity, ttl_seconds: TTL_SECONDS, epoch: 0 };
        while client.turn().await {
            if tenancy.epoch > 0 {
                self.lead(&mut client, &mut tenancy).await?;
                continue;
            }
            let answer = client.request(&ApiCall::Acquire(tenancy.clone())).await?;
            if let Ok(answer) = answer
                && answer.held
            {
                tenancy.epoch = answer.epoch;
            }
        }
        Ok(())
    }

    /// Whoever is first gets the lock that nobody renews any more, and gives it back for the next.
    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let (lock, identity) = (LOCK.to_owned(), format!("last-{}", client.number()));
        let mut tenancy = Tenancy { lock, identity, ttl_seconds: TTL_SECONDS, epoch: 0 };
        let acquire = ApiCall::Acquire(tenancy.clone());
        let epoch = Mutex::new(0);
        let held = |answer: &ApiAnswer| {
            *epoch.lock().unwrap_or_else(PoisonError::into_inner) = answer.epoch;
            if answer.held { Ok(()) } else { Err(format!("{} holds it", answer.holder)) }
        };
        client.settle(&format!("the lock {LOCK}"), &acquire, held).await?;
        tenancy.epoch = epoch.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = client.request(&ApiCall::Release(tenancy)).await?;
        let _ = client.request(&get(Face::Rest, Resource::ConfigMaps, NAMESPACE, LEDGER)).await?;
        let _ = client.request(&list(Face::Rest, Resource::ConfigMaps, NAMESPACE)).await?;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Renew,
    Write { number: u64, sleep: Option<Duration> },
    Release,
}

struct Generator {
    random: StdRng,
    numbers: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        Self { random: StdRng::seed_from_u64(setup.seed), numbers: Counter::default() }
    }

    fn next_deed(&mut self) -> Deed {
        match self.random.random_range(0..100_u8) {
            0..=29 => Deed::Renew,
            30..=32 => Deed::Release,
            33..=38 => {
                let sleep = Duration::from_millis(self.random.random_range(SLEEP_MS));
                Deed::Write { number: self.numbers.next(), sleep: Some(sleep) }
            }
            _ => Deed::Write { number: self.numbers.next(), sleep: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_write_has_a_number_of_its_own_and_some_leaders_oversleep() {
        let setup = Setup { seed: 5, prefix: String::new(), members: 3 };
        let (mut one, mut two) = (Generator::new(&setup), Generator::new(&setup));
        let (mut numbers, mut sleepers) = (BTreeSet::new(), 0);
        for _ in 0..1000 {
            let deed = one.next_deed();
            assert_eq!(deed, two.next_deed());
            if let Deed::Write { number, sleep } = deed {
                assert!(numbers.insert(number));
                sleepers += u32::from(sleep.is_some_and(|sleep| sleep.as_secs() >= u64::from(TTL_SECONDS)));
            }
        }
        assert!(numbers.len() > 500 && sleepers > 20, "{} {sleepers}", numbers.len());
    }
}
