//! The planner over whole stories: changes and answers in every order.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::scheduler::fixtures::{node_object, pod_from};

struct Story {
    planner: Planner,
    now: Instant,
}

impl Story {
    /// A cluster of nodes with one CPU each.
    fn with_nodes(names: &[&str]) -> Self {
        let planner = Planner::new("default-scheduler".to_owned(), SearchWidth::All, 1);
        let mut story = Self { planner, now: Instant::now() };
        names.iter().for_each(|name| story.set_node(name, "1"));
        story
    }

    fn set_node(&mut self, name: &str, cpu: &str) {
        let object = json!({ "status": { "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" } } });
        self.planner.set_node(node_object(name, object), self.now);
    }

    fn set_pod(&mut self, name: &str, cpu: &str, more: Value) {
        let requests = json!({ "requests": { "cpu": cpu } });
        let mut spec = json!({ "containers": [{ "name": "c", "resources": requests }] });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.set_object(json!({ "metadata": { "name": name }, "spec": spec }));
    }

    fn set_object(&mut self, object: Value) {
        self.planner.set_pod(pod_from(object).pod, self.now);
    }

    fn decide(&mut self) -> String {
        match self.planner.decide(self.now) {
            Some(Decision::Bind { pod, node }) => format!("{} -> {node}", pod.key.name),
            Some(Decision::Unschedulable { diagnosis, .. }) => diagnosis.message(),
            None => "-".to_owned(),
        }
    }

    fn binding_ended(&mut self, name: &str, end: BindingEnd) {
        let pod = pod_from(json!({ "metadata": { "name": name } }));
        self.planner.binding_ended(&pod, end, self.now);
    }

    fn used(&self, node: &str) -> i64 {
        self.planner.snapshot().node(node).unwrap().requested.milli_cpu
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

const FULL: &str = "0/1 nodes are available: 1 Insufficient cpu.";

#[test]
fn an_assumed_pod_counts_for_the_next_decision() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("a", "600m", json!({}));
    story.set_pod("b", "600m", json!({}));
    assert_eq!(story.decide(), "a -> n1");
    assert_eq!(story.decide(), FULL);
    assert_eq!(story.decide(), "-");
}

#[test]
fn a_failed_binding_makes_room_and_is_tried_again_after_backoff() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("a", "600m", json!({}));
    assert_eq!(story.decide(), "a -> n1");
    story.binding_ended("a", BindingEnd::Failed);
    assert_eq!((story.used("n1"), story.decide().as_str()), (0, "-"));
    story.pass(1);
    assert_eq!(story.decide(), "a -> n1");
    story.binding_ended("a", BindingEnd::Bound);
    assert_eq!((story.used("n1"), story.planner.pending()), (600, PendingCounts::default()));
}

#[test]
fn a_watch_faster_than_the_answer_is_believed() {
    let mut story = Story::with_nodes(&["n1", "n2"]);
    story.set_pod("a", "600m", json!({}));
    let decided = story.decide();
    let other = if decided.ends_with("n1") { "n2" } else { "n1" };
    story.set_pod("a", "600m", json!({ "nodeName": other }));
    story.binding_ended("a", BindingEnd::Failed);
    assert_eq!(story.used(other), 600);
    assert_eq!(story.used("n1") + story.used("n2"), 600);
    story.pass(10);
    assert_eq!(story.decide(), "-");
}

#[test]
fn an_old_version_after_the_answer_is_not_scheduled_again() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("a", "600m", json!({}));
    assert_eq!(story.decide(), "a -> n1");
    story.binding_ended("a", BindingEnd::Bound);
    story.set_pod("a", "600m", json!({}));
    assert_eq!((story.decide().as_str(), story.used("n1")), ("-", 600));
    story.set_pod("a", "600m", json!({ "nodeName": "n1" }));
    assert_eq!(story.used("n1"), 600);
}

#[test]
fn a_successor_of_the_same_name_is_another_pod() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("a", "600m", json!({ "nodeName": "n1" }));
    story.set_object(json!({ "metadata": { "name": "a", "uid": "second" }, "spec": { "containers": [] } }));
    assert_eq!((story.used("n1"), story.decide().as_str()), (0, "a -> n1"));
    story.binding_ended("a", BindingEnd::Failed);
    assert_eq!(story.planner.pending().in_flight, 1, "the answer was for the first pod");
}

#[test]
fn other_schedulers_pods_are_load_but_no_work() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("theirs", "600m", json!({ "schedulerName": "other" }));
    assert_eq!(story.decide(), "-");
    story.set_pod("theirs", "600m", json!({ "schedulerName": "other", "nodeName": "n1" }));
    story.set_pod("ours", "600m", json!({}));
    assert_eq!(story.decide(), FULL);
}

#[test]
fn finished_and_deleted_pods_make_room() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("a", "1", json!({ "nodeName": "n1" }));
    story.set_pod("b", "1", json!({}));
    assert_eq!(story.decide(), FULL);
    story.pass(1);
    let finished = json!({ "metadata": { "name": "a" }, "spec": { "containers": [], "nodeName": "n1" }, "status": { "phase": "Succeeded" } });
    story.set_object(finished);
    assert_eq!(story.decide(), "b -> n1");
}

#[test]
fn a_pod_waits_for_the_change_that_helps_it() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("a", "2", json!({}));
    assert_eq!(story.decide(), FULL);
    story.pass(2);
    story.set_node("n1", "1");
    assert_eq!(story.decide(), "-", "a heartbeat helps nobody");
    story.set_node("n1", "2");
    assert_eq!(story.decide(), "a -> n1");
}

#[test]
fn without_nodes_the_first_one_wakes_everybody() {
    let mut story = Story::with_nodes(&[]);
    story.set_pod("a", "1", json!({}));
    assert_eq!(story.decide(), "no nodes available to schedule pods");
    story.pass(2);
    story.set_node("n1", "1");
    assert_eq!(story.decide(), "a -> n1");
}

#[test]
fn gated_and_terminating_pods_are_left_alone() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("gated", "1", json!({ "schedulingGates": [{ "name": "g" }] }));
    let metadata = json!({ "name": "ending", "deletionTimestamp": "2026-01-01T00:00:00Z" });
    story.set_object(json!({ "metadata": metadata, "spec": { "containers": [] } }));
    assert_eq!((story.decide().as_str(), story.planner.pending().gated), ("-", 1));
    story.set_pod("gated", "1", json!({}));
    assert_eq!(story.decide(), "gated -> n1");
}

#[test]
fn a_pod_whose_node_went_away_is_placed_elsewhere() {
    let mut story = Story::with_nodes(&["n1"]);
    story.set_pod("a", "1", json!({}));
    assert_eq!(story.decide(), "a -> n1");
    story.planner.remove_node("n1", story.now);
    story.binding_ended("a", BindingEnd::Failed);
    story.set_node("n2", "1");
    story.pass(1);
    assert_eq!(story.decide(), "a -> n2");
}
