//! The extension points of a scheduling cycle.
//!
//! A plugin is stateless. At the start of a cycle it looks at the pod once (upstream's PreFilter and PreScore) and returns
//! the test or measure that is then applied to each node (Filter and Score); what it prepared lives in that value, so there is
//! no shared cycle state. A plugin that has nothing to say about a pod returns `Skip` or `None` and costs nothing.
//!
//! ```text
//! PreEnqueue → queue → [ FilterPlugin::prepare → NodeFilter::filter* → ScorePlugin::prepare → NodeScorer::score* → normalize ] → bind
//! ```

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::pod_info::PodInfo;
use super::snapshot::{NodeInfo, Snapshot};

/// The best score of a node, after normalization.
pub const MAX_NODE_SCORE: i64 = 100;

/// A plugin's name as upstream writes it in profiles, messages and metrics.
pub type PluginName = &'static str;

/// One reason why a node does not do, in upstream's words; equal reasons are counted over the nodes.
pub type Reason = Cow<'static, str>;

/// What can happen in the cluster that may make a pod schedulable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClusterEvent {
    /// A node appeared.
    NodeAdded,
    /// A node went away; topology domains shrink with it.
    NodeDeleted,
    /// A node's labels differ.
    NodeLabelsChanged,
    /// A node's taints or its unschedulable mark differ.
    NodeTaintsChanged,
    /// A node offers other amounts of resources.
    NodeAllocatableChanged,
    /// A pod was bound.
    AssignedPodAdded,
    /// A bound pod differs in what placement depends on.
    AssignedPodUpdated,
    /// A bound pod ended or went away.
    AssignedPodDeleted,
}

/// Decides whether a pod may be queued at all.
pub trait PreEnqueuePlugin: Send + Sync {
    /// Returns the plugin's name.
    fn name(&self) -> PluginName;
    /// Returns true when the pod may enter the queue.
    fn admits(&self, pod: &PodInfo) -> bool;
}

/// Rules out nodes that must not run the pod.
pub trait FilterPlugin: Send + Sync {
    /// Returns the plugin's name.
    fn name(&self) -> PluginName;
    /// Returns the events after which a pod that this plugin ruled out is worth another try.
    fn wakes_on(&self) -> &'static [ClusterEvent];
    /// Looks at the pod and the whole cluster once, before any node is tested.
    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a>;
}

/// What a filter plugin found out before it looks at nodes.
pub enum PreFilter<'a> {
    /// The plugin has nothing against any node.
    Skip,
    /// Every node is to be tested.
    Test(Box<dyn NodeFilter + 'a>),
    /// Only these nodes can do; they are to be tested.
    Narrow {
        /// Names of the nodes that remain.
        nodes: BTreeSet<String>,
        /// The test for them.
        filter: Box<dyn NodeFilter + 'a>,
    },
}

/// Tests one node for one pod.
pub trait NodeFilter {
    /// Passes, or says every reason why the node does not do.
    ///
    /// # Errors
    /// The reasons, never empty.
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>>;
}

/// Ranks the nodes that passed the filters.
pub trait ScorePlugin: Send + Sync {
    /// Returns the plugin's name.
    fn name(&self) -> PluginName;
    /// Looks at the pod and the feasible nodes once; `None` when all nodes are alike to this plugin.
    fn prepare<'a>(
        &self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        feasible: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScorer + 'a>>;
}

/// Measures one node for one pod.
pub trait NodeScorer {
    /// Returns the node's score, 0 to [`MAX_NODE_SCORE`] after `normalize`; more is better.
    fn score(&self, node: &NodeInfo) -> i64;
    /// Brings raw scores, in the order of `nodes`, into the range; plugins whose scores are in it already leave them.
    fn normalize(&self, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}
}

/// Stretches scores so that the best has [`MAX_NODE_SCORE`]; all zero stays zero.
pub fn normalize_highest_best(scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    if highest > 0 {
        scores.iter_mut().for_each(|score| *score = *score * MAX_NODE_SCORE / highest);
    }
}

/// Stretches counts of something unwanted so that the highest count has score 0; without any, all nodes have the best score.
pub fn normalize_lowest_best(scores: &mut [i64]) {
    normalize_highest_best(scores);
    scores.iter_mut().for_each(|score| *score = MAX_NODE_SCORE - *score);
}

/// Returns `number` as a float, for ratios; amounts below 2^53 are exact.
pub fn ratio_part(number: i64) -> f64 {
    #[expect(
        clippy::as_conversions,
        reason = "there is no other conversion; the loss above 2^53 does not matter in a ratio"
    )]
    let float = number as f64;
    float
}

/// Returns the whole part of a float, saturating.
pub fn whole_part(float: f64) -> i64 {
    #[expect(
        clippy::as_conversions,
        reason = "there is no other conversion; it saturates and takes NaN as 0"
    )]
    let number = float as i64;
    number
}
