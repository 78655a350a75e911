//! Starts one container: image, environment, mounts, create, start, hook. Every step that fails leaves a waiting reason.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Service};

use super::Worker;
use crate::events::Tone;
use crate::pod::env;
use crate::pod::memory::Stopping;
use crate::pod::{Observed, Waiting, spec};
use crate::probes::{Handler, Target, run_handler};
use crate::runtime::{ContainerId, ContainerSpec, MountSpec, SandboxId};
use crate::volumes;

/// A hook after the start may take as long as the container's start could; upstream sets no limit, we need one.
const POST_START_LIMIT: Duration = Duration::from_secs(300);

/// Reason and message of a failed step.
pub(super) type Failure = (&'static str, String);

impl Worker {
    pub(super) async fn start(
        &mut self,
        pod: &Arc<Pod>,
        observed: &Observed,
        sandbox: &SandboxId,
        name: &str,
        attempt: u32,
    ) {
        let all = pod
            .spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let Some(container) = all.into_iter().find(|container| container.name == name).cloned() else {
            return;
        };
        let now = self.shared.now();
        // A retry after a failed start is no restart.
        if let Some(ended) = observed.newest(name).filter(|_| !self.memory.failures.contains_key(name)) {
            let ended_at = ended.finished_at.unwrap_or(ended.created_at);
            self.memory.restarts.entry(name.to_owned()).or_default().note(ended_at, now);
        }
        match self.try_start(pod, &container, sandbox, attempt).await {
            Ok(id) => {
                self.memory.failures.remove(name);
                self.memory.start_backoffs.remove(name);
                self.post_start(pod, &container, id).await;
            }
            Err((reason, message)) => {
                // The failed pull has events of its own.
                let event = if reason == "ErrImagePull" {
                    format!("Error: {reason}")
                } else {
                    format!("Error: {message}")
                };
                self.shared.events.pod(pod, Some(name), Tone::Warning, "Failed", event);
                let failed_at = self.shared.now();
                let failure = Waiting { reason: reason.to_owned(), message, at: failed_at };
                self.memory.failures.insert(name.to_owned(), failure);
                self.memory.start_backoffs.entry(name.to_owned()).or_default().note(failed_at, failed_at);
            }
        }
    }

    async fn try_start(
        &self,
        pod: &Arc<Pod>,
        container: &Container,
        sandbox: &SandboxId,
        attempt: u32,
    ) -> Result<ContainerId, Failure> {
        self.ensure_image(pod, container).await?;
        let spec = self.container_spec(pod, container, attempt).await?;
        let events = &self.shared.events;
        let name = &container.name;
        let sandbox_spec = spec::sandbox(pod, &self.shared.node, attempt);
        if self.shared.volumes.is_some() {
            let directory = sandbox_spec.log_directory.join(name);
            std::fs::create_dir_all(directory)
                .map_err(|error| ("CreateContainerError", error.to_string()))?;
        }
        let (runtime, sandbox) = (Arc::clone(&self.shared.runtime), sandbox.clone());
        let create = async move { runtime.create_container(&sandbox, &sandbox_spec, &spec).await };
        let created = self.shared.make(create).await;
        let id = created.map_err(|error| ("CreateContainerError", error.to_string()))?;
        events.pod(pod, Some(name), Tone::Normal, "Created", format!("Created container: {name}"));
        let (runtime, container) = (Arc::clone(&self.shared.runtime), id.clone());
        let started = self.shared.make(async move { runtime.start_container(&container).await }).await;
        started.map_err(|error| ("RunContainerError", error.to_string()))?;
        events.pod(pod, Some(name), Tone::Normal, "Started", format!("Started container {name}"));
        Ok(id)
    }

    /// Makes sure that the image is on the node, as its pull policy says.
    async fn ensure_image(&self, pod: &Pod, container: &Container) -> Result<(), Failure> {
        let image = container.image.as_deref().unwrap_or_default();
        let name = &container.name;
        let events = &self.shared.events;
        let runtime = &self.shared.runtime;
        let present =
            runtime.image(image).await.map_err(|error| ("ImageInspectError", error.to_string()))?.is_some();
        let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        match (policy, present) {
            ("Never", false) => {
                let message = format!(
                    "Container image \"{image}\" is not present with pull policy of Never; import it with: keelson image import FILE.tar"
                );
                return Err(("ErrImageNeverPull", message));
            }
            ("Always", _) | (_, false) => {}
            (_, true) => {
                let message = format!("Container image \"{image}\" already present on machine");
                events.pod(pod, Some(name), Tone::Normal, "Pulled", message);
                return Ok(());
            }
        }
        events.pod(pod, Some(name), Tone::Normal, "Pulling", format!("Pulling image \"{image}\""));
        if let Err(error) = runtime.pull_image(image).await {
            let message = format!(
                "failed to pull image \"{image}\": {error}; if no registry has it, import it with: keelson image import FILE.tar"
            );
            events.pod(
                pod,
                Some(name),
                Tone::Warning,
                "Failed",
                format!("Failed to pull image \"{image}\": {message}"),
            );
            return Err(("ErrImagePull", message));
        }
        events.pod(pod, Some(name), Tone::Normal, "Pulled", format!("Successfully pulled image \"{image}\""));
        Ok(())
    }

    async fn container_spec(
        &self,
        pod: &Pod,
        container: &Container,
        attempt: u32,
    ) -> Result<ContainerSpec, Failure> {
        let config_error = |message: String| ("CreateContainerConfigError", message);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let references = volumes::references(&self.shared.client, namespace, container).await;
        let references = references.map_err(|error| config_error(error.to_string()))?;
        let services = self.service_variables(pod, namespace);
        let facts = self.facts();
        let env = env::environment(pod, container, &facts, &references, &services);
        let env = env.map_err(|error| config_error(error.to_string()))?;
        let mounts = self.mounts(pod, container, &env).await.map_err(config_error)?;
        let spec = spec::container(pod, container, &self.shared.node, attempt, env, mounts);
        self.check_user(pod, container, &spec).await?;
        Ok(spec)
    }

    async fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        env: &[crate::runtime::EnvVar],
    ) -> Result<Vec<MountSpec>, String> {
        let (Some(volumes), Some(pod_spec)) = (&self.shared.volumes, &pod.spec) else {
            return Ok(Vec::new());
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let directories = volumes
            .prepare(pod, &self.facts(), self.shared.now())
            .await
            .map_err(|error| error.to_string())?;
        let hosts = match self.ip.filter(|_| !spec::in_host_network(pod_spec)) {
            Some(ip) => {
                let text = volumes::hosts_file(pod, pod_spec, ip, &self.shared.node.cluster_domain);
                Some(volumes.write_hosts(uid, &text).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        volumes::mounts(container, &directories, env, hosts.as_deref()).map_err(|error| error.to_string())
    }

    /// The namespace's services, and the API's own everywhere.
    fn service_variables(&self, pod: &Pod, namespace: &str) -> Vec<(String, String)> {
        let enabled = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let own = if enabled { self.shared.services.list_namespace(namespace) } else { Vec::new() };
        let kubernetes = self.shared.services.get("default", "kubernetes");
        let all: Vec<Arc<Service>> = kubernetes.into_iter().chain(own).collect();
        let all: Vec<&Service> = all.iter().map(AsRef::as_ref).collect();
        env::service_variables(&all)
    }

    /// `runAsNonRoot` is a promise about the process that will run; the image's own user counts when the pod names none.
    async fn check_user(
        &self,
        pod: &Pod,
        container: &Container,
        spec: &ContainerSpec,
    ) -> Result<(), Failure> {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
        let of_pod = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.as_ref())
            .and_then(|context| context.run_as_non_root);
        if own.or(of_pod) != Some(true) {
            return Ok(());
        }
        let refused = |message: String| Err(("CreateContainerConfigError", message));
        if let Some(uid) = spec.user.uid {
            return if uid == 0 {
                refused("container's runAsUser breaks non-root policy".to_owned())
            } else {
                Ok(())
            };
        }
        let image = self.shared.runtime.image(&spec.image).await.ok().flatten().unwrap_or_default();
        match (image.uid, image.username.as_str()) {
            (Some(0), _) | (None, "") => {
                refused("container has runAsNonRoot and image will run as root".to_owned())
            }
            (None, user) => refused(format!(
                "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root"
            )),
            (Some(_), _) => Ok(()),
        }
    }

    /// Runs the hook after the start; its failure kills the container, which is then restarted by policy.
    async fn post_start(&mut self, pod: &Arc<Pod>, container: &Container, id: ContainerId) {
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
        else {
            return;
        };
        let runtime = Arc::clone(&self.shared.runtime);
        let target = Target { container: id.clone(), ip: self.ip, spec: container.clone(), runtime };
        if let Err(error) = run_handler(&Handler::of_hook(hook), &target, POST_START_LIMIT).await {
            let message = format!("PostStartHook failed: {error}");
            self.shared.events.pod(pod, Some(&container.name), Tone::Warning, "FailedPostStartHook", message);
            let now = self.shared.now();
            self.memory.stopping.insert(id.clone(), Stopping { kill_at: now });
            self.spawn_stop(pod, id, &container.name, now);
        }
    }
}
