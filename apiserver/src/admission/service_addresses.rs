//! Cluster IPs and node ports: each allocated address is a key of its own, created in the commit of its service.
//!
//! So no address can be given twice, none leaks when a service is deleted, and no repair loop is needed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call};
use crate::object;
use crate::registry::{FieldError, FieldErrorReason, Object};
use crate::storage::condition::{Condition, Expect, Extras, put};
use crate::storage::{StorageError, keys};

/// Where service addresses come from.
#[derive(Clone, Debug)]
pub struct ServiceRanges {
    /// Network address of the service range.
    pub network: Ipv4Addr,
    /// Bits of the network part, at most 30.
    pub prefix_length: u8,
    /// First and last node port.
    pub node_ports: (u16, u16),
}

impl Default for ServiceRanges {
    fn default() -> Self {
        Self { network: Ipv4Addr::new(10, 96, 0, 0), prefix_length: 16, node_ports: (30_000, 32_767) }
    }
}

impl ServiceRanges {
    fn size(&self) -> u32 {
        1_u32.checked_shl(32_u32.saturating_sub(u32::from(self.prefix_length))).unwrap_or(u32::MAX)
    }

    fn at(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits().wrapping_add(offset))
    }

    /// Returns the address of the `kubernetes` service: the first of the range.
    #[must_use]
    pub fn kubernetes(&self) -> Ipv4Addr {
        self.at(1)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = address.to_bits().wrapping_sub(self.network.to_bits());
        offset >= 1 && offset < self.size().saturating_sub(1)
    }

    /// Returns a free address, searching from `seed`; the first 16 stay for those who ask for one by name.
    fn free_address(&self, taken: &BTreeSet<String>, seed: u32) -> Option<Ipv4Addr> {
        let first = 16.min(self.size() / 4).max(1);
        let count = self.size().checked_sub(first + 1).filter(|count| *count > 0)?;
        (0..count)
            .map(|step| self.at(first + seed.wrapping_add(step) % count))
            .find(|address| !taken.contains(&address.to_string()))
    }

    fn free_port(&self, taken: &BTreeSet<String>, seed: u32) -> Option<u16> {
        let (first, last) = self.node_ports;
        let count = u32::from(last).checked_sub(u32::from(first))? + 1;
        (0..count)
            .filter_map(|step| u16::try_from(u32::from(first) + seed.wrapping_add(step) % count).ok())
            .find(|port| !taken.contains(&port.to_string()))
    }
}

/// Gives a service the addresses it needs; returns the keys to create and to free in its commit.
pub(super) async fn allocate(
    api: &Api,
    call: &Call,
    old: Option<&Object>,
    service: &mut Object,
) -> Result<Extras, Status> {
    let before: BTreeSet<_> = old.map(keys_of).unwrap_or_default().into_iter().collect();
    fill_cluster_ip(api, call, old, service).await?;
    fill_node_ports(api, call, old, service).await?;
    let after: BTreeSet<_> = keys_of(service).into_iter().collect();
    let mut extras = Extras { deletes: before.difference(&after).cloned().collect(), ..Extras::default() };
    let owner = format!("{}/{}", call.namespace, object::name(service));
    for key in after.difference(&before) {
        let address = key.rsplit('/').next().unwrap_or_default();
        refuse_if_chosen_and_taken(api, call, service, key, address).await?;
        extras.conditions.push(Condition {
            key: key.clone(),
            expect: Expect::Absent,
            violated: StorageError::AddressTaken(address.to_owned()),
        });
        extras.puts.push(put(key.clone(), owner.clone()));
    }
    Ok(extras)
}

/// Returns the allocation keys that a service holds.
pub(super) fn keys_of(service: &Object) -> Vec<String> {
    let mut held = Vec::new();
    let address = object::str_at(service, &["spec", "clusterIP"]);
    if !matches!(address, "" | "None") {
        held.push(format!("{}{address}", keys::SERVICE_IPS));
    }
    for port in ports(service).iter().filter_map(|port| port.get("nodePort")).filter_map(Value::as_u64) {
        let key = format!("{}{port}", keys::NODE_PORTS);
        if port > 0 && !held.contains(&key) {
            held.push(key);
        }
    }
    held
}

