//! Tells the API what happened to pods and the node, as Event objects.
//!
//! Repeats of one message become a count on one Event. Events are news, not state: when the queue is full or the API refuses,
//! they are dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use client::{Client, Patch, WriteOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use transport::outside::Outside;

/// Component name in events; tools group by it.
const COMPONENT: &str = "kubelet";
/// Events that wait for the API: a burst of a full node (110 pods × 4 events) fits.
const QUEUE_LENGTH: usize = 512;
/// How many messages are remembered for counting.
const REMEMBERED_MAX: usize = 1024;

/// Whether something went as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// It did.
    Normal,
    /// A person may want to look.
    Warning,
}

#[derive(Debug, Clone)]
struct News {
    object: ObjectReference,
    tone: Tone,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Where events are handed in; never blocks.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<News>,
    outside: Arc<dyn Outside>,
}

/// The task that writes them.
#[derive(Debug)]
pub struct EventWriter {
    queue: mpsc::Receiver<News>,
    client: Client,
    node_name: String,
    seen: BTreeMap<Key, Seen>,
    order: VecDeque<Key>,
}

type Key = (Option<String>, Option<String>, &'static str, String);

#[derive(Debug, Clone)]
struct Seen {
    name: String,
    count: i32,
}

/// Returns the two ends.
#[must_use]
pub fn channel(client: Client, node_name: &str) -> (Events, EventWriter) {
    let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
    let outside = Arc::clone(client.outside());
    let writer = EventWriter {
        queue,
        client,
        node_name: node_name.to_owned(),
        seen: BTreeMap::new(),
        order: VecDeque::new(),
    };
    (Events { queue: sender, outside }, writer)
}

impl Events {
    /// Tells about a pod, or one of its containers.
    pub fn pod(&self, pod: &Pod, container: Option<&str>, tone: Tone, reason: &'static str, message: String) {
        let metadata = &pod.metadata;
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            field_path: container.map(|name| format!("spec.containers{{{name}}}")),
        };
        self.send(News { object, tone, reason, message, at: self.outside.now() });
    }

    /// Tells about the node.
    pub fn node(&self, node: &Node, tone: Tone, reason: &'static str, message: String) {
        let object = ObjectReference {
            kind: Some("Node".to_owned()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.send(News { object, tone, reason, message, at: self.outside.now() });
    }

    fn send(&self, news: News) {
        tracing::debug!(reason = news.reason, message = %news.message, object = ?news.object.name, "event");
        if self.queue.try_send(news).is_err() {
            tracing::debug!("event dropped: queue is full");
        }
    }
}

impl EventWriter {
    /// Writes until the token is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let news = tokio::select! {
                () = shutdown.cancelled() => return,
                news = self.queue.recv() => news,
            };
            let Some(news) = news else { return };
            self.write(news).await;
        }
    }

    async fn write(&mut self, news: News) {
        let object = &news.object;
        let key = (object.uid.clone(), object.field_path.clone(), news.reason, news.message.clone());
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let written = match self.seen.get_mut(&key) {
            Some(seen) => {
                seen.count = seen.count.saturating_add(1);
                let patch = Patch::Merge(json!({ "count": seen.count, "lastTimestamp": Time(news.at) }));
                let name = seen.name.clone();
                self.client.patch::<Event>(&namespace, &name, "", &patch, &WriteOptions::default()).await
            }
            None => {
                let event = self.event(&news, &namespace);
                let name = event.metadata.name.clone().unwrap_or_default();
                self.remember(key, Seen { name, count: 1 });
                self.client.create(&event, &WriteOptions::default()).await
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, reason = news.reason, "event is not written");
        }
    }

    fn remember(&mut self, key: Key, seen: Seen) {
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.seen.insert(key, seen);
    }

    fn event(&self, news: &News, namespace: &str) -> Event {
        let object_name = news.object.name.clone().unwrap_or_default();
        let suffix = format!("{:x}", news.at.as_nanosecond());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{object_name}.{suffix}")),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: news.object.clone(),
            reason: Some(news.reason.to_owned()),
            message: Some(news.message.clone()),
            type_: Some(match news.tone {
                Tone::Normal => "Normal".to_owned(),
                Tone::Warning => "Warning".to_owned(),
            }),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(self.node_name.clone()),
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.node_name.clone()),
            first_timestamp: Some(Time(news.at)),
            last_timestamp: Some(Time(news.at)),
            count: Some(1),
            ..Event::default()
        }
    }
}
