//! `keelson chaos serve`: a folder of runs in a browser.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::USAGE;
use crate::report;
use crate::run::say;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Folder of runs
    #[arg(default_value = "chaos-runs")]
    folder: PathBuf,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8970")]
    listen: SocketAddr,
}

/// Serves until Ctrl-C.
pub(super) fn run(args: &ServeArgs) -> anyhow::Result<u8> {
    if !args.folder.is_dir() {
        say(&format!("keelson chaos serve: {} is not a folder", args.folder.display()));
        return Ok(USAGE);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            TcpListener::bind(args.listen).await.with_context(|| format!("--listen {}", args.listen))?;
        say(&format!("http://{}/ shows {}, until Ctrl-C", listener.local_addr()?, args.folder.display()));
        let stop = CancellationToken::new();
        tokio::select! {
            ended = report::serve(listener, &args.folder, stop) => ended?,
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(0)
    })
}
