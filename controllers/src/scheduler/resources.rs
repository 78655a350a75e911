//! Amounts of resources, as the scheduler adds and compares them.
//!
//! CPU counts in thousandths of a core, everything else in whole units (bytes, pieces). A quantity that cannot be read is
//! taken in the direction that places nothing: as an endless request, as an allocatable of zero.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The CPU that a container without a CPU request counts for when nodes are compared, in thousandths of a core.
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// The memory that a container without a memory request counts for when nodes are compared: 200 MiB.
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// More than any node has, and small enough that the pods of a node add up without overflow, so that taking one away again
/// is exact.
const ENDLESS: i64 = i64::MAX / 4096;

/// What the API calls a resource list.
pub type ResourceList = BTreeMap<String, Quantity>;

/// How much of every resource something asks for, uses or has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, by name.
    pub scalars: BTreeMap<String, i64>,
}

/// CPU and memory with defaults for containers that ask for none; scores compare these, filters never do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScoredRequest {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
}

/// What a number stands in for that cannot be read.
#[derive(Clone, Copy)]
enum Unreadable {
    Endless,
    Nothing,
}

impl Resources {
    /// Returns the amounts of a request.
    pub fn requested(list: &ResourceList) -> Self {
        Self::read(list, Unreadable::Endless)
    }

    /// Returns the amounts that a node offers.
    pub fn allocatable(list: &ResourceList) -> Self {
        Self::read(list, Unreadable::Nothing)
    }

    fn read(list: &ResourceList, unreadable: Unreadable) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            let amount = amount(name, quantity, unreadable);
            match name.as_str() {
                "cpu" => resources.milli_cpu = amount,
                "memory" => resources.memory = amount,
                "ephemeral-storage" => resources.ephemeral_storage = amount,
                "pods" => {}
                scalar => drop(resources.scalars.insert(scalar.to_owned(), amount)),
            }
        }
        resources
    }

    /// Adds `other` to this.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes `other` away from this; what was added before comes out exactly.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.scalars.retain(|_, amount| *amount != 0);
    }

    /// Raises every amount to at least that of `other`.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    /// Returns true when neither CPU nor memory is asked for.
    pub fn is_best_effort(&self) -> bool {
        self.milli_cpu == 0 && self.memory == 0
    }

    fn combine(&mut self, other: &Self, operation: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = operation(self.milli_cpu, other.milli_cpu);
        self.memory = operation(self.memory, other.memory);
        self.ephemeral_storage = operation(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let own = self.scalars.entry(name.clone()).or_default();
            *own = operation(*own, *amount);
        }
    }
}

impl ScoredRequest {
    /// Adds `other` to this.
    pub fn add(&mut self, other: Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
    }

    /// Takes `other` away from this.
    pub fn subtract(&mut self, other: Self) {
        self.milli_cpu = self.milli_cpu.saturating_sub(other.milli_cpu);
        self.memory = self.memory.saturating_sub(other.memory);
    }
}

/// Returns the number of pods in a resource list, zero when it names none.
pub fn pod_count(list: &ResourceList) -> i64 {
    list.get("pods").map_or(0, |quantity| amount("pods", quantity, Unreadable::Nothing))
}

/// Returns what a pod needs: its containers together, or its hungriest init step if that is more, plus overhead.
pub fn pod_requests(spec: &PodSpec) -> Resources {
    pod_total(spec, |container| container_requests(container).map(Resources::requested).unwrap_or_default())
}

