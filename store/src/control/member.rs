//! `keelson member`: who belongs to a cluster.

use std::io::{self, Write};
use std::time::Duration;

use pb::cluster_client::ClusterClient;
use proto::etcdserverpb as pb;
use proto::store::ReplaceRequest;
use proto::store::members_client::MembersClient;

use super::ConnectionArgs;
use super::connection::Connection;
use crate::cli::{CliError, address, member_id};

/// Between two looks at a replacement that is under way.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Lists, adds, promotes, replaces and removes members of the store's cluster.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Lists the members
    List {
        #[command(flatten)]
        connection: ConnectionArgs,
        /// How to show them
        #[arg(long, short = 'w', env = "ETCDCTL_WRITE_OUT", value_enum, default_value = "simple")]
        write_out: Output,
    },
    /// Adds a member; one that is no learner votes once it has caught up
    Add {
        #[command(flatten)]
        connection: ConnectionArgs,
        /// Name that the member will be started with
        name: String,
        /// Peer URLs of the member
        #[arg(long, required = true, value_delimiter = ',')]
        peer_urls: Vec<String>,
        /// Leaves it without a vote until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Gives a learner a vote
    Promote {
        #[command(flatten)]
        connection: ConnectionArgs,
        /// Id of the learner
        #[arg(value_parser = member_id)]
        id: u64,
    },
    /// Puts a new member in the place of another one, dead or alive, in one change once the new one has caught up
    Replace {
        #[command(flatten)]
        connection: ConnectionArgs,
        /// Id of the member that leaves
        #[arg(value_parser = member_id)]
        id: u64,
        /// Name that the new member will be started with
        #[arg(long)]
        name: String,
        /// Peer URLs of the new member; those of the one that leaves if it takes its machine over
        #[arg(long, required = true, value_delimiter = ',')]
        peer_urls: Vec<String>,
        /// Returns before the new member is started; the replacement goes on by itself
        #[arg(long)]
        no_wait: bool,
    },
    /// Removes a member for good
    Remove {
        #[command(flatten)]
        connection: ConnectionArgs,
        /// Id of the member
        #[arg(value_parser = member_id)]
        id: u64,
    },
}

impl Command {
    fn connection(&self) -> &ConnectionArgs {
        match self {
            Self::List { connection, .. }
            | Self::Add { connection, .. }
            | Self::Promote { connection, .. }
            | Self::Replace { connection, .. }
            | Self::Remove { connection, .. } => connection,
        }
    }
}

/// Forms of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Simple,
    Json,
}

/// Runs one command.
///
/// # Errors
/// [`CliError::Usage`] for flags that cannot be used, [`CliError::Failed`] when nobody answers or the change is refused.
pub async fn run(command: Command) -> Result<(), CliError> {
    if let Command::Add { peer_urls, .. } | Command::Replace { peer_urls, .. } = &command {
        peer_urls.iter().try_for_each(|url| address(url).map(|_| ()))?;
    }
    let connection = command.connection().connect().await?;
    let mut cluster = ClusterClient::new(connection.channel.clone());
    let refused = |status| connection.refused(&status);
    match command {
        Command::List { write_out, .. } => print(&shown(&members(&connection).await?, write_out)),
        Command::Add { name, peer_urls, learner, .. } => {
            let request = pb::MemberAddRequest { peer_urls, is_learner: learner };
            let added = cluster.member_add(connection.request(request)).await.map_err(refused)?.into_inner();
            let id = added.member.clone().unwrap_or_default().id;
            print(&format!("Member {id:x} added; start it with\n\n{}", start(&name, id, &added.members)))
        }
        Command::Promote { id, .. } => {
            let request = connection.request(pb::MemberPromoteRequest { id });
            cluster.member_promote(request).await.map_err(refused)?;
            print(&format!("Member {id:x} promoted"))
        }
        Command::Replace { connection: args, id, name, peer_urls, no_wait } => {
            let mut own = MembersClient::new(connection.channel.clone());
            let request = connection.request(ReplaceRequest { id, peer_urls });
            let added = own.replace(request).await.map_err(refused)?.into_inner();
            let coming = added.member.clone().unwrap_or_default().id;
            let start = start(&name, coming, &added.members);
            print(&format!(
                "Member {coming:x} takes the place of {id:x} once it has caught up; start it with\n\n{start}"
            ))?;
            if no_wait { Ok(()) } else { watch(&args, id, coming).await }
        }
        Command::Remove { id, .. } => {
            let request = connection.request(pb::MemberRemoveRequest { id });
            cluster.member_remove(request).await.map_err(refused)?;
            print(&format!("Member {id:x} removed"))
        }
    }
}

async fn members(connection: &Connection) -> Result<Vec<pb::Member>, CliError> {
    let mut cluster = ClusterClient::new(connection.channel.clone());
    let request = connection.request(pb::MemberListRequest { linearizable: true });
    let answer = cluster.member_list(request).await.map_err(|status| connection.refused(&status))?;
    Ok(answer.into_inner().members)
}

/// How far a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Of the new member.
    Start,
    CatchingUp,
    Done,
    /// Somebody removed the new member.
    GivenUp,
}

fn progress(members: &[pb::Member], leaving: u64, coming: u64) -> Progress {
    let is_there = members.iter().any(|member| member.id == leaving);
    match members.iter().find(|member| member.id == coming) {
        None => Progress::GivenUp,
        Some(_) if !is_there => Progress::Done,
        Some(member) if member.name.is_empty() => Progress::Start,
        Some(_) => Progress::CatchingUp,
    }
}

