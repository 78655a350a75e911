//! What a learner answers (etcd's rule): its status, serializable ranges and snapshots. One gate before all services, because a
//! learner's state may lie far behind, and whoever asks for anything else must ask another member.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use tower::{Layer, Service};

use super::status;
use crate::admin::Admin;

/// Calls that a learner takes. Whether a range is serializable is seen only in its message, so the KV service looks again.
const TAKEN: [&str; 3] =
    ["/etcdserverpb.KV/Range", "/etcdserverpb.Maintenance/Snapshot", "/etcdserverpb.Maintenance/Status"];
/// Health is not etcd's API, and a learner is healthy.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Puts the gate before a service.
#[derive(Clone)]
pub(crate) struct LearnerGate {
    pub(crate) admin: Arc<dyn Admin>,
}

impl<S> Layer<S> for LearnerGate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, admin: Arc::clone(&self.admin) }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    inner: S,
    admin: Arc<dyn Admin>,
}

fn is_taken(path: &str) -> bool {
    TAKEN.contains(&path) || path.starts_with(HEALTH)
}

impl<S, A, B: Default> Service<Request<A>> for Gated<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<B>, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if self.admin.is_learner() && !is_taken(request.uri().path()) {
            return Either::Right(ready(Ok(status::not_for_learner().into_http())));
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_takes_status_ranges_snapshots_and_health_checks() {
        for path in TAKEN.into_iter().chain(["/grpc.health.v1.Health/Check"]) {
            assert!(is_taken(path), "{path}");
        }
        for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch", "/etcdserverpb.KV/RangeStream", "/"]
        {
            assert!(!is_taken(path), "{path}");
        }
    }
}
