//! The README's story against the release binary: a real Deployment on a one-machine cluster, driven by every kubectl that is there.

mod cluster;
mod web;

use std::time::Duration;

use cluster::Cluster;
use web::Story;

/// Requests that a rolling update must survive to prove something; an update takes seconds, so it is repeated until then.
const REQUESTS_MIN: usize = 500;

#[test]
fn a_deployment_runs_as_the_readme_says() {
    if let Some(missing) = cluster::containers_missing() {
        return cluster::skip(&missing);
    }
    let mut cluster = Cluster::start(&[]);
    for (number, kubectl) in cluster::kubectls().into_iter().enumerate() {
        cluster.use_kubectl(kubectl);
        let requests = if number == 0 { REQUESTS_MIN } else { 1 };
        Story { cluster: &mut cluster }.run(requests);
    }
    restart_brings_everything_back(&mut cluster);
    cluster.stop();
}

fn restart_brings_everything_back(cluster: &mut Cluster) {
    let mut story = Story { cluster };
    story.apply_and_roll_out();
    let before = story.pod_names();
    story.cluster.stop();
    story.cluster.start_again();
    story.cluster.kubectl_ok(&["-n", "web", "rollout", "status", "deploy/web", "--timeout=90s"]);
    assert_eq!(story.pod_names(), before, "the same pods run again");
    let address = story.cluster_ip();
    story
        .cluster
        .wait("the service answers again", Duration::from_secs(30), |_| web::get(&address).code == 200);
    story.namespace_empties_and_goes();
}
