//! Table tests of the Deployment's decisions, and rollouts played to their end against a model of ReplicaSets.

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::runtime::Verb;

fn deployment(replicas: i32, image: &str, strategy: serde_json::Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "web", "uid": "d-uid", "generation": 1, "resourceVersion": "5"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": strategy,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }))
    .unwrap()
}

fn rolling(surge: serde_json::Value, unavailable: serde_json::Value) -> serde_json::Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn context() -> Context {
    Context { now: Timestamp::from_second(1_000).unwrap(), last_failure: None }
}

/// A namespace in which ReplicaSets obey at once or one pod at a time.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    revision: u64,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), revision: 10 }
    }

    fn plan(&self) -> Plan {
        let observed = Observed {
            deployment: Some(Arc::new(self.deployment.clone())),
            replica_sets: self.sets.iter().cloned().map(Arc::new).collect(),
            pods: Vec::new(),
        };
        DeploymentController::reconcile(&observed, &context())
    }

    /// Reconciles once and applies the plan.
    fn turn(&mut self) -> Plan {
        let plan = self.plan();
        for action in &plan.actions {
            self.revision += 1;
            self.apply(action);
        }
        plan
    }

    fn apply(&mut self, action: &Action) {
        let at = self.sets.iter().position(|set| set.metadata.name.as_deref() == Some(&action.name));
        match (&action.verb, action.kind.resource.as_str()) {
            (Verb::Create { object, .. }, "replicasets") => {
                let mut set: ReplicaSet = serde_json::from_value(object.clone()).unwrap();
                set.metadata.uid = Some(format!("uid-{}", self.revision));
                let created = Timestamp::from_second(i64::try_from(self.revision).unwrap()).unwrap();
                set.metadata.creation_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
                set.metadata.generation = Some(1);
                self.sets.push(set);
            }
            (Verb::Update { object, .. }, "replicasets") => {
                self.sets[at.unwrap()] = serde_json::from_value(object.clone()).unwrap();
            }
            (Verb::Delete(_), "replicasets") => drop(self.sets.remove(at.unwrap())),
            (Verb::Update { subresource: "status", object }, "deployments") => {
                let new: Deployment = serde_json::from_value(object.clone()).unwrap();
                self.deployment.status = new.status;
            }
            (Verb::Patch { patch, .. }, "deployments") => {
                let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                for (name, value) in patch["metadata"]["annotations"].as_object().unwrap() {
                    annotations.insert(name.clone(), value.as_str().unwrap().to_owned());
                }
            }
            other => panic!("unexpected action {other:?}"),
        }
    }

    /// Lets every ReplicaSet bring up at most one pod, and drop all surplus ones.
    fn one_pod_each(&mut self) {
        for set in &mut self.sets {
            let wanted = set.spec.as_ref().unwrap().replicas.unwrap_or(1);
            let status = set.status.get_or_insert_default();
            let now = status.replicas;
            status.replicas = if now < wanted { now + 1 } else { wanted };
            status.ready_replicas = Some(status.replicas);
            status.available_replicas = Some(status.replicas);
            status.observed_generation = set.metadata.generation;
        }
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            self.turn();
            self.one_pod_each();
        }
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(|set| set.spec.as_ref().unwrap().replicas.unwrap_or(1)).collect()
    }

    fn set_image(&mut self, image: &str) {
        let spec = self.deployment.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        spec.containers[0].image = Some(image.to_owned());
        self.deployment.metadata.generation =
            self.deployment.metadata.generation.map(|generation| generation + 1);
    }

    fn condition(&self, name: &str) -> (String, String) {
        let conditions = self.deployment.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let found = conditions.iter().find(|condition| condition.type_ == name).unwrap();
        (found.status.clone(), found.reason.clone().unwrap())
    }

    fn revisions(&self) -> Vec<String> {
        let name = "deployment.kubernetes.io/revision";
        self.sets.iter().map(|set| set.metadata.annotations.as_ref().unwrap()[name].clone()).collect()
    }
}

fn rolled_out(replicas: i32, strategy: serde_json::Value) -> World {
    let mut world = World::new(deployment(replicas, "web:1", strategy));
    world.settle();
    world
}

#[test]
fn new_deployment_gets_one_labelled_set_and_completes() {
    let world = rolled_out(3, rolling(json!("25%"), json!("25%")));
    assert_eq!(world.sizes(), [3]);
    let set = &world.sets[0];
    let hash = &set.spec.as_ref().unwrap().selector.match_labels.as_ref().unwrap()["pod-template-hash"];
    assert_eq!(set.metadata.name, Some(format!("web-{hash}")));
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(world.condition("Available"), ("True".into(), "MinimumReplicasAvailable".into()));
    assert_eq!(world.deployment.status.as_ref().unwrap().observed_generation, Some(1));
    assert_eq!(world.plan().actions, [], "a finished rollout is quiet");
}

