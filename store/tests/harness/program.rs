//! `keelson store` as a person starts it, in this process.

use std::ffi::OsString;

use clap::Parser;
use store::cli::{Args, CliError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

pub struct Program {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), CliError>>,
}

impl Program {
    pub fn start<F: Into<OsString>>(flags: impl IntoIterator<Item = F>) -> Self {
        let words = std::iter::once("store".into()).chain(flags.into_iter().map(Into::into));
        let args = Cli::parse_from(words).args;
        let shutdown = CancellationToken::new();
        Self { running: tokio::spawn(store::cli::run(args, shutdown.clone())), shutdown }
    }

    /// Lets it end; others may be waiting for it meanwhile.
    pub fn end(&self) {
        self.shutdown.cancel();
    }

    pub async fn stop(self) {
        self.end();
        self.running.await.unwrap().unwrap();
    }
}
