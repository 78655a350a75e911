//! What names mean. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;

use crate::network::Ipv4Net;
use crate::proxy::{Backend, ServiceIndex, ServiceKey};

/// Version of the specification that the zone follows, as its `dns-version` record says.
const SPECIFICATION: &str = "1.1.0";
/// Most aliases that an answer follows, so that two services that name each other end.
const ALIAS_COUNT_MAX: usize = 8;

/// What the zone covers.
#[derive(Clone, Debug)]
pub struct ZoneConfig {
    /// The cluster's domain without a trailing dot, such as `cluster.local`.
    pub domain: String,
    pub service_range: Ipv4Net,
    pub pod_range: Ipv4Net,
}

/// What is asked for, as far as the zone tells types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Address,
    Alias,
    Service,
    Pointer,
    Text,
    /// The zone's own record.
    Authority,
    /// A type that no name here has.
    Other,
}

/// What an answer record says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    Address(Ipv4Addr),
    Alias(String),
    Service { port: u16, target: String },
    Pointer(String),
    Text(String),
    Authority,
}

/// The answer to a question about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Names with what they say; names are without a trailing dot.
    Facts(Vec<(String, Fact)>),
    /// The name exists, without such a record.
    NoData,
    /// The zone has no such name.
    NoName,
    /// The name is somebody else's.
    NotHere,
}

/// A named port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedPort {
    name: String,
    /// In lower case.
    protocol: String,
    number: u16,
}

/// What a service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Cluster { address: Ipv4Addr, ports: Vec<NamedPort> },
    Headless { backends: Vec<Backend>, ports: Vec<NamedPort> },
    External { target: String },
}

/// The zone's contents.
#[derive(Debug)]
pub(super) struct Zone {
    config: ZoneConfig,
    entries: BTreeMap<ServiceKey, Entry>,
    /// Address to the names that point at it, per service.
    reverse: BTreeMap<Ipv4Addr, BTreeSet<(ServiceKey, String)>>,
}

impl Zone {
    /// Returns an empty zone.
    pub(super) fn new(config: ZoneConfig) -> Self {
        let domain = config.domain.trim_matches('.').to_ascii_lowercase();
        let config = ZoneConfig { domain, ..config };
        Self { config, entries: BTreeMap::new(), reverse: BTreeMap::new() }
    }

    /// Returns the zone's domain in lower case.
    pub(super) fn domain(&self) -> &str {
        &self.config.domain
    }

    /// Brings one service's names up to date.
    pub(super) fn update(&mut self, key: &ServiceKey, index: &ServiceIndex) {
        if let Some(before) = self.entries.remove(key) {
            for (address, name) in self.pointers(key, &before) {
                if let Some(names) = self.reverse.get_mut(&address) {
                    names.remove(&(key.clone(), name));
                    if names.is_empty() {
                        self.reverse.remove(&address);
                    }
                }
            }
        }
        let Some(entry) = index.service(key).and_then(|service| entry(service, key, index)) else { return };
        for (address, name) in self.pointers(key, &entry) {
            self.reverse.entry(address).or_default().insert((key.clone(), name));
        }
        self.entries.insert(key.clone(), entry);
    }

    /// Answers a question; the name is without a trailing dot, in any case.
    pub(super) fn answer(&self, name: &str, question: Question) -> Answer {
        let name = name.to_ascii_lowercase();
        let mut answer = self.look_up(&name, question);
        for _ in 0..ALIAS_COUNT_MAX {
            let Some(target) = unfollowed_alias(&answer, question) else { return answer };
            // What the alias names is added when it is ours; anything else is for the client to ask for.
            let Answer::Facts(more) = self.look_up(&target, question) else { return answer };
            if let Answer::Facts(facts) = &mut answer {
                facts.extend(more);
            }
        }
        answer
    }

    fn look_up(&self, name: &str, question: Question) -> Answer {
        if let Some(address) = reverse_address(name) {
            return self.answer_reverse(name, address, question);
        }
        if name == self.config.domain {
            return matching(name, question, vec![Fact::Authority]);
        }
        let Some(inner) = name.strip_suffix(&self.config.domain).and_then(|rest| rest.strip_suffix('.'))
        else {
            return Answer::NotHere;
        };
        let labels: Vec<&str> = inner.rsplit('.').collect();
        match labels.as_slice() {
            ["dns-version"] => matching(name, question, vec![Fact::Text(SPECIFICATION.to_owned())]),
            ["svc" | "pod"] => Answer::NoData,
            ["svc" | "pod", namespace] => self.answer_namespace(namespace),
            ["pod", _, pod] => self.answer_pod(name, pod, question),
            ["svc", namespace, service, rest @ ..] => {
                let key = ServiceKey { namespace: (*namespace).to_owned(), name: (*service).to_owned() };
                match self.entries.get(&key) {
                    Some(entry) => self.answer_service(name, &key, entry, rest, question),
                    None => Answer::NoName,
                }
            }
            _ => Answer::NoName,
        }
    }

    fn answer_namespace(&self, namespace: &str) -> Answer {
        let first = ServiceKey { namespace: namespace.to_owned(), name: String::new() };
        let next = self.entries.range(first..).next();
        match next {
            Some((key, _)) if key.namespace == namespace => Answer::NoData,
            _ => Answer::NoName,
        }
    }

    /// `a-b-c-d.<namespace>.pod`: the address in the name, as far as pods have such addresses.
    fn answer_pod(&self, name: &str, pod: &str, question: Question) -> Answer {
        match pod.replace('-', ".").parse() {
            Ok(address) if self.config.pod_range.contains(address) => {
                matching(name, question, vec![Fact::Address(address)])
            }
            _ => Answer::NoName,
        }
    }

