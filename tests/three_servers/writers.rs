//! Eight writers that create config maps one after another, and the ledger of what the servers told them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use client::{ApiError, WriteOptions};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::doors::{self, ANY_SERVER, SERVERS};

pub const WRITERS: usize = 8;
pub const NAMESPACE: &str = "default";

/// Pause of a client after a failure, so that an outage is not answered with a flood.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);

/// An object as a list, a watch or an answer shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub revision: u64,
    pub name: String,
    pub uid: String,
}

impl Seen {
    pub fn of(object: &ConfigMap) -> Self {
        let metadata = object.metadata.clone();
        Self {
            revision: metadata.resource_version.unwrap().parse().unwrap(),
            name: metadata.name.unwrap(),
            uid: metadata.uid.unwrap(),
        }
    }
}

/// A write that was acknowledged.
#[derive(Clone, Debug)]
struct Success {
    writer: usize,
    name: String,
    started: Instant,
    ended: Instant,
}

/// What the writers know of what they wrote.
#[derive(Default)]
pub struct Ledger {
    /// By name.
    pub acknowledged: BTreeMap<String, Seen>,
    /// The server said that nothing was written.
    pub refused: BTreeMap<String, String>,
    /// Nobody said anything, or the server said that it does not know.
    pub unknown: BTreeMap<String, String>,
    successes: Vec<Success>,
}

impl Ledger {
    /// For every writer that has had one: the time from `kill` to its next success, of a write that began after the kill.
    pub fn recovery(&self, kill: Instant) -> BTreeMap<usize, Duration> {
        let mut recovered = BTreeMap::new();
        for success in self.successes.iter().filter(|success| success.started >= kill) {
            recovered.entry(success.writer).or_insert(success.ended - kill);
        }
        recovered
    }

    /// Returns the first object whose write began after `instant`, if there is one already.
    pub fn written_after(&self, instant: Instant) -> Option<String> {
        self.successes.iter().find(|success| success.started >= instant).map(|success| success.name.clone())
    }
}

/// How a failed write must be understood.
enum Failed {
    Refused(String),
    Unknown(String),
}

/// One writer's client. Half of them speak REST through the address that finds a live server, half our gRPC client; a lost answer
/// is asked for again only by the latter, with an idempotency key.
enum Door {
    Rest(Box<Api<ConfigMap>>),
    Grpc(client::Client),
}

impl Door {
    async fn create(&self, name: &str) -> Result<ConfigMap, Failed> {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        };
        let data = BTreeMap::from([("writes".to_owned(), name.to_owned())]);
        let object = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        match self {
            Self::Rest(api) => api.create(&PostParams::default(), &object).await.map_err(of_rest),
            Self::Grpc(client) => {
                let options =
                    WriteOptions { idempotency_key: Some(name.to_owned()), ..WriteOptions::default() };
                client.create(&object, &options).await.map_err(of_grpc)
            }
        }
    }
}

fn of_rest(error: kube::Error) -> Failed {
    match &error {
        // 503 is the server's word for "nothing was proposed", 504 for "I do not know".
        kube::Error::Api(status) if matches!(status.code, 429 | 503) => Failed::Refused(error.to_string()),
        _ => Failed::Unknown(format!("{error:?}")),
    }
}

fn of_grpc(error: ApiError) -> Failed {
    if error.is_definitely_not_applied() {
        Failed::Refused(error.to_string())
    } else {
        Failed::Unknown(error.to_string())
    }
}

/// The writers at work.
pub struct Writers {
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Writers {
    pub async fn start(cluster: &Cluster) -> Self {
        let mut writers = Self { ledger: Arc::default(), stop: Arc::default(), tasks: JoinSet::new() };
        for number in 0..WRITERS {
            let door = if number % 2 == 0 {
                Door::Rest(Box::new(Api::namespaced(doors::rest(cluster, ANY_SERVER).await, NAMESPACE)))
            } else {
                Door::Grpc(doors::grpc(cluster, &SERVERS))
            };
            let (ledger, stop) = (Arc::clone(&writers.ledger), Arc::clone(&writers.stop));
            writers.tasks.spawn(write(door, number, ledger, stop));
        }
        writers
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Lets every writer finish its write, and then writes the last object of all.
    pub async fn finish(&mut self, cluster: &Cluster) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let api = Api::namespaced(doors::rest(cluster, ANY_SERVER).await, NAMESPACE);
        let Ok(created) = Door::Rest(Box::new(api)).create("last").await else {
            panic!("a quiet cluster takes no write");
        };
        let last = Seen::of(&created);
        self.ledger().acknowledged.insert(last.name.clone(), last.clone());
        last
    }
}

async fn write(door: Door, writer: usize, ledger: Arc<Mutex<Ledger>>, stop: Arc<AtomicBool>) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-{number}");
        let started = Instant::now();
        let result = door.create(&name).await;
        let ended = Instant::now();
        let failed = {
            let mut ledger = ledger.lock().unwrap();
            match result {
                Ok(created) => {
                    ledger.acknowledged.insert(name.clone(), Seen::of(&created));
                    ledger.successes.push(Success { writer, name, started, ended });
                    false
                }
                Err(Failed::Refused(why)) => ledger.refused.insert(name, why).is_none(),
                Err(Failed::Unknown(why)) => ledger.unknown.insert(name, why).is_none(),
            }
        };
        if failed {
            tokio::time::sleep(FAILURE_PAUSE).await;
        }
    }
}
