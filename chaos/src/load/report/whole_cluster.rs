//! The section on whole clusters.

use std::time::Duration;

use crate::load::figure::{Spread, titled};
use crate::load::sample::float;
use crate::load::whole_cluster::{IDLE, WholeCluster};

pub(super) fn lines(measured: &WholeCluster) -> Vec<String> {
    let nodes = if measured.is_hollow {
        "Containers cannot run on this machine, so the node is hollow: it pretends to run pods."
    } else {
        "The node runs real containers; the images are on the disk."
    };
    let mut lines = vec![
        "## A whole cluster".to_owned(),
        String::new(),
        format!(
            "`keelson up` with one node on an empty directory. Times count from the command. Once it says Ready, \
             `examples/web.yaml` is applied with kubectl; the first of its pods that is Ready ends the measurement. {nodes}"
        ),
        String::new(),
    ];
    let seconds = |times: Vec<Duration>| {
        let spread = Spread::of(times.iter().map(Duration::as_secs_f64).collect());
        spread.map_or_else(|| "no kubectl here".to_owned(), |spread| spread.shown(1))
    };
    let starts = &measured.starts;
    let headings = ["starts", "node Ready after, s", "first pod Ready after, s"].map(str::to_owned);
    let row = vec![
        starts.len().to_string(),
        seconds(starts.iter().map(|start| start.node_ready).collect()),
        seconds(starts.iter().filter_map(|start| start.pod_ready).collect()),
    ];
    lines.extend(titled("Start, one server", &headings, vec![row]));
    let headings = ["servers", "Keelson's processes", "Keelson, MB", "container runtime, MB", "both, MB"]
        .map(str::to_owned);
    let rows = measured.idle.iter().map(|idle| {
        vec![
            idle.servers.to_string(),
            idle.processes.to_string(),
            format!("{:.0}", megabytes(idle.keelson_bytes)),
            format!("{:.0}", megabytes(idle.runtime_bytes)),
            format!("{:.0}", megabytes(idle.keelson_bytes + idle.runtime_bytes)),
        ]
    });
    let heading = format!("Memory (PSS) of a cluster without pods, {} s after it was Ready", IDLE.as_secs());
    lines.extend(titled(&heading, &headings, rows.collect()));
    lines
}

fn megabytes(bytes: u64) -> f64 {
    float(bytes) / 1e6
}
