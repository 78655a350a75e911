//! The client: one method per verb, typed over k8s-openapi, or over [`DynamicObject`] with an explicit kind.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use proto::keelson as wire;
use proto::keelson::api_client::ApiClient;
use proto::keelson::bootstrap_client::BootstrapClient;
use proto::keelson::leadership_client::LeadershipClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use transport::outside::{Machine, Outside};
use transport::tls::ClientIdentity;

use crate::error::{ApiError, Effect, Failure, from_status};
use crate::object::{ApiObject, DynamicObject, ResourceKind, decode, encode};
use crate::options::{
    DeleteOptions, JoinRequest, Joined, List, ListOptions, Patch, Token, TokenRequest, WatchOptions,
    WriteOptions,
};
use crate::servers::{Repeat, Servers};

/// Largest answer: a full page of the largest objects.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Longest wait for a watch to be opened.
const WATCH_OPEN_DEADLINE: Duration = Duration::from_secs(5);

/// How to reach the API.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `https://host:port` of every server.
    pub servers: Vec<String>,
    pub tls: ClientIdentity,
    /// Name under which logs and audit know this client.
    pub user_agent: String,
}

/// A client of the API that fails over between servers; clones share connections. Every call has a deadline.
#[derive(Clone, Debug)]
pub struct Client {
    servers: Arc<Servers>,
    user_agent: Arc<str>,
    outside: Arc<dyn Outside>,
}

/// One change delivered by a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent<K> {
    Added(K),
    Modified(K),
    /// The last state, with the revision of the deletion.
    Deleted(K),
    /// Every event up to this revision has been delivered.
    Bookmark(u64),
}

