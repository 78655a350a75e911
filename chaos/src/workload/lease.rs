//! The lease workload: leases of a few seconds are granted, given keys, renewed, asked about, revoked and forgotten.
//!
//! A lease that a client forgets ends by itself. At the end the keys of all leases must go: each member is asked until they have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::values::{Counter, read, read_folder, rows};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::check::lease::END_SLACK;
use crate::history::{LeaseAnswer, Put, Request};

pub(super) const ENTRY: Entry = Entry {
    name: "lease",
    about: "leases of 1 to 5 s are granted, given keys, renewed, revoked and forgotten",
    checkers: &["lease", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Leases { generator: Mutex::new(Generator::new(setup)) }),
};

/// Leases that a client holds at a time.
const LEASES_PER_CLIENT: usize = 3;
/// Seconds that a client asks for at most.
const TTL_MAX: i64 = 5;
/// Between two looks whether all keys have gone.
const END_POLL: Duration = Duration::from_millis(500);

struct Leases {
    generator: Mutex<Generator>,
}

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Grant { ttl: i64 },
    Attach,
    KeepAlive,
    TimeToLive,
    Revoke,
    Forget,
    Read,
}

/// A lease that a client holds, and its keys.
struct Held {
    id: i64,
    keys: Vec<String>,
}

impl Leases {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn act(&self, client: &mut Client, held: &mut Vec<Held>) -> std::io::Result<()> {
        let (action, place) = self.generator().next_action(held.len());
        if let Action::Grant { ttl } = action {
            if let Ok((LeaseAnswer { id, .. }, _)) = client.lease_grant(ttl).await? {
                held.push(Held { id, keys: Vec::new() });
            }
            return Ok(());
        }
        let Some(lease) = held.get_mut(place) else { return Ok(()) };
        let is_gone = match action {
            Action::Grant { .. } => false,
            Action::Attach => {
                let (key, value) = self.generator().next_key();
                let put = Put { key: key.clone(), value, lease: lease.id, prev_kv: false };
                let answer = client.exchange(&Request::Put(put)).await?;
                lease.keys.push(key);
                // Refused: there is no such lease any more.
                matches!(answer, Err(crate::etcd::Failure::NotApplied(error)) if error.contains("lease not found"))
            }
            Action::KeepAlive => {
                let answer = client.lease_keep_alive(lease.id).await?;
                answer.is_ok_and(|(answer, _)| answer.ttl <= 0)
            }
            Action::TimeToLive => {
                let answer = client.lease_time_to_live(lease.id).await?;
                answer.is_ok_and(|(answer, _)| answer.ttl <= 0)
            }
            Action::Revoke => {
                let _ = client.lease_revoke(lease.id).await?;
                true
            }
            Action::Forget => true,
            Action::Read => {
                if let Some(key) = lease.keys.last() {
                    let _ = client.exchange(&read(key)).await?;
                }
                false
            }
        };
        if is_gone {
            held.swap_remove(place);
        }
        Ok(())
    }
}

#[async_trait]
impl Workload for Leases {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let mut held = Vec::new();
        while client.turn().await {
            self.act(&mut client, &mut held).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let all = read_folder(&format!("{}lease/", self.generator().prefix));
        let seconds = u64::try_from(2 * TTL_MAX).unwrap_or(0);
        // Somewhat longer than the checker allows for: it must see a key that stays.
        let deadline = Instant::now() + Duration::from_secs(seconds) + END_SLACK + 4 * END_POLL;
        loop {
            let answer = client.exchange(&all).await?;
            let is_empty = answer.is_ok_and(|(answer, _)| rows(&answer).is_empty());
            if is_empty || Instant::now() > deadline {
                return Ok(());
            }
            tokio::time::sleep(END_POLL).await;
        }
    }
}

/// Draws actions from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    keys: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        Self { prefix: setup.prefix.clone(), random, keys: Counter::default() }
    }

    /// What to do, and with which of the leases that are held.
    fn next_action(&mut self, held: usize) -> (Action, usize) {
        if held == 0 || (held < LEASES_PER_CLIENT && self.random.random_bool(0.2)) {
            return (Action::Grant { ttl: self.random.random_range(1..=TTL_MAX) }, 0);
        }
        let action = match self.random.random_range(0..20_u8) {
            0..=5 => Action::Attach,
            6..=13 => Action::KeepAlive,
            14 | 15 => Action::TimeToLive,
            16 => Action::Revoke,
            17 => Action::Forget,
            _ => Action::Read,
        };
        (action, self.random.random_range(0..held))
    }

    fn next_key(&mut self) -> (String, String) {
        let number = self.keys.next();
        (format!("{}lease/{number:06}", self.prefix), number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_drawn_and_the_first_is_a_grant() {
        let mut generator = Generator::new(&Setup { seed: 1, prefix: String::new(), members: 3 });
        assert!(matches!(generator.next_action(0).0, Action::Grant { ttl: 1..=TTL_MAX }));
        let drawn: Vec<(Action, usize)> = (0..500).map(|_| generator.next_action(2)).collect();
        for action in [
            Action::Attach,
            Action::KeepAlive,
            Action::TimeToLive,
            Action::Revoke,
            Action::Forget,
            Action::Read,
        ] {
            assert!(drawn.iter().any(|(drawn, _)| *drawn == action), "{action:?}");
        }
        assert!(drawn.iter().all(|(_, place)| *place < 2));
    }
}