#[test]
fn rolling_update_keeps_its_bounds_and_finishes() {
    for (replicas, surge, unavailable) in [(3, 1, 0), (3, 0, 1), (5, 2, 2), (1, 1, 0), (1, 0, 0), (10, 3, 2)]
    {
        let mut world = rolled_out(replicas, rolling(json!(surge), json!(unavailable)));
        world.set_image("web:2");
        let unavailable = if surge + unavailable == 0 { 1 } else { unavailable };
        for _ in 0..60 {
            world.turn();
            assert!(world.sizes().iter().sum::<i32>() <= replicas + surge, "{:?}", world.sizes());
            world.one_pod_each();
            let available: i32 =
                world.sets.iter().filter_map(|set| set.status.as_ref()?.available_replicas).sum();
            assert!(available >= replicas - unavailable, "{available} of {replicas} available");
        }
        assert_eq!(world.sizes(), [0, replicas]);
        assert_eq!(world.condition("Progressing").1, "NewReplicaSetAvailable");
    }
}

#[test]
fn undo_takes_the_old_set_with_the_newest_revision() {
    let mut world = rolled_out(2, rolling(json!(1), json!(0)));
    world.set_image("web:2");
    world.settle();
    assert_eq!(world.revisions(), ["1", "2"]);
    world.set_image("web:1");
    world.settle();
    assert_eq!(world.sizes(), [2, 0]);
    assert_eq!(world.revisions(), ["3", "2"]);
    let history =
        &world.sets[0].metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision-history"];
    assert_eq!(history, "1");
    let annotations = world.deployment.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
}

#[test]
fn scaling_keeps_one_set_and_a_rollout_in_progress_its_mix() {
    let mut world = rolled_out(3, rolling(json!(1), json!(0)));
    world.deployment.spec.as_mut().unwrap().replicas = Some(5);
    world.settle();
    assert_eq!(world.sizes(), [5]);

    let mut world = rolled_out(10, rolling(json!(3), json!(2)));
    world.set_image("web:2");
    world.turn();
    world.turn();
    let mixed = world.sizes();
    assert_eq!(mixed, [8, 3]);
    world.deployment.spec.as_mut().unwrap().replicas = Some(20);
    world.turn();
    // 23 pods are allowed: the sets grow in proportion to 8 and 3 of the former 13.
    assert_eq!(world.sizes(), [18, 5]);
    world.settle();
    assert_eq!(world.sizes(), [0, 20]);
}

#[test]
fn recreate_waits_until_nothing_old_is_left() {
    let mut world = rolled_out(3, json!({"type": "Recreate"}));
    world.set_image("web:2");
    world.turn();
    assert_eq!(world.sizes(), [0]);
    world.settle();
    assert_eq!(world.sizes(), [0, 3]);
}

#[test]
fn paused_deployment_scales_but_does_not_roll() {
    let mut world = rolled_out(2, rolling(json!(1), json!(0)));
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    world.set_image("web:2");
    world.deployment.spec.as_mut().unwrap().replicas = Some(4);
    world.settle();
    assert_eq!(world.sizes(), [4]);
    assert_eq!(world.condition("Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
}

#[test]
fn history_is_trimmed_to_its_limit() {
    let mut world = rolled_out(1, rolling(json!(1), json!(0)));
    world.deployment.spec.as_mut().unwrap().revision_history_limit = Some(1);
    for image in ["web:2", "web:3", "web:4"] {
        world.set_image(image);
        world.settle();
    }
    assert_eq!(world.revisions(), ["3", "4"]);
}

#[test]
fn name_that_is_taken_by_a_stranger_raises_the_collision_count() {
    let mut world = World::new(deployment(1, "web:1", json!({})));
    let name = format!("web-{}", template::hash(&world.deployment.spec.as_ref().unwrap().template, None));
    let mut stranger = ReplicaSet::default();
    stranger.metadata.name = Some(name.clone());
    world.sets.push(stranger);
    world.turn();
    assert_eq!(world.deployment.status.as_ref().unwrap().collision_count, Some(1));
    world.turn();
    assert_eq!(world.sets.len(), 2);
    assert_ne!(world.sets[1].metadata.name, Some(name));
}

#[test]
fn stuck_rollout_exceeds_its_deadline() {
    let mut world = rolled_out(1, rolling(json!(1), json!(0)));
    world.deployment.spec.as_mut().unwrap().progress_deadline_seconds = Some(30);
    world.set_image("web:broken");
    world.turn();
    let plan = world.turn();
    assert!(plan.requeue_after.is_some());
    let observed = Observed {
        deployment: Some(Arc::new(world.deployment.clone())),
        replica_sets: world.sets.iter().cloned().map(Arc::new).collect(),
        pods: Vec::new(),
    };
    let later = Context { now: Timestamp::from_second(1_031).unwrap(), last_failure: None };
    let plan = DeploymentController::reconcile(&observed, &later);
    for action in &plan.actions {
        world.apply(action);
    }
    assert_eq!(world.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
}