fn ports(service: &Object) -> &[Value] {
    object::at(service, &["spec", "ports"]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

async fn fill_cluster_ip(
    api: &Api,
    call: &Call,
    old: Option<&Object>,
    service: &mut Object,
) -> Result<(), Status> {
    if object::str_at(service, &["spec", "type"]) == "ExternalName" {
        return Ok(());
    }
    let mut address = object::str_at(service, &["spec", "clusterIP"]).to_owned();
    if address.is_empty()
        && let Some(first) = object::strings(object::at(service, &["spec", "clusterIPs"])).first()
    {
        address.clone_from(first);
    }
    if address.is_empty()
        && let Some(old) = old
    {
        object::str_at(old, &["spec", "clusterIP"]).clone_into(&mut address);
    }
    if address.is_empty() {
        let taken = taken(api, keys::SERVICE_IPS).await?;
        let free = api.ranges.free_address(&taken, random(api));
        address = free
            .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?
            .to_string();
    } else if address != "None" {
        let inside = address.parse().is_ok_and(|parsed| api.ranges.contains(parsed));
        if !inside {
            let ranges = &api.ranges;
            let message = format!(
                "Invalid value: [\"{address}\"]: failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {}/{}",
                ranges.network, ranges.prefix_length
            );
            return Err(invalid(call, service, "spec.clusterIPs", message));
        }
    }
    object::set_at(service, &["spec", "clusterIP"], address.as_str().into());
    object::set_at(service, &["spec", "clusterIPs"], json!([address]));
    Ok(())
}

async fn fill_node_ports(
    api: &Api,
    call: &Call,
    old: Option<&Object>,
    service: &mut Object,
) -> Result<(), Status> {
    if !matches!(object::str_at(service, &["spec", "type"]), "NodePort" | "LoadBalancer") {
        return Ok(());
    }
    let old_ports = old.map(|old| ports(old).to_vec()).unwrap_or_default();
    let mut taken = taken(api, keys::NODE_PORTS).await?;
    let mut wanted = ports(service).to_vec();
    for port in wanted.iter_mut().filter_map(Value::as_object_mut) {
        let chosen = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0);
        if chosen > 0 {
            let (first, last) = api.ranges.node_ports;
            if !(u64::from(first)..=u64::from(last)).contains(&chosen) {
                let message = format!(
                    "Invalid value: {chosen}: provided port is not in the valid range. The range of valid ports is {first}-{last}"
                );
                return Err(invalid(call, service, "spec.ports[0].nodePort", message));
            }
            continue;
        }
        let kept = old_ports
            .iter()
            .find(|old| old.get("port") == port.get("port") && old.get("name") == port.get("name"));
        let kept = kept.and_then(|old| old.get("nodePort")).and_then(Value::as_u64).filter(|kept| *kept > 0);
        let number = match kept {
            Some(kept) => kept,
            None => {
                let free = api.ranges.free_port(&taken, random(api));
                u64::from(
                    free.ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?,
                )
            }
        };
        taken.insert(number.to_string());
        port.insert("nodePort".to_owned(), number.into());
    }
    object::set_at(service, &["spec", "ports"], wanted.into());
    Ok(())
}

/// An address that the user chose is an error when taken; one that we chose is simply chosen again.
async fn refuse_if_chosen_and_taken(
    api: &Api,
    call: &Call,
    service: &Object,
    key: &str,
    address: &str,
) -> Result<(), Status> {
    let found = api.storage.read_raw(key).await.map_err(Status::internal)?;
    if found.is_none() {
        return Ok(());
    }
    let (field, message) = if key.starts_with(keys::SERVICE_IPS) {
        let text = format!(
            "Invalid value: [\"{address}\"]: failed to allocate IP {address}: provided IP is already allocated"
        );
        ("spec.clusterIPs", text)
    } else {
        ("spec.ports[0].nodePort", format!("Invalid value: {address}: provided port is already allocated"))
    };
    Err(invalid(call, service, field, message))
}

fn invalid(call: &Call, service: &Object, field: &str, message: String) -> Status {
    let error = FieldError { field: field.to_owned(), reason: FieldErrorReason::Invalid, message };
    Status::invalid(call.kind, object::name(service), &[error])
}

async fn taken(api: &Api, prefix: &str) -> Result<BTreeSet<String>, Status> {
    Ok(api.storage.keys_below(prefix).await.map_err(Status::internal)?.into_iter().collect())
}

/// A different start for each search keeps concurrent creates from choosing the same address.
fn random(api: &Api) -> u32 {
    api.outside.uuid().as_fields().0
}
