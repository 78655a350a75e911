//! The orphans workload: trees of ConfigMaps are planted, and some of their owners deleted, under every propagation policy.
//!
//! A tree is an owner, its dependents, and a leaf below one of them. Some dependents come too late: their owner is gone, or goes at that moment. At the
//! end every server is asked until nothing is left whose owner is gone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::super::values::Counter;
use super::super::{Client, Entry, Nodes, Setup, Tier, Workload};
use super::{config_map, face, removal, written};
use crate::check::kubernetes::objects::{owners, uid};
use crate::check::kubernetes::orphans::NAMESPACE;
use crate::history::{ApiAnswer, ApiCall, Face, Removal, Resource};

pub(in super::super) const ENTRY: Entry = Entry {
    name: "k-orphans",
    about: "owners are deleted under every propagation policy, and what depends on them must follow",
    checkers: &["k-orphans", "convergence"],
    needs_own_store: true,
    tier: Tier::Kubernetes,
    nodes: Nodes::Hollow,
    create: |setup| {
        let generator = Mutex::new(Generator::new(setup));
        Arc::new(Orphans { generator, planted: Mutex::default() })
    },
};

/// Direct dependents of an owner.
const DEPENDENTS: usize = 3;
/// Trees that stand before the oldest is felled.
const STANDING_MAX: usize = 12;

struct Orphans {
    generator: Mutex<Generator>,
    planted: Mutex<Planted>,
}

/// Owners by name and uid.
#[derive(Default)]
struct Planted {
    standing: Vec<(String, String)>,
    felled: Vec<(String, String)>,
}

impl Orphans {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn planted(&self) -> MutexGuard<'_, Planted> {
        self.planted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates an object; returns its uid when that is certain.
    async fn create(
        client: &mut Client,
        face: Face,
        name: &str,
        owner: Option<&(String, String)>,
    ) -> std::io::Result<Option<String>> {
        let mut object = config_map(NAMESPACE, name, &json!({ "value": name }));
        if let (Some((owner, uid)), Some(metadata)) = (owner, object.get_mut("metadata")) {
            let reference = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid, "blockOwnerDeletion": true,
            });
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("ownerReferences".to_owned(), json!([reference]));
            }
        }
        let create = ApiCall::Create(written(face, Resource::ConfigMaps, NAMESPACE, name, object));
        let answer = client.request(&create).await?.ok().filter(ApiAnswer::is_done);
        Ok(answer.and_then(|answer| uid(&answer.object).map(str::to_owned)))
    }

    async fn plant(&self, client: &mut Client, face: Face, number: u64) -> std::io::Result<()> {
        let name = format!("owner-{number}");
        let Some(uid) = Self::create(client, face, &name, None).await? else { return Ok(()) };
        let owner = (name, uid);
        for dependent in 0..DEPENDENTS {
            let name = format!("dependent-{number}-{dependent}");
            let created = Self::create(client, face, &name, Some(&owner)).await?;
            if let (0, Some(uid)) = (dependent, created) {
                Self::create(client, face, &format!("leaf-{number}"), Some(&(name, uid))).await?;
            }
        }
        self.planted().standing.push(owner);
        Ok(())
    }

    async fn fell(
        &self,
        client: &mut Client,
        face: Face,
        draw: (usize, Option<&str>),
    ) -> std::io::Result<()> {
        let (place, propagation) = draw;
        let owner = {
            let mut planted = self.planted();
            if planted.standing.is_empty() {
                return Ok(());
            }
            let place = place % planted.standing.len();
            let owner = planted.standing.swap_remove(place);
            planted.felled.push(owner.clone());
            owner
        };
        let removal = removal(face, Resource::ConfigMaps, NAMESPACE, &owner.0);
        let propagation = propagation.map(str::to_owned);
        let _ = client.request(&ApiCall::Delete(Removal { propagation, ..removal })).await?;
        Ok(())
    }

    /// Gives an owner that is gone, or is going, one more dependent.
    async fn late(&self, client: &mut Client, face: Face, number: u64) -> std::io::Result<()> {
        let owner = self.planted().felled.last().cloned();
        if let Some(owner) = owner {
            Self::create(client, face, &format!("late-{number}"), Some(&owner)).await?;
        }
        Ok(())
    }

    async fn perform(&self, client: &mut Client, action: Action) -> std::io::Result<()> {
        let Action { face, number, deed } = action;
        let is_full = self.planted().standing.len() >= STANDING_MAX;
        match deed {
            Deed::Plant if !is_full => self.plant(client, face, number).await,
            Deed::Plant => self.fell(client, face, (0, None)).await,
            Deed::Fell { place, propagation } => self.fell(client, face, (place, propagation)).await,
            Deed::Late => self.late(client, face, number).await,
        }
    }
}

