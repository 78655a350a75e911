//! `keelson kubeconfig`: how the administrator signs in to a cluster whose servers were started one by one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use apiserver::pki::{Bundle, Kubeconfig, KubeconfigContext};

use crate::outcome::Usage;

/// What to do with kubeconfigs.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KubeconfigCommand {
    /// Prints a new kubeconfig of the administrator, with a context for each server.
    Create {
        /// Holds the cluster's CA and keys, as for `keelson server`; made when missing.
        #[arg(long)]
        pki_dir: PathBuf,
        /// API addresses of the servers, such as https://10.0.0.1:6443.
        #[arg(long, value_delimiter = ',', required = true)]
        server: Vec<String>,
    },
}

/// Runs a kubeconfig command.
pub fn run(command: &KubeconfigCommand) -> Result<ExitCode> {
    match command {
        KubeconfigCommand::Create { pki_dir, server } => {
            let contexts = contexts(server)?;
            let bundle = Bundle::load_or_create(pki_dir).context("cannot use the cluster's keys")?;
            let identity = bundle.issue_client("kubernetes-admin", Some("system:masters"))?;
            let (ca_pem, user) = (bundle.ca_pem(), "kubernetes-admin");
            print(&Kubeconfig { ca_pem, user, identity: &identity, contexts }.render());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn contexts(servers: &[String]) -> Result<Vec<KubeconfigContext>> {
    let context = |(number, server): (usize, &String)| {
        let is_url = server.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
        if !is_url {
            return Err(
                Usage(format!("--server {server} is not an address such as https://host:6443")).into()
            );
        }
        Ok(KubeconfigContext { name: format!("server-{number}"), server: server.clone() })
    };
    (1..).zip(servers).map(context).collect()
}

#[expect(clippy::print_stdout, reason = "the kubeconfig is the command's output")]
fn print(kubeconfig: &str) {
    println!("{kubeconfig}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_context_and_what_is_no_address_is_named() {
        let named = |servers: &[&str]| {
            let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
            contexts(&servers).map(|contexts| contexts.into_iter().map(|one| one.name).collect::<Vec<_>>())
        };
        assert_eq!(named(&["https://a:1", "https://b:2"]).unwrap(), ["server-1", "server-2"]);
        assert!(named(&["a:1"]).unwrap_err().to_string().contains("--server a:1"));
    }
}
