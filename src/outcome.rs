//! How a run ends: exit code 0, 1 for a failure, 64 for wrong use (flags, busy port, foreign data directory, bad token).

use std::process::ExitCode;

/// Wrong use: said in one line before anything is bound or written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Exit code for wrong use (`EX_USAGE` of sysexits).
pub const USAGE: u8 = 64;

/// Prints the error in one line and chooses the exit code.
pub fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("keelson: {error:#}");
            if is_usage(&error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Usage>())
}