/// Waits until a replacement is done. Members that do not answer are asked again: one may be restarted in the meantime.
async fn watch(args: &ConnectionArgs, leaving: u64, coming: u64) -> Result<(), CliError> {
    let mut told = None;
    loop {
        let seen = match args.connect().await {
            Ok(connection) => members(&connection).await.ok(),
            Err(_) => None,
        };
        let now = seen.map(|members| progress(&members, leaving, coming)).filter(|now| told != Some(*now));
        match now {
            Some(Progress::Done) => return print(&format!("Member {coming:x} votes and {leaving:x} is out")),
            Some(Progress::GivenUp) => {
                return Err(CliError::Failed(format!(
                    "member {coming:x} was removed before it could take the place of {leaving:x}"
                )));
            }
            Some(Progress::Start) => {
                print("Waiting for its start; this may be interrupted, the replacement goes on by itself")?;
            }
            Some(Progress::CatchingUp) => print(&format!("Member {coming:x} is catching up"))?,
            None => {}
        }
        told = now.or(told);
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Returns the command that starts an added member. One started member is enough to find the others.
fn start(name: &str, id: u64, members: &[pb::Member]) -> String {
    let own = members.iter().find(|member| member.id == id);
    let own_urls = own.map(|member| member.peer_urls.clone()).unwrap_or_default();
    let others = members.iter().filter(|member| member.id != id && !member.name.is_empty());
    let contacts: Vec<String> =
        others.flat_map(|member| member.peer_urls.clone()).filter(|url| !own_urls.contains(url)).collect();
    let urls = own_urls.join(",");
    format!(
        "keelson store --name {name} --initial-advertise-peer-urls {urls} --join {} ...",
        contacts.join(",")
    )
}

fn shown(members: &[pb::Member], output: Output) -> String {
    match output {
        Output::Simple => members.iter().map(line).collect::<Vec<_>>().join("\n"),
        Output::Json => {
            serde_json::json!({ "members": members.iter().map(json).collect::<Vec<_>>() }).to_string()
        }
    }
}

/// Shows a member as etcdctl does.
fn line(member: &pb::Member) -> String {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    let (peers, clients) = (member.peer_urls.join(","), member.client_urls.join(","));
    format!("{:x}, {status}, {}, {peers}, {clients}, {}", member.id, member.name, member.is_learner)
}

/// Ids are text, as everywhere else: not every reader of JSON has 64 bits.
fn json(member: &pb::Member) -> serde_json::Value {
    serde_json::json!({
        "id": format!("{:x}", member.id),
        "name": member.name,
        "peerURLs": member.peer_urls,
        "clientURLs": member.client_urls,
        "isLearner": member.is_learner,
    })
}

fn print(text: &str) -> Result<(), CliError> {
    writeln!(io::stdout(), "{text}").map_err(|error| CliError::Failed(format!("cannot write: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, port: u16) -> pb::Member {
        pb::Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://h:{port}")],
            client_urls: vec![format!("http://h:{}", port + 100)],
            is_learner: false,
        }
    }

    #[derive(clap::Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn whom_to_ask_is_said_behind_the_command_as_with_etcdctl() {
        let words = ["member", "promote", "8e9e05c52164694d", "--endpoints", "http://a:1,http://b:1"];
        let parsed = <Cli as clap::Parser>::try_parse_from(words).map(|cli| cli.command).unwrap();
        let Command::Promote { connection, id } = parsed else { panic!("another command") };
        assert_eq!(
            (connection.endpoints, id),
            (["http://a:1", "http://b:1"].map(str::to_owned).into(), 0x8e9e_05c5_2164_694d)
        );
        for wrong in [["member", "promote", "m1"], ["member", "remove", "-1"]] {
            assert!(<Cli as clap::Parser>::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_replacement_is_done_when_the_one_is_in_and_the_other_out() {
        let (old, new, unstarted) = (member(1, "a", 1), member(2, "b", 2), member(2, "", 2));
        let seen = |members: &[&pb::Member]| {
            progress(&members.iter().map(|member| (*member).clone()).collect::<Vec<_>>(), 1, 2)
        };
        assert_eq!(seen(&[&old, &unstarted]), Progress::Start);
        assert_eq!(seen(&[&old, &new]), Progress::CatchingUp);
        assert_eq!(seen(&[&new]), Progress::Done);
        assert_eq!(seen(&[&old]), Progress::GivenUp);
        assert_eq!(seen(&[]), Progress::GivenUp);
    }

    #[test]
    fn members_are_shown_as_etcdctl_shows_them() {
        let members = [member(0x1f, "a", 1), member(2, "", 2)];
        let simple = "1f, started, a, http://h:1, http://h:101, false\n2, unstarted, , http://h:2, http://h:102, false";
        assert_eq!(shown(&members, Output::Simple), simple);
        let json = r#"{"members":[{"clientURLs":["http://h:101"],"id":"1f","isLearner":false,"name":"a","peerURLs":["http://h:1"]}]}"#;
        assert_eq!(shown(&members[..1], Output::Json), json);
    }

    #[test]
    fn the_new_member_is_told_of_those_that_run() {
        let members = [member(1, "a", 1), member(2, "", 2), member(3, "", 3), member(4, "dead", 3)];
        let expected =
            "keelson store --name new --initial-advertise-peer-urls http://h:3 --join http://h:1 ...";
        assert_eq!(start("new", 3, &members), expected);
    }
}
