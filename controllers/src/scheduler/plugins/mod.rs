//! The plugins, one per file; `catalog` lists them in the order and with the weights of the default profile.
//!
//! A plugin reads the pod, the node and the snapshot, and nothing else. Its messages are upstream's, letter for letter, because
//! people and tools search for them.

pub mod priority_sort;
pub mod scheduling_gates;

pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod taint_toleration;

pub mod balanced_allocation;
pub mod image_locality;

mod node_selector;
mod spread_constraint;
mod taints;
