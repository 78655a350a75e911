//! `/health`, `/livez` and `/readyz`, with etcd's checks.
//!
//! Alive is a member that can read what it has; ready is one that a quorum still listens to.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::Plain;
use super::report::{Check, Query, report};
use crate::grpc::status::alarm_name;
use crate::kv::Consistency;
use crate::mvcc::AlarmKind;

/// The checks of a page, in the order in which they are shown.
const LIVEZ: &[Kind] = &[Kind::SerializableRead];
const READYZ: &[Kind] =
    &[Kind::DataCorruption, Kind::SerializableRead, Kind::LinearizableRead, Kind::NonLearner];

/// One thing that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn look(self, plain: &Plain) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                let alarms = plain.edge.admin.numbers().alarms;
                match alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
                    true => Err(format!("alarm activated: {}", alarm_name(AlarmKind::Corrupt))),
                    false => Ok(()),
                }
            }
            Self::SerializableRead => plain.health.read(Consistency::Serializable).await,
            Self::LinearizableRead => {
                // A member that stops must get no new clients, whatever it can still read.
                plain.health.check().map_err(|trouble| trouble.to_string())?;
                plain.health.read(Consistency::Linearizable).await
            }
            Self::NonLearner => match plain.edge.admin.is_learner() {
                true => Err("the member is a learner".to_owned()),
                false => Ok(()),
            },
        }
    }
}

/// etcd's oldest check: alarms, leader, read.
pub(super) async fn health(State(plain): State<Plain>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let query = Query(&query);
    let reason = unhealthy(&plain, &query).await;
    let status = if reason.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let health = reason.is_none().to_string();
    let text = serde_json::json!({ "health": health, "reason": reason.unwrap_or_default() }).to_string();
    // JSON that calls itself plain text, as etcd's does.
    (status, text).into_response()
}

async fn unhealthy(plain: &Plain, query: &Query<'_>) -> Option<String> {
    let is_local = query.contains("serializable", "true");
    let alarms = plain.edge.admin.numbers().alarms;
    let mut names = alarms.iter().map(|alarm| alarm_name(alarm.kind));
    if let Some(name) = names.find(|name| !query.contains("exclude", name)) {
        return Some(format!("ALARM {name}"));
    }
    if !is_local && plain.health.check_leader().is_err() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let consistency = if is_local { Consistency::Serializable } else { Consistency::Linearizable };
    plain.health.read(consistency).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

pub(super) async fn livez(State(plain): State<Plain>, RawQuery(query): RawQuery) -> Response {
    page(&plain, LIVEZ, query).await
}

pub(super) async fn readyz(State(plain): State<Plain>, RawQuery(query): RawQuery) -> Response {
    page(&plain, READYZ, query).await
}

pub(super) async fn livez_single(
    State(plain): State<Plain>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    single(&plain, LIVEZ, &name, query).await
}

pub(super) async fn readyz_single(
    State(plain): State<Plain>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    single(&plain, READYZ, &name, query).await
}

async fn single(plain: &Plain, kinds: &[Kind], name: &str, query: Option<String>) -> Response {
    match kinds.iter().find(|kind| kind.name() == name) {
        Some(kind) => page(plain, &[*kind], query).await,
        None => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

async fn page(plain: &Plain, kinds: &[Kind], query: Option<String>) -> Response {
    let query = query.unwrap_or_default();
    let query = Query(&query);
    let mut checks = Vec::new();
    for kind in kinds.iter().filter(|kind| !query.contains("exclude", kind.name())) {
        checks.push(Check { name: kind.name(), outcome: kind.look(plain).await });
    }
    let (passed, text) = report(&checks, query.has("verbose"));
    let status = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}
