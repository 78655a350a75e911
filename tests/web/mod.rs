//! The story of `examples/web.yaml`: each step one kubectl call as the README shows it, with the result that upstream's users expect.

mod requests;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nodeagent::images::pack::{self, Format};

use crate::cluster::{Cluster, KEELSON};
pub use requests::{Load, get};

/// Requests after which every one of three pods has answered: the odds to miss one are 3 × (2/3)^60, below 10^-10.
const REQUESTS: usize = 60;

pub struct Story<'a> {
    pub cluster: &'a mut Cluster,
}

impl Story<'_> {
    /// Runs every step; rolling updates go on until they have seen at least `requests_min` requests.
    pub fn run(&mut self, requests_min: usize) {
        self.apply_and_roll_out();
        self.answers_from_all_pods();
        self.logs_and_exec();
        self.scales_while_watched();
        self.rolling_update_loses_no_request(requests_min);
        self.imported_images_run();
        self.pods_are_replaced();
        self.describe_explain_edit_label_diff();
        self.namespace_empties_and_goes();
    }

    pub fn apply_and_roll_out(&mut self) {
        self.cluster.kubectl_ok(&["apply", "-f", "examples/web.yaml"]);
        self.rolled_out();
        let listing =
            self.cluster.kubectl_ok(&["-n", "web", "get", "deploy,rs,pods,svc,endpointslices", "-o", "wide"]);
        for part in [
            "deployment.apps/web",
            "3/3",
            "replicaset.apps/web-",
            "service/web",
            "endpointslice.discovery.k8s.io/web-",
        ] {
            assert!(listing.contains(part), "no {part} in\n{listing}");
        }
    }

    fn rolled_out(&self) {
        self.cluster.kubectl_ok(&["-n", "web", "rollout", "status", "deploy/web", "--timeout=90s"]);
    }

    /// Names of the pods that are not being deleted.
    pub fn pod_names(&self) -> BTreeSet<String> {
        let template =
            "{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}";
        let names = self.cluster.kubectl_ok(&[
            "-n",
            "web",
            "get",
            "pods",
            "-l",
            "app=web",
            "-o",
            &format!("go-template={template}"),
        ]);
        names.split_whitespace().map(str::to_owned).collect()
    }

    pub fn cluster_ip(&self) -> String {
        self.cluster.kubectl_ok(&["-n", "web", "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"])
    }

    fn ready_replicas(cluster: &Cluster) -> String {
        cluster.kubectl_ok(&["-n", "web", "get", "deploy", "web", "-o", "jsonpath={.status.readyReplicas}"])
    }

    fn answers_from_all_pods(&self) {
        let address = self.cluster_ip();
        let mut answered = BTreeSet::new();
        for _request in 0..REQUESTS {
            let answer = get(&address);
            assert_eq!(answer.code, 200, "{answer:?}");
            answered.extend(answer.pod_name());
        }
        assert_eq!(answered, self.pod_names(), "all three pods answer over {REQUESTS} requests");
    }

    fn logs_and_exec(&self) {
        self.cluster.kubectl_ok(&["-n", "web", "logs", "deploy/web"]);
        let exec = ["-n", "web", "exec", "deploy/web", "--"];
        let greeting = self.cluster.kubectl_ok(&[&exec[..], &["cat", "/etc/config/greeting"]].concat());
        assert_eq!(greeting.trim(), "Hello from Keelson.");
        let refused = self.cluster.kubectl(&[&exec[..], &["sh", "-c", "exit 7"]].concat());
        assert_eq!(refused.status.code(), Some(7), "the exit code of the command comes back");
        let absent = self.cluster.kubectl(&[&exec[..], &["no-such-program"]].concat());
        let said = String::from_utf8_lossy(&absent.stderr);
        assert!(!absent.status.success() && said.contains("no-such-program"), "{said}");
        assert!(said.contains("not found"), "{said}");
        self.shell_with_a_terminal();
    }

    /// `kubectl exec -it … -- sh`: kubectl gets a terminal from `script`, and the shell one from the node.
    fn shell_with_a_terminal(&self) {
        let kubectl = self.cluster.kubectl_command(&["-n", "web", "exec", "-it", "deploy/web", "--", "sh"]);
        let words: Vec<String> = std::iter::once(kubectl.get_program())
            .chain(kubectl.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        script.envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut keyboard = script.stdin.take().unwrap();
        std::io::Write::write_all(&mut keyboard, b"tty; echo answer-$((6*7)); exit 5\n").unwrap();
        let output = script.wait_with_output().unwrap();
        drop(keyboard);
        let screen = String::from_utf8_lossy(&output.stdout);
        assert!(screen.contains("answer-42") && screen.contains("/dev/pts/"), "{screen}");
        assert_eq!(output.status.code(), Some(5), "{screen}");
    }

    /// `get -w` shows the new pods come up, and they do so within three seconds.
    fn scales_while_watched(&mut self) {
        let mut watch = self.cluster.kubectl_command(&["-n", "web", "get", "pods", "-w", "--no-headers"]);
        let screen = self.cluster.data_dir.with_extension("watch.log");
        let mut watch = watch.stdout(std::fs::File::create(&screen).unwrap()).spawn().unwrap();
        let start = Instant::now();
        self.cluster.kubectl_ok(&["-n", "web", "scale", "deploy/web", "--replicas=5"]);
        let took = self.cluster.wait("five pods are ready", Duration::from_secs(30), |cluster| {
            Self::ready_replicas(cluster) == "5"
        });
        println!(
            "five ready {:?} after scaling was asked ({took:?} after it was acknowledged)",
            start.elapsed()
        );
        assert!(took < Duration::from_secs(3), "five pods took {took:?}");
        let names = self.pod_names();
        self.cluster.wait("the watch shows five running pods", Duration::from_secs(10), |_| {
            let text = std::fs::read_to_string(&screen).unwrap();
            names.iter().all(|name| {
                text.lines().any(|line| {
                    line.starts_with(name.as_str()) && line.contains("1/1") && line.contains("Running")
                })
            })
        });
        watch.kill().unwrap();
        watch.wait().unwrap();
    }

    /// A request every 20 ms while the image changes and changes back.
    fn rolling_update_loses_no_request(&mut self, requests_min: usize) {
        let load = Load::start(&self.cluster_ip());
        let mut cycles = 0;
        while cycles == 0 || load.sent() < requests_min {
            self.cluster.kubectl_ok(&[
                "-n",
                "web",
                "set",
                "image",
                "deploy/web",
                "web=localhost/keelson-web:2",
            ]);
            self.rolled_out();
            self.cluster.kubectl_ok(&["-n", "web", "rollout", "undo", "deploy/web"]);
            self.rolled_out();
            cycles += 1;
        }
        let image = self.cluster.kubectl_ok(&[
            "-n",
            "web",
            "get",
            "deploy",
            "web",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].image}",
        ]);
        assert_eq!(image, "localhost/keelson-web:1", "undo brings the former image back");
        let report = load.stop();
        println!(
            "{} requests, {:.0}/s, through {cycles} rolling updates and rollbacks",
            report.sent,
            report.rate()
        );
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert!(report.rate() > 45.0, "the load was {:.0} requests/s, not 50", report.rate());
    }

    /// `keelson image import` takes both archive formats, and pods run what they bring.
    fn imported_images_run(&mut self) {
        for (version, format) in [(3, Format::Docker), (4, Format::Oci)] {
            let archive = self.cluster.data_dir.with_extension(format!("{version}.tar"));
            std::fs::write(&archive, pack::web_image(version).unwrap().to_archive(format).unwrap()).unwrap();
            let mut import = Command::new(KEELSON);
            import.args(["image", "import", "--data-dir"]).arg(&self.cluster.data_dir).arg(&archive);
            let output = import.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let image = format!("localhost/keelson-web:{version}");
            assert!(output.status.success() && said.contains(&image), "{said}");
            self.cluster.kubectl_ok(&["-n", "web", "set", "image", "deploy/web", &format!("web={image}")]);
            self.rolled_out();
            let address = self.cluster_ip();
            let answer = get(&address);
            assert!(answer.body.contains(&format!("version {version}")), "{answer:?}");
        }
    }

    fn pods_are_replaced(&mut self) {
        let before = self.pod_names();
        self.cluster.kubectl_ok(&["-n", "web", "delete", "pod", "-l", "app=web", "--wait=false"]);
        self.cluster.wait("deleted pods are replaced", Duration::from_secs(60), |cluster| {
            Self::ready_replicas(cluster) == "5"
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.pod_names().is_disjoint(&before)
            || self.pod_names().len() != 5
            || Self::ready_replicas(self.cluster) != "5"
        {
            assert!(Instant::now() < deadline, "deleted pods are not replaced: {:?}", self.pod_names());
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    fn describe_explain_edit_label_diff(&self) {
        let described = self.cluster.kubectl_ok(&["-n", "web", "describe", "deploy", "web"]);
        assert!(
            described.contains("RollingUpdate") && described.contains("ScalingReplicaSet"),
            "{described}"
        );
        let pods = self.cluster.kubectl_ok(&["-n", "web", "describe", "pods"]);
        assert!(pods.contains("Scheduled") && pods.contains("Started"), "{pods}");
        let explained = self.cluster.kubectl_ok(&["explain", "deployment.spec.replicas"]);
        assert!(explained.contains("replicas") && explained.contains("integer"), "{explained}");
        self.edit();
        self.cluster.kubectl_ok(&["-n", "web", "label", "deploy", "web", "tier=front"]);
        let labelled =
            self.cluster.kubectl_ok(&["-n", "web", "get", "deploy", "-l", "tier=front", "-o", "name"]);
        assert_eq!(labelled.trim(), "deployment.apps/web");
        let diff = self.cluster.kubectl(&["diff", "-f", "examples/web.yaml"]);
        let shown = String::from_utf8_lossy(&diff.stdout);
        assert_eq!(diff.status.code(), Some(1), "{shown}{}", String::from_utf8_lossy(&diff.stderr));
        assert!(shown.contains("-  replicas: 4") && shown.contains("+  replicas: 3"), "{shown}");
    }

    fn edit(&self) {
        let mut edit = self.cluster.kubectl_command(&["-n", "web", "edit", "deploy", "web"]);
        let edit =
            edit.env("KUBE_EDITOR", "sed --in-place 's/^  replicas: 5/  replicas: 4/'").output().unwrap();
        assert!(edit.status.success(), "{}", String::from_utf8_lossy(&edit.stderr));
        let replicas = self.cluster.kubectl_ok(&[
            "-n",
            "web",
            "get",
            "deploy",
            "web",
            "-o",
            "jsonpath={.spec.replicas}",
        ]);
        assert_eq!(replicas, "4", "{}", String::from_utf8_lossy(&edit.stdout));
    }

    pub fn namespace_empties_and_goes(&self) {
        self.cluster.kubectl_ok(&["delete", "ns", "web", "--timeout=90s"]);
        let gone = self.cluster.kubectl(&["get", "ns", "web"]);
        assert!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"));
        let left = self.cluster.kubectl_ok(&["get", "pods", "-A", "-o", "name"]);
        assert_eq!(left, "", "the namespace took its pods with it");
    }
}
