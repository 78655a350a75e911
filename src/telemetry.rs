//! Logging to standard error: fields, not sentences; `KEELSON_LOG` sets the filter.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged when `KEELSON_LOG` says nothing. openraft logs each state change at info, which is noise here.
const DEFAULT_FILTER: &str = "info,openraft=warn,hyper=warn,h2=warn,tower=warn,rustls=warn";

/// Installs the log subscriber.
pub fn start() {
    let filter = EnvFilter::try_from_env("KEELSON_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let is_terminal = std::io::stderr().is_terminal();
    // A second call (tests that start two clusters in one process) keeps the first subscriber.
    let _already_installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .try_init();
}
