//! Service `NodeChannel`: the outbound stream of an agent, over which this server reaches its pods.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use proto::keelson::Frame;
use proto::keelson::node_channel_server::NodeChannel;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Streaming};
use tracing::info;

use super::status::to_grpc;
use super::{Services, user_of};
use crate::authz::node_name;
use crate::endpoints::status::Status;
use crate::node_channel::Connection;

#[tonic::async_trait]
impl NodeChannel for Services {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<Frame, tonic::Status>> + Send>>;

    async fn open(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::OpenStream>, tonic::Status> {
        let user = user_of(&request)?;
        // Who the node is comes from its certificate, never from a message.
        let node = node_name(&user).ok_or_else(|| to_grpc(&Status::not_a_node(&user.name)))?.to_owned();
        let (connection, outgoing) = Connection::new(node.clone());
        self.api.nodes.connect(&node, Arc::clone(&connection));
        info!(node, "node channel is open");
        let services = self.clone();
        let incoming = request.into_inner();
        self.tasks.spawn(async move {
            tokio::select! {
                () = receive(incoming, &connection) => {}
                () = connection.closed() => {}
                () = services.shutdown.cancelled() => {}
            }
            connection.close();
            services.api.nodes.disconnect(&node, &connection);
            info!(node, "node channel is closed");
        });
        let until = self.shutdown.clone().cancelled_owned();
        let frames = futures::StreamExt::take_until(ReceiverStream::new(outgoing).map(Ok), until);
        Ok(Response::new(Box::pin(frames)))
    }
}

async fn receive(mut incoming: Streaming<Frame>, connection: &Connection) {
    while let Ok(Some(frame)) = incoming.message().await {
        connection.deliver(frame);
    }
}
