//! Ports of the processes of a cluster: chosen once, then kept, because members find each other by them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Ports of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPorts {
    pub api: u16,
    pub peer: u16,
}

/// Chooses ports that are free now. All stay bound until the last is chosen, so that they differ.
pub fn choose(servers: u32) -> Result<Vec<ServerPorts>> {
    let mut held = Vec::new();
    let mut free = || -> Result<u16> {
        let listener =
            TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("no free port")?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    (0..servers).map(|_server| Ok(ServerPorts { api: free()?, peer: free()? })).collect()
}