fn list(face: Face) -> ApiCall {
    super::list(face, Resource::ConfigMaps, NAMESPACE)
}

/// Says what is left whose owners are gone, or that is being deleted.
fn is_clean(answer: &ApiAnswer) -> Result<(), String> {
    if !answer.is_done() {
        return Err(format!("the list is refused ({})", answer.code));
    }
    let present: BTreeSet<&str> = answer.items.iter().filter_map(uid).collect();
    let is_left = |object: &&Value| {
        let owners = owners(object);
        let is_deleting = object.pointer("/metadata/deletionTimestamp").is_some();
        is_deleting || (!owners.is_empty() && owners.iter().all(|owner| !present.contains(owner.as_str())))
    };
    let mut left = answer.items.iter().filter(is_left).peekable();
    match left.peek().copied().cloned() {
        None => Ok(()),
        Some(first) => {
            let name = first.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            Err(format!("{} objects are left, such as {name}", left.count()))
        }
    }
}

#[async_trait]
impl Workload for Orphans {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.ensure_namespace(NAMESPACE).await?;
        while client.turn().await {
            let action = self.generator().next_action();
            self.perform(&mut client, action).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.settle("objects without owner", &list(Face::Rest), is_clean).await?;
        let _ = client.request(&list(Face::Grpc)).await?;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Plant,
    Fell { place: usize, propagation: Option<&'static str> },
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Action {
    face: Face,
    number: u64,
    deed: Deed,
}

struct Generator {
    random: StdRng,
    numbers: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        Self { random: StdRng::seed_from_u64(setup.seed), numbers: Counter::default() }
    }

    fn next_action(&mut self) -> Action {
        let policies = [None, Some("Background"), Some("Foreground"), Some("Orphan")];
        let deed = match self.random.random_range(0..10_u8) {
            0..=3 => Deed::Plant,
            4..=7 => {
                let policy = self.random.random_range(0..policies.len());
                let propagation = policies.get(policy).copied().flatten();
                Deed::Fell { place: self.random.random_range(0..STANDING_MAX), propagation }
            }
            _ => Deed::Late,
        };
        Action { face: face(self.random.random_range(0..2)), number: self.numbers.next(), deed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_comes_and_the_seed_repeats_the_actions() {
        let setup = Setup { seed: 5, prefix: String::new(), members: 3 };
        let (mut one, mut two) = (Generator::new(&setup), Generator::new(&setup));
        let mut policies = BTreeSet::new();
        for _ in 0..500 {
            let action = one.next_action();
            assert_eq!(action, two.next_action());
            if let Deed::Fell { propagation, .. } = action.deed {
                policies.insert(propagation);
            }
        }
        assert_eq!(policies.len(), 4);
    }

    #[test]
    fn what_lacks_its_owner_or_is_being_deleted_is_left() {
        let object = |name: &str, owner: Option<&str>, is_deleting: bool| {
            let mut metadata = json!({ "name": name, "uid": name });
            if let Some(owner) = owner {
                metadata["ownerReferences"] = json!([{ "uid": owner }]);
            }
            if is_deleting {
                metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            json!({ "metadata": metadata })
        };
        let of = |items: Vec<Value>| is_clean(&ApiAnswer { code: 200, items, ..ApiAnswer::default() });
        assert_eq!(of(vec![object("a", None, false), object("b", Some("a"), false)]), Ok(()));
        assert!(of(vec![object("b", Some("a"), false)]).unwrap_err().contains("such as b"));
        assert!(of(vec![object("a", None, true)]).is_err());
    }
}