/// Returns what a pod counts for in scores: containers that ask for no CPU or no memory count with the defaults.
pub fn pod_scored_request(spec: &PodSpec) -> ScoredRequest {
    let total = pod_total(spec, |container| {
        let list = container_requests(container);
        let mut resources = list.map(Resources::requested).unwrap_or_default();
        if !list.is_some_and(|list| list.contains_key("cpu")) {
            resources.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !list.is_some_and(|list| list.contains_key("memory")) {
            resources.memory = DEFAULT_MEMORY;
        }
        resources
    });
    ScoredRequest { milli_cpu: total.milli_cpu, memory: total.memory }
}

/// Init containers run one after another, beside the sidecars (restartable init containers) that started before them.
fn pod_total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut total = Resources::default();
    spec.containers.iter().for_each(|container| total.add(&of(container)));
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if is_sidecar(container) {
            total.add(&own);
            sidecars.add(&own);
            peak.raise_to(&sidecars);
        } else {
            let mut step = sidecars.clone();
            step.add(&own);
            peak.raise_to(&step);
        }
    }
    total.raise_to(&peak);
    if let Some(list) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        override_with(&mut total, list);
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::requested(overhead));
    }
    total
}

/// Pod-level requests replace the sum of the containers, resource by resource.
fn override_with(total: &mut Resources, list: &ResourceList) {
    let pod_level = Resources::requested(list);
    if list.contains_key("cpu") {
        total.milli_cpu = pod_level.milli_cpu;
    }
    if list.contains_key("memory") {
        total.memory = pod_level.memory;
    }
    total.scalars.extend(pod_level.scalars);
}

/// Returns true for an init container that keeps running beside the pod's containers.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn container_requests(container: &Container) -> Option<&ResourceList> {
    container.resources.as_ref()?.requests.as_ref()
}

fn amount(name: &str, quantity: &Quantity, unreadable: Unreadable) -> i64 {
    let parsed = quantity.0.parse::<proto::api::quantity::Quantity>();
    match (parsed, unreadable) {
        (Ok(parsed), _) if name == "cpu" => parsed.millis().min(ENDLESS),
        (Ok(parsed), _) => parsed.units().min(ENDLESS),
        (Err(_), Unreadable::Endless) => ENDLESS,
        (Err(_), Unreadable::Nothing) => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn requests(spec: Value) -> Resources {
        pod_requests(&serde_json::from_value(spec).unwrap())
    }

    fn container(requests: Value) -> Value {
        json!({ "name": "c", "resources": { "requests": requests } })
    }

    #[test]
    fn containers_add_up() {
        let spec = json!({ "containers": [container(json!({"cpu": "250m"})), container(json!({"cpu": "1", "memory": "1Gi"}))] });
        let total = requests(spec);
        assert_eq!((total.milli_cpu, total.memory), (1250, 1 << 30));
    }

    #[test]
    fn the_hungriest_init_step_counts_beside_earlier_sidecars() {
        let mut sidecar = container(json!({"cpu": "200m"}));
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({
            "initContainers": [container(json!({"cpu": "900m"})), sidecar, container(json!({"cpu": "800m"}))],
            "containers": [container(json!({"cpu": "500m"}))],
        });
        assert_eq!(requests(spec).milli_cpu, 1000);
    }

    #[test]
    fn overhead_and_pod_level_requests_count() {
        let spec = json!({
            "containers": [container(json!({"cpu": "2", "memory": "10", "example.com/gpu": "1"}))],
            "resources": { "requests": { "cpu": "1" } },
            "overhead": { "cpu": "10m" },
        });
        let total = requests(spec);
        assert_eq!((total.milli_cpu, total.memory), (1010, 10));
        assert_eq!(total.scalars.get("example.com/gpu"), Some(&1));
    }

    #[test]
    fn scores_count_defaults_for_silent_containers() {
        let spec = json!({ "containers": [container(json!({"cpu": "0"})), { "name": "b" }] });
        let scored = pod_scored_request(&serde_json::from_value(spec).unwrap());
        assert_eq!(scored, ScoredRequest { milli_cpu: DEFAULT_MILLI_CPU, memory: 2 * DEFAULT_MEMORY });
    }

    #[test]
    fn unreadable_amounts_place_nothing() {
        let list = BTreeMap::from([("memory".to_owned(), Quantity("lots".to_owned()))]);
        assert_eq!(Resources::requested(&list).memory, ENDLESS);
        assert_eq!(Resources::allocatable(&list).memory, 0);
    }
}
