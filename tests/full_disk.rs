//! One of three members runs out of disk during writes: it says so and ends, the others go on, nothing is lost. Where all run short,
//! puts are refused before the disk is full, and what makes room goes on (safety rule 11).
//!
//! The data lies on a small ext4 file system of its own in a loop-mounted file. Another file takes the room that is left;
//! then either the log needs its next segment first, or the database its next table. A disk that only promised its room fails
//! later than the write, in the sync.

mod cluster;
mod members;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chaos::cluster::run_command;
use members::{Members, Writers, until};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use store::wal::FreeSpace;

/// Room for everything that the others took in until the member ended, once the ballast has gone: they take a hundred megabytes a
/// second and more. The image has holes where nothing was written, so size costs nothing.
const DISK_BYTES: u64 = 2 << 30;
/// Two log segments and the file system's own: no more than the memory below a disk that only promises its room.
const PROMISED_BYTES: u64 = 320 << 20;
/// Fills the log: nearly the largest value that fits a request.
const LARGE: usize = 1 << 20;
/// Fills the database. At one such value after the other the log has room for seconds when the database writes its first table, so
/// it is the database that finds none.
const MIDDLING: usize = 16 << 10;
/// What is left of the disk when its users are short: less than a reserve of theirs, which is an eighth of it.
const RESERVED_BYTES: u64 = 200 << 20;
/// Far more than it takes to let go of a file system whose users are gone.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(20);
/// The member on the small disk.
const SMALL: usize = 0;

/// What needs room first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fills {
    Log,
    Database,
}

/// Who runs out of room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Leader,
    Follower,
}

#[tokio::test]
async fn a_follower_whose_log_finds_no_room_ends_and_comes_back() {
    check(Role::Follower, Fills::Log).await;
}

#[tokio::test]
async fn a_leader_whose_log_finds_no_room_ends_and_comes_back() {
    check(Role::Leader, Fills::Log).await;
}

#[tokio::test]
async fn a_follower_whose_database_finds_no_room_ends_and_comes_back() {
    check(Role::Follower, Fills::Database).await;
}

#[tokio::test]
async fn a_leader_whose_database_finds_no_room_ends_and_comes_back() {
    check(Role::Leader, Fills::Database).await;
}

/// Safety rule 3: a failed sync ends the process, and is not tried again.
#[tokio::test]
async fn a_member_whose_sync_fails_ends_and_the_others_go_on() {
    let Some(folder) = folder() else { return };
    let backing = Mount::tmpfs(&folder.path().join("backing"));
    let image = backing.0.join("small.img");
    let disk = SmallDisk::mount(image.clone(), PROMISED_BYTES, &folder.path().join("data/n1"));
    let mut members = Members::start(folder.path()).await;
    let spare = disk.mount.0.join("wal/spare-next");
    until("the log's spare segment", async || spare.exists().then_some(())).await;
    let writers = Writers::start(&members);
    writers.acknowledged(&[0, 1, 2], 10).await;
    // The file system still counts its blocks as its own; what lies below has no room for them any more.
    let (image, length) = (image.to_str().unwrap(), PROMISED_BYTES.to_string());
    run_command("fallocate", &["--punch-hole", "--offset", "0", "--length", &length, image], "").unwrap();
    fill(&backing.0.join("filler"));
    let (status, said) = members.end_of(SMALL).await;
    assert_eq!(status, "exit status: 1", "{said}");
    let wal = disk.mount.0.join("wal");
    assert!(said.contains("sync") && said.contains(wal.to_str().unwrap()), "{said}");
    println!("{said}");
    writers.acknowledged(&[1, 2], 100).await;
    let ledger = writers.stop().await;
    members.keeps(1, &ledger).await;
    members.cluster.stop().await;
}

