//! The configuration texts of a private containerd. Pure: paths in, text out.

use serde_json::json;

use super::Paths;
use crate::cni;
use crate::images::pack::PAUSE_IMAGE;

/// Plugins that this containerd never needs; without them it starts faster and logs no probe failures.
const DISABLED_PLUGINS: [&str; 7] = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
];

/// Returns containerd's configuration.
///
/// `restrict_oom_score_adj` matters where the machine lacks CAP_SYS_RESOURCE: CRI asks for −998 for each sandbox, and a refused
/// write ends runc. AppArmor is left out because its file system need not be mounted.
pub(super) fn containerd_toml(paths: &Paths) -> String {
    let text = |value: &str| json!(value).to_string();
    let path = |value: std::path::PathBuf| json!(value.to_string_lossy()).to_string();
    let disabled: Vec<String> = DISABLED_PLUGINS.iter().map(|plugin| text(plugin)).collect();
    format!(
        r#"version = 2
root = {root}
state = {state}
disabled_plugins = [{disabled}]

[grpc]
  address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {pause}
  restrict_oom_score_adj = true
  disable_apparmor = true
  enable_selinux = false
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "runc"
        Root = {runc_root}
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin}
    conf_dir = {cni_conf}
    max_conf_num = 1
"#,
        root = path(paths.root()),
        state = path(paths.state()),
        disabled = disabled.join(", "),
        socket = path(paths.socket()),
        runc_root = path(paths.run().join("runc")),
        pause = text(PAUSE_IMAGE),
        cni_bin = path(paths.cni_bin()),
        cni_conf = path(paths.cni_conf()),
    )
}

/// Returns the network configuration: one plugin, which asks the agent.
pub(super) fn cni_conflist(paths: &Paths) -> String {
    json!({
        "cniVersion": cni::VERSION,
        "name": "keelson",
        "plugins": [{ "type": cni::PLUGIN_NAME, "agentSocket": paths.cni_socket() }],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_required_settings_are_present() {
        let toml = containerd_toml(&Paths::new(Path::new("/data \"x\"")));
        assert!(toml.contains("restrict_oom_score_adj = true"));
        assert!(toml.contains(r#"root = "/data \"x\"/containerd""#));
        assert!(toml.contains(r#"sandbox_image = "localhost/pause:1""#));
    }
}
