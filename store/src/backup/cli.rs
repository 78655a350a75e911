//! `keelson snapshot`: copies of a store's state, with etcdctl's flag names.

use std::io::{self, Write};
use std::path::PathBuf;

use super::read::{HashCheck, Snapshot, SnapshotError};
use super::remains::RemainsError;
use super::restore::{Origin, Past, Restore, RestoreError, restore};
use super::save::{SaveError, save};
use super::show::{Output, shown};
use crate::cli::{CliError, address, check_named, initial_cluster};
use crate::control::ConnectionArgs;
use crate::directory::DirectoryError;
use crate::env::error_chain;
use crate::wal::WalConfig;

/// By how much revisions are raised: more than any source writes between the snapshot and its end (what etcd's guide advises).
const RAISED_BY: i64 = 1_000_000_000;
/// Most that is taken; there is room for a few of these in 64 bits.
const RAISED_BY_MAX: i64 = i64::MAX / 8;

/// Saves, shows and restores snapshots of the store, in etcd's format.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Saves a snapshot of a running member to a file
    Save(SaveArgs),
    /// Shows what a snapshot file holds
    Status(StatusArgs),
    /// Makes the data directory of a member of a new cluster, from a snapshot or from what a member of a lost cluster left
    Restore(RestoreArgs),
    /// The same from a snapshot of etcd 3.4 to 3.7
    Import(ImportArgs),
    /// Saves a snapshot that etcd's own restore takes
    Export(SaveArgs),
}

/// Flags of `save` and `export`.
#[derive(Debug, clap::Args)]
pub struct SaveArgs {
    /// File to write; one that exists is replaced when the new one is whole
    pub file: PathBuf,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    pub file: PathBuf,
    /// How to show it
    #[arg(long, short = 'w', env = "ETCDCTL_WRITE_OUT", value_enum, default_value = "simple")]
    pub write_out: Output,
}

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Snapshot file
    #[arg(required_unless_present = "from_data_dir")]
    pub file: Option<PathBuf>,
    /// Takes the state of this stopped member's data directory instead, for a cluster whose majority is lost; it stays as it is
    #[arg(long, conflicts_with_all = ["file", "skip_hash_check"])]
    pub from_data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub hash: HashArgs,
    #[command(flatten)]
    pub member: MemberArgs,
}

/// Flags of `import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// Snapshot file of etcd
    pub file: PathBuf,
    #[command(flatten)]
    pub hash: HashArgs,
    #[command(flatten)]
    pub member: MemberArgs,
}

/// Whether a file's hash counts.
#[derive(Debug, clap::Args)]
pub struct HashArgs {
    /// Takes a file without a hash, such as a copy of an etcd's member/snap/db
    #[arg(long)]
    pub skip_hash_check: bool,
}

impl HashArgs {
    fn check(&self) -> HashCheck {
        if self.skip_hash_check { HashCheck::Skipped } else { HashCheck::Required }
    }
}

/// Who the restored member is.
#[derive(Debug, clap::Args)]
pub struct MemberArgs {
    /// Directory to make; `<name>.keelson` when absent
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Name of this member in the initial cluster
    #[arg(long, default_value = "default")]
    pub name: String,
    /// All members of the new cluster, each restored from this file: name=URL[,name=URL...]
    #[arg(long, default_value = "default=http://localhost:2380", value_delimiter = ',')]
    pub initial_cluster: Vec<String>,
    /// Keeps clusters with equal addresses apart
    #[arg(long, default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Peer URLs that other members reach this one at
    #[arg(long, default_value = "http://localhost:2380", value_delimiter = ',')]
    pub initial_advertise_peer_urls: Vec<String>,
    /// Keeps revisions and history: nobody has written to the source since, and nobody will
    #[arg(long)]
    pub source_frozen: bool,
    /// By how much to raise the revision, above all that the source may have reached since; history up to there is compacted
    #[arg(long, conflicts_with = "source_frozen", value_parser = clap::value_parser!(i64).range(1..=RAISED_BY_MAX))]
    pub bump_revision: Option<i64>,
    /// Accepted for etcd's sake; goes with every raised revision
    #[arg(long, conflicts_with = "source_frozen")]
    pub mark_compacted: bool,
}

/// Runs one command.
///
/// # Errors
/// [`CliError::Usage`] before anything is written when flags or files cannot be used.
pub async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Save(args) | Command::Export(args) => run_save(args).await,
        Command::Status(args) => run_status(&args),
        Command::Restore(RestoreArgs { file, from_data_dir, hash, member }) => {
            let origin = match (file, from_data_dir) {
                (Some(file), _) => Origin::Snapshot { file, hash_check: hash.check() },
                (None, Some(data_dir)) => Origin::Member { data_dir },
                (None, None) => return Err(CliError::Usage("name a snapshot file".to_owned())),
            };
            run_restore(origin, member)
        }
        Command::Import(ImportArgs { file, hash, member }) => {
            run_restore(Origin::Snapshot { file, hash_check: hash.check() }, member)
        }
    }
}

