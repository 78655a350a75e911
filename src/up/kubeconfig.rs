//! The administrator's kubeconfig: the pass-through first, then one context per server.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use apiserver::pki::{Bundle, Kubeconfig, KubeconfigContext};

use super::layout::{Layout, write_atomically};

/// Writes `admin.kubeconfig`, readable by its owner only.
pub fn write(layout: &Layout, bundle: &Bundle, front: u16, servers: &[u16]) -> Result<()> {
    let context =
        |name: String, port: u16| KubeconfigContext { name, server: format!("https://127.0.0.1:{port}") };
    let mut contexts = vec![context("keelson".to_owned(), front)];
    contexts.extend((1..).zip(servers).map(|(number, &port)| context(format!("server-{number}"), port)));
    let identity = bundle.issue_client("kubernetes-admin", Some("system:masters"))?;
    let kubeconfig =
        Kubeconfig { ca_pem: bundle.ca_pem(), user: "kubernetes-admin", identity: &identity, contexts };
    let path = layout.admin_kubeconfig();
    write_atomically(&path, kubeconfig.render().as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
