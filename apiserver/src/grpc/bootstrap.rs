//! Service `Bootstrap`: a machine with a join token gets its certificate.

use proto::keelson::bootstrap_server::Bootstrap;
use proto::keelson::{JoinAgentRequest, JoinAgentResponse};
use tonic::{Request, Response};
use tracing::info;

use super::Services;
use super::status::to_grpc;
use crate::endpoints::status::Status;
use crate::pki::PkiError;

#[tonic::async_trait]
impl Bootstrap for Services {
    async fn join_agent(
        &self,
        request: Request<JoinAgentRequest>,
    ) -> Result<Response<JoinAgentResponse>, tonic::Status> {
        let JoinAgentRequest { token, node_name, csr_pem } = request.into_inner();
        self.bundle
            .check_join_token(&token, self.api.outside.now())
            .map_err(|error| to_grpc(&Status { message: error.to_string(), ..Status::unauthorized() }))?;
        if !is_node_name(&node_name) {
            return Err(to_grpc(&Status::bad_request(format!("{node_name:?} is no name for a node"))));
        }
        let certificate_pem =
            self.bundle.sign_node_request(&node_name, &csr_pem).map_err(|error| match error {
                PkiError::Request(_) => to_grpc(&Status::bad_request(error.to_string())),
                other => to_grpc(&Status::internal(other)),
            })?;
        info!(node = node_name, "a node joined");
        Ok(Response::new(JoinAgentResponse { certificate_pem, ca_pem: self.bundle.ca_pem().to_owned() }))
    }
}

/// DNS subdomain, as node names are.
fn is_node_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 253 && name.bytes().all(legal) && edge(name.bytes().next()) && edge(name.bytes().last())
}
