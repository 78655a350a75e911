//! `keelson image`: hands archives to the runtimes of a data directory, and packs the example images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use nodeagent::containerd::Paths;
use nodeagent::images::{self, pack};

use crate::outcome::Usage;
use crate::up::Layout;

/// What to do with images.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ImageCommand {
    /// Imports a docker-archive or OCI layout into every agent of a data directory.
    Import {
        /// Data directory of the cluster.
        #[arg(long, default_value = "/var/lib/keelson")]
        data_dir: PathBuf,
        /// The archives.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Packs the example images from this machine's static busybox.
    #[command(hide = true)]
    Pack {
        /// Folder that gets the archives.
        #[arg(long)]
        output: PathBuf,
    },
}

/// Runs an image command.
pub fn run(command: &ImageCommand) -> Result<ExitCode> {
    match command {
        ImageCommand::Import { data_dir, files } => import(data_dir, files)?,
        ImageCommand::Pack { output } => pack_examples(output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn import(data_dir: &Path, files: &[PathBuf]) -> Result<()> {
    for file in files {
        images::inspect(file).map_err(|error| Usage(format!("{}: {error}", file.display())))?;
    }
    let layout = Layout::new(&std::path::absolute(data_dir)?);
    let agents = layout.agents().map_err(|error| Usage(format!("{error:#}")))?;
    let sockets: Vec<PathBuf> =
        agents.iter().map(|agent| Paths::new(&layout.process(agent)).socket()).collect();
    let live: Vec<&PathBuf> = sockets.iter().filter(|socket| socket.exists()).collect();
    if live.is_empty() {
        return Err(Usage(format!(
            "no agent runs on {}; start it with `keelson up`",
            layout.root().display()
        ))
        .into());
    }
    crate::runtime()?.block_on(async {
        for socket in &live {
            for file in files {
                let names = images::import(socket, file)
                    .await
                    .with_context(|| format!("cannot import {}", file.display()))?;
                eprintln!("keelson: imported {} from {}", names.join(", "), file.display());
            }
        }
        Ok(())
    })
}

/// Writes `web-1.tar` and `web-2.tar`.
fn pack_examples(output: &Path) -> Result<()> {
    fs::create_dir_all(output).with_context(|| format!("cannot create {}", output.display()))?;
    for version in [1, 2] {
        let archive = pack::web_image(version)?.to_archive(pack::Format::Docker)?;
        let path = output.join(format!("web-{version}.tar"));
        fs::write(&path, archive).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
