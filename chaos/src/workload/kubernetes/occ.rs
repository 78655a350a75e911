//! The occ workload: clients append to lists in few ConfigMaps, each update on condition that nobody has written meanwhile.
//!
//! A client reads an object through one face and writes it back with an element more. Some write back what they know to be old, which must be
//! refused; some add a field of their own by a patch without a condition, which must neither be lost nor lose anything. Objects are retired
//! after a number of elements. At the end every object is read through every server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::super::values::Counter;
use super::super::{Client, Entry, Nodes, Setup, Tier, Workload};
use super::{config_map, face, get, written};
use crate::check::kubernetes::occ::{NAMESPACE, list_of};
use crate::history::{ApiCall, Face, Resource};

pub(in super::super) const ENTRY: Entry = Entry {
    name: "k-occ",
    about: "ConfigMaps are read and written back with their resourceVersion, through every server and both faces",
    checkers: &["k-occ", "convergence"],
    needs_own_store: true,
    tier: Tier::Kubernetes,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Occ::new(setup)),
};

/// Objects that are written at a time: few, so that updates meet.
const OBJECTS: u64 = 3;
/// Elements after which an object is retired.
const ELEMENTS_PER_OBJECT: u64 = 40;

struct Occ {
    generator: Mutex<Generator>,
    /// What objects were before an update of theirs was acknowledged: with a resourceVersion that is old for certain.
    stale: Mutex<BTreeMap<String, Value>>,
}

impl Occ {
    fn new(setup: &Setup) -> Self {
        Self { generator: Mutex::new(Generator::new(setup)), stale: Mutex::default() }
    }

    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stale(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform(&self, client: &mut Client, action: Action) -> std::io::Result<()> {
        let Action { name, tag, deed, face } = action;
        let write = |object| written(face, Resource::ConfigMaps, NAMESPACE, &name, object);
        if deed == Deed::Patch {
            let field = format!("note-{tag}");
            let patch = json!({ "data": { field: tag.to_string() } });
            let _ = client.request(&ApiCall::Patch(write(patch))).await?;
            return Ok(());
        }
        let old = if deed == Deed::Stale { self.stale().get(&name).cloned() } else { None };
        if let Some(old) = old {
            let _ = client.request(&ApiCall::Update(write(appended(&old, tag)))).await?;
            return Ok(());
        }
        let Ok(read) = client.request(&get(face, Resource::ConfigMaps, NAMESPACE, &name)).await? else {
            return Ok(());
        };
        if read.code == 404 {
            let object = config_map(NAMESPACE, &name, &json!({ "list": tag.to_string() }));
            let _ = client.request(&ApiCall::Create(write(object))).await?;
        } else if read.is_done() && deed != Deed::Read {
            let update = ApiCall::Update(write(appended(&read.object, tag)));
            if client.request(&update).await?.is_ok_and(|answer| answer.is_done()) {
                self.stale().insert(name, read.object);
            }
        }
        Ok(())
    }
}

fn appended(object: &Value, tag: u64) -> Value {
    let mut object = object.clone();
    let mut list = list_of(&object);
    list.push(tag.to_string());
    if let Some(data) = object.get_mut("data").and_then(Value::as_object_mut) {
        data.insert("list".to_owned(), json!(list.join(" ")));
    }
    object
}

#[async_trait]
impl Workload for Occ {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.ensure_namespace(NAMESPACE).await?;
        while client.turn().await {
            let action = self.generator().next_action();
            self.perform(&mut client, action).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let names = self.generator().names();
        for name in names {
            let _ = client.request(&get(Face::Rest, Resource::ConfigMaps, NAMESPACE, &name)).await?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Append,
    /// An update of what is known to be old.
    Stale,
    Patch,
    Read,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    name: String,
    /// Unique in the run.
    tag: u64,
    deed: Deed,
    face: Face,
}

/// Draws actions from a seed.
struct Generator {
    random: StdRng,
    tags: Counter,
    appended: u64,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        Self { random: StdRng::seed_from_u64(setup.seed), tags: Counter::default(), appended: 0 }
    }

    fn next_action(&mut self) -> Action {
        let tag = self.tags.next();
        let generation = self.appended / (ELEMENTS_PER_OBJECT * OBJECTS);
        let name = name(generation, self.random.random_range(0..OBJECTS));
        let deed = match self.random.random_range(0..10_u8) {
            0..=5 => Deed::Append,
            6 => Deed::Stale,
            7 => Deed::Patch,
            _ => Deed::Read,
        };
        self.appended += u64::from(deed == Deed::Append);
        Action { name, tag, deed, face: face(self.random.random_range(0..2)) }
    }

    fn names(&self) -> Vec<String> {
        let generations = 0..=self.appended / (ELEMENTS_PER_OBJECT * OBJECTS);
        generations.flat_map(|generation| (0..OBJECTS).map(move |object| name(generation, object))).collect()
    }
}

fn name(generation: u64, object: u64) -> String {
    format!("occ-{generation}-{object}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn actions_come_from_the_seed_and_every_object_is_read_at_the_end() {
        let setup = Setup { seed: 3, prefix: String::new(), members: 3 };
        let (mut one, mut two) = (Generator::new(&setup), Generator::new(&setup));
        let (mut tags, mut names, mut faces) = (BTreeSet::new(), BTreeSet::new(), [0, 0]);
        for _ in 0..1000 {
            let action = one.next_action();
            assert_eq!(action, two.next_action());
            assert!(tags.insert(action.tag));
            faces[usize::from(action.face == Face::Grpc)] += 1;
            names.insert(action.name);
        }
        let last: BTreeSet<String> = one.names().into_iter().collect();
        assert!(names.is_subset(&last) && names.len() >= 12, "{names:?}");
        assert!(faces.iter().all(|count| *count > 400), "{faces:?}");
    }

    #[test]
    fn an_element_is_appended_and_nothing_else_changes() {
        let object =
            json!({ "metadata": { "resourceVersion": "7" }, "data": { "list": "1 2", "note-5": "5" } });
        let after = appended(&object, 9);
        assert_eq!(after["data"], json!({ "list": "1 2 9", "note-5": "5" }));
        assert_eq!(after["metadata"], object["metadata"]);
    }
}
