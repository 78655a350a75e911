//! Cycles against a naive reading of the rules: random clusters, every feasible set and every winner checked.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::*;
use crate::scheduler::fixtures::{node_object, pod, pod_from, requesting, snapshot};

fn machine(cpu: &str, pods: u32) -> Value {
    json!({ "status": { "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": pods.to_string() } } })
}

fn run(pod: &PodInfo, snapshot: &Snapshot) -> Outcome {
    Cycle::new(Catalog::default(), SearchWidth::All).run(pod, snapshot, &mut StdRng::seed_from_u64(1))
}

#[test]
fn the_emptiest_node_wins() {
    let busy = requesting("busy", json!({ "cpu": "2", "memory": "4Gi" }));
    let cluster = snapshot([("n1", machine("4", 110)), ("n2", machine("4", 110))], [(busy, "n1")]);
    let outcome = run(&requesting("new", json!({ "cpu": "1", "memory": "2Gi" })), &cluster);
    assert_eq!(outcome, Outcome::Chosen(Choice { node: "n2".into(), evaluated: 2, feasible: 2 }));
}

#[test]
fn reasons_are_told_for_every_node() {
    let mut tainted = machine("4", 110);
    tainted["spec"] = json!({ "taints": [{ "key": "key", "value": "value", "effect": "NoSchedule" }] });
    let cluster = snapshot([("n1", tainted.clone()), ("n2", tainted), ("n3", machine("1", 110))], []);
    let Outcome::Unschedulable(diagnosis) = run(&requesting("new", json!({ "cpu": "2" })), &cluster) else {
        panic!("no node does")
    };
    let expected =
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {key: value}.";
    assert_eq!(diagnosis.message(), expected);
}

#[test]
fn a_pod_for_one_node_is_tested_there_only() {
    let field = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n2"] }] });
    let rules = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [field] } });
    let wants = pod("daemon", json!({ "affinity": { "nodeAffinity": rules } }));
    let cluster = snapshot([("n1", machine("4", 110)), ("n2", machine("4", 110))], []);
    let outcome = run(&wants, &cluster);
    assert_eq!(outcome, Outcome::Chosen(Choice { node: "n2".into(), evaluated: 1, feasible: 1 }));
    let full = snapshot([("n1", machine("4", 110)), ("n2", machine("4", 0))], []);
    let Outcome::Unschedulable(diagnosis) = run(&wants, &full) else { panic!("the only node is full") };
    let expected =
        "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    assert_eq!(diagnosis.message(), expected);
}

#[test]
fn ties_are_broken_by_the_seed_and_reach_every_node() {
    let cluster = snapshot(["n1", "n2", "n3"].map(|name| (name, machine("4", 110))), []);
    let pick = |seed| {
        let mut cycle = Cycle::new(Catalog::default(), SearchWidth::All);
        cycle.run(&pod("new", json!({})), &cluster, &mut StdRng::seed_from_u64(seed))
    };
    assert_eq!(pick(7), pick(7));
    let names: BTreeSet<String> = (0..64)
        .filter_map(|seed| match pick(seed) {
            Outcome::Chosen(choice) => Some(choice.node.to_string()),
            Outcome::Unschedulable(_) => None,
        })
        .collect();
    assert_eq!(names.len(), 3);
}

#[test]
fn big_clusters_are_searched_in_turn() {
    assert_eq!(feasible_nodes_to_find(100, SearchWidth::Adaptive), 100);
    assert_eq!(feasible_nodes_to_find(1000, SearchWidth::Adaptive), 420);
    assert_eq!(feasible_nodes_to_find(10_000, SearchWidth::Adaptive), 500);
    assert_eq!(feasible_nodes_to_find(1000, SearchWidth::All), 1000);
    let mut cluster = Snapshot::default();
    (0..300).for_each(|index| cluster.set_node(&format!("n{index}"), node_object("n", machine("4", 110))));
    let mut cycle = Cycle::new(Catalog::default(), SearchWidth::Adaptive);
    let mut random = StdRng::seed_from_u64(1);
    cycle.run(&pod("a", json!({})), &cluster, &mut random);
    assert_eq!(cycle.next_start, 144);
    cycle.run(&pod("a", json!({})), &cluster, &mut random);
    cycle.run(&pod("a", json!({})), &cluster, &mut random);
    assert_eq!(cycle.next_start, 132);
}

/// The parts of a cluster that the naive check understands, in plain numbers.
#[derive(Clone, Debug)]
struct Machine {
    cpu: u32,
    pods: u32,
    zone: u8,
    taint: Option<&'static str>,
    is_cordoned: bool,
    running: Vec<Load>,
}

#[derive(Clone, Debug)]
struct Load {
    cpu: u32,
    port: Option<u16>,
}

#[derive(Clone, Debug)]
struct Wish {
    load: Load,
    zone: Option<u8>,
    tolerates: Option<&'static str>,
}

