//! A member's link to the hub: pulled out, or too narrow.

use anyhow::Context;

use super::Network;
use super::command::run;
use super::network::{name, number_behind};

/// The member's end of its link.
const MEMBER_END: &str = "eth0";

impl Network {
    /// What a narrow link carries each way, in the words of tc.
    pub const NARROW_RATE: &str = "128kbit";

    /// Takes these members' links down at the hub, as a pulled cable does: no packet goes either way, and the members see it.
    ///
    /// # Errors
    /// When ip refuses.
    pub fn unplug(&self, members: &[usize]) -> anyhow::Result<()> {
        self.set_links(members, "down")
    }

    /// Ends [`Network::unplug`].
    ///
    /// # Errors
    /// When ip refuses.
    pub fn plug(&self, members: &[usize]) -> anyhow::Result<()> {
        self.set_links(members, "up")
    }

    fn set_links(&self, members: &[usize], state: &str) -> anyhow::Result<()> {
        members.iter().try_for_each(|member| {
            run("ip", &["-n", &self.hub(), "link", "set", &name(*member), state], "").map(|_| ())
        })
    }

    /// Whether a member sees no carrier.
    ///
    /// # Errors
    /// When ip does not say.
    pub fn is_unplugged(&self, member: usize) -> anyhow::Result<bool> {
        let shown = run("ip", &["-n", &self.namespace(member), "link", "show", "dev", MEMBER_END], "")?;
        Ok(shown.contains("NO-CARRIER"))
    }

    /// Bounds what a member's link carries each way, until [`Network::widen`].
    ///
    /// # Errors
    /// When tc refuses.
    pub fn narrow(&self, member: usize) -> anyhow::Result<()> {
        self.ends(member).iter().try_for_each(|(namespace, end)| {
            let bounds = format!("rate {} burst 2kb latency 400ms", Self::NARROW_RATE);
            let add = ["-n", namespace, "qdisc", "add", "dev", end, "root", "tbf"];
            run("tc", &add.into_iter().chain(bounds.split(' ')).collect::<Vec<_>>(), "").map(|_| ())
        })
    }

    /// Ends [`Network::narrow`], where it stands.
    ///
    /// # Errors
    /// When tc refuses.
    pub fn widen(&self, member: usize) -> anyhow::Result<()> {
        for (namespace, end) in &self.ends(member) {
            let shown = run("tc", &["-n", namespace, "qdisc", "show", "dev", end], "")?;
            if shown.contains("tbf") {
                run("tc", &["-n", namespace, "qdisc", "delete", "dev", end, "root"], "")?;
            }
        }
        Ok(())
    }

    /// Returns how many packets a narrow link has held back, both ways.
    ///
    /// # Errors
    /// When tc does not say.
    pub fn packets_held(&self, member: usize) -> anyhow::Result<u64> {
        self.counted(member, "overlimits")
    }

    /// Returns how many packets a narrow link has carried, both ways.
    ///
    /// # Errors
    /// When tc does not say.
    pub fn packets_carried(&self, member: usize) -> anyhow::Result<u64> {
        self.counted(member, "bytes")
    }

    /// Returns the sum of the numbers that stand behind a word of tc's.
    fn counted(&self, member: usize, word: &str) -> anyhow::Result<u64> {
        let ends = self.ends(member);
        let counted = ends.iter().map(|(namespace, end)| {
            let shown = run("tc", &["-s", "-n", namespace, "qdisc", "show", "dev", end], "")?;
            number_behind(word, &shown).context("tc shows no count")
        });
        counted.sum()
    }

    /// Returns both ends of a member's link, each with its namespace.
    fn ends(&self, member: usize) -> [(String, String); 2] {
        [(self.hub(), name(member)), (self.namespace(member), MEMBER_END.to_owned())]
    }
}
