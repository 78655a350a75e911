//! `keelson chaos report`: pages of finished runs, and the index over them.

use std::path::PathBuf;

use super::USAGE;
use crate::report;
use crate::run::say;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Folders of runs
    #[arg(required_unless_present = "index")]
    folders: Vec<PathBuf>,
    /// Folder of many runs: makes its index
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
}

/// Makes every page that is asked for.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<u8> {
    if let Some(missing) = args.folders.iter().find(|folder| !folder.join("history.jsonl").is_file()) {
        say(&format!("keelson chaos report: {} holds no run (no history.jsonl)", missing.display()));
        return Ok(USAGE);
    }
    if let Some(missing) = args.index.as_ref().filter(|folder| !folder.is_dir()) {
        say(&format!("keelson chaos report: --index {} is not a folder", missing.display()));
        return Ok(USAGE);
    }
    for folder in &args.folders {
        say(&report::write_page(folder)?.display().to_string());
    }
    if let Some(folder) = &args.index {
        say(&report::write_index(folder)?.display().to_string());
    }
    Ok(0)
}
