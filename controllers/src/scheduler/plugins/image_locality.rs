//! ImageLocality: prefers nodes that hold the pod's images already, the more the bigger the images are.
//!
//! An image counts with its size times the share of the nodes that hold it, so that one node with a rare big image does not
//! draw every pod.

use crate::scheduler::framework::{
    MAX_NODE_SCORE, NodeScorer, PluginName, ScorePlugin, ratio_part, whole_part,
};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

/// Below this sum the images are so small that it does not matter where they are: 23 MiB.
const SIZE_MIN: i64 = 23 * 1024 * 1024;
/// Above this size per container more does not score higher: 1000 MiB.
const SIZE_PER_CONTAINER_MAX: i64 = 1000 * 1024 * 1024;

/// The plugin.
pub struct ImageLocality;

struct PresentImages<'a> {
    snapshot: &'a Snapshot,
    images: Vec<String>,
}

impl ScorePlugin for ImageLocality {
    fn name(&self) -> PluginName {
        "ImageLocality"
    }

    fn prepare<'a>(
        &self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        _feasible: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let containers = pod.spec.init_containers.iter().flatten().chain(&pod.spec.containers);
        let images: Vec<String> =
            containers.filter_map(|container| container.image.as_deref()).map(with_tag).collect();
        let is_anywhere = images.iter().any(|image| snapshot.nodes_with_image(image) > 0);
        if is_anywhere { Some(Box::new(PresentImages { snapshot, images })) } else { None }
    }
}

impl NodeScorer for PresentImages<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let present = self.images.iter().filter_map(|image| Some((image, *node.images.get(image)?)));
        let sum: i64 = present.map(|(image, size)| self.spread_size(image, size)).sum();
        let containers = i64::try_from(self.images.len()).unwrap_or(i64::MAX);
        let size_max = SIZE_PER_CONTAINER_MAX.saturating_mul(containers);
        let above_min = sum.clamp(SIZE_MIN, size_max) - SIZE_MIN;
        MAX_NODE_SCORE.saturating_mul(above_min) / (size_max - SIZE_MIN)
    }
}

impl PresentImages<'_> {
    fn spread_size(&self, image: &str, size: i64) -> i64 {
        let holders = i64::try_from(self.snapshot.nodes_with_image(image)).unwrap_or(0);
        let nodes = i64::try_from(self.snapshot.nodes().len()).unwrap_or(i64::MAX).max(1);
        whole_part(ratio_part(size) * (ratio_part(holders) / ratio_part(nodes)))
    }
}

/// Nodes report images with a tag or digest; a name without one means `latest`.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains(':') || image.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::fixtures::{check_scores, node, pod, scores};

    fn holding(name: &str, image: &str, mebibytes: i64) -> NodeInfo {
        let images = json!([{ "names": [image], "sizeBytes": mebibytes * 1024 * 1024 }]);
        node(name, json!({ "status": { "images": images } }))
    }

    fn running(image: &str) -> Value {
        json!({ "containers": [{ "name": "c", "image": image }] })
    }

    #[test]
    fn nodes_with_big_images_score_higher() {
        let nodes = vec![
            holding("n0", "web:latest", 1000),
            holding("n1", "web:latest", 1000),
            holding("n2", "db:1", 1000),
        ];
        // Two of three nodes hold it: 666 of 1000 MiB count, (666 - 23) of (1000 - 23).
        check_scores(&ImageLocality, &pod("a", running("web")), nodes, &[65, 65, 0]);
    }

    #[test]
    fn images_that_are_nowhere_or_tiny_do_not_matter() {
        assert_eq!(scores(&ImageLocality, &pod("a", running("web")), vec![holding("n0", "db:1", 900)]), None);
        check_scores(
            &ImageLocality,
            &pod("a", running("host:5000/web")),
            vec![holding("n0", "host:5000/web:latest", 9)],
            &[0],
        );
    }
}
