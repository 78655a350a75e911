//! A line that delays and reorders what one member sends and receives: kernels without netem have no other way.
//!
//! The member's port moves from the hub's bridge to one of its own; two TAP devices join the bridges, and frames go from one to the
//! other after a drawn time. All of it is in the hub's namespace and goes with it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::command::run;

const TUN: &str = "/dev/net/tun";
/// `TUNSETIFF`, `_IOW('T', 202, int)`, and the flags for whole frames without a header (linux/if_tun.h).
const SET_INTERFACE: libc::c_ulong = 0x4004_54ca;
const TAP_WITHOUT_HEADER: u16 = 0x0002 | 0x1000;
/// Larger than any frame of these links.
const FRAME_BYTES: usize = 65_536;
/// Frames under way; a longer queue would be minutes of traffic.
const FRAMES_MAX: usize = 10_000;
/// How long to wait where nothing is under way.
const IDLE: Duration = Duration::from_secs(1);

/// How long frames take: `base`, and up to `jitter` more, so that they overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub base: Duration,
    pub jitter: Duration,
}

/// What a line has done.
#[derive(Default)]
struct Counters {
    frames: AtomicU64,
    overtaken: AtomicU64,
}

/// A line under way. Dropping it stops the frames; [`DelayLine::end`] also puts the port back.
pub struct DelayLine {
    port: String,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl DelayLine {
    /// Says what is missing for it.
    #[must_use]
    pub fn missing() -> Option<String> {
        (!Path::new(TUN).exists()).then(|| format!("there is no {TUN} (kernel module tun)"))
    }

    /// Puts a line between the hub and a member's port. The caller is in the hub.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start(port: &str, delay: Delay, seed: u64) -> anyhow::Result<Self> {
        let [near, far, bridge] = names(port);
        let taps = [tap(&near)?, tap(&far)?];
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("link set {bridge} up"))?;
        ip(&format!("link set {near} master {bridge} up"))?;
        ip(&format!("link set {far} master hub up"))?;
        ip(&format!("link set {port} master {bridge}"))?;
        let counters = Arc::new(Counters::default());
        let line = Line { taps, delay, random: StdRng::seed_from_u64(seed), under_way: BTreeMap::new() };
        let task = tokio::spawn(line.carry(Arc::clone(&counters)));
        Ok(Self { port: port.to_owned(), counters, task })
    }

    /// Returns how many frames were delayed, and how many of them were overtaken.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.counters.frames), load(&self.counters.overtaken))
    }

    /// Puts the port back. What is under way is lost.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn end(mut self) -> anyhow::Result<()> {
        let [_, _, bridge] = names(&self.port);
        ip(&format!("link set {} master hub", self.port))?;
        self.task.abort();
        // The devices go with the task that holds them, which ends because it was told to.
        let _ = (&mut self.task).await;
        ip(&format!("link delete {bridge}"))
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Line {
    /// The member's side and the hub's.
    taps: [AsyncFd<File>; 2],
    delay: Delay,
    random: StdRng,
    /// Frames by the time that each is due, and its number.
    under_way: BTreeMap<(Instant, u64), Frame>,
}

struct Frame {
    from_member: bool,
    bytes: Vec<u8>,
}

impl Line {
    async fn carry(mut self, counters: Arc<Counters>) {
        let (mut number, mut newest) = (0, [0, 0]);
        loop {
            let due = self.under_way.keys().next().map_or_else(|| Instant::now() + IDLE, |(due, _)| *due);
            let [member, hub] = &self.taps;
            let read = tokio::select! {
                bytes = frame(member) => bytes.map(|bytes| Frame { from_member: true, bytes }),
                bytes = frame(hub) => bytes.map(|bytes| Frame { from_member: false, bytes }),
                () = sleep_until(due) => None,
            };
            if let Some(frame) = read.filter(|_| self.under_way.len() < FRAMES_MAX) {
                let jitter = self.delay.jitter.mul_f64(self.random.random());
                number += 1;
                counters.frames.fetch_add(1, Ordering::Relaxed);
                self.under_way.insert((Instant::now() + self.delay.base + jitter, number), frame);
            }
            self.deliver(&counters, &mut newest);
        }
    }

    fn deliver(&mut self, counters: &Counters, newest: &mut [u64; 2]) {
        let now = Instant::now();
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, number), frame) = entry.remove_entry();
            let ([member, hub], [sent, received]) = (&self.taps, &mut *newest);
            let (to, newest) = if frame.from_member { (hub, sent) } else { (member, received) };
            if number < *newest {
                counters.overtaken.fetch_add(1, Ordering::Relaxed);
            }
            *newest = number.max(*newest);
            // A frame that does not fit is lost, as on any link.
            let _ = to.get_ref().write(&frame.bytes);
        }
    }
}

async fn frame(tap: &AsyncFd<File>) -> Option<Vec<u8>> {
    let mut guard = tap.readable().await.ok()?;
    let mut bytes = vec![0; FRAME_BYTES];
    let read = guard.try_io(|tap| tap.get_ref().read(&mut bytes)).ok()?.ok()?;
    bytes.truncate(read);
    Some(bytes)
}

fn names(port: &str) -> [String; 3] {
    [format!("{port}-near"), format!("{port}-far"), format!("{port}-line")]
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>(), "").map(|_| ())
}

/// Opens a TAP device, which is there as long as it is open.
fn tap(name: &str) -> anyhow::Result<AsyncFd<File>> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN);
    let file = file.with_context(|| TUN.to_owned())?;
    set_interface(&file, name).with_context(|| format!("cannot make the TAP device {name}"))?;
    register(file)
}

#[expect(unsafe_code, reason = "the library cannot know that the file keeps its descriptor")]
fn register(file: File) -> anyhow::Result<AsyncFd<File>> {
    // SAFETY: a file has one descriptor, which is open until it is dropped, and it is dropped with what is returned.
    Ok(unsafe { AsyncFd::register(file) }?)
}

#[expect(unsafe_code, reason = "no safe wrapper knows this system call")]
fn set_interface(tun: &File, name: &str) -> std::io::Result<()> {
    // struct ifreq: a name that ends with zero, then flags, then room.
    let mut request = [0_u8; 40];
    let flags = TAP_WITHOUT_HEADER.to_ne_bytes();
    for (byte, value) in request.iter_mut().zip(name.bytes().take(15)) {
        *byte = value;
    }
    for (byte, value) in request.iter_mut().skip(16).zip(flags) {
        *byte = value;
    }
    // SAFETY: the descriptor is open for the whole call, and the kernel reads and writes the 40 bytes of an ifreq, which outlive it.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), SET_INTERFACE, request.as_mut_ptr()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
