//! `keelson chaos compare`: two runs side by side.

use std::path::PathBuf;

use super::USAGE;
use crate::report;
use crate::run::say;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// Folder of a run
    first: PathBuf,
    /// Folder of the run to set beside it, with the same seed and faults
    second: PathBuf,
    /// Page to write; the same tables as Markdown go beside it, in a file that ends in .md
    #[arg(long, default_value = "chaos-runs/compare.html")]
    output: PathBuf,
}

/// Writes page and Markdown.
pub(super) fn run(args: &CompareArgs) -> anyhow::Result<u8> {
    for folder in [&args.first, &args.second] {
        if !folder.join("history.jsonl").is_file() {
            say(&format!("keelson chaos compare: {} holds no run (no history.jsonl)", folder.display()));
            return Ok(USAGE);
        }
    }
    for written in report::write_comparison(&args.first, &args.second, &args.output)? {
        say(&written.display().to_string());
    }
    Ok(0)
}