fn load() -> impl Strategy<Value = Load> {
    (0..5_u32, proptest::option::of(80..83_u16)).prop_map(|(cpu, port)| Load { cpu, port })
}

fn effect() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::of(prop_oneof![Just("NoSchedule"), Just("NoExecute"), Just("PreferNoSchedule")])
}

fn machine_strategy() -> impl Strategy<Value = Machine> {
    let running = proptest::collection::vec(load(), 0..4);
    (0..10_u32, 0..6_u32, 0..3_u8, effect(), proptest::bool::weighted(0.2), running).prop_map(
        |(cpu, pods, zone, taint, is_cordoned, running)| Machine {
            cpu,
            pods,
            zone,
            taint,
            is_cordoned,
            running,
        },
    )
}

fn wish() -> impl Strategy<Value = Wish> {
    (load(), proptest::option::of(0..3_u8), effect()).prop_map(|(load, zone, tolerates)| Wish {
        load,
        zone,
        tolerates,
    })
}

fn is_feasible(machine: &Machine, wish: &Wish) -> bool {
    let used: u32 = machine.running.iter().map(|load| load.cpu).sum();
    let has_room = wish.load.cpu == 0 || used + wish.load.cpu <= machine.cpu;
    let has_place = machine.running.len() < usize::try_from(machine.pods).unwrap();
    let port_is_free =
        wish.load.port.is_none_or(|port| machine.running.iter().all(|load| load.port != Some(port)));
    let is_in_zone = wish.zone.is_none_or(|zone| zone == machine.zone);
    let taint_is_fine =
        machine.taint.is_none_or(|taint| taint == "PreferNoSchedule" || wish.tolerates == Some(taint));
    has_room && has_place && port_is_free && is_in_zone && taint_is_fine && !machine.is_cordoned
}

fn load_spec(load: &Load) -> Value {
    let ports: Vec<Value> =
        load.port.iter().map(|port| json!({ "containerPort": port, "hostPort": port })).collect();
    let requests = if load.cpu == 0 { json!({}) } else { json!({ "cpu": load.cpu.to_string() }) };
    json!({ "containers": [{ "name": "c", "ports": ports, "resources": { "requests": requests } }] })
}

fn wish_pod(wish: &Wish) -> PodInfo {
    let mut spec = load_spec(&wish.load);
    if let Some(zone) = wish.zone {
        spec["nodeSelector"] = json!({ "zone": zone.to_string() });
    }
    if let Some(effect) = wish.tolerates {
        spec["tolerations"] = json!([{ "key": "k", "operator": "Exists", "effect": effect }]);
    }
    pod_from(json!({ "metadata": { "name": "wish" }, "spec": spec }))
}

fn build(machines: &[Machine]) -> Snapshot {
    let mut cluster = Snapshot::default();
    for (index, machine) in machines.iter().enumerate() {
        let name = format!("n{index}");
        let taints: Vec<Value> =
            machine.taint.iter().map(|effect| json!({ "key": "k", "effect": effect })).collect();
        let object = json!({
            "metadata": { "labels": { "zone": machine.zone.to_string() } },
            "spec": { "taints": taints, "unschedulable": machine.is_cordoned },
            "status": { "allocatable": { "cpu": machine.cpu.to_string(), "memory": "8Gi", "pods": machine.pods.to_string() } },
        });
        for (number, load) in machine.running.iter().enumerate() {
            cluster.set_pod(Arc::new(pod(&format!("p{index}-{number}"), load_spec(load))), &name);
        }
        cluster.set_node(&name, node_object(&name, object));
    }
    cluster
}

proptest! {
    #[test]
    fn the_chosen_node_is_feasible_and_best(
        machines in proptest::collection::vec(machine_strategy(), 0..12),
        wish in wish(),
        seed in any::<u64>(),
    ) {
        let cluster = build(&machines);
        let wanted = wish_pod(&wish);
        let feasible: Vec<&NodeInfo> = machines
            .iter()
            .zip(cluster.nodes())
            .filter(|(machine, _)| is_feasible(machine, &wish))
            .map(|(_, node)| node)
            .collect();
        let mut cycle = Cycle::new(Catalog::default(), SearchWidth::All);
        match cycle.run(&wanted, &cluster, &mut StdRng::seed_from_u64(seed)) {
            Outcome::Unschedulable(diagnosis) => {
                prop_assert!(feasible.is_empty());
                prop_assert_eq!(diagnosis.rejections.len(), machines.len());
            }
            Outcome::Chosen(choice) => {
                prop_assert_eq!(choice.feasible, feasible.len());
                let chosen = feasible.iter().position(|node| node.name == choice.node);
                prop_assert!(chosen.is_some());
                let scores = total_scores(&cycle.catalog().scorers, &wanted, &cluster, &feasible);
                prop_assert_eq!(scores.get(chosen.unwrap()), scores.iter().max());
                prop_assert!(scores.iter().all(|score| (0..=1000).contains(score)));
            }
        }
    }
}
