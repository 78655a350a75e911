//! Measures how many pods per second the scheduler's pure core places: no wire, no store, one thread.
//!
//! Run with `cargo run --release -p controllers --example scheduling_throughput -- [NODES] [PODS]`.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use controllers::scheduler::cycle::SearchWidth;
use controllers::scheduler::planner::{BindingEnd, Decision, Planner};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let nodes: usize = arguments.next().as_deref().unwrap_or("1000").parse()?;
    let pods: usize = arguments.next().as_deref().unwrap_or("10000").parse()?;
    for (name, width) in [("adaptive", SearchWidth::Adaptive), ("all nodes", SearchWidth::All)] {
        let pods_per_second = measure(nodes, pods, width)?;
        writeln!(io::stdout(), "{nodes} nodes, {pods} pods, {name}: {pods_per_second:.0} pods/s")?;
    }
    Ok(())
}

fn measure(nodes: usize, pods: usize, width: SearchWidth) -> Result<f64, Box<dyn Error>> {
    let mut planner = Planner::new("default-scheduler".to_owned(), width, 1);
    let start = Instant::now();
    for index in 0..nodes {
        let name = format!("node-{index}");
        let node = json!({
            "metadata": { "name": name, "labels": {
                "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", index % 3),
            } },
            "status": { "allocatable": { "cpu": "32", "memory": "128Gi", "pods": "110" } },
        });
        planner.set_node(Arc::new(serde_json::from_value(node)?), start);
    }
    for index in 0..pods {
        let owner = format!("replicaset-{}", index % 50);
        let pod = json!({
            "metadata": {
                "name": format!("pod-{index}"), "namespace": "default", "uid": format!("uid-{index}"),
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true }],
            },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "100m", "memory": "200Mi" } } }] },
        });
        planner.set_pod(Arc::new(serde_json::from_value(pod)?), start);
    }
    let begun = Instant::now();
    let mut placed = 0_u32;
    while let Some(decision) = planner.decide(Instant::now()) {
        if let Decision::Bind { pod, .. } = decision {
            planner.binding_ended(&pod, BindingEnd::Bound, Instant::now());
            placed += 1;
        }
    }
    Ok(f64::from(placed) / begun.elapsed().as_secs_f64())
}
