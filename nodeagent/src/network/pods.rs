//! The interfaces of this node's pods: made when the runtime has made the sandbox's namespace, removed with it.
//!
//! Every operation can be repeated. An address is written to disk before the kernel knows it and freed only after its
//! link is gone, so a crash at any point leaks at most an address until [`PodNetwork::retain`] finds it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::network::ipam::Ipam;
use crate::network::plan::Pair;
use crate::network::{ClusterId, Ipv4Net, Netns, NetworkError, ranges, record, tool, uplink};

/// Ethernet's size, where no uplink says otherwise.
const MTU_DEFAULT: u32 = 1500;

/// What the pod network of one node needs to know.
#[derive(Clone, Debug)]
pub struct PodNetworkConfig {
    pub cluster: ClusterId,
    /// The node's namespace.
    pub netns: Netns,
    /// The node's own `podCIDR`.
    pub range: Ipv4Net,
    /// Where given addresses are written down.
    pub state_file: PathBuf,
    /// Packet size of pod links; the uplink's by default.
    pub mtu: Option<u32>,
}

/// A pod's place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The pod's address, a `/32`.
    pub address: Ipv4Addr,
    /// The next hop for everything.
    pub gateway: Ipv4Addr,
    /// Name of the link on the node's side.
    pub link: String,
    pub mtu: u32,
}

/// The pod network of one node.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cluster: ClusterId,
    netns: Netns,
    state_file: PathBuf,
    mtu: u32,
    addresses: Mutex<Ipam>,
}

impl PodNetwork {
    /// Reads the addresses that were given before. Call [`crate::network::Ranges::install`] for the node's routes.
    ///
    /// # Errors
    /// When the range is too small or the record is damaged.
    pub async fn start(config: PodNetworkConfig) -> Result<Self, NetworkError> {
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => uplink(&config.netns).await.map_or(MTU_DEFAULT, |uplink| uplink.mtu),
        };
        let addresses = Mutex::new(record::load(&config.state_file, config.range)?);
        let PodNetworkConfig { cluster, netns, state_file, .. } = config;
        Ok(Self { shared: Arc::new(Shared { cluster, netns, state_file, mtu, addresses }) })
    }

    /// Gives the sandbox in `pod_netns` its interface and address; a sandbox that has them keeps them.
    ///
    /// # Errors
    /// `Exhausted` when the node's range is full; otherwise what the kernel refused.
    pub async fn attach(
        &self,
        pod_netns: &Path,
        pod_key: &str,
        container_id: &str,
    ) -> Result<PodAddress, NetworkError> {
        let pair = self.shared.allocate(container_id)?;
        let place = PodAddress {
            address: pair.address,
            gateway: pair.gateway,
            link: pair.link.clone(),
            mtu: pair.mtu,
        };
        let far = Netns::At(pod_netns.to_owned());
        if !self.is_attached(&far, &pair).await? {
            self.connect(far, pod_netns.to_owned(), pair).await?;
            tracing::info!(pod = pod_key, sandbox = container_id, address = %place.address, "pod attached");
        }
        Ok(place)
    }

    /// Takes the sandbox's interface and address away. An unknown sandbox is fine.
    ///
    /// # Errors
    /// What the kernel refused; the address then stays taken.
    pub async fn detach(&self, container_id: &str) -> Result<(), NetworkError> {
        let Some(address) = self.shared.addresses().address(container_id) else { return Ok(()) };
        let link = self.shared.cluster.pod_link(address);
        self.shared.netns.try_run(move || delete_link(&link)).await?;
        self.shared.release(container_id)?;
        tracing::info!(sandbox = container_id, %address, "pod detached");
        Ok(())
    }

    /// Detaches every sandbox that is not in the set, and removes links nobody owns; call it once the running sandboxes
    /// are known. Returns the detached sandboxes.
    ///
    /// # Errors
    /// What the kernel refused.
    pub async fn retain(&self, running: &BTreeSet<String>) -> Result<Vec<String>, NetworkError> {
        let gone = self.shared.addresses().others(running);
        for container_id in &gone {
            self.detach(container_id).await?;
        }
        let shared = Arc::clone(&self.shared);
        self.shared.netns.try_run(move || shared.delete_strays()).await?;
        Ok(gone)
    }

    async fn is_attached(&self, far: &Netns, pair: &Pair) -> Result<bool, NetworkError> {
        let link = pair.link.clone();
        let near_exists =
            self.shared.netns.run(move || tool::ip(&["link", "show", "dev", &link]).is_ok()).await?;
        if !near_exists {
            return Ok(false);
        }
        let wanted = format!(" {}/32 ", pair.address);
        far.run(move || {
            tool::ip(&["-4", "-oneline", "address", "show", "dev", "eth0"])
                .is_ok_and(|text| text.contains(&wanted))
        })
        .await
    }

    async fn connect(&self, far: Netns, far_path: PathBuf, pair: Pair) -> Result<(), NetworkError> {
        let near = pair.clone();
        self.shared
            .netns
            .try_run(move || {
                delete_link(&near.link)?;
                tool::ip_batch(&near.near(&far_path))
            })
            .await?;
        far.try_run(move || tool::ip_batch(&pair.far())).await
    }
}

impl Shared {
    fn addresses(&self) -> MutexGuard<'_, Ipam> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, container_id: &str) -> Result<Pair, NetworkError> {
        let mut addresses = self.addresses();
        let range = addresses.range();
        let address = addresses.allocate(container_id).ok_or(NetworkError::Exhausted { range })?;
        record::save(&self.state_file, &addresses)?;
        let gateway = addresses.gateway();
        Ok(Pair { link: self.cluster.pod_link(address), gateway, address, mtu: self.mtu })
    }

    fn release(&self, container_id: &str) -> Result<(), NetworkError> {
        let mut addresses = self.addresses();
        addresses.release(container_id);
        record::save(&self.state_file, &addresses)
    }

    fn delete_strays(&self) -> Result<(), NetworkError> {
        let owned: BTreeSet<String> =
            self.addresses().taken().into_iter().map(|address| self.cluster.pod_link(address)).collect();
        let strays = ranges::pod_links(self.cluster)?.into_iter().filter(|link| !owned.contains(link));
        strays.into_iter().try_for_each(|link| delete_link(&link))
    }
}

/// Deletes a link of the calling thread's namespace; one that does not exist is fine.
pub(super) fn delete_link(link: &str) -> Result<(), NetworkError> {
    match tool::ip(&["link", "delete", "dev", link]) {
        Err(NetworkError::Refused { message, .. }) if message.contains("Cannot find device") => Ok(()),
        outcome => outcome.map(drop),
    }
}
