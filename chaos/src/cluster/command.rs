//! Running the machine's network tools.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::Context;

/// Runs a tool to its end, with `input` on its standard input; returns what it printed.
///
/// # Errors
/// When it cannot be started or fails, with its own words.
pub fn run(program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(line)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(line)?;
    }
    let output = child.wait_with_output().with_context(line)?;
    let words = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {}", line(), words.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
