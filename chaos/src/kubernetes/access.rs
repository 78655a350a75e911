//! How clients sign in: read from the kubeconfig that the binary has written.

use std::sync::Once;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use transport::tls::{ClientIdentity, Pem};

/// The administrator's certificate, and whom it trusts.
#[derive(Clone, Debug)]
pub struct Access {
    pub(super) identity: ClientIdentity,
}

impl Access {
    /// Reads a kubeconfig of ours, which is JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(kubeconfig: &str) -> anyhow::Result<Self> {
        static CRYPTO: Once = Once::new();
        CRYPTO.call_once(transport::install_crypto);
        let kubeconfig: Value = serde_json::from_str(kubeconfig).context("the kubeconfig is no JSON")?;
        let pem = |pointer: &str| -> anyhow::Result<Pem> {
            let text = kubeconfig.pointer(pointer).and_then(Value::as_str);
            let bytes = STANDARD.decode(text.with_context(|| format!("a kubeconfig without {pointer}"))?)?;
            Ok(Pem::from(String::from_utf8(bytes)?))
        };
        let identity = ClientIdentity::new(
            pem("/clusters/0/cluster/certificate-authority-data")?,
            pem("/users/0/user/client-certificate-data")?,
            pem("/users/0/user/client-key-data")?,
        )?;
        Ok(Self { identity })
    }
}
