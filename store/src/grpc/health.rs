//! gRPC health. The server as a whole (the empty name) and each of its services serve together or not at all.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::pb;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::health::Health;

/// How often a watcher's answer is looked at again. Leadership is lost and found on the scale of seconds.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct HealthService {
    pub(crate) health: Health,
    /// Names of the services beside this one.
    pub(crate) services: &'static [&'static str],
}

impl HealthService {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }
}

fn judge(health: &Health) -> ServingStatus {
    if health.check().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl pb::health_server::Health for HealthService {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(response(judge(&self.health))))
    }

    type WatchStream = BoxStream<'static, Result<pb::HealthCheckResponse, Status>>;

    /// Answers at once, and again whenever the answer changes; ends with the server. A name that is not served stays unknown.
    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch {
            health: self.health.clone(),
            is_known: self.knows(&request.get_ref().service),
            told: None,
        };
        let changes = futures::stream::unfold(watch, |mut watch| async {
            watch.next().await.map(|status| (Ok(response(status)), watch))
        });
        Ok(Response::new(changes.boxed()))
    }
}

struct Watch {
    health: Health,
    is_known: bool,
    told: Option<ServingStatus>,
}

impl Watch {
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let status = if self.is_known { judge(&self.health) } else { ServingStatus::ServiceUnknown };
            if self.told != Some(status) {
                self.told = Some(status);
                return Some(status);
            }
            // Told already, or nothing to tell.
            if self.health.is_ending() {
                return None;
            }
            tokio::select! {
                () = self.health.ended() => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pb::health_server::Health as _;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::memory::MemoryStore;

    fn service(ending: &CancellationToken) -> HealthService {
        let health = Health::new(Arc::new(MemoryStore::new()), ending.clone());
        HealthService { health, services: &["etcdserverpb.KV"] }
    }

    fn ask(service: &str) -> Request<pb::HealthCheckRequest> {
        Request::new(pb::HealthCheckRequest { service: service.to_owned() })
    }

    #[tokio::test]
    async fn a_check_knows_the_server_and_its_services() {
        let ending = CancellationToken::new();
        let service = service(&ending);
        let status = async |name| service.check(ask(name)).await.map(|answer| answer.into_inner().status());
        for name in ["", "etcdserverpb.KV"] {
            assert_eq!(status(name).await.unwrap(), ServingStatus::Serving);
        }
        assert_eq!(status("other").await.unwrap_err().code(), tonic::Code::NotFound);
        ending.cancel();
        assert_eq!(status("").await.unwrap(), ServingStatus::NotServing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_tells_changes_and_ends_with_the_server() {
        let ending = CancellationToken::new();
        let service = service(&ending);
        let mut known = service.watch(ask("")).await.unwrap().into_inner();
        let mut unknown = service.watch(ask("other")).await.unwrap().into_inner();
        assert_eq!(known.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
        assert_eq!(unknown.next().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        let waited = tokio::time::timeout(Duration::from_secs(60), known.next()).await;
        assert!(waited.is_err(), "nothing has changed");
        ending.cancel();
        assert_eq!(known.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(known.next().await.is_none());
        assert!(unknown.next().await.is_none());
    }
}
