//! Images that are nowhere: the pod says what is wrong and what to do, and runs by itself once the image is there.

mod cluster;

use std::fs;
use std::process::Command;
use std::time::Duration;

use cluster::{Cluster, KEELSON};
use nodeagent::images::pack;

/// Back-off of a pull and some.
const PATIENCE: Duration = Duration::from_secs(60);
/// A back-off doubles from 10 s on; an import does not wait for a long one to end.
const STARTED: Duration = Duration::from_secs(60);
/// No cluster has this one from the start.
const VERSION: u32 = 3;

#[test]
fn a_missing_image_is_explained_and_its_import_starts_the_pod() {
    if let Some(missing) = cluster::containers_missing() {
        return cluster::skip(&missing);
    }
    let mut cluster = Cluster::start(&[]);
    let image = format!("localhost/keelson-web:{VERSION}");
    for (pod, policy) in [("never", "Never"), ("absent", "IfNotPresent")] {
        let (image, policy) = (format!("--image={image}"), format!("--image-pull-policy={policy}"));
        cluster.kubectl_ok(&["run", pod, &image, &policy]);
    }
    cluster.wait("ErrImageNeverPull", PATIENCE, |cluster| reason(cluster, "never") == "ErrImageNeverPull");
    cluster.wait("ErrImagePull", PATIENCE, |cluster| reason(cluster, "absent") == "ErrImagePull");
    cluster.wait("ImagePullBackOff", PATIENCE, |cluster| reason(cluster, "absent") == "ImagePullBackOff");
    for pod in ["never", "absent"] {
        cluster.wait("an event that says what to do", PATIENCE, |cluster| advises(cluster, pod, &image));
        assert!(cluster.kubectl_ok(&["get", "pod", pod]).contains("0/1"));
    }

    let archive = cluster.data_dir.with_file_name("web-3.tar");
    let packed = pack::web_image(VERSION).unwrap().to_archive(pack::Format::Docker).unwrap();
    fs::write(&archive, packed).unwrap();
    let imported = Command::new(KEELSON)
        .args(["image", "import", "--data-dir"])
        .args([&cluster.data_dir, &archive])
        .output()
        .unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    for pod in ["never", "absent"] {
        let took = cluster.wait("the pod runs by itself", STARTED, |cluster| is_ready(cluster, pod));
        println!("{pod}: Ready {took:?} after the import");
        assert_eq!(field(&cluster, pod, "{.status.containerStatuses[0].restartCount}"), "0");
    }
    cluster.stop();
}

fn field(cluster: &Cluster, pod: &str, path: &str) -> String {
    cluster.kubectl_ok(&["get", "pod", pod, "-o", &format!("jsonpath={path}")])
}

fn reason(cluster: &Cluster, pod: &str) -> String {
    field(cluster, pod, "{.status.containerStatuses[0].state.waiting.reason}")
}

fn is_ready(cluster: &Cluster, pod: &str) -> bool {
    field(cluster, pod, "{.status.containerStatuses[0].ready}") == "true"
}

/// Whether an event of the pod names the image and the command that helps.
fn advises(cluster: &Cluster, pod: &str, image: &str) -> bool {
    let of_pod = format!("involvedObject.name={pod}");
    let messages = "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
    let events = cluster.kubectl_ok(&["get", "events", "--field-selector", &of_pod, "-o", messages]);
    events.lines().any(|line| line.contains(image) && line.contains("keelson image import"))
}
