//! The README's story against the release binary: a real Deployment on a one-machine cluster, driven by real kubectl.

mod cluster;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use cluster::{Cluster, kubectl};

/// Why containers cannot run here, if so. The story then has nothing to show and says so.
fn containers_missing() -> Option<String> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let missing = ["containerd", "runc", "nft"].into_iter().find(|program| {
        !["/usr/bin", "/usr/sbin"].iter().any(|folder| std::path::Path::new(folder).join(program).exists())
    });
    if !is_root {
        Some("not root".to_owned())
    } else {
        missing.map(|program| format!("{program} is not installed"))
    }
}

#[test]
fn a_deployment_runs_as_the_readme_says() {
    if let Some(missing) = containers_missing() {
        println!(
            "containers cannot run here ({missing}): this story needs them; `cargo xtask setup` as root installs them"
        );
        return;
    }
    let mut cluster = Cluster::start(&[]);
    println!("client: {}", cluster.kubectl_ok(&["version", "--client"]).trim());
    let story = Story { cluster: &mut cluster };
    story.run();
    cluster.stop();
}

struct Story<'a> {
    cluster: &'a mut Cluster,
}

impl Story<'_> {
    fn run(self) {
        self.apply_and_roll_out();
        self.answers_from_all_pods();
        self.logs_and_exec();
        let story = self.scale();
        story.rolling_update_loses_no_request();
        story.pods_are_replaced();
        story.describe_and_edit();
        story.restart_brings_everything_back();
    }

    fn apply_and_roll_out(&self) {
        self.cluster.kubectl_ok(&["apply", "-f", "examples/web.yaml"]);
        self.cluster.kubectl_ok(&["-n", "web", "rollout", "status", "deploy/web", "--timeout=60s"]);
        let listing =
            self.cluster.kubectl_ok(&["-n", "web", "get", "deploy,rs,pods,svc,endpointslices", "-o", "wide"]);
        assert!(listing.contains("deployment.apps/web") && listing.contains("3/3"), "{listing}");
    }

    fn pod_names(&self) -> BTreeSet<String> {
        let names = self.cluster.kubectl_ok(&[
            "-n",
            "web",
            "get",
            "pods",
            "-l",
            "app=web",
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn cluster_ip(&self) -> String {
        self.cluster.kubectl_ok(&["-n", "web", "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"])
    }

    fn answers_from_all_pods(&self) {
        let address = self.cluster_ip();
        let mut answered = BTreeSet::new();
        for _request in 0..60 {
            let (code, body) = get(&address);
            assert_eq!(code, 200, "{body}");
            answered.extend(self.pod_names_in(&body));
        }
        assert_eq!(answered, self.pod_names(), "all three pods answer over 60 requests");
    }

    fn pod_names_in(&self, body: &str) -> Option<String> {
        body.split(|character: char| !character.is_ascii_alphanumeric() && character != '-')
            .find(|word| word.starts_with("web-"))
            .map(str::to_owned)
    }

    fn logs_and_exec(&self) {
        self.cluster.kubectl_ok(&["-n", "web", "logs", "deploy/web"]);
        let greeting = self.cluster.kubectl_ok(&[
            "-n",
            "web",
            "exec",
            "deploy/web",
            "--",
            "cat",
            "/etc/config/greeting",
        ]);
        assert!(!greeting.trim().is_empty());
        let refused = self.cluster.kubectl(&["-n", "web", "exec", "deploy/web", "--", "sh", "-c", "exit 7"]);
        assert_eq!(refused.status.code(), Some(7), "the exit code of the command comes back");
    }

    fn scale(self) -> Self {
        let start = Instant::now();
        self.cluster.kubectl_ok(&["-n", "web", "scale", "deploy/web", "--replicas=5"]);
        let took = self.cluster.wait("five pods are ready", Duration::from_secs(30), |cluster| {
            cluster.kubectl_ok(&[
                "-n",
                "web",
                "get",
                "deploy",
                "web",
                "-o",
                "jsonpath={.status.readyReplicas}",
            ]) == "5"
        });
        println!(
            "five ready {:?} after scaling was asked ({took:?} after it was acknowledged)",
            start.elapsed()
        );
        self
    }

    fn rolling_update_loses_no_request(&self) {
        let address = self.cluster_ip();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let load = std::thread::spawn({
            let stop = std::sync::Arc::clone(&stop);
            move || {
                let mut requests = 0_u32;
                let mut failures = Vec::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let (code, body) = get(&address);
                    requests += 1;
                    if code != 200 {
                        failures.push(format!("request {requests}: {code} {body}"));
                    }
                    // 50 requests a second.
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                (requests, failures)
            }
        });
        self.cluster.kubectl_ok(&["-n", "web", "set", "image", "deploy/web", "web=localhost/keelson-web:2"]);
        self.cluster.kubectl_ok(&["-n", "web", "rollout", "status", "deploy/web", "--timeout=90s"]);
        self.cluster.kubectl_ok(&["-n", "web", "rollout", "undo", "deploy/web"]);
        self.cluster.kubectl_ok(&["-n", "web", "rollout", "status", "deploy/web", "--timeout=90s"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (requests, failures) = load.join().unwrap();
        println!("{requests} requests through a rolling update and its rollback");
        assert!(failures.is_empty(), "{failures:?}");
    }

    fn pods_are_replaced(&self) {
        let before = self.pod_names();
        self.cluster.kubectl_ok(&["-n", "web", "delete", "pod", "-l", "app=web", "--wait=false"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = self.cluster.kubectl_ok(&[
                "-n",
                "web",
                "get",
                "deploy",
                "web",
                "-o",
                "jsonpath={.status.readyReplicas}",
            ]);
            if ready == "5" && self.pod_names().is_disjoint(&before) {
                break;
            }
            assert!(Instant::now() < deadline, "deleted pods are not replaced: {:?}", self.pod_names());
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    fn describe_and_edit(&self) {
        let described = self.cluster.kubectl_ok(&["-n", "web", "describe", "deploy", "web"]);
        assert!(described.contains("RollingUpdate"), "{described}");
        let explained = self.cluster.kubectl_ok(&["explain", "deployment.spec.replicas"]);
        assert!(explained.contains("replicas"), "{explained}");
        self.cluster.kubectl_ok(&["-n", "web", "label", "deploy", "web", "tier=front"]);
        let diff = self.cluster.kubectl(&["diff", "-f", "examples/web.yaml"]);
        assert!(matches!(diff.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&diff.stderr));
    }

    fn restart_brings_everything_back(self) {
        self.cluster.stop();
        self.cluster.start_again();
        self.cluster.kubectl_ok(&["-n", "web", "rollout", "status", "deploy/web", "--timeout=90s"]);
        self.cluster.kubectl_ok(&["delete", "ns", "web", "--timeout=90s"]);
        let gone = self.cluster.kubectl(&["get", "ns", "web"]);
        assert!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"));
        println!("kubectl: {}", kubectl().display());
    }
}

/// GETs `/` and returns the status code (0 when the connection failed) and the body.
fn get(address: &str) -> (u16, String) {
    let url = format!("http://{address}/");
    let output = Command::new("curl").args(["-s", "-m", "5", "-w", "\n%{http_code}", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or(("", "0"));
    (code.parse().unwrap_or(0), body.to_owned())
}
