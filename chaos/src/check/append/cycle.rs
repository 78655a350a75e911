//! Cycles of the graph, the worst kind first, each as short as it can be shown.

use std::collections::{BTreeMap, VecDeque};

use super::anomaly::{Anomaly, name};
use super::graph::{Edge, Graph, Kinds, Reason};
use crate::check::Violation;
use crate::history::Transaction;

/// Edges from which a shortest cycle is sought in one component.
const PIVOTS_MAX: usize = 2000;

/// A kind of cycle to look for: one edge of a kind, closed by a path of kinds.
#[derive(Clone, Copy)]
struct Level {
    pivot: Kinds,
    path: Kinds,
}

/// From the worst kind to the mildest; each component is reported once.
fn levels() -> Vec<Level> {
    let none = Kinds { ww: false, wr: false, rw: false, real_time: false };
    let ww = Kinds { ww: true, ..none };
    let wr = Kinds { wr: true, ..none };
    let rw = Kinds { rw: true, ..none };
    let flow = Kinds { ww: true, wr: true, ..none };
    let all = Kinds { rw: true, ..flow };
    let levels = [(ww, ww), (wr, flow), (rw, flow), (rw, all)].map(|(pivot, path)| Level { pivot, path });
    let in_time = levels.map(|level| Level { path: Kinds { real_time: true, ..level.path }, ..level });
    levels.into_iter().chain(in_time).collect()
}

/// Finds a cycle of each component that has one.
pub(super) fn find(transactions: &[Transaction], graph: &Graph<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut is_reported = vec![false; graph.transactions()];
    for level in levels() {
        let reported = |number: &usize| is_reported.get(*number).copied().unwrap_or_default();
        let components: Vec<Vec<usize>> = components(graph, level)
            .into_iter()
            .filter(|component| component.len() > 1 && !component.iter().any(reported))
            .collect();
        for component in components {
            let Some(cycle) = shortest(graph, &component, level) else { continue };
            found.push(violation(transactions, &cycle));
            for number in component {
                if let Some(is_reported) = is_reported.get_mut(number) {
                    *is_reported = true;
                }
            }
        }
    }
    found
}

/// Edges that a level may use in any place.
fn allowed(level: Level, reason: Reason<'_>) -> bool {
    level.pivot.allow(reason) || level.path.allow(reason)
}

/// Strongly connected components (Tarjan 1972), without recursion: histories are long.
fn components(graph: &Graph<'_>, level: Level) -> Vec<Vec<usize>> {
    let mut tarjan = Tarjan {
        order: vec![None; graph.transactions()],
        low: vec![0; graph.transactions()],
        is_open: vec![false; graph.transactions()],
        open: Vec::new(),
        visited: 0,
        components: Vec::new(),
    };
    for root in 0..graph.transactions() {
        if tarjan.order.get(root).copied().flatten().is_none() {
            tarjan.visit(graph, level, root);
        }
    }
    tarjan.components
}

struct Tarjan {
    order: Vec<Option<usize>>,
    low: Vec<usize>,
    is_open: Vec<bool>,
    open: Vec<usize>,
    visited: usize,
    components: Vec<Vec<usize>>,
}

impl Tarjan {
    fn visit(&mut self, graph: &Graph<'_>, level: Level, root: usize) {
        let mut path = vec![(root, 0)];
        self.enter(root);
        while let Some((number, next)) = path.last_mut() {
            let (number, edge) = (*number, graph.from(*number).get(*next));
            *next += 1;
            let Some(edge) = edge else {
                path.pop();
                self.leave(number);
                if let Some((parent, _)) = path.last() {
                    self.lower(*parent, self.low_of(number));
                }
                continue;
            };
            if !allowed(level, edge.reason) {
                continue;
            }
            match self.order.get(edge.to).copied().flatten() {
                None => {
                    self.enter(edge.to);
                    path.push((edge.to, 0));
                }
                Some(order) if self.is_open.get(edge.to) == Some(&true) => self.lower(number, order),
                Some(_) => {}
            }
        }
    }

    fn enter(&mut self, number: usize) {
        if let (Some(order), Some(low), Some(is_open)) =
            (self.order.get_mut(number), self.low.get_mut(number), self.is_open.get_mut(number))
        {
            (*order, *low, *is_open) = (Some(self.visited), self.visited, true);
        }
        self.visited += 1;
        self.open.push(number);
    }

    fn leave(&mut self, number: usize) {
        if self.order.get(number).copied().flatten() != Some(self.low_of(number)) {
            return;
        }
        let mut component = Vec::new();
        while let Some(member) = self.open.pop() {
            if let Some(is_open) = self.is_open.get_mut(member) {
                *is_open = false;
            }
            component.push(member);
            if member == number {
                break;
            }
        }
        component.sort_unstable();
        self.components.push(component);
    }

    fn low_of(&self, number: usize) -> usize {
        self.low.get(number).copied().unwrap_or_default()
    }

    fn lower(&mut self, number: usize, to: usize) {
        if let Some(low) = self.low.get_mut(number) {
            *low = to.min(*low);
        }
    }
}

