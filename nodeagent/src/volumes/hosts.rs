//! The hosts file that the agent manages for each pod. Pure.

use std::fmt::Write;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::pod::spec;

const HEAD: &str = "# Managed by the node agent: changes are lost when the pod starts anew.\n\
127.0.0.1\tlocalhost\n\
::1\tlocalhost ip6-localhost ip6-loopback\n\
fe00::0\tip6-localnet\n\
fe00::0\tip6-mcastprefix\n\
fe00::1\tip6-allnodes\n\
fe00::2\tip6-allrouters\n";

/// Returns the text of a pod's hosts file.
#[must_use]
pub fn hosts_file(pod: &Pod, pod_spec: &PodSpec, ip: IpAddr, cluster_domain: &str) -> String {
    let mut text = HEAD.to_owned();
    let hostname = spec::hostname(pod, pod_spec);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let line = match pod_spec.subdomain.as_deref() {
        Some(subdomain) => {
            format!("{ip}\t{hostname}.{subdomain}.{namespace}.svc.{cluster_domain}\t{hostname}\n")
        }
        None => format!("{ip}\t{hostname}\n"),
    };
    text.push_str(&line);
    for alias in pod_spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{}\t{names}", alias.ip);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn own_name_and_aliases_are_listed() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n" },
            "spec": { "subdomain": "s", "containers": [], "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["a", "b"] }] }
        }))
        .unwrap();
        let text = hosts_file(&pod, pod.spec.as_ref().unwrap(), "10.0.0.1".parse().unwrap(), "cluster.local");
        assert!(text.ends_with("10.0.0.1\tp.s.n.svc.cluster.local\tp\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
