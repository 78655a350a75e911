//! What each server shows at the end, and whether it is what the writers were told.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};

use crate::cluster::Cluster;
use crate::doors::{self, ANY_SERVER};
use crate::writers::{Ledger, NAMESPACE, Seen};

/// The controllers' own object in every namespace.
const ROOT_CA: &str = "kube-root-ca.crt";

/// How long the whole history may take to arrive; far more than it takes.
const REPLAY_MAX: Duration = Duration::from_secs(60);

pub fn is_written_by_us(name: &str) -> bool {
    name != ROOT_CA
}

/// Returns what we wrote, in order of writing.
pub fn sorted(objects: impl IntoIterator<Item = ConfigMap>) -> Vec<ConfigMap> {
    let mut objects: Vec<_> =
        objects.into_iter().filter(|object| is_written_by_us(&Seen::of(object).name)).collect();
    objects.sort_by_key(|object| Seen::of(object).revision);
    objects
}

/// Returns the revision of a list that is taken now.
pub async fn revision(cluster: &Cluster) -> u64 {
    let api: Api<ConfigMap> = Api::namespaced(doors::rest(cluster, ANY_SERVER).await, NAMESPACE);
    let list = api.list(&ListParams::default()).await.unwrap();
    assert!(
        list.items.iter().all(|object| !is_written_by_us(&Seen::of(object).name)),
        "the namespace is used"
    );
    list.metadata.resource_version.unwrap().parse().unwrap()
}

/// Lists what one server shows of our objects.
pub async fn list(cluster: &Cluster, server: &str) -> Vec<ConfigMap> {
    let api: Api<ConfigMap> = Api::namespaced(doors::rest_for_watches(cluster, server).await, NAMESPACE);
    sorted(api.list(&ListParams::default()).await.unwrap().items)
}

/// Watches one server from a revision up to the object that was written last; returns types and objects of all events.
pub async fn replay(cluster: &Cluster, server: &str, from: u64, last: &str) -> Vec<(String, ConfigMap)> {
    let api: Api<ConfigMap> = Api::namespaced(doors::rest_for_watches(cluster, server).await, NAMESPACE);
    let mut stream = api.watch(&WatchParams::default(), &from.to_string()).await.unwrap().boxed();
    let mut events = Vec::new();
    let whole = async {
        loop {
            let (event_type, object) = match stream.next().await.expect("a watch without end").unwrap() {
                WatchEvent::Added(object) => ("ADDED", object),
                WatchEvent::Modified(object) => ("MODIFIED", object),
                WatchEvent::Deleted(object) => ("DELETED", object),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(status) => panic!("{server}: {status}"),
            };
            let is_last = Seen::of(&object).name == last;
            events.push((event_type.to_owned(), object));
            if is_last {
                return;
            }
        }
    };
    tokio::time::timeout(REPLAY_MAX, whole).await.expect("the last object never came");
    events
}

/// Expects every acknowledged write as it was acknowledged, no refused one, and none that nobody asked for.
pub fn check_against(ledger: &Ledger, shown: &[ConfigMap]) {
    let shown: BTreeMap<String, Seen> =
        shown.iter().map(Seen::of).map(|seen| (seen.name.clone(), seen)).collect();
    let lost: Vec<_> =
        ledger.acknowledged.iter().filter(|(name, seen)| shown.get(*name) != Some(seen)).collect();
    assert!(lost.is_empty(), "acknowledged, but lost or another object: {lost:?}");
    let done: Vec<_> = ledger.refused.iter().filter(|(name, _)| shown.contains_key(*name)).collect();
    assert!(done.is_empty(), "refused, but done: {done:?}");
    let is_known =
        |name: &String| ledger.acknowledged.contains_key(name) || ledger.unknown.contains_key(name);
    let invented: Vec<_> = shown.keys().filter(|name| !is_known(name)).collect();
    assert!(invented.is_empty(), "nobody wrote {invented:?}");
}

/// Expects each object once, as added, in order of revisions.
pub fn check_events(what: &str, events: &[(String, Seen)], objects: &[ConfigMap]) {
    let events: Vec<_> = events.iter().filter(|(_, seen)| is_written_by_us(&seen.name)).cloned().collect();
    let expected: Vec<_> = objects.iter().map(|object| ("ADDED".to_owned(), Seen::of(object))).collect();
    let differs = events.iter().zip(&expected).position(|(event, expected)| event != expected);
    if let Some(position) = differs {
        panic!("{what}: event {position} is {:?} instead of {:?}", events[position], expected[position]);
    }
    assert_eq!(events.len(), expected.len(), "{what}: events and objects");
}
