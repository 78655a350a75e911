//! The list-watch workload: informers on every server and through both faces, while others create, change and delete ConfigMaps.
//!
//! An informer lists, watches from there, and goes on from the last resourceVersion that it saw, bookmarks included, whenever its watch ends;
//! a quarter of them with another server each time. Some watches are ended on purpose, and some informers begin anew then, as a process does that
//! was restarted. Now and then the store forgets its history, and what has expired is listed anew. At the end each writes an object
//! and waits until its watch shows it; writers list with every meaning that a resourceVersion can have.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::super::values::Counter;
use super::super::{Client, Entry, Nodes, Setup, Tier, Workload};
use super::{config_map, face, list, removal, written};
use crate::check::kubernetes::list_watch::NAMESPACE;
use crate::history::{ApiCall, EventKind, Face, Function, Informed, Listing, Resource, revision};
use crate::kubernetes::{Shown, Watching};

pub(in super::super) const ENTRY: Entry = Entry {
    name: "k-listwatch",
    about: "informers list and watch ConfigMaps on every server, while others write",
    checkers: &["k-listwatch", "convergence"],
    needs_own_store: true,
    tier: Tier::Kubernetes,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(ListWatch::new(setup)),
};

/// Names that are used again and again.
const NAMES: u64 = 12;
/// How long a watch stays open before it is ended on purpose: shorter than a fault, so that informers begin within one, or long
/// enough for bookmarks, the first of which comes after ten seconds.
const SHORT_WATCH_MS: std::ops::Range<u64> = 500..3000;
const LONG_WATCH_MS: std::ops::Range<u64> = 11_000..20_000;
/// The store forgets its history once in so many writes.
const WRITES_PER_COMPACTION: u32 = 100;
/// Before a server is asked again that did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Longest that a healed server may take to show a new object.
const BEHIND_MAX: Duration = Duration::from_secs(10);
/// The first process number of informers: no client comes so far.
const PROCESSES: u32 = 2_000_000_000;

struct ListWatch {
    members: u32,
    generator: Mutex<Generator>,
    /// The highest revision that anybody was answered.
    newest: AtomicI64,
}

/// One informer.
struct Informer {
    process: u32,
    face: Face,
    /// All up to this revision was shown; `None` before the first list.
    position: Option<i64>,
    /// What it waits for at the end.
    awaits: Option<i64>,
    ends: Option<Instant>,
}

impl Informer {
    fn is_done(&self) -> bool {
        self.awaits.zip(self.position).is_some_and(|(awaits, position)| position >= awaits)
    }
}

