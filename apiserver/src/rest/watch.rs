//! WATCH over HTTP: one JSON document per line, for as long as the client stays.

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::negotiate::View;
use super::{Rest, RestRequest, respond};
use crate::endpoints::status::Status;
use crate::endpoints::watch::{EventType, Events, WatchEvent};
use crate::endpoints::{Call, now_text};
use crate::object;
use crate::registry::Kind;
use crate::registry::table::{TableOptions, partial_metadata, table};

impl Rest {
    pub(super) async fn watch(&self, call: &Call, request: &RestRequest) -> Result<Response<Body>, Status> {
        let options = request.query.watch_options(call.kind, &call.name)?;
        let collection = Call { name: String::new(), ..call.clone() };
        let events: Events = match self.api.watch(&collection, options).await {
            Ok(events) => events,
            // History that is gone is an event, so that clients list again without counting an error.
            Err(status) if status.reason == "Expired" => futures::stream::iter([Err(status)]).boxed(),
            Err(status) => return Err(status),
        };
        let (kind, view) = (call.kind, request.view);
        let mut first = true;
        let lines = events.map(move |event| {
            let with_columns = std::mem::take(&mut first);
            Ok::<_, std::convert::Infallible>(line(kind, view, with_columns, event))
        });
        let until = lines.take_until(self.shutdown.clone().cancelled_owned());
        Ok(respond::with_type(StatusCode::OK, "application/json", Body::from_stream(until)))
    }
}

fn line(kind: &Kind, view: View, with_columns: bool, event: Result<WatchEvent, Status>) -> Bytes {
    let document = match event {
        Err(status) => json!({"type": "ERROR", "object": status.to_json()}),
        Ok(event) => {
            json!({"type": event.event_type.name(), "object": shown(kind, view, with_columns, event)})
        }
    };
    format!("{document}\n").into()
}

fn shown(kind: &Kind, view: View, with_columns: bool, event: WatchEvent) -> Value {
    match view {
        View::Full => Value::Object(event.object),
        View::Metadata => partial_metadata(&event.object),
        View::Table(include) => {
            let now = now_text();
            let metadata = json!({"resourceVersion": object::meta(&event.object, "resourceVersion")});
            let options = TableOptions { now: &now, include, with_columns };
            let row = (event.event_type != EventType::Bookmark).then_some(&event.object);
            table(kind, row, metadata, options)
        }
    }
}
