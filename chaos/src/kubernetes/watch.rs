//! Watches through either face.

use client::{ApiError, DynamicObject, WatchEvent, WatchOptions};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;

use super::{Server, collection, grpc};
use crate::history::{Face, Resource, ShownEvent, revision};

/// What a watch shows next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Event(ShownEvent),
    Bookmark(i64),
    /// The revision to begin at is forgotten.
    Expired,
    Ended(String),
}

/// A watch that is open.
pub enum Watching {
    Rest {
        body: Box<Incoming>,
        buffer: Vec<u8>,
    },
    Grpc(BoxStream<'static, Result<WatchEvent<DynamicObject>, ApiError>>),
    /// It was not to be opened.
    Refused(Option<Shown>),
}

impl Server {
    /// Asks for all changes of a namespace's objects after a revision.
    pub async fn watch(&self, face: Face, resource: Resource, namespace: &str, from: i64) -> Watching {
        match face {
            Face::Grpc => {
                let resource_version = u64::try_from(from).unwrap_or(0);
                let options = WatchOptions { resource_version, ..WatchOptions::default() };
                Watching::Grpc(self.grpc.watch_as(&grpc::kind(resource), namespace, &options))
            }
            Face::Rest => {
                let collection = collection(resource, namespace);
                let path = format!("{collection}?watch=true&resourceVersion={from}&allowWatchBookmarks=true");
                match self.rest.stream(path).await {
                    Ok((StatusCode::OK, body)) => Watching::Rest { body: Box::new(body), buffer: Vec::new() },
                    Ok((StatusCode::GONE, _)) => Watching::Refused(Some(Shown::Expired)),
                    Ok((status, _)) => Watching::Refused(Some(Shown::Ended(status.to_string()))),
                    Err(failure) => Watching::Refused(Some(Shown::Ended(failure.to_string()))),
                }
            }
        }
    }
}

impl Watching {
    /// Returns what comes next. Cancel safe: what has come in stays.
    pub async fn next(&mut self) -> Shown {
        match self {
            Self::Refused(why) => match why.take() {
                Some(why) => why,
                None => Shown::Ended("it was refused".to_owned()),
            },
            Self::Grpc(stream) => match stream.next().await {
                Some(Ok(event)) => of_grpc(event),
                Some(Err(ApiError::Expired(_))) => Shown::Expired,
                Some(Err(error)) => Shown::Ended(error.to_string()),
                None => Shown::Ended("the stream ended".to_owned()),
            },
            Self::Rest { body, buffer } => loop {
                if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = buffer.drain(..=end).collect();
                    return of_line(&line);
                }
                match body.frame().await {
                    Some(Ok(frame)) => buffer.extend(frame.into_data().unwrap_or_default()),
                    Some(Err(error)) => return Shown::Ended(error.to_string()),
                    None => return Shown::Ended("the answer ended".to_owned()),
                }
            },
        }
    }
}

fn of_grpc(event: WatchEvent<DynamicObject>) -> Shown {
    let shown = |kind: &str, object: DynamicObject| {
        let version = object.metadata.resource_version.unwrap_or_default();
        let revision = version.parse().unwrap_or(0);
        let name = object.metadata.name.unwrap_or_default();
        Shown::Event(ShownEvent { kind: kind.to_owned(), name, revision })
    };
    match event {
        WatchEvent::Added(object) => shown("ADDED", object),
        WatchEvent::Modified(object) => shown("MODIFIED", object),
        WatchEvent::Deleted(object) => shown("DELETED", object),
        WatchEvent::Bookmark(revision) => Shown::Bookmark(i64::try_from(revision).unwrap_or(i64::MAX)),
    }
}

fn of_line(line: &[u8]) -> Shown {
    let Ok(event) = serde_json::from_slice::<Value>(line) else {
        return Shown::Ended("a line that is no event".to_owned());
    };
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let object = event.get("object").unwrap_or(&Value::Null);
    match kind {
        "BOOKMARK" => Shown::Bookmark(revision(object)),
        "ERROR" if object.get("code").and_then(Value::as_u64) == Some(410) => Shown::Expired,
        "ADDED" | "MODIFIED" | "DELETED" => {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            Shown::Event(ShownEvent {
                kind: kind.to_owned(),
                name: name.to_owned(),
                revision: revision(object),
            })
        }
        _ => Shown::Ended(object.get("message").and_then(Value::as_str).unwrap_or(kind).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_event_a_bookmark_or_an_end() {
        let event =
            br#"{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"9"}}}"#.as_slice();
        let shown = ShownEvent { kind: "DELETED".to_owned(), name: "a".to_owned(), revision: 9 };
        assert_eq!(of_line(event), Shown::Event(shown));
        let bookmark = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12"}}}"#;
        assert_eq!(of_line(bookmark), Shown::Bookmark(12));
        assert_eq!(of_line(br#"{"type":"ERROR","object":{"code":410}}"#), Shown::Expired);
        let ended = of_line(br#"{"type":"ERROR","object":{"code":500,"message":"late"}}"#);
        assert_eq!(ended, Shown::Ended("late".to_owned()));
        assert!(matches!(of_line(b"nonsense"), Shown::Ended(_)));
    }
}
