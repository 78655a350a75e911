//! Drives a [`Watcher`] against the API and feeds a [`Cache`]: the IO edge of the read path, without decisions.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::{Client, WatchEvent};
use crate::cache::Cache;
use crate::error::ApiError;
use crate::object::{ApiObject, ResourceKind};
use crate::options::{ListOptions, WatchOptions};
use crate::watcher::{Step, Watcher};

/// Objects per page of a list: bounds the answer's size.
const PAGE_OBJECT_COUNT: u64 = 500;
/// How long a wanted revision may stay away before a list is cheaper than more waiting.
const WANTED_PATIENCE: Duration = Duration::from_millis(300);

/// Which objects to follow; empty strings select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReflectorOptions {
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
}

/// Follows one kind and keeps a cache of it.
pub struct Reflector;

impl Reflector {
    /// Starts following a kind in a task of `tasks` until `shutdown`; returns its cache at once, not yet synced.
    pub fn spawn<K: ApiObject>(
        client: Client,
        options: ReflectorOptions,
        tasks: &mut JoinSet<()>,
        shutdown: CancellationToken,
    ) -> Cache<K> {
        Self::spawn_as(ResourceKind::of::<K>(), client, options, tasks, shutdown)
    }

    /// As [`Reflector::spawn`] for a kind named at run time.
    pub fn spawn_as<K: ApiObject>(
        kind: ResourceKind,
        client: Client,
        options: ReflectorOptions,
        tasks: &mut JoinSet<()>,
        shutdown: CancellationToken,
    ) -> Cache<K> {
        let cache = Cache::new();
        let feed = Feed {
            kind,
            watcher: Watcher::new(client.outside().uuid().as_u64_pair().0),
            client,
            options,
            wanted: cache.wanted(),
            cache: cache.clone(),
        };
        tasks.spawn(async move {
            shutdown.run_until_cancelled(feed.run()).await;
        });
        cache
    }
}

struct Feed<K> {
    kind: ResourceKind,
    client: Client,
    options: ReflectorOptions,
    watcher: Watcher<K>,
    cache: Cache<K>,
    wanted: watch::Receiver<u64>,
}

enum Next<K> {
    Event(Option<Result<WatchEvent<K>, ApiError>>),
    RelistWanted,
}

impl<K: ApiObject> Feed<K> {
    async fn run(mut self) {
        loop {
            let pause = match self.watcher.step() {
                Step::List { continue_token } => self.list(continue_token).await,
                Step::Watch { from } => self.watch(from).await,
            };
            sleep(pause).await;
        }
    }

    async fn list(&mut self, continue_token: String) -> Duration {
        let options = ListOptions {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            limit: PAGE_OBJECT_COUNT,
            continue_token,
            resource_version: String::new(),
        };
        match self.client.list_as(&self.kind, &self.options.namespace, &options).await {
            Ok(page) => {
                if let Some(update) = self.watcher.page(page) {
                    self.cache.update(update);
                }
                Duration::ZERO
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Follows one watch until it ends.
    async fn watch(&mut self, from: u64) -> Duration {
        let options = WatchOptions {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            resource_version: from,
        };
        let mut events = self.client.watch_as(&self.kind, &self.options.namespace, &options);
        loop {
            match self.next(&mut events).await {
                Next::Event(Some(Ok(event))) => {
                    if let Some(update) = self.watcher.event(event) {
                        self.cache.update(update);
                    }
                }
                Next::Event(Some(Err(error))) => return self.failed(&error),
                Next::Event(None) => return self.watcher.ended(),
                Next::RelistWanted => {
                    self.watcher.relist();
                    return Duration::ZERO;
                }
            }
        }
    }

    async fn next(&mut self, events: &mut BoxStream<'static, Result<WatchEvent<K>, ApiError>>) -> Next<K> {
        let behind = wanted_out_of_patience(&mut self.wanted, &self.cache);
        tokio::select! {
            biased;
            event = events.next() => Next::Event(event),
            () = behind => Next::RelistWanted,
        }
    }

    fn failed(&mut self, error: &ApiError) -> Duration {
        let pause = self.watcher.failed(error);
        let kind = &self.kind.resource;
        match error {
            ApiError::Expired(_) => info!(%kind, "revision expired; listing again"),
            ApiError::Forbidden(_)
            | ApiError::Unauthorized(_)
            | ApiError::NotFound(_)
            | ApiError::Malformed(_) => {
                warn!(%kind, %error, ?pause, "reflector refused");
            }
            _ => debug!(%kind, %error, ?pause, "reflector interrupted"),
        }
        pause
    }
}

/// Returns once somebody has wanted a newer revision than the cache has, for longer than a watch should take.
async fn wanted_out_of_patience<K: ApiObject>(wanted: &mut watch::Receiver<u64>, cache: &Cache<K>) {
    loop {
        // The cache that this feed owns keeps the channel open.
        let Ok(revision) = wanted.wait_for(|revision| *revision > cache.revision()).await.map(|found| *found)
        else {
            return std::future::pending().await;
        };
        sleep(WANTED_PATIENCE).await;
        if cache.revision() < revision {
            return;
        }
    }
}
