//! Keeps one task per probe of each running container.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::pod::probe_state::{ProbeKind, Verdict, Verdicts};
use crate::pod::{Observed, Stage};
use crate::probes::{self, Report, Target};
use crate::runtime::{ContainerId, ContainerState, Runtime};

/// The probes of one pod.
#[derive(Debug)]
pub(super) struct Probing {
    reports: mpsc::Sender<Report>,
    tasks: BTreeMap<(ContainerId, ProbeKind), AbortOnDropHandle<()>>,
    started: BTreeMap<ContainerId, Verdict>,
}

impl Probing {
    /// Returns the probes of a pod whose containers may have passed their startup probe under a former agent.
    pub(super) fn new(reports: mpsc::Sender<Report>, known: &BTreeMap<ContainerId, Verdicts>) -> Self {
        let started = known.iter().map(|(id, verdicts)| (id.clone(), verdicts.startup)).collect();
        Self { reports, tasks: BTreeMap::new(), started }
    }

    /// Notes that a container's startup probe succeeded.
    pub(super) fn note(&mut self, report: &Report) {
        if report.kind == ProbeKind::Startup {
            self.started.insert(report.container.clone(), report.verdict);
        }
    }

    /// Starts probes of containers that run, and ends those of containers that do not. A pod that ends keeps its readiness
    /// probe only: nothing must restart it.
    pub(super) fn follow(
        &mut self,
        pod: &Pod,
        observed: &Observed,
        stage: Stage,
        ip: Option<IpAddr>,
        runtime: &Arc<dyn Runtime>,
    ) {
        let Some(spec) = &pod.spec else { return };
        let mut wanted: BTreeMap<(ContainerId, ProbeKind), (Probe, Container)> = BTreeMap::new();
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let newest = observed.newest(&container.name);
            let Some(running) = newest.filter(|newest| newest.state == ContainerState::Running) else {
                continue;
            };
            for (kind, probe) in self.probes(container, &running.id, stage) {
                wanted.insert((running.id.clone(), kind), (probe, container.clone()));
            }
        }
        self.tasks.retain(|key, _| wanted.contains_key(key));
        self.started.retain(|id, _| observed.containers.iter().any(|container| container.id == *id));
        for (key, (probe, spec)) in wanted {
            if self.tasks.contains_key(&key) {
                continue;
            }
            let target = Target { container: key.0.clone(), ip, spec, runtime: Arc::clone(runtime) };
            let task = tokio::spawn(probes::run(key.1, probe, target, self.reports.clone()));
            self.tasks.insert(key, AbortOnDropHandle::new(task));
        }
    }

    /// The startup probe runs alone until it succeeds.
    fn probes(&self, container: &Container, id: &ContainerId, stage: Stage) -> Vec<(ProbeKind, Probe)> {
        let started = self.started.get(id) == Some(&Verdict::Success);
        if let Some(startup) = container.startup_probe.clone().filter(|_| !started) {
            return if stage == Stage::Syncing { vec![(ProbeKind::Startup, startup)] } else { Vec::new() };
        }
        let readiness = container.readiness_probe.clone().map(|probe| (ProbeKind::Readiness, probe));
        let liveness = container.liveness_probe.clone().map(|probe| (ProbeKind::Liveness, probe));
        readiness.into_iter().chain(liveness.filter(|_| stage == Stage::Syncing)).collect()
    }
}