/// Safety rule 11.
#[tokio::test]
async fn members_that_all_run_short_refuse_puts_and_take_what_makes_room() {
    let Some(folder) = folder() else { return };
    let disk = SmallDisk::mount(folder.path().join("small.img"), DISK_BYTES, &folder.path().join("all"));
    let mut members = Members::start(&disk.mount.0).await;
    let files = |name: &str| (0..3).filter(|member| members.data(*member).join(name).exists()).count();
    until("spare segments", async || (files("wal/spare-next") == 3).then_some(())).await;
    until("ballast", async || (files("ballast") == 3).then_some(())).await;
    let kv = KvClient::connect(members.url(0)).await.unwrap();
    let put = async |key: &str, size: usize| {
        let value = vec![b'x'; size].into();
        kv.clone().put(PutRequest { key: key.to_owned().into(), value, ..PutRequest::default() }).await
    };
    let is_refused = async || match put("small", 1).await {
        Err(status) if status.message() == "etcdserver: mvcc: database space exceeded" => Some(()),
        Err(status) if status.code() == tonic::Code::Unavailable => None,
        Err(status) => panic!("{status}"),
        Ok(_) => None,
    };
    put("large", MIDDLING).await.unwrap();
    disk.fill_up_to(RESERVED_BYTES);
    until("a refusal", &is_refused).await;
    // Other programs take the reserve, too.
    disk.fill();
    // What one of them gives up is enough for all: they share the disk.
    until("a ballast less", async || (files("ballast") < 3).then_some(())).await;
    is_refused().await.expect("still short");
    let delete = DeleteRangeRequest { key: "large".into(), ..DeleteRangeRequest::default() };
    let deleted = kv.clone().delete_range(delete).await.unwrap().into_inner();
    assert_eq!(deleted.deleted, 1);
    let revision = deleted.header.unwrap().revision;
    kv.clone().compact(CompactionRequest { revision, physical: true }).await.unwrap();
    disk.free();
    until("room again", async || put("small", 1).await.ok()).await;
    until("ballast again", async || (files("ballast") == 3).then_some(())).await;
    members.cluster.stop().await;
}

async fn check(role: Role, fills: Fills) {
    let Some(folder) = folder() else { return };
    let disk = SmallDisk::mount(folder.path().join("small.img"), DISK_BYTES, &folder.path().join("data/n1"));
    let mut members = Members::start(folder.path()).await;
    let leader = if role == Role::Leader { SMALL } else { SMALL + 1 };
    members.give_leadership(leader).await;
    let spare = disk.mount.0.join("wal/spare-next");
    until("the log's spare segment", async || spare.exists().then_some(())).await;
    disk.fill();

    let writers = Writers::start(&members);
    writers.acknowledged(&[0, 1, 2], 10).await;
    assert_eq!(members.cluster.leader().await, Some(leader), "nobody else took over");
    let said = write_until_the_end(&mut members, fills).await;
    let path = match fills {
        Fills::Log => disk.mount.0.join("wal"),
        Fills::Database => disk.mount.0.join("db"),
    };
    check_words(&said, &path);
    writers.acknowledged(&[1, 2], 100).await;

    if fills == Fills::Log {
        members.cluster.members[SMALL].start().unwrap();
        let (status, said) = members.end_of(SMALL).await;
        assert_eq!(status, "exit status: 1", "{said}");
        check_words(&said, &path);
    }
    disk.free();
    members.cluster.members[SMALL].start().unwrap();
    writers.acknowledged(&[0, 1, 2], 10).await;
    let ledger = writers.stop().await;
    members.agree_on(&ledger).await;
    println!("{} writes acknowledged, {} of unknown fate", ledger.acknowledged.len(), ledger.unknown.len());
    members.cluster.stop().await;
}

/// A folder for members and disks; none, and a line that says so, where disks cannot be mounted.
fn folder() -> Option<tempfile::TempDir> {
    if !nix::unistd::geteuid().is_root() {
        cluster::skip("mounting a small disk needs root");
        return None;
    }
    Some(tempfile::Builder::new().prefix("keelson-full-disk-").tempdir().unwrap())
}

