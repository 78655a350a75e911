//! What each request of service `Api` is about, so that it can be allowed before it is carried out.

use std::sync::Arc;

use proto::keelson::{
    BindRequest, CreateRequest, CreateTokenRequest, DeleteRequest, GetRequest, ListRequest, PatchRequest,
    RenewLeaseRequest, ResourceType, UpdateRequest, WatchRequest,
};
use tonic::Request;

use super::status::to_grpc;
use super::{Services, user_of};
use crate::authn::User;
use crate::authz::Attributes;
use crate::endpoints::Call;
use crate::endpoints::status::Status;
use crate::registry::catalog;

/// A request by what it is about; what is not named is empty.
#[derive(Default)]
pub(super) struct About<'a> {
    resource_type: Option<ResourceName<'a>>,
    verb: &'a str,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
    field_selector: &'a str,
}

struct ResourceName<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

/// A request that says what it is about.
pub(super) trait Addressed {
    fn about(&self) -> About<'_>;
}

impl Services {
    /// Finds the kind and checks that the caller may do this to it.
    pub(super) async fn allow<T>(&self, request: Request<T>) -> Result<(Call, T), tonic::Status>
    where
        T: Addressed + Send + Sync,
    {
        let user = user_of(&request)?;
        let wanted = request.into_inner();
        let call = self.allowed_call(user, wanted.about()).await.map_err(|status| to_grpc(&status))?;
        Ok((call, wanted))
    }

    async fn allowed_call(&self, user: Arc<User>, about: About<'_>) -> Result<Call, Status> {
        let wanted = about.resource_type.ok_or_else(|| Status::bad_request("the call names no type"))?;
        let kind = catalog::find(wanted.group, wanted.version, wanted.resource)
            .ok_or_else(Status::no_such_resource)?;
        let fields = proto::api::fields::Selector::parse(about.field_selector).unwrap_or_default();
        let required = |field: &str| fields.required(field).unwrap_or_default().to_owned();
        let attributes = Attributes {
            verb: about.verb.to_owned(),
            group: kind.group.to_owned(),
            resource: kind.resource.to_owned(),
            subresource: about.subresource.to_owned(),
            namespace: about.namespace.to_owned(),
            name: if about.name.is_empty() { required("metadata.name") } else { about.name.to_owned() },
            path: String::new(),
            selected_node: required("spec.nodeName"),
        };
        self.api.authorize(&user, &attributes).await?;
        Ok(Call { user, kind, namespace: about.namespace.to_owned(), name: about.name.to_owned() })
    }
}

fn named(resource_type: &Option<ResourceType>) -> Option<ResourceName<'_>> {
    let ResourceType { group, version, resource } = resource_type.as_ref()?;
    Some(ResourceName { group, version, resource })
}

impl Addressed for GetRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: named(&self.r#type),
            verb: "get",
            namespace: &self.namespace,
            name: &self.name,
            subresource: &self.subresource,
            ..About::default()
        }
    }
}

impl Addressed for ListRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: named(&self.r#type),
            verb: "list",
            namespace: &self.namespace,
            field_selector: &self.field_selector,
            ..About::default()
        }
    }
}

impl Addressed for WatchRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: named(&self.r#type),
            verb: "watch",
            namespace: &self.namespace,
            field_selector: &self.field_selector,
            ..About::default()
        }
    }
}

impl Addressed for CreateRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: named(&self.r#type),
            verb: "create",
            namespace: &self.namespace,
            name: &self.name,
            subresource: &self.subresource,
            ..About::default()
        }
    }
}

impl Addressed for UpdateRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: named(&self.r#type),
            verb: "update",
            namespace: &self.namespace,
            name: &self.name,
            subresource: &self.subresource,
            ..About::default()
        }
    }
}

impl Addressed for PatchRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: named(&self.r#type),
            verb: "patch",
            namespace: &self.namespace,
            name: &self.name,
            subresource: &self.subresource,
            ..About::default()
        }
    }
}

impl Addressed for DeleteRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: named(&self.r#type),
            verb: "delete",
            namespace: &self.namespace,
            name: &self.name,
            ..About::default()
        }
    }
}

impl Addressed for BindRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: Some(ResourceName { group: "", version: "v1", resource: "pods" }),
            verb: "create",
            namespace: &self.namespace,
            name: &self.name,
            subresource: "binding",
            ..About::default()
        }
    }
}

impl Addressed for RenewLeaseRequest {
    fn about(&self) -> About<'_> {
        let (group, version, resource) = ("coordination.k8s.io", "v1", "leases");
        About {
            resource_type: Some(ResourceName { group, version, resource }),
            verb: "update",
            namespace: &self.namespace,
            name: &self.name,
            ..About::default()
        }
    }
}

impl Addressed for CreateTokenRequest {
    fn about(&self) -> About<'_> {
        About {
            resource_type: Some(ResourceName { group: "", version: "v1", resource: "serviceaccounts" }),
            verb: "create",
            namespace: &self.namespace,
            name: &self.service_account,
            subresource: "token",
            ..About::default()
        }
    }
}
