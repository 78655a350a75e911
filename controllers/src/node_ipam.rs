//! Gives every node its own range of pod addresses.
//!
//! Keys are worked on one at a time and own writes are awaited, so no range is given twice by one leader; two leaders
//! cannot write at the same time.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use client::ObjectKey;
use k8s_openapi::api::core::v1::Node;

use crate::runtime::{Action, Caches, Context, Controller, Note, Plan};

/// How soon to look again when every range is taken.
const FULL_PAUSE: Duration = Duration::from_secs(30);

/// The addresses to share out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub first: Ipv4Addr,
    pub prefix: u8,
    /// Prefix length of one node's share.
    pub node_prefix: u8,
}

impl Pool {
    /// Returns the ranges in order.
    fn ranges(self) -> impl Iterator<Item = String> {
        let count = 1_u64 << (self.node_prefix.saturating_sub(self.prefix));
        let mask = u32::MAX.checked_shl(u32::from(32 - self.prefix)).unwrap_or(0);
        let first = u64::from(self.first.to_bits() & mask);
        let size = 1_u64 << (32 - self.node_prefix);
        (0..count).filter_map(move |index| {
            let address = u32::try_from(first + index * size).ok()?;
            Some(format!("{}/{}", Ipv4Addr::from_bits(address), self.node_prefix))
        })
    }
}

/// Reads the caches for nodes.
#[derive(Debug)]
pub struct NodeIpamController {
    pub caches: Caches,
    pub pool: Pool,
}

/// What a decision about a node needs.
#[derive(Clone, Debug)]
pub struct Observed {
    pub node: Option<Arc<Node>>,
    pub used: BTreeSet<String>,
    pub pool: Pool,
}

impl Controller for NodeIpamController {
    type Observed = Observed;

    const NAME: &'static str = "node-ipam-controller";
    const CONCURRENCY: usize = 1;

    fn observe(&self, key: &ObjectKey) -> Observed {
        let nodes = self.caches.nodes.list();
        let used = nodes.iter().filter_map(|node| node.spec.as_ref()?.pod_cidr.clone()).collect();
        Observed { node: self.caches.nodes.get("", &key.name), used, pool: self.pool }
    }

    fn reconcile(observed: &Observed, _context: &Context) -> Plan {
        let Some(node) = &observed.node else { return Plan::nothing() };
        let has_range = node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
        if has_range || node.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let Some(range) = observed.pool.ranges().find(|range| !observed.used.contains(range)) else {
            let note = Note::warning(
                node.as_ref(),
                "CIDRNotAvailable",
                "no pod address range is left for this node",
            );
            return Plan { notes: vec![note], requeue_after: Some(FULL_PAUSE), ..Plan::default() };
        };
        let mut node = Node::clone(node);
        let spec = node.spec.get_or_insert_default();
        spec.pod_cidr = Some(range.clone());
        spec.pod_cidrs = Some(vec![range]);
        Plan { actions: vec![Action::update(&node)], ..Plan::default() }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::runtime::Verb;

    const POOL: Pool = Pool { first: Ipv4Addr::new(10, 244, 0, 0), prefix: 16, node_prefix: 24 };

    fn check(pool: Pool, used: &[&str], expected: Option<&str>) {
        let used = used.iter().map(|range| (*range).to_owned()).collect();
        let observed = Observed { node: Some(Arc::default()), used, pool };
        let context = Context { now: Timestamp::UNIX_EPOCH, last_failure: None };
        let plan = NodeIpamController::reconcile(&observed, &context);
        let given = plan.actions.first().map(|action| match &action.verb {
            Verb::Update { object, .. } => object["spec"]["podCIDR"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(given.as_deref(), expected);
    }

    #[test]
    fn first_free_range_is_given() {
        check(POOL, &[], Some("10.244.0.0/24"));
        check(POOL, &["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"));
    }

    #[test]
    fn full_pool_gives_nothing() {
        let tiny = Pool { first: Ipv4Addr::new(10, 0, 0, 0), prefix: 24, node_prefix: 25 };
        check(tiny, &["10.0.0.0/25"], Some("10.0.0.128/25"));
        check(tiny, &["10.0.0.0/25", "10.0.0.128/25"], None);
    }
}
