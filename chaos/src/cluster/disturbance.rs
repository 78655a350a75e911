//! Packets that are lost or doubled by chance, in the hub of a run's network.

use anyhow::Context;

use super::Network;
use super::command::run;
use super::network::number_behind;

/// What happens to some packets of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    Loss,
    Duplication,
}

impl Disturbance {
    /// How many of a hundred packets it happens to.
    pub const PERCENT: u32 = 20;

    fn table(self) -> &'static str {
        match self {
            Self::Loss => "bridge lossy",
            Self::Duplication => "netdev doubling",
        }
    }
}

impl Network {
    /// Disturbs packets of these members until [`Network::calm`]. The caller is in the hub.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn disturb(&self, disturbance: Disturbance, members: &[usize]) -> anyhow::Result<()> {
        let rules = match disturbance {
            Disturbance::Loss => self.losing(members),
            Disturbance::Duplication => self.doubling(members),
        };
        run("nft", &["-f", "-"], &rules).map(|_| ())
    }

    /// Ends a disturbance, if there is one. The caller is in the hub.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn calm(&self, disturbance: Disturbance) -> anyhow::Result<()> {
        // Adding a table that exists changes nothing, and one that does not cannot be deleted.
        let table = disturbance.table();
        run("nft", &["-f", "-"], &format!("add table {table}\ndelete table {table}\n")).map(|_| ())
    }

    /// Returns how many packets were disturbed since the disturbance began. The caller is in the hub.
    ///
    /// # Errors
    /// When nft does not say.
    pub fn packets_disturbed(&self, disturbance: Disturbance) -> anyhow::Result<u64> {
        let tables = run("nft", &["list", "tables"], "")?;
        if !tables.lines().any(|line| line == format!("table {}", disturbance.table())) {
            return Ok(0);
        }
        let mut list = vec!["list", "counter"];
        list.extend(disturbance.table().split(' '));
        list.push("disturbed");
        number_behind("packets", &run("nft", &list, "")?).context("nft shows no counter")
    }

    fn losing(&self, members: &[usize]) -> String {
        let addresses: Vec<String> = members.iter().map(|member| self.address(*member)).collect();
        let addresses = addresses.join(", ");
        let chance = format!("numgen random mod 100 < {}", Disturbance::PERCENT);
        let rule = |end: &str| format!("ip {end} {{ {addresses} }} {chance} counter name disturbed drop");
        format!(
            "table bridge lossy {{ counter disturbed {{ }}\n chain prerouting {{\n type filter hook prerouting priority 1;\n \
             {}\n {}\n }}\n}}\n",
            rule("saddr"),
            rule("daddr"),
        )
    }

    /// A copy leaves at once through the port of the receiver, the original goes its way over the bridge.
    fn doubling(&self, members: &[usize]) -> String {
        let mut text = "table netdev doubling { counter disturbed { }\n".to_owned();
        let chance = format!("numgen random mod 100 < {}", Disturbance::PERCENT);
        let names = self.names();
        for (index, name) in names.iter().enumerate().filter(|(index, _)| members.contains(index)) {
            text += &format!("chain of_{name} {{\n type filter hook ingress device \"{name}\" priority 0;\n");
            for (to, port) in names.iter().enumerate().filter(|(to, _)| *to != index) {
                let address = self.address(to);
                text += &format!("ip daddr {address} {chance} counter name disturbed dup to \"{port}\"\n");
            }
            text += "}\n";
        }
        text + "}\n"
    }
}
