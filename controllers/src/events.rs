//! Writes notes to users as core/v1 Events; repeats of one note raise its count instead of making another Event.

use client::{ApiError, Client, Patch, WriteOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::runtime::action::{Note, NoteType};

/// Messages beyond this are cut, as upstream does.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Bytes of the hash that tells notes about one object apart.
const NAME_HASH_BYTES: usize = 8;

/// Records a note.
///
/// # Errors
/// Whatever stopped the write; the caller may drop it.
pub async fn record(
    client: &Client,
    component: &'static str,
    note: &Note,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    let event = event(component, note, client.outside().now());
    match client.create(&event, options).await {
        Err(ApiError::AlreadyExists(_)) => count_again(client, &event, options).await,
        other => other.map(drop),
    }
}

async fn count_again(client: &Client, event: &Event, options: &WriteOptions) -> Result<(), ApiError> {
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let name = event.metadata.name.clone().unwrap_or_default();
    let present: Event = client.get(&namespace, &name).await?;
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": present.metadata.resource_version},
        "count": present.count.unwrap_or(1).saturating_add(1),
        "lastTimestamp": event.last_timestamp,
    }));
    client.patch::<Event>(&namespace, &name, "", &patch, options).await.map(drop)
}

fn event(component: &'static str, note: &Note, now: Timestamp) -> Event {
    let regarding = &note.regarding;
    let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let time = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let mut message = note.message.clone();
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    }
    Event {
        metadata: ObjectMeta { namespace: Some(namespace), name: Some(name(note)), ..ObjectMeta::default() },
        involved_object: regarding.clone(),
        type_: Some(
            match note.note_type {
                NoteType::Normal => "Normal",
                NoteType::Warning => "Warning",
            }
            .to_owned(),
        ),
        reason: Some(note.reason.to_owned()),
        message: Some(message),
        count: Some(1),
        first_timestamp: Some(time.clone()),
        last_timestamp: Some(time),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}

/// The same note about the same object has the same name.
fn name(note: &Note) -> String {
    let mut hash = Sha256::new();
    for part in [note.regarding.uid.as_deref().unwrap_or_default(), note.reason, &note.message] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest: String =
        hash.finalize().iter().take(NAME_HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("{}.{digest}", note.regarding.name.as_deref().unwrap_or_default())
}
