//! WATCH over HTTP: one JSON document per line, for as long as the client stays.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::negotiate::View;
use super::{Rest, RestRequest, respond};
use crate::endpoints::Call;
use crate::endpoints::status::Status;
use crate::endpoints::watch::{EventType, Events, WatchEvent};
use crate::object;
use crate::registry::Kind;
use crate::registry::table::{TableOptions, partial_metadata, table};

impl Rest {
    pub(super) async fn watch(&self, call: &Call, request: &RestRequest) -> Result<Response<Body>, Status> {
        let random = self.api.outside.uuid().as_fields().1;
        let options = request.query.watch_options(call.kind, &call.name, random)?;
        let collection = Call { name: String::new(), ..call.clone() };
        let events: Events = match self.api.watch(&collection, options).await {
            Ok(events) => events,
            // History that is gone is an event, so that clients list again without counting an error.
            Err(status) if status.reason == "Expired" => futures::stream::iter([Err(status)]).boxed(),
            Err(status) => return Err(status),
        };
        let (kind, view, api) = (call.kind, request.view, Arc::clone(&self.api));
        let mut first = true;
        let lines = events.map(move |event| {
            let with_columns = std::mem::take(&mut first);
            let shown_as = ShownAs { view, with_columns, now: api.now_text() };
            Ok::<_, std::convert::Infallible>(line(kind, &shown_as, event))
        });
        let until = lines.take_until(self.shutdown.clone().cancelled_owned());
        Ok(respond::with_type(StatusCode::OK, "application/json", Body::from_stream(until)))
    }
}

/// How an event is shown, and when.
struct ShownAs {
    view: View,
    with_columns: bool,
    now: String,
}

fn line(kind: &Kind, shown_as: &ShownAs, event: Result<WatchEvent, Status>) -> Bytes {
    let document = match event {
        Err(status) => json!({"type": "ERROR", "object": status.to_json()}),
        Ok(event) => {
            json!({"type": event.event_type.name(), "object": shown(kind, shown_as, event)})
        }
    };
    format!("{document}\n").into()
}

fn shown(kind: &Kind, shown_as: &ShownAs, event: WatchEvent) -> Value {
    match shown_as.view {
        View::Full => Value::Object(event.object),
        View::Metadata => partial_metadata(&event.object),
        View::Table(include) => {
            let metadata = json!({"resourceVersion": object::meta(&event.object, "resourceVersion")});
            let options = TableOptions { now: &shown_as.now, include, with_columns: shown_as.with_columns };
            let row = (event.event_type != EventType::Bookmark).then_some(&event.object);
            table(kind, row, metadata, options)
        }
    }
}