impl Client {
    /// Builds a client; connections are made when needed.
    ///
    /// # Errors
    /// [`ApiError::Config`] when no server is given or an address is none.
    pub fn new(config: ClientConfig) -> Result<Self, ApiError> {
        let channels = config
            .servers
            .iter()
            .map(|server| transport::grpc::channel(server, &config.tls))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| ApiError::Config(Failure::text(error.to_string())))?;
        Self::over(channels, &config.user_agent, Machine::shared())
    }

    /// Builds a client over channels to every server, in the time and with the chance of `outside`.
    ///
    /// # Errors
    /// [`ApiError::Config`] when there is none.
    pub fn over(
        channels: Vec<Channel>,
        user_agent: &str,
        outside: Arc<dyn Outside>,
    ) -> Result<Self, ApiError> {
        // Clients of one process start on different servers, by chance.
        let first = usize::from(outside.uuid().as_bytes()[0]);
        Ok(Self { servers: Servers::new(channels, first)?, user_agent: user_agent.into(), outside })
    }

    /// Builds a client over one channel (tests, one process).
    #[must_use]
    pub fn from_channel(channel: Channel) -> Self {
        let servers = Servers::new(vec![channel], 0).expect("one channel is given");
        Self { servers, user_agent: "keelson".into(), outside: Machine::shared() }
    }

    /// Returns the time and chance of the process that this client is of: what it writes and waits for goes by them.
    #[must_use]
    pub fn outside(&self) -> &Arc<dyn Outside> {
        &self.outside
    }

    /// Reads an object; `namespace` is empty for cluster-scoped kinds.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] and whatever stopped the call.
    pub async fn get<K: ApiObject>(&self, namespace: &str, name: &str) -> Result<K, ApiError> {
        self.get_as(&ResourceKind::of::<K>(), namespace, name).await
    }

    /// Reads an object of a kind named at run time.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_as<K: ApiObject>(
        &self,
        kind: &ResourceKind,
        namespace: &str,
        name: &str,
    ) -> Result<K, ApiError> {
        let message = wire::GetRequest {
            r#type: Some(kind.wire()),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
        };
        let object =
            self.read(move |mut api, request| async move { api.get(request).await }, message).await?;
        decode(&object)
    }

    /// Lists objects; an empty `namespace` means all of them.
    ///
    /// # Errors
    /// [`ApiError::Expired`] when a continue token is too old, and whatever stopped the call.
    pub async fn list<K: ApiObject>(
        &self,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List<K>, ApiError> {
        self.list_as(&ResourceKind::of::<K>(), namespace, options).await
    }

    /// Lists objects of a kind named at run time.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn list_as<K: ApiObject>(
        &self,
        kind: &ResourceKind,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List<K>, ApiError> {
        let message = wire::ListRequest {
            r#type: Some(kind.wire()),
            namespace: namespace.to_owned(),
            label_selector: options.label_selector.clone(),
            field_selector: options.field_selector.clone(),
            limit: options.limit,
            continue_token: options.continue_token.clone(),
            resource_version: options.resource_version.clone(),
        };
        let answer =
            self.read(move |mut api, request| async move { api.list(request).await }, message).await?;
        Ok(List {
            items: answer.items.iter().map(decode).collect::<Result<_, _>>()?,
            revision: answer.resource_version,
            continue_token: answer.continue_token,
        })
    }

    /// Creates an object and returns it as stored.
    ///
    /// # Errors
    /// [`ApiError::AlreadyExists`], [`ApiError::Invalid`], …; with an idempotency key a lost answer is asked for again.
    pub async fn create<K: ApiObject>(&self, object: &K, options: &WriteOptions) -> Result<K, ApiError> {
        self.create_as(&ResourceKind::of::<K>(), object, options).await
    }

    /// Creates an object of a kind named at run time.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub async fn create_as<K: ApiObject>(
        &self,
        kind: &ResourceKind,
        object: &K,
        options: &WriteOptions,
    ) -> Result<K, ApiError> {
        let repeat = match options.idempotency_key {
            Some(_) => Repeat::IdempotentWrite,
            None => Repeat::UnsafeWrite,
        };
        let message = wire::CreateRequest {
            r#type: Some(kind.wire()),
            namespace: object.metadata().namespace.clone().unwrap_or_default(),
            name: object.metadata().name.clone().unwrap_or_default(),
            subresource: String::new(),
            encoding: wire::Encoding::Json.into(),
            raw: encode(object)?,
            options: Some(write_options(options)),
            idempotency_key: options.idempotency_key.clone().unwrap_or_default(),
        };
        let call = move |mut api: ApiClient<Channel>, request| async move { api.create(request).await };
        decode(&self.send(repeat, call, message).await?)
    }

    /// Replaces everything but the status of an object.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when the object has changed since it was read.
    pub async fn update<K: ApiObject>(&self, object: &K, options: &WriteOptions) -> Result<K, ApiError> {
        self.update_subresource("", object, options).await
    }

    /// Replaces the status of an object.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_status<K: ApiObject>(
        &self,
        object: &K,
        options: &WriteOptions,
    ) -> Result<K, ApiError> {
        self.update_subresource("status", object, options).await
    }

    /// Replaces the part of an object that a subresource names.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_subresource<K: ApiObject>(
        &self,
        subresource: &str,
        object: &K,
        options: &WriteOptions,
    ) -> Result<K, ApiError> {
        self.update_subresource_as(&ResourceKind::of::<K>(), subresource, object, options).await
    }

    /// Replaces an object of a kind named at run time, or the part of it that a subresource names.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_subresource_as<K: ApiObject>(
        &self,
        kind: &ResourceKind,
        subresource: &str,
        object: &K,
        options: &WriteOptions,
    ) -> Result<K, ApiError> {
        let message = wire::UpdateRequest {
            r#type: Some(kind.wire()),
            namespace: object.metadata().namespace.clone().unwrap_or_default(),
            name: object.metadata().name.clone().unwrap_or_default(),
            subresource: subresource.to_owned(),
            encoding: wire::Encoding::Json.into(),
            raw: encode(object)?,
            options: Some(write_options(options)),
        };
        let call = move |mut api: ApiClient<Channel>, request| async move { api.update(request).await };
        decode(&self.send(Repeat::UnsafeWrite, call, message).await?)
    }

    /// Changes part of an object; `subresource` is empty for the object itself.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::Conflict`], [`ApiError::Invalid`], …
    pub async fn patch<K: ApiObject>(
        &self,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<K, ApiError> {
        let object = PatchedObject { kind: &ResourceKind::of::<K>(), namespace, name, subresource };
        decode(&self.send_patch(&object, patch, options).await?)
    }

    /// Changes part of an object of a kind named at run time; `target` is its namespace and name.
    ///
    /// # Errors
    /// As [`Client::patch`].
    pub async fn patch_as(
        &self,
        kind: &ResourceKind,
        target: (&str, &str),
        subresource: &str,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<DynamicObject, ApiError> {
        let (namespace, name) = target;
        let object = PatchedObject { kind, namespace, name, subresource };
        decode(&self.send_patch(&object, patch, options).await?)
    }

    async fn send_patch(
        &self,
        object: &PatchedObject<'_>,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<wire::Object, ApiError> {
        let (patch_type, body) = match patch {
            Patch::Json(body) => (wire::PatchType::Json, body),
            Patch::Merge(body) => (wire::PatchType::Merge, body),
            Patch::Strategic(body) => (wire::PatchType::Strategic, body),
        };
        let message = wire::PatchRequest {
            r#type: Some(object.kind.wire()),
            namespace: object.namespace.to_owned(),
            name: object.name.to_owned(),
            subresource: object.subresource.to_owned(),
            patch_type: patch_type.into(),
            patch: encode(body)?,
            options: Some(write_options(options)),
        };
        let call = move |mut api: ApiClient<Channel>, request| async move { api.patch(request).await };
        self.send(Repeat::UnsafeWrite, call, message).await
    }

    /// Deletes an object; finalizers or a grace period may keep it for a while.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], or [`ApiError::Conflict`] when a precondition fails.
    pub async fn delete<K: ApiObject>(
        &self,
        namespace: &str,
        name: &str,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        self.delete_as(&ResourceKind::of::<K>(), namespace, name, delete, options).await
    }

    /// Deletes an object of a kind named at run time.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub async fn delete_as(
        &self,
        kind: &ResourceKind,
        namespace: &str,
        name: &str,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        let message = wire::DeleteRequest {
            r#type: Some(kind.wire()),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: delete.uid.clone().unwrap_or_default(),
            resource_version: delete.resource_version,
            grace_period_seconds: delete.grace_seconds,
            propagation_policy: delete.propagation.map(|policy| policy.wire().to_owned()).unwrap_or_default(),
            options: Some(write_options(options)),
        };
        let call = move |mut api: ApiClient<Channel>, request| async move { api.delete(request).await };
        self.send(Repeat::UnsafeWrite, call, message).await.map(drop)
    }

    /// Binds a pod to a node.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when the pod is bound already or the node has no room.
    pub async fn bind(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        node: &str,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        let message = wire::BindRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            node: node.to_owned(),
            options: Some(write_options(options)),
        };
        let call = move |mut api: ApiClient<Channel>, request| async move { api.bind(request).await };
        self.send(Repeat::UnsafeWrite, call, message).await.map(drop)
    }

    /// Renews a heartbeat Lease without reading it first.
    ///
    /// # Errors
    /// Whatever stopped the call; a repeat is harmless.
    pub async fn renew_lease(
        &self,
        namespace: &str,
        name: &str,
        holder: &str,
        duration_seconds: u32,
    ) -> Result<Lease, ApiError> {
        let message = wire::RenewLeaseRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            holder: holder.to_owned(),
            duration_seconds,
        };
        let call = move |mut api: ApiClient<Channel>, request| async move { api.renew_lease(request).await };
        decode(&self.send(Repeat::IdempotentWrite, call, message).await?)
    }

    /// Issues a bound service-account token.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] when the account or the bound object does not exist.
    pub async fn create_token(&self, request: TokenRequest) -> Result<Token, ApiError> {
        let message = wire::CreateTokenRequest {
            namespace: request.namespace,
            service_account: request.service_account,
            audiences: request.audiences,
            expiration_seconds: request.expiration.as_secs(),
            bound_kind: request.bound_kind,
            bound_name: request.bound_name,
            bound_uid: request.bound_uid,
        };
        let call = move |mut api: ApiClient<Channel>, request| async move { api.create_token(request).await };
        let answer = self.send(Repeat::IdempotentWrite, call, message).await?;
        let expires_at = i64::try_from(answer.expires_at_unix_seconds)
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or_else(|| ApiError::Malformed(Failure::text("token expiry is out of range")))?;
        Ok(Token { token: answer.token, expires_at })
    }

    /// Exchanges a join token for a client certificate; the client may be anonymous.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] when the token is unknown or has expired.
    pub async fn join_agent(&self, request: JoinRequest) -> Result<Joined, ApiError> {
        let message = wire::JoinAgentRequest {
            token: request.token,
            node_name: request.node_name,
            csr_pem: request.csr_pem,
        };
        let send = |channel| {
            let message = message.clone();
            async move { BootstrapClient::new(channel).join_agent(message).await }
        };
        let answer = self.servers.call(Repeat::IdempotentWrite, send).await?;
        Ok(Joined { certificate_pem: answer.certificate_pem, ca_pem: answer.ca_pem })
    }

    /// Watches objects from a revision on one server; the stream ends with its first error. An empty `namespace`
    /// means all. [`crate::Reflector`] resumes and fails over; this does neither.
    pub fn watch<K: ApiObject>(
        &self,
        namespace: &str,
        options: &WatchOptions,
    ) -> BoxStream<'static, Result<WatchEvent<K>, ApiError>> {
        self.watch_as(&ResourceKind::of::<K>(), namespace, options)
    }

    /// Watches objects of a kind named at run time.
    pub fn watch_as<K: ApiObject>(
        &self,
        kind: &ResourceKind,
        namespace: &str,
        options: &WatchOptions,
    ) -> BoxStream<'static, Result<WatchEvent<K>, ApiError>> {
        let message = wire::WatchRequest {
            r#type: Some(kind.wire()),
            namespace: namespace.to_owned(),
            label_selector: options.label_selector.clone(),
            field_selector: options.field_selector.clone(),
            resource_version: options.resource_version,
            send_initial_events: false,
            allow_bookmarks: true,
        };
        let client = self.clone();
        stream::once(async move { client.open_watch(message).await })
            .flat_map(|opened| match opened {
                Ok(events) => events,
                Err(error) => stream::once(async move { Err(error) }).boxed(),
            })
            .boxed()
    }

    async fn open_watch<K: ApiObject>(
        &self,
        message: wire::WatchRequest,
    ) -> Result<BoxStream<'static, Result<WatchEvent<K>, ApiError>>, ApiError> {
        let (index, channel) = self.servers.current();
        let mut api = ApiClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opened = timeout(WATCH_OPEN_DEADLINE, api.watch(self.request(message))).await;
        let events = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(self.watch_failed(index, &status)),
            Err(_) => {
                self.servers.failed(index);
                return Err(ApiError::Unavailable(Failure::text("the watch was not opened in time")));
            }
        };
        let client = self.clone();
        let events = events.map(move |event| match event {
            Ok(event) => watch_event(event),
            Err(status) => Err(client.watch_failed(index, &status)),
        });
        Ok(events.boxed())
    }

    fn watch_failed(&self, index: usize, status: &tonic::Status) -> ApiError {
        let error = from_status(status, Effect::Read);
        if matches!(error, ApiError::Unavailable(_)) {
            self.servers.failed(index);
        }
        error
    }

    async fn read<M, T, F, Sent>(&self, call: F, message: M) -> Result<T, ApiError>
    where
        M: Clone,
        F: Fn(ApiClient<Channel>, tonic::Request<M>) -> Sent,
        Sent: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.send(Repeat::Read, call, message).await
    }

    async fn send<M, T, F, Sent>(&self, repeat: Repeat, call: F, message: M) -> Result<T, ApiError>
    where
        M: Clone,
        F: Fn(ApiClient<Channel>, tonic::Request<M>) -> Sent,
        Sent: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let send = |channel| {
            let api = ApiClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            call(api, self.request(message.clone()))
        };
        self.servers.call(repeat, send).await
    }

    /// Calls the leadership service; every one of its calls may be repeated.
    pub(crate) async fn leadership<T, F, Sent>(&self, call: F) -> Result<T, ApiError>
    where
        F: Fn(LeadershipClient<Channel>) -> Sent,
        Sent: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.servers.call(Repeat::IdempotentWrite, |channel| call(LeadershipClient::new(channel))).await
    }

    fn request<M>(&self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        if let Ok(user_agent) = self.user_agent.parse() {
            request.metadata_mut().insert("keelson-user-agent", user_agent);
        }
        request
    }
}

struct PatchedObject<'a> {
    kind: &'a ResourceKind,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
}

fn write_options(options: &WriteOptions) -> wire::WriteOptions {
    wire::WriteOptions {
        fence: options
            .fence
            .as_ref()
            .map(|fence| wire::Fence { lock: fence.lock.clone(), epoch: fence.epoch }),
        dry_run: options.dry_run,
        field_manager: String::new(),
    }
}

fn watch_event<K: ApiObject>(event: wire::WatchEvent) -> Result<WatchEvent<K>, ApiError> {
    let kind = event.r#type();
    let object = event.object.unwrap_or_default();
    match kind {
        wire::EventType::Added => decode(&object).map(WatchEvent::Added),
        wire::EventType::Modified => decode(&object).map(WatchEvent::Modified),
        wire::EventType::Deleted => decode(&object).map(WatchEvent::Deleted),
        wire::EventType::Bookmark => Ok(WatchEvent::Bookmark(object.resource_version)),
        wire::EventType::Unspecified => {
            Err(ApiError::Malformed(Failure::text("watch event of an unknown type")))
        }
    }
}
