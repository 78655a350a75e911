//! Who hears whom: all network faults that are under way together decide over each link.

use std::collections::BTreeSet;
use std::time::Duration;

use turmoil::Sim;

use crate::machine::name;
use crate::plan::{Latency, Plan, Shape};

/// The host of all clients.
pub(crate) const CLIENTS: &str = "clients";

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host(pub(crate) String);

/// What a network fault does as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Messages from the first to the second are lost.
    Cut(BTreeSet<(Host, Host)>),
    Hold(BTreeSet<(Host, Host)>),
    Delay {
        links: BTreeSet<(Host, Host)>,
        max_ms: u64,
    },
    Loss {
        links: BTreeSet<(Host, Host)>,
        one_of: u32,
    },
}

impl Host {
    pub(crate) fn member(number: usize) -> Self {
        Self(name(number))
    }
}

/// Who is there: machines, and hosts beside them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts<'a> {
    pub(crate) present: &'a [usize],
    pub(crate) outsiders: &'a [Host],
}

/// Returns the links of a member to the others and to clients, in one direction.
pub(crate) fn links_of(victim: usize, hosts: Hosts<'_>) -> BTreeSet<(Host, Host)> {
    let Hosts { present, outsiders } = hosts;
    let others = present.iter().filter(|other| **other != victim).map(|other| Host::member(*other));
    others.chain(outsiders.iter().cloned()).map(|other| (Host::member(victim), other)).collect()
}

/// Returns the cuts of a shape around `victim`. Pure.
pub(crate) fn cuts(shape: Shape, victim: usize, hosts: Hosts<'_>) -> BTreeSet<(Host, Host)> {
    let Hosts { present, outsiders } = hosts;
    // Around the victim, so that every member can play every part.
    let place = present.iter().position(|number| *number == victim).unwrap_or(0);
    let around: Vec<usize> = present.iter().cycle().skip(place).take(present.len()).copied().collect();
    let others: Vec<usize> = around.iter().skip(1).copied().collect();
    let minority = present.len().saturating_sub(1) / 2;
    let both = |left: &[usize], right: &[usize]| {
        let pairs = left.iter().flat_map(|left| right.iter().map(move |right| (*left, *right)));
        pairs.flat_map(|(left, right)| [(left, right), (right, left)]).collect::<Vec<_>>()
    };
    let mut pairs: Vec<(usize, usize)> = match shape {
        Shape::Isolate => both(&[victim], &others),
        Shape::Outbound => others.iter().map(|other| (victim, *other)).collect(),
        Shape::Inbound => others.iter().map(|other| (*other, victim)).collect(),
        Shape::Minority => {
            let (few, many) = around.split_at(minority.min(around.len()));
            both(few, many)
        }
        Shape::Bridge => {
            let (left, right) = others.split_at(others.len() / 2);
            both(left, right)
        }
        Shape::Ring => {
            // Each hears its neighbours on both sides, as many as make a majority with it.
            let count = present.len();
            let distance = |left: usize, right: usize| {
                let far = left.abs_diff(right);
                far.min(count - far)
            };
            let reach = (count / 2).div_ceil(2);
            let places = around.iter().enumerate();
            places
                .flat_map(|(at, left)| {
                    let far =
                        around.iter().enumerate().filter(move |(other, _)| distance(at, *other) > reach);
                    far.map(move |(_, right)| (*left, *right)).collect::<Vec<_>>()
                })
                .collect()
        }
        Shape::Single => others.first().map(|other| (victim, *other)).into_iter().collect(),
        Shape::FromClients => {
            let member = Host::member(victim);
            let ways =
                |outsider: &Host| [(member.clone(), outsider.clone()), (outsider.clone(), member.clone())];
            return outsiders.iter().flat_map(ways).collect();
        }
    };
    if pairs.is_empty() {
        // Of three, everybody hears a majority as long as two hear each other.
        pairs = both(&others, &others).into_iter().filter(|(left, right)| left != right).collect();
    }
    pairs.into_iter().map(|(from, to)| (Host::member(from), Host::member(to))).collect()
}

/// Makes every link what all effects together say.
pub(crate) fn apply(sim: &mut Sim<'_>, plan: &Plan, outsiders: &[Host], effects: &[Effect]) {
    let outsiders = outsiders.iter().map(|Host(name)| name.clone());
    let hosts: Vec<String> = (0..=plan.voters).map(name).chain(outsiders).collect();
    for (place, left) in hosts.iter().enumerate() {
        for right in hosts.iter().skip(place + 1) {
            sim.release(left.as_str(), right.as_str());
            let Latency { max_us, .. } = plan.latency;
            set_latency(sim, left, right, Duration::from_micros(max_us));
            sim.set_link_fail_rate(left.as_str(), right.as_str(), 0.0);
        }
    }
    for effect in effects {
        match effect {
            Effect::Delay { links, max_ms } => {
                for (from, to) in links {
                    set_latency(sim, &from.0, &to.0, Duration::from_millis(*max_ms));
                }
            }
            Effect::Loss { links, one_of } => {
                for (from, to) in links {
                    sim.set_link_fail_rate(from.0.as_str(), to.0.as_str(), 1.0 / f64::from((*one_of).max(1)));
                }
            }
            Effect::Hold(links) => {
                for (from, to) in links {
                    sim.hold(from.0.as_str(), to.0.as_str());
                }
            }
            Effect::Cut(_) => {}
        }
    }
    // Last: a cut outweighs what else happens to a link.
    for effect in effects {
        if let Effect::Cut(cuts) = effect {
            for (from, to) in cuts {
                sim.partition_oneway(from.0.as_str(), to.0.as_str());
            }
        }
    }
}

fn set_latency(sim: &Sim<'_>, left: &str, right: &str, max: Duration) {
    sim.set_link_max_message_latency(left, right, max);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who hears whom is left between members, as pairs of numbers.
    fn cut(shape: Shape, victim: usize, count: usize) -> Vec<String> {
        let present: Vec<usize> = (0..count).collect();
        let outsiders = [Host(CLIENTS.to_owned())];
        let hosts = Hosts { present: &present, outsiders: &outsiders };
        cuts(shape, victim, hosts).into_iter().map(|(from, to)| format!("{}>{}", from.0, to.0)).collect()
    }

    #[test]
    fn shapes_cut_what_their_names_say() {
        assert_eq!(cut(Shape::Outbound, 1, 3), ["n2>n1", "n2>n3"]);
        assert_eq!(cut(Shape::Inbound, 1, 3), ["n1>n2", "n3>n2"]);
        assert_eq!(cut(Shape::Single, 2, 3), ["n3>n1"]);
        assert_eq!(cut(Shape::Isolate, 0, 3).len(), 4);
        assert_eq!(cut(Shape::Minority, 0, 5).len(), 12);
        assert_eq!(cut(Shape::Bridge, 0, 3), ["n2>n3", "n3>n2"]);
        assert_eq!(cut(Shape::FromClients, 0, 3), ["clients>n1", "n1>clients"]);
    }

    #[test]
    fn in_a_ring_everybody_hears_a_majority_and_nobody_all() {
        let cuts = cut(Shape::Ring, 3, 5);
        for member in 1..=5 {
            let heard = 4 - cuts.iter().filter(|cut| cut.starts_with(&format!("n{member}>"))).count();
            assert_eq!(heard, 2, "with itself a majority of five: {cuts:?}");
        }
    }
}