/// One edge of a cycle.
#[derive(Clone, Copy)]
struct Link<'a> {
    from: usize,
    edge: Edge<'a>,
}

/// The shortest cycle of a component: an edge of the pivot's kind, closed by a path.
fn shortest<'a>(graph: &Graph<'a>, component: &[usize], level: Level) -> Option<Vec<Link<'a>>> {
    let links =
        component.iter().flat_map(|&from| graph.from(from).iter().map(move |&edge| Link { from, edge }));
    let pivots = links
        .filter(|link| level.pivot.allow(link.edge.reason) && component.binary_search(&link.edge.to).is_ok())
        .take(PIVOTS_MAX);
    let mut best: Option<Vec<Link<'a>>> = None;
    for pivot in pivots {
        let Some(path) = path(graph, component, level.path, (pivot.edge.to, pivot.from)) else { continue };
        if best.as_ref().is_none_or(|best| path.len() + 1 < best.len()) {
            best = Some(std::iter::once(pivot).chain(path).collect());
        }
        if best.as_ref().is_some_and(|best| best.len() == 2) {
            break;
        }
    }
    best
}

/// Where a path stands: a transaction, and whether real time led there.
type Stand = (usize, bool);

/// The path within a component that takes the fewest links to tell. Real time behind real time is told as one link.
fn path<'a>(
    graph: &Graph<'a>,
    component: &[usize],
    kinds: Kinds,
    (from, to): (usize, usize),
) -> Option<Vec<Link<'a>>> {
    let mut reached: BTreeMap<Stand, Option<(Stand, Edge<'a>)>> = BTreeMap::new();
    let mut queue = VecDeque::from([((from, false), None)]);
    let mut end = None;
    while let Some((at, came)) = queue.pop_front() {
        if reached.contains_key(&at) {
            continue;
        }
        reached.insert(at, came);
        if at.0 == to {
            end = Some(at);
            break;
        }
        for edge in graph.from(at.0).iter().filter(|edge| kinds.allow(edge.reason)) {
            if component.binary_search(&edge.to).is_err() {
                continue;
            }
            let in_time = matches!(edge.reason, Reason::RealTime);
            let next = ((edge.to, in_time), Some((at, *edge)));
            if at.1 && in_time {
                queue.push_front(next);
            } else {
                queue.push_back(next);
            }
        }
    }
    let mut links: Vec<Link<'a>> = Vec::new();
    let mut at = end?;
    while let Some((before, edge)) = *reached.get(&at)? {
        match links.last_mut() {
            Some(later) if at.1 && matches!(later.edge.reason, Reason::RealTime) => later.from = before.0,
            Some(_) | None => links.push(Link { from: before.0, edge }),
        }
        at = before;
    }
    links.reverse();
    Some(links)
}

/// The anomaly that a cycle is.
fn anomaly(cycle: &[Link<'_>]) -> Anomaly {
    let count = |kind: fn(&Reason<'_>) -> bool| cycle.iter().filter(|link| kind(&link.edge.reason)).count();
    let in_time = count(|reason| matches!(reason, Reason::RealTime)) > 0;
    let wr = count(|reason| matches!(reason, Reason::Wr { .. }));
    let rw = count(|reason| matches!(reason, Reason::Rw { .. }));
    match (rw, wr, in_time) {
        (0, 0, false) => Anomaly::G0,
        (0, 0, true) => Anomaly::G0Realtime,
        (0, _, false) => Anomaly::G1c,
        (0, _, true) => Anomaly::G1cRealtime,
        (1, _, false) => Anomaly::GSingle,
        (1, _, true) => Anomaly::GSingleRealtime,
        (_, _, false) => Anomaly::G2,
        (_, _, true) => Anomaly::G2Realtime,
    }
}

fn violation(transactions: &[Transaction], cycle: &[Link<'_>]) -> Violation {
    let involved: Vec<&Transaction> = cycle.iter().filter_map(|link| transactions.get(link.from)).collect();
    let names: Vec<String> = involved.iter().map(|transaction| name(transaction)).collect();
    let because: Vec<String> = cycle.iter().map(|link| because(transactions, *link)).collect();
    let sentence = format!(
        "{} form a cycle: {}; but all cannot come before one another",
        names.join(", "),
        because.join("; ")
    );
    anomaly(cycle).violation(sentence, &involved)
}

fn because(transactions: &[Transaction], link: Link<'_>) -> String {
    let index = |number: usize| transactions.get(number).map_or(0, |transaction| transaction.index);
    let (from, to) = (index(link.from), index(link.edge.to));
    match link.edge.reason {
        Reason::Ww { key, first, second } => {
            format!("#{from} < #{to}, because {first} was appended to {key} before {second}")
        }
        Reason::Wr { key, element } => {
            format!("#{from} < #{to}, because #{to} read {element} in {key}, which #{from} appended")
        }
        Reason::Rw { key, element } => {
            format!("#{from} < #{to}, because #{from} read {key} without {element}, which #{to} appended")
        }
        Reason::RealTime => format!("#{from} < #{to}, because #{from} had returned before #{to} was invoked"),
    }
}