    /// `rest` is what stands before the service's name, from right to left.
    fn answer_service(
        &self,
        name: &str,
        key: &ServiceKey,
        entry: &Entry,
        rest: &[&str],
        question: Question,
    ) -> Answer {
        let facts = match (rest, entry) {
            ([], Entry::Cluster { address, .. }) => vec![Fact::Address(*address)],
            ([], Entry::Headless { backends, .. }) => addresses(backends.iter()),
            ([], Entry::External { target }) => vec![Fact::Alias(target.clone())],
            ([protocol, port], _) if protocol.starts_with('_') => {
                self.service_facts(key, entry, protocol, port)
            }
            ([protocol], _) if has_protocol(entry, protocol) => return Answer::NoData,
            ([host], Entry::Headless { backends, .. }) => {
                addresses(backends.iter().filter(|backend| host_label(backend) == *host))
            }
            _ => Vec::new(),
        };
        if facts.is_empty() { Answer::NoName } else { matching(name, question, facts) }
    }

    fn service_facts(&self, key: &ServiceKey, entry: &Entry, protocol: &str, port: &str) -> Vec<Fact> {
        let is_asked = |known: &&NamedPort| {
            protocol.strip_prefix('_') == Some(known.protocol.as_str())
                && port.strip_prefix('_') == Some(known.name.as_str())
        };
        match entry {
            Entry::Cluster { ports, .. } => ports
                .iter()
                .filter(is_asked)
                .map(|port| Fact::Service { port: port.number, target: self.service_name(key) })
                .collect(),
            Entry::Headless { backends, ports } => {
                let names = ports.iter().filter(is_asked).map(|port| &port.name);
                let facts = names.flat_map(|name| {
                    backends.iter().filter_map(|backend| {
                        let target = format!("{}.{}", host_label(backend), self.service_name(key));
                        Some(Fact::Service { port: *backend.ports.get(name)?, target })
                    })
                });
                facts.collect()
            }
            Entry::External { .. } => Vec::new(),
        }
    }

    fn answer_reverse(&self, name: &str, address: Ipv4Addr, question: Question) -> Answer {
        if !self.config.service_range.contains(address) && !self.config.pod_range.contains(address) {
            return Answer::NotHere;
        }
        let names = self.reverse.get(&address).into_iter().flatten();
        let facts: Vec<Fact> = names.map(|(_, target)| Fact::Pointer(target.clone())).collect();
        if facts.is_empty() { Answer::NoName } else { matching(name, question, facts) }
    }

    fn service_name(&self, key: &ServiceKey) -> String {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.config.domain)
    }

    fn pointers(&self, key: &ServiceKey, entry: &Entry) -> Vec<(Ipv4Addr, String)> {
        let service = self.service_name(key);
        match entry {
            Entry::Cluster { address, .. } => vec![(*address, service)],
            Entry::Headless { backends, .. } => backends
                .iter()
                .map(|backend| (backend.address, format!("{}.{service}", host_label(backend))))
                .collect(),
            Entry::External { .. } => Vec::new(),
        }
    }
}

fn entry(service: &Service, key: &ServiceKey, index: &ServiceIndex) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref()?.trim_end_matches('.').to_ascii_lowercase();
        return Some(Entry::External { target });
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports
        .filter_map(|port| {
            let name = port.name.clone().filter(|name| !name.is_empty())?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
            Some(NamedPort { name, protocol, number: u16::try_from(port.port).ok()? })
        })
        .collect();
    match spec.cluster_ip.as_deref()? {
        "None" => Some(Entry::Headless { backends: index.ready_backends(key), ports }),
        address => Some(Entry::Cluster { address: address.parse().ok()?, ports }),
    }
}

/// The label of an endpoint under its headless service: its own hostname, or its address with dashes.
fn host_label(backend: &Backend) -> String {
    backend.hostname.clone().unwrap_or_else(|| backend.address.to_string().replace('.', "-"))
}

fn addresses<'a>(backends: impl Iterator<Item = &'a Backend>) -> Vec<Fact> {
    let unique: BTreeSet<Fact> = backends.map(|backend| Fact::Address(backend.address)).collect();
    unique.into_iter().collect()
}

fn has_protocol(entry: &Entry, label: &str) -> bool {
    let (Entry::Cluster { ports, .. } | Entry::Headless { ports, .. }) = entry else { return false };
    ports.iter().any(|port| label.strip_prefix('_') == Some(port.protocol.as_str()))
}

/// The facts of a name, if they are what the question asks for. An alias answers every question.
fn matching(name: &str, question: Question, facts: Vec<Fact>) -> Answer {
    let is_asked = |fact: &Fact| match fact {
        Fact::Alias(_) => true,
        Fact::Address(_) => question == Question::Address,
        Fact::Service { .. } => question == Question::Service,
        Fact::Pointer(_) => question == Question::Pointer,
        Fact::Text(_) => question == Question::Text,
        Fact::Authority => question == Question::Authority,
    };
    let asked: Vec<_> = facts.into_iter().filter(is_asked).map(|fact| (name.to_owned(), fact)).collect();
    if asked.is_empty() { Answer::NoData } else { Answer::Facts(asked) }
}

/// Returns where an answer points on to, unless the question was for the alias itself.
fn unfollowed_alias(answer: &Answer, question: Question) -> Option<String> {
    match answer {
        Answer::Facts(facts) if question != Question::Alias => match facts.last()? {
            (_, Fact::Alias(target)) => Some(target.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Reads the address out of `d.c.b.a.in-addr.arpa`.
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let forward: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.rsplit('.').collect();
    forward.join(".").parse().ok()
}
