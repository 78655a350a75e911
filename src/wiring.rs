//! What every long-running command needs: a runtime and the signal to stop.

use std::process::ExitCode;

use anyhow::{Context, Result};
use store::cli::CliError;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::outcome::Usage;
use crate::telemetry;

/// Returns the runtime of a command.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("keelson")
        .build()
        .context("cannot start threads")
}

/// Ends the process when a thread panics that raft runs on: what is left of the member would vote and never answer.
pub fn abort_with_raft() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if std::thread::current().name() == Some(store::RAFT_THREAD) {
            std::process::abort();
        }
    }));
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn stop_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Runs `keelson store` until SIGTERM or Ctrl-C.
pub fn run_store(args: store::cli::Args) -> Result<ExitCode> {
    let args = args.resolve().map_err(store_error)?;
    telemetry::start_at(args.log_level.as_str());
    transport::install_crypto();
    runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        let signalled = shutdown.clone();
        let signals = tokio::spawn(async move {
            if stop_signal().await.is_ok() {
                signalled.cancel();
            }
        });
        let result = store::cli::run(args, shutdown).await;
        signals.abort();
        result.map_err(store_error)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `keelson member`.
pub fn run_member(command: store::control::member::Command) -> Result<ExitCode> {
    transport::install_crypto();
    runtime()?.block_on(store::control::member::run(command)).map_err(store_error)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `keelson snapshot`.
pub fn run_snapshot(command: store::backup::cli::Command) -> Result<ExitCode> {
    transport::install_crypto();
    runtime()?.block_on(store::backup::cli::run(command)).map_err(store_error)?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the store's distinction between wrong use and failure.
pub fn store_error(error: CliError) -> anyhow::Error {
    match error {
        CliError::Usage(line) => Usage(line).into(),
        CliError::Failed(line) => anyhow::anyhow!(line),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// Tells the second run of this test, in a process of its own, on which thread to panic.
    const THREAD: &str = "KEELSON_TEST_PANIC_ON";

    #[test]
    fn a_panic_on_a_raft_thread_ends_the_process_and_any_other_does_not() {
        if let Ok(name) = std::env::var(THREAD) {
            abort_with_raft();
            let thread =
                std::thread::Builder::new().name(name).spawn(|| panic!("a broken invariant")).unwrap();
            assert!(thread.join().is_err());
            return;
        }
        let ended = |thread: &str| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", std::thread::current().name().unwrap(), "--nocapture"])
                .env(THREAD, thread)
                .output()
                .unwrap()
        };
        let raft = ended(store::RAFT_THREAD);
        let said = String::from_utf8_lossy(&raft.stderr);
        assert_eq!(raft.status.signal(), Some(nix::libc::SIGABRT), "{said}");
        assert!(said.contains("a broken invariant"), "{said}");
        assert!(ended("api").status.success());
    }
}
