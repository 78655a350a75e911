//! A machine for tests: a network namespace of its own, pods in further ones, and small servers and clients inside.
//! Nothing touches the namespace that the tests run in, and dropping the machine removes everything.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use crate::network::{ClusterId, Netns, PodNetwork, PodNetworkConfig, Ranges, RangesConfig};

/// Longest that a refused or lost connection may take before a test calls it lost.
const PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const POD_PORT: u16 = 8080;

pub(crate) struct Machine {
    dir: tempfile::TempDir,
    pub(crate) cluster: ClusterId,
    pub(crate) netns: Netns,
}

impl Machine {
    /// Makes a machine, or says in one line why this test cannot run.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            // Past the capture of output: the test runner counts these lines.
            std::io::stderr()
                .write_all(format!("skipped: {test} needs root for network namespaces\n").as_bytes())
                .unwrap();
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let netns = Netns::create(&dir.path().join("machine.netns")).await.unwrap();
        Some(Self { cluster: ClusterId::of(dir.path()), dir, netns })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the pod network of a node that lives in `netns`.
    pub(crate) async fn node(&self, name: &str, netns: &Netns, pods: &str) -> PodNetwork {
        self.ranges(netns).await;
        PodNetwork::start(PodNetworkConfig {
            cluster: self.cluster,
            netns: netns.clone(),
            range: pods.parse().unwrap(),
            state_file: self.path(&format!("{name}.json")),
            mtu: None,
        })
        .await
        .unwrap()
    }

    pub(crate) async fn ranges(&self, netns: &Netns) -> Ranges {
        Ranges::install(RangesConfig {
            cluster: self.cluster,
            netns: netns.clone(),
            pod_range: "10.244.0.0/16".parse().unwrap(),
            service_range: "10.96.0.0/16".parse().unwrap(),
            source: None,
        })
        .await
        .unwrap()
    }

    /// Makes a namespace as the runtime would for a sandbox.
    pub(crate) async fn sandbox(&self, name: &str) -> PathBuf {
        let path = self.path(&format!("{name}.netns"));
        Netns::create(&path).await.unwrap();
        path
    }

    /// Makes a pod that answers every connection to its port with its name.
    pub(crate) async fn pod(&self, node: &PodNetwork, name: &str) -> Pod {
        let path = self.sandbox(name).await;
        let place = node.attach(&path, name, &format!("id-{name}")).await.unwrap();
        let netns = Netns::At(path);
        serve_name(&netns, name).await;
        Pod { name: name.to_owned(), address: place.address, netns }
    }
}

impl Drop for Machine {
    /// Unbinds every namespace that was bound below the machine's directory, those that the tested code made too.
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for target in targets.filter(|target| std::path::Path::new(target).starts_with(self.dir.path())) {
            nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
    }
}

pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) netns: Netns,
}

async fn serve_name(netns: &Netns, name: &str) {
    let listener = netns.run(|| TcpListener::bind(("0.0.0.0", POD_PORT)).unwrap()).await.unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let name = name.to_owned();
    // Ends with the test's runtime.
    tokio::spawn(async move {
        loop {
            let (mut stream, peer) = listener.accept().await.unwrap();
            let answer = format!("{name} {}", peer.ip());
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        }
    });
}

/// Connects from inside a namespace and returns the answer: the pod's name and the client's address as the pod saw it.
pub(crate) async fn ask(from: &Netns, address: Ipv4Addr, port: u16) -> std::io::Result<(String, Ipv4Addr)> {
    from.run(move || {
        let to = SocketAddr::V4(SocketAddrV4::new(address, port));
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (name, client) = text.split_once(' ').unwrap();
        Ok((name.to_owned(), client.parse().unwrap()))
    })
    .await
    .unwrap()
}

/// Sends a datagram from inside a namespace and returns the answer.
pub(crate) async fn ask_udp(from: &Netns, to: SocketAddrV4, message: Vec<u8>) -> std::io::Result<Vec<u8>> {
    from.run(move || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(&message)?;
        let mut answer = vec![0; 4096];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    })
    .await
    .unwrap()
}

/// As [`ask_udp`] for one DNS message over TCP.
pub(crate) async fn ask_tcp(from: &Netns, to: SocketAddrV4, message: Vec<u8>) -> std::io::Result<Vec<u8>> {
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(to), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes())?;
        stream.write_all(&message)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    })
    .await
    .unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F, T>(what: &str, mut holds: F)
where
    F: FnMut() -> T,
    T: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within 20 s");
        tokio::task::yield_now().await;
    }
}
