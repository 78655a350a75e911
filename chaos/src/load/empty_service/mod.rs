//! The limit of the machine: a service with etcd's API that answers at once and keeps nothing.
//!
//! It is served as the store is, by the same libraries, so what it reaches is what clients, network and message format leave
//! for anything that does real work.

mod status;

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use futures::stream::BoxStream;
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use transport::accept::ServeOptions;

use super::generator;

/// Takes the flags that every contestant gets and needs one of them.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[arg(long)]
    name: String,
    #[arg(long)]
    listen_client_urls: String,
    #[arg(long)]
    initial_cluster: String,
    #[arg(long)]
    data_dir: String,
    #[arg(long)]
    advertise_client_urls: String,
    #[arg(long)]
    listen_peer_urls: String,
    #[arg(long)]
    initial_advertise_peer_urls: String,
    #[arg(long)]
    initial_cluster_state: String,
    #[arg(long)]
    initial_cluster_token: String,
}

/// Serves until the process is ended.
///
/// # Errors
/// When the port is taken.
pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let address: SocketAddr = args.listen_client_urls.trim_start_matches("http://").parse()?;
    let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
    let service = Empty { member_id: member_id(args), value: Bytes::from(generator::value(0)) };
    let routes = tonic::service::Routes::new(pb::kv_server::KvServer::new(service.clone()))
        .add_service(pb::maintenance_server::MaintenanceServer::new(service))
        .prepare();
    transport::accept::serve(listener, None, routes, ServeOptions::default(), CancellationToken::new()).await;
    Ok(())
}

/// Its place in the list of members. The first is the leader.
fn member_id(args: &Args) -> u64 {
    let names = args.initial_cluster.split(',').filter_map(|member| member.split('=').next());
    (1..).zip(names).find_map(|(id, name)| (name == args.name).then_some(id)).unwrap_or(0)
}

#[derive(Clone)]
struct Empty {
    member_id: u64,
    value: Bytes,
}

impl Empty {
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { cluster_id: 1, member_id: self.member_id, revision: 1, raft_term: 1 })
    }
}

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this service is empty"))
}

#[tonic::async_trait]
impl pb::kv_server::Kv for Empty {
    async fn put(&self, _request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        Ok(Response::new(pb::PutResponse { header: self.header(), prev_kv: None }))
    }

    /// Finds every key, with a value as long as the load writes.
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let kv = KeyValue {
            key: request.into_inner().key,
            value: self.value.clone(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            ..KeyValue::default()
        };
        let header = self.header();
        Ok(Response::new(pb::RangeResponse { header, kvs: vec![kv], count: 1, ..Default::default() }))
    }

    type RangeStreamStream = BoxStream<'static, Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        nothing()
    }

    async fn delete_range(
        &self,
        _request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        nothing()
    }

    async fn txn(&self, _request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        nothing()
    }

    async fn compact(
        &self,
        _request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        nothing()
    }
}
