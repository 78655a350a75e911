//! Logging: fields, not sentences. To standard error, or to a file where a person reads the terminal. `KEELSON_LOG` sets the filter.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// From which level on is logged when nobody says.
const DEFAULT_LEVEL: &str = "info";
/// Of these only what is degraded: openraft logs each state change at info, which is noise here.
const QUIET: [&str; 5] = ["openraft", "hyper", "h2", "tower", "rustls"];
/// These warn of every message to a member that does not answer, hundreds in a second; the store says it once.
const REPETITIVE: [&str; 3] =
    ["openraft::core::heartbeat", "openraft::replication", "openraft::engine::handler::replication_handler"];
/// While a member stops it reports whatever still comes in, entries and all. That raft has ended otherwise the store says itself.
const MUTE: &str = "openraft::raft::raft_inner";

/// Logs to standard error.
pub fn start() {
    start_at(DEFAULT_LEVEL);
}

/// Logs to standard error, from a level on where `KEELSON_LOG` says nothing.
pub fn start_at(level: &str) {
    install(level, BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal());
}

/// Logs to standard error where `KEELSON_LOG` says what: for programs that speak to a person otherwise.
pub fn start_if_asked() {
    if std::env::var_os("KEELSON_LOG").is_some() {
        start();
    }
}

/// Logs to the end of a file.
///
/// # Errors
/// When the file cannot be written.
pub fn start_in(path: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    install(DEFAULT_LEVEL, BoxMakeWriter::new(file), false);
    Ok(())
}

fn install(level: &str, writer: BoxMakeWriter, has_colours: bool) {
    let filter =
        EnvFilter::try_from_env("KEELSON_LOG").unwrap_or_else(|_| EnvFilter::new(default_filter(level)));
    // A second call (tests that start two clusters in one process) keeps the first subscriber.
    let _already_installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(has_colours)
        .try_init();
}

fn default_filter(level: &str) -> String {
    // Who wants errors only wants no warnings of libraries.
    let of_libraries = if level == "error" { "error" } else { "warn" };
    let quiet = QUIET.map(|library| format!(",{library}={of_libraries}")).concat();
    let repetitive = REPETITIVE.map(|part| format!(",{part}=error")).concat();
    format!("{level}{quiet}{repetitive},{MUTE}=off")
}

#[cfg(test)]
mod tests {
    use super::{REPETITIVE, default_filter};

    #[test]
    fn libraries_are_quiet_whatever_the_level_is() {
        assert!(default_filter("debug").starts_with("debug,openraft=warn,"));
        assert!(default_filter("error").starts_with("error,openraft=error,"));
        for part in REPETITIVE {
            assert!(default_filter("info").contains(&format!(",{part}=error,")));
        }
    }
}
