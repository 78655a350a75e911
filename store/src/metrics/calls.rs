//! How the gRPC calls of clients end, by method and code, under the names of Go's gRPC middleware.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::Code;

/// gRPC has codes from 0 to 16.
const CODES: usize = 17;
/// The names that Go gives them.
const CODE_NAMES: [&str; CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

type Labels = [(&'static str, String); 3];
type CodeLabels = [(&'static str, String); 4];

/// One row per method of the services that are named; others are not counted.
#[derive(Debug)]
pub(crate) struct Calls {
    rows: HashMap<String, Arc<Row>>,
}

/// What is counted of one method.
#[derive(Debug)]
pub(crate) struct Row {
    service: String,
    method: String,
    kind: &'static str,
    /// Its status comes at the end of a stream.
    pub(crate) streams_answers: bool,
    started: AtomicU64,
    handled: [AtomicU64; CODES],
}

impl Calls {
    pub(crate) fn of(services: &[&str]) -> Self {
        let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).expect("the build of proto wrote it");
        let found = services.iter().filter_map(|name| pool.get_service_by_name(name));
        let methods = found.flat_map(|service| service.methods().collect::<Vec<_>>());
        let rows = methods.map(|method| {
            let row = Row::of(&method);
            (format!("/{}/{}", row.service, row.method), Arc::new(row))
        });
        Self { rows: rows.collect() }
    }

    pub(crate) fn row(&self, path: &str) -> Option<Arc<Row>> {
        self.rows.get(path).map(Arc::clone)
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let started = Family::<Labels, Counter>::default();
        let handled = Family::<CodeLabels, Counter>::default();
        for row in self.rows.values() {
            started.get_or_create(&row.labels()).inc_by(row.started.load(Ordering::Relaxed));
            for (name, count) in std::iter::zip(CODE_NAMES, &row.handled) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let [kind, service, method] = row.labels();
                    let labels = [("grpc_code", name.to_owned()), kind, service, method];
                    handled.get_or_create(&labels).inc_by(count);
                }
            }
        }
        registry.register("grpc_server_started", "Calls that clients have begun, by method", started);
        registry.register("grpc_server_handled", "Calls that have ended, by method and code", handled);
    }
}

impl Row {
    fn of(method: &MethodDescriptor) -> Self {
        let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
            (false, false) => "unary",
            (false, true) => "server_stream",
            (true, false) => "client_stream",
            (true, true) => "bidi_stream",
        };
        Self {
            service: method.parent_service().full_name().to_owned(),
            method: method.name().to_owned(),
            kind,
            streams_answers: method.is_server_streaming(),
            started: AtomicU64::new(0),
            handled: Default::default(),
        }
    }

    fn labels(&self) -> Labels {
        [
            ("grpc_type", self.kind.to_owned()),
            ("grpc_service", self.service.clone()),
            ("grpc_method", self.method.clone()),
        ]
    }
}

/// One call until its end; one that is dropped before was given up by its client.
#[derive(Debug)]
pub(crate) struct Ongoing {
    pub(crate) row: Arc<Row>,
    has_ended: bool,
}

impl Ongoing {
    pub(crate) fn begin(row: Arc<Row>) -> Self {
        row.started.fetch_add(1, Ordering::Relaxed);
        Self { row, has_ended: false }
    }

    pub(crate) fn end(mut self, code: Code) {
        self.count(code);
    }

    fn count(&mut self, code: Code) {
        self.has_ended = true;
        let index = usize::try_from(i32::from(code)).unwrap_or(usize::MAX);
        if let Some(count) = self.row.handled.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if !self.has_ended {
            self.count(Code::Cancelled);
        }
    }
}
