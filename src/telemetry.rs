//! Logging: fields, not sentences. To standard error, or to a file where a person reads the terminal. `KEELSON_LOG` sets the filter.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// What is logged when `KEELSON_LOG` says nothing. openraft logs each state change at info, which is noise here.
const DEFAULT_FILTER: &str = "info,openraft=warn,hyper=warn,h2=warn,tower=warn,rustls=warn";

/// Logs to standard error.
pub fn start() {
    install(BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal());
}

/// Logs to the end of a file.
///
/// # Errors
/// When the file cannot be written.
pub fn start_in(path: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(path);
    install(BoxMakeWriter::new(file.with_context(|| format!("cannot write {}", path.display()))?), false);
    Ok(())
}

fn install(writer: BoxMakeWriter, has_colours: bool) {
    let filter = EnvFilter::try_from_env("KEELSON_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // A second call (tests that start two clusters in one process) keeps the first subscriber.
    let _already_installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(has_colours)
        .try_init();
}
