//! Waiting until a cluster is Ready: every expected node is. What takes long is said, so that nobody waits without knowing for what.

use std::time::Duration;

use anyhow::Result;
use client::{ApiError, Client, List, ListOptions};
use proto::api::k8s_openapi::api::core::v1::{Node, NodeCondition};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::layout::Layout;

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(200);

/// Wait after which it is said what is missing, and said again. A cluster on a busy machine needs a few seconds.
const REPORT_PERIOD: Duration = Duration::from_secs(15);

/// Returns once `expected` nodes are Ready, or when `shutdown` comes first (then false).
pub async fn wait(client: &Client, expected: usize, shutdown: &CancellationToken) -> Result<bool> {
    let began = Instant::now();
    let mut report_at = began + REPORT_PERIOD;
    loop {
        // Servers that are still electing a leader answer with errors; the next look asks again.
        let nodes = client.list::<Node>("", &ListOptions::default()).await;
        let Some(missing) = missing(&nodes, expected) else { return Ok(true) };
        if Instant::now() >= report_at {
            eprintln!("keelson: waiting for {} s: {missing}", began.elapsed().as_secs());
            report_at += REPORT_PERIOD;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = shutdown.cancelled() => return Ok(false),
        }
    }
}

/// Says what keeps a cluster from being Ready, if anything does.
fn missing(nodes: &Result<List<Node>, ApiError>, expected: usize) -> Option<String> {
    let nodes = match nodes {
        Ok(list) => &list.items,
        Err(error) => return Some(format!("no server answers: {error}")),
    };
    let waiting: Vec<String> = nodes.iter().filter(|node| !is_ready(node)).map(reason).collect();
    if nodes.len() - waiting.len() >= expected {
        return None;
    }
    let found = nodes.len();
    let mut parts = waiting;
    if found < expected {
        parts.insert(0, format!("{found} of {expected} nodes have joined"));
    }
    Some(parts.join("; "))
}

/// What a node that is not Ready says of itself.
fn reason(node: &Node) -> String {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let said =
        ready_condition(node).and_then(|condition| condition.message.as_deref()).unwrap_or("no status yet");
    format!("{name} is not: {said}")
}

fn is_ready(node: &Node) -> bool {
    ready_condition(node).is_some_and(|condition| condition.status == "True")
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// How the line begins that says that a cluster can be used.
pub const READY: &str = "keelson: Ready";

/// Prints how to use the cluster.
pub fn announce(layout: &Layout, port: u16, took: Duration) {
    let kubeconfig = layout.admin_kubeconfig();
    eprintln!("{READY} after {:.1} s, API at https://127.0.0.1:{port}", took.as_secs_f64());
    eprintln!("keelson: use it with");
    eprintln!("    export KUBECONFIG={}", kubeconfig.display());
    eprintln!("    kubectl get nodes");
    eprintln!("keelson: logs are in {}; Ctrl-C stops the cluster", layout.root().join("logs").display());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, status: &str, message: &str) -> Node {
        let condition = NodeCondition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            message: Some(message.to_owned()),
            ..NodeCondition::default()
        };
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node.status.get_or_insert_default().conditions = Some(vec![condition]);
        node
    }

    #[track_caller]
    fn check(nodes: Vec<Node>, expected: usize, said: Option<&str>) {
        let list = List { items: nodes, revision: 1, continue_token: String::new() };
        assert_eq!(missing(&Ok(list), expected).as_deref(), said);
    }

    #[test]
    fn what_is_missing_is_named() {
        check(vec![node("a", "True", "")], 1, None);
        check(vec![node("a", "True", ""), node("b", "False", "late")], 1, None);
        check(vec![node("a", "True", "")], 2, Some("1 of 2 nodes have joined"));
        check(
            vec![node("a", "True", ""), node("b", "False", "no pod network")],
            2,
            Some("b is not: no pod network"),
        );
        check(vec![Node::default()], 1, Some(" is not: no status yet"));
    }
}
