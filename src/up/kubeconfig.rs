//! The administrator's kubeconfig: the pass-through first, then one context per server.

use anyhow::Result;
use apiserver::pki::{Bundle, Kubeconfig, KubeconfigContext};

use super::layout::Layout;
use crate::files::write_secret;

/// Writes `admin.kubeconfig`, readable by its owner only.
pub fn write(layout: &Layout, bundle: &Bundle, front: u16, servers: &[u16]) -> Result<()> {
    let context =
        |name: String, port: u16| KubeconfigContext { name, server: format!("https://127.0.0.1:{port}") };
    let mut contexts = vec![context("keelson".to_owned(), front)];
    contexts.extend((1..).zip(servers).map(|(number, &port)| context(format!("server-{number}"), port)));
    let identity = bundle.issue_client("kubernetes-admin", Some("system:masters"))?;
    let kubeconfig =
        Kubeconfig { ca_pem: bundle.ca_pem(), user: "kubernetes-admin", identity: &identity, contexts };
    write_secret(&layout.admin_kubeconfig(), kubeconfig.render().as_bytes())
}
