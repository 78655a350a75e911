//! The service of leader locks, asked call by call: no renewals in the background, no deadline of the client's own.

use proto::keelson::leadership_client::LeadershipClient;
use proto::keelson::{AcquireRequest, ReleaseRequest, RenewRequest};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::CALL_TIMEOUT;
use crate::etcd::Failure;
use crate::history::{ApiAnswer, ApiCall};

/// Sends one request.
///
/// # Errors
/// [`Failure`] says whether it may have been done.
pub(super) async fn perform(channel: Channel, call: &ApiCall) -> Result<ApiAnswer, Failure> {
    let asking = ask(LeadershipClient::new(channel), call);
    match timeout(CALL_TIMEOUT, asking).await {
        Ok(answered) => answered.map_err(|status| failure(&status)),
        Err(_) => Err(Failure::Unknown("no answer".to_owned())),
    }
}

async fn ask(mut api: LeadershipClient<Channel>, call: &ApiCall) -> Result<ApiAnswer, Status> {
    let done = ApiAnswer { code: 200, ..ApiAnswer::default() };
    match call.clone() {
        ApiCall::Acquire(wanted) => {
            let request = AcquireRequest {
                lock: wanted.lock,
                identity: wanted.identity,
                ttl_seconds: wanted.ttl_seconds,
            };
            let answer = api.acquire(request).await?.into_inner();
            let revision = i64::try_from(answer.revision).unwrap_or(i64::MAX);
            let (held, holder, epoch) = (answer.acquired, answer.holder, answer.epoch);
            Ok(ApiAnswer { held, holder, epoch, revision, ..done })
        }
        ApiCall::Renew(tenancy) => {
            let request =
                RenewRequest { lock: tenancy.lock, identity: tenancy.identity, epoch: tenancy.epoch };
            let held = api.renew(request).await?.into_inner().held;
            Ok(ApiAnswer { held, ..done })
        }
        ApiCall::Release(tenancy) => {
            let request =
                ReleaseRequest { lock: tenancy.lock, identity: tenancy.identity, epoch: tenancy.epoch };
            api.release(request).await?;
            Ok(done)
        }
        ApiCall::Get(_)
        | ApiCall::List(_)
        | ApiCall::Create(_)
        | ApiCall::Update(_)
        | ApiCall::Patch(_)
        | ApiCall::Delete(_) => Err(Status::unimplemented("not a call about locks")),
    }
}

/// Nothing is concluded from a refusal here: a renewal or an acquisition may have been done before an answer was lost.
fn failure(status: &Status) -> Failure {
    match status.code() {
        Code::ResourceExhausted | Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
            Failure::NotApplied(status.message().to_owned())
        }
        _ => Failure::Unknown(status.message().to_owned()),
    }
}
