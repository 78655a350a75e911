//! The client port of a store, as etcd's clients see it.

use std::sync::Arc;

use store::etcd::{Edge, EtcdOptions};
use store::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use transport::tls::ServerTls;

/// Serves on a free port until it is stopped.
pub struct Server {
    /// `host:port`.
    pub address: String,
    pub shutdown: CancellationToken,
    channel: Channel,
    tasks: JoinSet<()>,
}

impl Server {
    /// Serves an empty store in memory.
    pub async fn start() -> Self {
        Self::of(Edge::new(&Arc::new(MemoryStore::new()))).await
    }

    pub async fn of(edge: Edge) -> Self {
        Self::listen(edge, None, EtcdOptions::default()).await
    }

    /// Serves with other settings.
    pub async fn with_options(edge: Edge, options: EtcdOptions) -> Self {
        Self::listen(edge, None, options).await
    }

    /// Serves with TLS; its channel is of no use then.
    pub async fn with_tls(edge: Edge, tls: ServerTls) -> Self {
        Self::listen(edge, Some(tls), EtcdOptions::default()).await
    }

    async fn listen(edge: Edge, tls: Option<ServerTls>, options: EtcdOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(store::etcd::serve(listener, tls, edge, options, shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { address, shutdown, channel, tasks }
    }

    /// Returns the one connection that its clients share.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub async fn stop(self) {
        let Self { shutdown, channel, mut tasks, .. } = self;
        shutdown.cancel();
        drop(channel);
        while tasks.join_next().await.is_some() {}
    }
}