/// Writes much through another member until the one on the small disk has ended; returns what it said.
async fn write_until_the_end(members: &mut Members, fills: Fills) -> String {
    let client = members.client(SMALL + 1);
    let value = "x".repeat(match fills {
        Fills::Log => LARGE,
        Fills::Database => MIDDLING,
    });
    let filling = async {
        loop {
            let written = match fills {
                // A compare that fails leaves its value in the log and nothing in the database.
                Fills::Log => client.cas("absent", 1, &value).await,
                Fills::Database => client.write("filling", &value).await,
            };
            if written.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (status, said) = tokio::select! {
        ended = members.end_of(SMALL) => ended,
        () = filling => unreachable!("it never ends by itself"),
    };
    assert_eq!(status, "exit status: 1", "{said}");
    said
}

/// The line names the path and the free bytes, which do not suffice for a segment.
fn check_words(said: &str, path: &Path) {
    let (_, rest) = said.split_once(&format!("disk full in {}", path.display())).expect(said);
    let (_, rest) = rest.split_once(": ").expect(said);
    let (free, _) = rest.split_once(" bytes free").expect(said);
    assert!(free.parse::<u64>().unwrap() < 64 << 20, "{said}");
}

/// A small file system in a file. Its loop device goes with the mount.
struct SmallDisk {
    mount: Mount,
    /// What somebody else keeps there.
    filler: PathBuf,
}

impl SmallDisk {
    fn mount(image: PathBuf, bytes: u64, at: &Path) -> Self {
        File::create(&image).unwrap().set_len(bytes).unwrap();
        let image = image.to_str().unwrap();
        run_command("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", image], "").unwrap();
        let mount = Mount::new(&["-o", "loop", image], at);
        Self { filler: mount.0.join("filler"), mount }
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        self.fill_up_to(4 << 20);
        fill(&self.filler);
    }

    /// Takes the room but for so many bytes.
    fn fill_up_to(&self, left: u64) {
        let taken = fs::metadata(&self.filler).map_or(0, |filler| filler.len());
        let most = taken + FreeSpace::of(&self.mount.0).free_bytes.saturating_sub(left);
        run_command("fallocate", &["-l", &most.to_string(), self.filler.to_str().unwrap()], "").unwrap();
    }

    fn free(&self) {
        fs::remove_file(&self.filler).unwrap();
    }
}

/// Appends to a file until its disk is full.
fn fill(filler: &Path) {
    let mut filler = File::options().create(true).append(true).open(filler).unwrap();
    for chunk in [vec![0; 1 << 16], vec![0; 1 << 12]] {
        let full = loop {
            if let Err(error) = filler.write_all(&chunk) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}

/// A mount point, unmounted when it is dropped, after a panic too.
struct Mount(PathBuf);

impl Mount {
    fn new(what: &[&str], at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        run_command("mount", &[what, &[at.to_str().unwrap()]].concat(), "").unwrap();
        let mount = Self(at.to_owned());
        assert_ne!(device(at), device(at.parent().unwrap()), "only a disk of our own is ever filled");
        mount
    }

    /// Memory that holds the segments of the small disk, and little more.
    fn tmpfs(at: &Path) -> Self {
        Self::new(&["-t", "tmpfs", "-o", "size=192m", "tmpfs"], at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = self.0.to_str().unwrap();
        let deadline = Instant::now() + UNMOUNT_TIMEOUT;
        // After a panic the members were only told to die; they hold the mount for another moment.
        while let Err(error) = run_command("umount", &[at], "") {
            if Instant::now() > deadline {
                eprintln!("{at} is let go when its last user is: {error:#}");
                let _tried = run_command("umount", &["-l", at], "");
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

fn device(path: &Path) -> u64 {
    fs::metadata(path).unwrap().dev()
}