async fn run_save(args: SaveArgs) -> Result<(), CliError> {
    let SaveArgs { file, connection } = args;
    if connection.endpoints.len() > 1 {
        // Members are not at the same position, so one is chosen.
        let endpoints = connection.endpoints.join(" ");
        let line = format!("snapshot must be requested to one selected node, not multiple [{endpoints}]");
        return Err(CliError::Usage(line));
    }
    let connection = connection.connect().await?;
    match save(&connection, &file).await {
        Ok(()) => print(&format!("Snapshot saved at {}", file.display())),
        Err(SaveError::Refused(status)) => Err(connection.refused(&status)),
        Err(error) => Err(CliError::Failed(error_chain(&error))),
    }
}

fn run_status(args: &StatusArgs) -> Result<(), CliError> {
    // As etcd's: the hash is no condition for a look at a file.
    let status = Snapshot::open(&args.file, HashCheck::Skipped).and_then(|snapshot| snapshot.status())?;
    print(&shown(&status, args.write_out))
}

fn run_restore(origin: Origin, args: MemberArgs) -> Result<(), CliError> {
    for url in &args.initial_advertise_peer_urls {
        address(url)?;
    }
    let cluster = initial_cluster(&args.initial_cluster, &args.name, &args.initial_advertise_peer_urls)?;
    check_named(&cluster, &args.name, &args.initial_advertise_peer_urls)?;
    let past = if args.source_frozen {
        Past::Kept
    } else {
        Past::Raised { by: args.bump_revision.unwrap_or(RAISED_BY) }
    };
    let data_dir = args.data_dir.unwrap_or_else(|| PathBuf::from(format!("{}.keelson", args.name)));
    let restored = restore(&Restore {
        origin,
        past,
        data_dir: data_dir.clone(),
        name: args.name,
        advertise_peer_urls: args.initial_advertise_peer_urls,
        initial_cluster: cluster,
        cluster_token: args.initial_cluster_token,
        wal: WalConfig::default(),
    })?;
    let (member, cluster) = (restored.member_id, restored.cluster_id);
    print(&format!(
        "restored member {member:x} of new cluster {cluster:x} at revision {} in {}",
        restored.revision,
        data_dir.display()
    ))
}

fn print(text: &str) -> Result<(), CliError> {
    writeln!(io::stdout(), "{text}").map_err(|error| CliError::Failed(format!("cannot write: {error}")))
}

impl From<SnapshotError> for CliError {
    fn from(error: SnapshotError) -> Self {
        let line = error_chain(&error);
        match error {
            SnapshotError::Engine(_) => Self::Failed(line),
            // A file of another kind is a wrong call, and a damaged one is the world's fault.
            SnapshotError::NoHash
            | SnapshotError::MissingBucket(_)
            | SnapshotError::UnknownBucket(_)
            | SnapshotError::UnknownKey { .. }
            | SnapshotError::UnknownVersion(_) => Self::Usage(line),
            SnapshotError::Io { .. }
            | SnapshotError::Bbolt(_)
            | SnapshotError::Hash { .. }
            | SnapshotError::Record { .. } => Self::Failed(line),
        }
    }
}

impl From<RemainsError> for CliError {
    fn from(error: RemainsError) -> Self {
        let line = error_chain(&error);
        match error {
            RemainsError::Directory(DirectoryError::Damaged { .. } | DirectoryError::Io { .. })
            | RemainsError::Apart { .. }
            | RemainsError::Engine(_)
            | RemainsError::Wal(_) => Self::Failed(line),
            RemainsError::NoMember { .. } | RemainsError::NoState { .. } | RemainsError::Directory(_) => {
                Self::Usage(line)
            }
        }
    }
}

impl From<RestoreError> for CliError {
    fn from(error: RestoreError) -> Self {
        let line = error_chain(&error);
        match error {
            RestoreError::Snapshot(error) => error.into(),
            RestoreError::Remains(error) => error.into(),
            RestoreError::NotEmpty { .. }
            | RestoreError::NotInCluster
            | RestoreError::NotAlone
            | RestoreError::TooHigh { .. }
            | RestoreError::Directory(DirectoryError::InUse { .. } | DirectoryError::Foreign { .. }) => {
                Self::Usage(line)
            }
            RestoreError::Directory(_) | RestoreError::Engine(_) | RestoreError::Wal(_) => Self::Failed(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_snapshot_is_asked_of_one_member() {
        let endpoints = vec!["a:1".to_owned(), "b:1".to_owned()];
        let connection = ConnectionArgs { endpoints, ..ConnectionArgs::default() };
        let error = run(Command::Save(SaveArgs { file: PathBuf::new(), connection })).await.unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(error.to_string().contains("one selected node, not multiple [a:1 b:1]"));
    }
}
