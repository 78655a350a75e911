//! Writes the kubeconfig of a user.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::issue::Issued;

/// One cluster address under its own context name.
#[derive(Clone, Debug)]
pub struct KubeconfigContext {
    pub name: String,
    /// `https://host:port`.
    pub server: String,
}

/// What a kubeconfig says: one user, one CA, one context per address.
#[derive(Clone, Debug)]
pub struct Kubeconfig<'a> {
    pub ca_pem: &'a str,
    pub user: &'a str,
    pub identity: &'a Issued,
    /// The first one is current.
    pub contexts: Vec<KubeconfigContext>,
}

impl Kubeconfig<'_> {
    /// Returns the file's text. It is JSON, which is YAML, so that no quoting can go wrong.
    #[must_use]
    pub fn render(&self) -> String {
        let named = |name: &str, field: &str, value: Value| json!({"name": name, field: value});
        let ca = STANDARD.encode(self.ca_pem);
        let clusters: Vec<_> = self
            .contexts
            .iter()
            .map(|context| {
                let cluster = json!({"server": context.server, "certificate-authority-data": ca});
                named(&context.name, "cluster", cluster)
            })
            .collect();
        let contexts: Vec<_> = self
            .contexts
            .iter()
            .map(|context| {
                named(&context.name, "context", json!({"cluster": context.name, "user": self.user}))
            })
            .collect();
        let user = json!({
            "client-certificate-data": STANDARD.encode(&self.identity.certificate_pem),
            "client-key-data": STANDARD.encode(&self.identity.key_pem),
        });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {},
            "clusters": clusters, "contexts": contexts, "users": [named(self.user, "user", user)],
            "current-context": self.contexts.first().map(|context| context.name.as_str()).unwrap_or_default(),
        });
        let mut text = serde_json::to_string_pretty(&config).expect("a JSON value always serializes");
        text.push('\n');
        text
    }
}
