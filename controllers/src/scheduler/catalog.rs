//! The default profile: which plugins take part, in which order, with which weights.
//!
//! Filters run in this order and the first that rejects a node gives the reason. A new plugin is one file and one line here.

use super::framework::{FilterPlugin, PreEnqueuePlugin, ScorePlugin};
use super::plugins::balanced_allocation::BalancedAllocation;
use super::plugins::image_locality::ImageLocality;
use super::plugins::node_affinity::NodeAffinity;
use super::plugins::node_name::NodeName;
use super::plugins::node_ports::NodePorts;
use super::plugins::node_resources_fit::NodeResourcesFit;
use super::plugins::node_unschedulable::NodeUnschedulable;
use super::plugins::pod_topology_spread::PodTopologySpread;
use super::plugins::scheduling_gates::SchedulingGates;
use super::plugins::taint_toleration::TaintToleration;

/// The plugins of a scheduler.
pub struct Catalog {
    /// Who may keep a pod out of the queue.
    pub pre_enqueue: Vec<Box<dyn PreEnqueuePlugin>>,
    /// Who may rule out nodes.
    pub filters: Vec<Box<dyn FilterPlugin>>,
    /// Who ranks nodes, and how much each counts.
    pub scorers: Vec<(Box<dyn ScorePlugin>, i64)>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            pre_enqueue: vec![Box::new(SchedulingGates)],
            filters: vec![
                Box::new(NodeUnschedulable),
                Box::new(NodeName),
                Box::new(TaintToleration),
                Box::new(NodeAffinity),
                Box::new(NodePorts),
                Box::new(NodeResourcesFit),
                Box::new(PodTopologySpread),
            ],
            scorers: vec![
                (Box::new(TaintToleration), 3),
                (Box::new(NodeAffinity), 2),
                (Box::new(NodeResourcesFit), 1),
                (Box::new(PodTopologySpread), 2),
                (Box::new(BalancedAllocation), 1),
                (Box::new(ImageLocality), 1),
            ],
        }
    }
}
