//! One scheduling cycle: a pod and the snapshot in, a node or every node's reasons out.
//!
//! The cycle reads no clock and keeps nothing but where the search for feasible nodes went on last time. It changes nothing:
//! the caller assumes the pod on the chosen node. In a big cluster it stops looking once enough nodes are feasible, as
//! upstream does, and the next cycle starts where it stopped, so that all nodes get their turn.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::{Rng, RngExt};

use super::catalog::Catalog;
use super::diagnosis::{Diagnosis, Rejection};
use super::framework::{NodeFilter, PluginName, PreFilter, ScorePlugin};
use super::pod_info::PodInfo;
use super::snapshot::{NodeInfo, Snapshot};

/// Clusters up to this size are always searched whole, and no search stops with fewer feasible nodes.
const FEASIBLE_NODES_MIN: usize = 100;
/// The share of nodes to find in a cluster of no size, in percent …
const PERCENTAGE_START: usize = 50;
/// … which falls by one for each so many nodes …
const NODES_PER_PERCENT: usize = 125;
/// … down to this.
const PERCENTAGE_MIN: usize = 5;

/// How much of the cluster a cycle looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchWidth {
    /// Less of a bigger cluster: upstream's default.
    #[default]
    Adaptive,
    /// Every node, always.
    All,
}

/// What a cycle found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The best node.
    Chosen(Choice),
    /// No node does.
    Unschedulable(Diagnosis),
}

/// The best node of a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub node: Arc<str>,
    /// How many nodes were tested.
    pub evaluated: usize,
    /// How many of them do.
    pub feasible: usize,
}

/// Runs cycles.
pub struct Cycle {
    catalog: Catalog,
    width: SearchWidth,
    next_start: usize,
}

struct Search<'a> {
    feasible: Vec<&'a NodeInfo>,
    diagnosis: Diagnosis,
}

impl Cycle {
    /// Builds a cycle over the plugins of `catalog`.
    pub fn new(catalog: Catalog, width: SearchWidth) -> Self {
        Self { catalog, width, next_start: 0 }
    }

    /// Returns the plugins.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Chooses a node for `pod`; `random` decides between nodes that are equally good.
    pub fn run(&mut self, pod: &PodInfo, snapshot: &Snapshot, random: &mut impl Rng) -> Outcome {
        let search = self.find_feasible(pod, snapshot);
        let evaluated = search.feasible.len() + search.diagnosis.rejections.len();
        let nodes = &search.feasible;
        let best = match nodes.as_slice() {
            [] => return Outcome::Unschedulable(search.diagnosis),
            [only] => *only,
            _ => {
                let scores = total_scores(&self.catalog.scorers, pod, snapshot, nodes);
                let Some(best) = pick_best(nodes, &scores, random) else {
                    return Outcome::Unschedulable(search.diagnosis);
                };
                best
            }
        };
        Outcome::Chosen(Choice { node: best.name.clone(), evaluated, feasible: nodes.len() })
    }

    fn find_feasible<'a>(&mut self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Search<'a> {
        let mut filters: Vec<(PluginName, Box<dyn NodeFilter + 'a>)> = Vec::new();
        let mut narrowed: Option<BTreeSet<String>> = None;
        let mut diagnosis = Diagnosis { node_count: snapshot.nodes().len(), ..Diagnosis::default() };
        for plugin in &self.catalog.filters {
            match plugin.prepare(pod, snapshot) {
                PreFilter::Skip => {}
                PreFilter::Test(filter) => filters.push((plugin.name(), filter)),
                PreFilter::Narrow { nodes, filter } => {
                    filters.push((plugin.name(), filter));
                    diagnosis.narrowed_by.insert(plugin.name());
                    narrowed = Some(match narrowed {
                        Some(earlier) => earlier.intersection(&nodes).cloned().collect(),
                        None => nodes,
                    });
                }
            }
        }
        let mut search = Search { feasible: Vec::new(), diagnosis };
        match narrowed {
            Some(names) => search.test_named(&names, snapshot, &filters),
            None => self.next_start = search.test_in_turn(self.next_start, self.width, snapshot, &filters),
        }
        search
    }
}

impl<'a> Search<'a> {
    fn test_named(&mut self, names: &BTreeSet<String>, snapshot: &'a Snapshot, filters: &Filters<'a>) {
        let nodes: Vec<&NodeInfo> = names.iter().filter_map(|name| snapshot.node(name)).collect();
        self.diagnosis.narrowed_out = snapshot.nodes().len() - nodes.len();
        nodes.into_iter().for_each(|node| self.test(node, filters));
    }

    /// Tests nodes from `start` on, around the end, until enough are feasible; returns where the next search starts.
    fn test_in_turn(
        &mut self,
        start: usize,
        width: SearchWidth,
        snapshot: &'a Snapshot,
        filters: &Filters<'a>,
    ) -> usize {
        let nodes = snapshot.nodes();
        let enough = feasible_nodes_to_find(nodes.len(), width);
        let start = if start < nodes.len() { start } else { 0 };
        let (before, from) = nodes.split_at(start);
        let mut tested = 0;
        for node in from.iter().chain(before) {
            if self.feasible.len() >= enough {
                break;
            }
            self.test(node, filters);
            tested += 1;
        }
        if nodes.is_empty() { 0 } else { (start + tested) % nodes.len() }
    }

    fn test(&mut self, node: &'a NodeInfo, filters: &Filters<'a>) {
        for (plugin, filter) in filters {
            if let Err(reasons) = filter.filter(node) {
                self.diagnosis.rejections.push(Rejection { node: node.name.clone(), plugin, reasons });
                return;
            }
        }
        self.feasible.push(node);
    }
}

type Filters<'a> = [(PluginName, Box<dyn NodeFilter + 'a>)];

fn feasible_nodes_to_find(nodes: usize, width: SearchWidth) -> usize {
    match width {
        SearchWidth::All => nodes,
        SearchWidth::Adaptive => {
            let percentage = PERCENTAGE_START.saturating_sub(nodes / NODES_PER_PERCENT).max(PERCENTAGE_MIN);
            (nodes * percentage / 100).max(FEASIBLE_NODES_MIN)
        }
    }
}

/// Adds up the weighted, normalized scores of all plugins, in the order of `nodes`.
fn total_scores<'a>(
    scorers: &[(Box<dyn ScorePlugin>, i64)],
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    nodes: &[&'a NodeInfo],
) -> Vec<i64> {
    let mut totals = vec![0; nodes.len()];
    for (plugin, weight) in scorers {
        let Some(scorer) = plugin.prepare(pod, snapshot, nodes) else { continue };
        let mut scores: Vec<i64> = nodes.iter().map(|node| scorer.score(node)).collect();
        scorer.normalize(nodes, &mut scores);
        totals.iter_mut().zip(&scores).for_each(|(total, score)| *total += score * weight);
    }
    totals
}

/// Every one of the best nodes is equally likely.
fn pick_best<'a>(nodes: &[&'a NodeInfo], scores: &[i64], random: &mut impl Rng) -> Option<&'a NodeInfo> {
    let highest = scores.iter().max()?;
    let best: Vec<&NodeInfo> =
        nodes.iter().zip(scores).filter(|(_, score)| *score == highest).map(|(node, _)| *node).collect();
    best.get(random.random_range(0..best.len())).copied()
}

#[cfg(test)]
#[path = "cycle_tests.rs"]
mod tests;
