//! IPv4 ranges in `a.b.c.d/len` form, and the few questions the network asks about them.

use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 network; host bits are always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Net {
    base: u32,
    prefix_len: u8,
}

/// Text that is not an IPv4 range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an IPv4 range such as 10.244.0.0/16")]
pub struct InvalidRange {
    text: String,
}

impl Ipv4Net {
    /// Returns the network of that length around an address; lengths above 32 count as 32.
    #[must_use]
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Self {
        let prefix_len = prefix_len.min(32);
        Self { base: u32::from(address) & mask(prefix_len), prefix_len }
    }

    /// Returns the first address, which names the network.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    /// Returns the number of leading bits that all addresses share.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Returns the last address.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base | !mask(self.prefix_len))
    }

    /// Returns the address at an offset from the first, if it lies inside.
    #[must_use]
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        self.base.checked_add(offset).map(Ipv4Addr::from).filter(|address| self.contains(*address))
    }

    /// Returns whether the address lies inside.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix_len) == self.base
    }

    /// Returns whether the whole of `other` lies inside.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.prefix_len <= other.prefix_len && self.contains(other.network())
    }

    /// Returns whether any address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Returns the addresses between the first and the last, without these two.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let last = u32::from(self.last());
        (self.base.saturating_add(1)..last).map(Ipv4Addr::from)
    }
}

fn mask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0)
}

impl std::fmt::Display for Ipv4Net {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.network(), self.prefix_len)
    }
}

impl FromStr for Ipv4Net {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidRange { text: text.to_owned() };
        let (address, prefix_len) = text.split_once('/').ok_or_else(invalid)?;
        let address: Ipv4Addr = address.parse().map_err(|_| invalid())?;
        let prefix_len: u8 = prefix_len.parse().ok().filter(|len| *len <= 32).ok_or_else(invalid)?;
        let net = Self::new(address, prefix_len);
        if net.network() == address { Ok(net) } else { Err(invalid()) }
    }
}

impl TryFrom<String> for Ipv4Net {
    type Error = InvalidRange;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Ipv4Net> for String {
    fn from(net: Ipv4Net) -> Self {
        net.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_parse_and_print() {
        for text in ["10.244.0.0/16", "0.0.0.0/0", "10.244.1.7/32", "100.64.4.0/22"] {
            assert_eq!(text.parse::<Ipv4Net>().unwrap().to_string(), text);
        }
        for text in ["10.244.0.1/16", "10.244.0.0", "10.244.0.0/33", "fd00::/64", ""] {
            assert!(text.parse::<Ipv4Net>().is_err(), "{text}");
        }
    }

    #[test]
    fn borders_belong_to_the_range_and_neighbours_do_not() {
        let net: Ipv4Net = "10.244.1.0/24".parse().unwrap();
        assert!(net.contains("10.244.1.0".parse().unwrap()));
        assert!(net.contains("10.244.1.255".parse().unwrap()));
        assert!(!net.contains("10.244.2.0".parse().unwrap()));
        assert_eq!(net.hosts().count(), 254);
        assert_eq!(net.nth(256), None);
        assert!("10.244.0.0/16".parse::<Ipv4Net>().unwrap().covers(net));
        assert!(!net.covers("10.244.0.0/16".parse().unwrap()));
    }
}
