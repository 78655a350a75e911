//! Reflectors that live through all kills: kube-rs' and ours, each once failing over and once bound to a single server.

use std::sync::{Arc, Mutex};

use client::{Cache, ChangeKind, Changes, Reflector, ReflectorOptions};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::doors::{self, ANY_SERVER, SERVERS};
use crate::history::{is_written_by_us, sorted};
use crate::writers::{NAMESPACE, Seen};

/// What a kube-rs watcher handed out.
#[derive(Default)]
struct KubeLog {
    list_count: usize,
    applied: Vec<Seen>,
    deleted: Vec<Seen>,
    expired: Vec<String>,
    error_count: usize,
}

struct KubeReflector {
    name: String,
    store: Store<ConfigMap>,
    log: Arc<Mutex<KubeLog>>,
}

struct OurReflector {
    name: String,
    cache: Cache<ConfigMap>,
    changes: Arc<Mutex<Vec<(ChangeKind, Seen)>>>,
}

/// All reflectors at work.
pub struct Reflectors {
    kube: Vec<KubeReflector>,
    ours: Vec<OurReflector>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Reflectors {
    /// Starts them and waits until each has its first list, so that all that follows must come as events.
    pub async fn start(cluster: &Cluster) -> Self {
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        let mut kube = Vec::new();
        for context in [ANY_SERVER, SERVERS[0]] {
            let client = doors::rest_for_watches(cluster, context).await;
            let (store, writer) = reflector::store::<ConfigMap>();
            let log = Arc::new(Mutex::new(KubeLog::default()));
            let events = watcher(Api::namespaced(client, NAMESPACE), watcher::Config::default());
            let events = reflector::reflector(writer, events.default_backoff());
            let noting = Arc::clone(&log);
            let work = events.for_each(move |event| {
                note(&noting, event);
                std::future::ready(())
            });
            let stopped = shutdown.clone();
            tasks.spawn(async move {
                stopped.run_until_cancelled(work).await;
            });
            store.wait_until_ready().await.unwrap();
            kube.push(KubeReflector { name: format!("kube-rs through {context}"), store, log });
        }
        let mut ours = Vec::new();
        for servers in [&SERVERS[..], &SERVERS[1..2]] {
            let options = ReflectorOptions { namespace: NAMESPACE.to_owned(), ..ReflectorOptions::default() };
            let client = doors::grpc(cluster, servers);
            let cache = Reflector::spawn::<ConfigMap>(client, options, &mut tasks, shutdown.clone());
            cache.wait_synced().await;
            let mut changes = cache.subscribe();
            // What the first list held is no news.
            while changes.try_recv().is_some() {}
            let log = Arc::new(Mutex::new(Vec::new()));
            tasks.spawn(note_changes(changes, Arc::clone(&log)));
            ours.push(OurReflector { name: format!("ours on {}", servers.join(", ")), cache, changes: log });
        }
        Self { kube, ours, tasks, shutdown }
    }

    /// Says whether this object is the last that each of them was handed.
    pub fn have(&self, name: &str) -> bool {
        let is_it = |seen: Option<&Seen>| seen.is_some_and(|seen| seen.name == name);
        self.kube.iter().all(|reflector| is_it(reflector.log.lock().unwrap().applied.last()))
            && self.ours.iter().all(|reflector| {
                let changes = reflector.changes.lock().unwrap();
                is_it(changes.last().map(|(_, seen)| seen))
            })
    }

    /// Expects that each holds exactly `objects`, got each of them once, and never had to list again.
    pub fn check(mut self, objects: &[ConfigMap]) {
        self.shutdown.cancel();
        self.tasks.abort_all();
        for reflector in &self.kube {
            check_kube(reflector, objects);
        }
        for reflector in &self.ours {
            check_ours(reflector, objects);
        }
    }
}

/// Takes every change as soon as it is there, because changes of one object that nobody takes are joined.
async fn note_changes(mut changes: Changes<ConfigMap>, log: Arc<Mutex<Vec<(ChangeKind, Seen)>>>) {
    loop {
        let change = changes.recv().await;
        log.lock().unwrap().push((change.kind, Seen::of(&change.object)));
    }
}

fn note(log: &Mutex<KubeLog>, event: watcher::Result<Event<ConfigMap>>) {
    let mut log = log.lock().unwrap();
    match event {
        Ok(Event::Init) => log.list_count += 1,
        Ok(Event::InitApply(_) | Event::InitDone) => {}
        Ok(Event::Apply(object)) => log.applied.push(Seen::of(&object)),
        Ok(Event::Delete(object)) => log.deleted.push(Seen::of(&object)),
        Err(watcher::Error::WatchError(status)) if status.code == 410 => log.expired.push(status.to_string()),
        Err(error) if error.to_string().contains("Expired") => log.expired.push(error.to_string()),
        // Most cuts are no error to it: it watches again at once. That each server died says that each watch was cut.
        Err(_interrupted) => log.error_count += 1,
    }
}

fn check_kube(reflector: &KubeReflector, objects: &[ConfigMap]) {
    let (name, log) = (&reflector.name, reflector.log.lock().unwrap());
    let held = reflector.store.state().into_iter().map(|object| (*object).clone());
    assert!(sorted(held) == objects, "{name} holds something else than the servers");
    let expected: Vec<Seen> = objects.iter().map(Seen::of).collect();
    let applied: Vec<Seen> =
        log.applied.iter().filter(|seen| is_written_by_us(&seen.name)).cloned().collect();
    assert!(applied == expected, "{name} was not handed every object once and in order");
    assert_eq!(log.deleted, [], "{name}");
    assert_eq!((log.list_count, &log.expired[..]), (1, &[][..]), "{name} had to list again");
    println!("{name}: {} events, {} errors met, one list", applied.len(), log.error_count);
}

fn check_ours(reflector: &OurReflector, objects: &[ConfigMap]) {
    let name = &reflector.name;
    let held = reflector.cache.list_namespace(NAMESPACE).into_iter().map(|object| (*object).clone());
    assert!(sorted(held) == objects, "{name} holds something else than the servers");
    let expected: Vec<_> = objects.iter().map(|object| (ChangeKind::Applied, Seen::of(object))).collect();
    let changes = reflector.changes.lock().unwrap();
    let changes: Vec<_> = changes.iter().filter(|(_, seen)| is_written_by_us(&seen.name)).cloned().collect();
    assert!(changes == expected, "{name} did not hand out every object once and in order");
    assert_eq!(reflector.cache.list_count(), 1, "{name} had to list again");
    println!("{name}: {} changes, one list", changes.len());
}