impl ListWatch {
    fn new(setup: &Setup) -> Self {
        let (members, newest) = (setup.members.max(1), AtomicI64::new(0));
        Self { members, generator: Mutex::new(Generator::new(setup)), newest }
    }

    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, mut client: Client) -> std::io::Result<()> {
        while client.turn().await {
            let newest = self.newest.load(Ordering::Relaxed);
            if self.generator().next_forgets() {
                // Whoever was cut off has to list again.
                let _ = client.compact(newest).await?;
                continue;
            }
            let call = self.generator().next_call(newest);
            if let Ok(answer) = client.request(&call).await? {
                self.newest.fetch_max(answer.revision, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn inform(&self, mut client: Client) -> std::io::Result<()> {
        let number = client.number();
        let face = face(u64::from(number / self.members));
        let process = PROCESSES.saturating_add(number);
        let mut informer = Informer { process, face, position: None, awaits: None, ends: None };
        loop {
            match informer.position {
                None => self.list(&mut client, &mut informer, "").await?,
                Some(from) => self.watch(&mut client, &mut informer, from).await?,
            }
            if informer.is_done() {
                return Ok(());
            }
            if informer.ends.is_some_and(|ends| ends <= Instant::now()) {
                let why = format!("it is at {:?} and waits for {:?}", informer.position, informer.awaits);
                return client.note_watch_end_of(process, Function::Inform, EventKind::Fail, &why);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
            match (informer.ends, client.is_over()) {
                (None, true) => self.await_last(&mut client, &mut informer).await?,
                (None, false) => self.begin_anew(&mut client, &mut informer).await?,
                // What it waits for must be shown by a watch.
                (Some(_), _) => {}
            }
        }
    }

    /// Lets some informers list once more, which must not take them back.
    async fn begin_anew(&self, client: &mut Client, informer: &mut Informer) -> std::io::Result<()> {
        let anew = self.generator().next_anew();
        match anew.filter(|_| informer.position.is_some()) {
            Some(resource_version) => self.list(client, informer, resource_version).await,
            None => Ok(()),
        }
    }

    async fn list(
        &self,
        client: &mut Client,
        informer: &mut Informer,
        resource_version: &str,
    ) -> std::io::Result<()> {
        let listing = Listing {
            face: informer.face,
            resource: Resource::ConfigMaps,
            namespace: NAMESPACE.to_owned(),
            resource_version: resource_version.to_owned(),
            ..Listing::default()
        };
        let Ok(answer) = client.request(&ApiCall::List(listing)).await? else { return Ok(()) };
        if !answer.is_done() {
            return Ok(());
        }
        let named = |object: &Value| {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            (name.to_owned(), revision(object))
        };
        let items = answer.items.iter().map(named).collect();
        note(client, informer, &Informed::Listed { revision: answer.revision, items })?;
        informer.position = Some(answer.revision);
        Ok(())
    }

    async fn watch(&self, client: &mut Client, informer: &mut Informer, from: i64) -> std::io::Result<()> {
        let server = client.take_server()?;
        note(client, informer, &Informed::Opened { from, face: informer.face })?;
        let mut watching = server.watch(informer.face, Resource::ConfigMaps, NAMESPACE, from).await;
        let mut until = Instant::now() + self.generator().next_lasting();
        loop {
            let shown = tokio::select! {
                biased;
                shown = watching.next() => shown,
                () = client.stopped(), if informer.ends.is_none() => {
                    self.await_last(client, informer).await?;
                    until = informer.ends.unwrap_or(until);
                    if informer.is_done() {
                        return Ok(());
                    }
                    continue;
                }
                () = sleep_until(until) => Shown::Ended("it was open for long enough".to_owned()),
            };
            if !self.take_in(client, informer, (from, shown))? || informer.is_done() {
                drop::<Watching>(watching);
                return Ok(());
            }
        }
    }

    /// Records what was shown; returns whether the watch goes on.
    fn take_in(
        &self,
        client: &Client,
        informer: &mut Informer,
        (from, shown): (i64, Shown),
    ) -> std::io::Result<bool> {
        let (informed, reached, goes_on) = match shown {
            Shown::Event(event) => {
                let reached = event.revision;
                (Informed::Event(event), Some(reached), true)
            }
            Shown::Bookmark(revision) => (Informed::Bookmark { revision }, Some(revision), true),
            Shown::Expired => {
                informer.position = None;
                (Informed::Expired { from }, None, false)
            }
            Shown::Ended(why) => (Informed::Ended { why }, None, false),
        };
        note(client, informer, &informed)?;
        if let Some(reached) = reached {
            informer.position = Some(reached);
        }
        Ok(goes_on)
    }

    /// Writes an object that the informer must be shown before it may end.
    async fn await_last(&self, client: &mut Client, informer: &mut Informer) -> std::io::Result<()> {
        informer.ends.get_or_insert(Instant::now() + BEHIND_MAX);
        let name = format!("last-{}", informer.process);
        let object = config_map(NAMESPACE, &name, &json!({ "value": name.clone() }));
        let create = ApiCall::Create(written(Face::Rest, Resource::ConfigMaps, NAMESPACE, &name, object));
        while informer.awaits.is_none() && informer.ends.is_some_and(|ends| ends > Instant::now()) {
            match client.request(&create).await? {
                Ok(answer) if answer.is_done() => informer.awaits = Some(answer.revision),
                // An earlier attempt of unknown fate was done.
                Ok(answer) if answer.code == 409 => {
                    let read = super::get(Face::Rest, Resource::ConfigMaps, NAMESPACE, &name);
                    informer.awaits = client.request(&read).await?.ok().map(|answer| answer.revision);
                }
                Ok(_) | Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
        if let Some(revision) = informer.awaits {
            note(client, informer, &Informed::Awaits { revision })?;
        }
        Ok(())
    }
}

fn note(client: &Client, informer: &Informer, informed: &Informed) -> std::io::Result<()> {
    client.note_watch(informer.process, Function::Inform, EventKind::Ok, informed, None)
}

#[async_trait]
impl Workload for ListWatch {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        client.ensure_namespace(NAMESPACE).await?;
        if client.number() < 2 * self.members { self.inform(client).await } else { self.write(client).await }
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        for face in [Face::Rest, Face::Grpc] {
            let _ = client.request(&list(face, Resource::ConfigMaps, NAMESPACE)).await?;
        }
        Ok(())
    }
}

/// Draws requests from a seed.
struct Generator {
    random: StdRng,
    values: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        Self { random: StdRng::seed_from_u64(setup.seed), values: Counter::default() }
    }

    fn next_lasting(&mut self) -> Duration {
        let lasting = if self.random.random_ratio(1, 2) { SHORT_WATCH_MS } else { LONG_WATCH_MS };
        Duration::from_millis(self.random.random_range(lasting))
    }

    /// With which resourceVersion an informer lists once more, if it begins anew: as clients that want the newest state, or as reflectors do.
    fn next_anew(&mut self) -> Option<&'static str> {
        match self.random.random_range(0..6_u8) {
            0..=1 => Some(""),
            2 => Some("0"),
            _ => None,
        }
    }

    /// Whether the store's history is to be forgotten now.
    fn next_forgets(&mut self) -> bool {
        self.random.random_ratio(1, WRITES_PER_COMPACTION)
    }

    fn next_call(&mut self, newest: i64) -> ApiCall {
        let face = face(self.random.random_range(0..2));
        let name = format!("item-{}", self.random.random_range(0..NAMES));
        let value = self.values.next();
        let write = |object| written(face, Resource::ConfigMaps, NAMESPACE, &name, object);
        match self.random.random_range(0..20_u8) {
            0..=5 => {
                let data = json!({ "value": value.to_string() });
                ApiCall::Create(write(config_map(NAMESPACE, &name, &data)))
            }
            6..=11 => ApiCall::Patch(write(json!({ "data": { "value": value.to_string() } }))),
            12..=15 => ApiCall::Delete(removal(face, Resource::ConfigMaps, NAMESPACE, &name)),
            shape => {
                let (resource, namespace) = (Resource::ConfigMaps, NAMESPACE.to_owned());
                let resource_version = match self.random.random_range(0..5_u8) {
                    0..=1 => String::new(),
                    2 => "0".to_owned(),
                    _ if newest > 0 => newest.to_string(),
                    _ => String::new(),
                };
                // Only REST can ask for a revision that was.
                let exact = shape == 16 && resource_version.len() > 1;
                let face = if exact { Face::Rest } else { face };
                ApiCall::List(Listing { face, resource, namespace, resource_version, exact })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_of_request_and_of_list_comes_and_the_seed_repeats_them() {
        let setup = Setup { seed: 5, prefix: String::new(), members: 3 };
        let (mut one, mut two) = (Generator::new(&setup), Generator::new(&setup));
        let (mut kinds, mut lists) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..2000 {
            let call = one.next_call(700);
            assert_eq!(call, two.next_call(700));
            if let ApiCall::List(listing) = &call {
                lists.insert((listing.resource_version.clone(), listing.exact));
            }
            let value = serde_json::to_value(call).unwrap();
            kinds.extend(value.as_object().unwrap().keys().cloned());
        }
        assert_eq!(kinds.iter().collect::<Vec<_>>(), ["create", "delete", "list", "patch"]);
        let list = |version: &str, exact| (version.to_owned(), exact);
        let all = [list("", false), list("0", false), list("700", false), list("700", true)];
        assert_eq!(lists, BTreeSet::from(all));
    }

    #[test]
    fn watches_are_short_or_long_and_some_informers_begin_anew() {
        let mut generator = Generator::new(&Setup { seed: 5, prefix: String::new(), members: 3 });
        let (mut short, mut long, mut anew) = (0, 0, BTreeSet::new());
        for _ in 0..100 {
            let lasting = generator.next_lasting();
            short += i32::from(lasting < Duration::from_secs(3));
            long += i32::from(lasting > Duration::from_secs(10));
            anew.insert(generator.next_anew());
        }
        assert!(short > 30 && long > 30 && short + long == 100, "{short} {long}");
        assert_eq!(anew, BTreeSet::from([None, Some(""), Some("0")]));
    }

    #[test]
    fn an_informer_ends_when_it_was_shown_what_it_waits_for() {
        let informer =
            |position, awaits| Informer { process: 0, face: Face::Rest, position, awaits, ends: None };
        assert!(informer(Some(7), Some(7)).is_done());
        assert!(!informer(Some(6), Some(7)).is_done() && !informer(Some(7), None).is_done());
    }
}
