//! What must have come before what.

use std::collections::BTreeSet;

use super::lists::{Key, Lists};
use crate::history::{End, Transaction};

/// Edges at most: half a gigabyte.
const EDGES_MAX: usize = 10_000_000;

/// Why one transaction must have come before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason<'a> {
    /// It appended an element before the other appended one.
    Ww { key: &'a str, first: i64, second: i64 },
    /// The other read what it appended.
    Wr { key: &'a str, element: i64 },
    /// It read a list without what the other appended.
    Rw { key: &'a str, element: i64 },
    /// It had returned before the other was invoked.
    RealTime,
}

/// Kinds of edges that a search may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) ww: bool,
    pub(super) wr: bool,
    pub(super) rw: bool,
    pub(super) real_time: bool,
}

impl Kinds {
    pub(super) fn allow(self, reason: Reason<'_>) -> bool {
        match reason {
            Reason::Ww { .. } => self.ww,
            Reason::Wr { .. } => self.wr,
            Reason::Rw { .. } => self.rw,
            Reason::RealTime => self.real_time,
        }
    }
}

/// An edge, kept with the transaction that came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge<'a> {
    pub(super) to: usize,
    pub(super) reason: Reason<'a>,
}

/// The limit was met.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLarge {
    pub(super) edges_max: usize,
}

/// The graph of all dependencies. Numbers are those of the transactions.
pub(super) struct Graph<'a> {
    edges: Vec<Vec<Edge<'a>>>,
    count: usize,
}

impl<'a> Graph<'a> {
    pub(super) fn new(transactions: &[Transaction], lists: &Lists<'a>) -> Result<Self, TooLarge> {
        let mut graph = Self { edges: vec![Vec::new(); transactions.len()], count: 0 };
        for (&name, key) in &lists.keys {
            graph.appends(name, key, lists)?;
            graph.reads(name, key, lists)?;
        }
        graph.real_time(transactions)?;
        Ok(graph)
    }

    pub(super) fn edges(&self) -> usize {
        self.count
    }

    pub(super) fn transactions(&self) -> usize {
        self.edges.len()
    }

    /// Returns the edges from a transaction to those that came later.
    pub(super) fn from(&self, number: usize) -> &[Edge<'a>] {
        self.edges.get(number).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, from: usize, to: usize, reason: Reason<'a>) -> Result<(), TooLarge> {
        if from == to {
            return Ok(());
        }
        if self.count >= EDGES_MAX {
            return Err(TooLarge { edges_max: EDGES_MAX });
        }
        if let Some(edges) = self.edges.get_mut(from) {
            edges.push(Edge { to, reason });
            self.count += 1;
        }
        Ok(())
    }

    /// ww: each append behind the one before it; what no read shows is behind all that one does.
    fn appends(&mut self, name: &'a str, key: &Key<'a>, lists: &Lists<'a>) -> Result<(), TooLarge> {
        let writer = |element: &i64| writer(key, lists, *element);
        for (first, second) in key.order.iter().zip(key.order.iter().skip(1)) {
            if let (Some(from), Some(to)) = (writer(first), writer(second)) {
                self.add(from, to, Reason::Ww { key: name, first: *first, second: *second })?;
            }
        }
        let Some((last, from)) = key.order.last().and_then(|last| Some((*last, writer(last)?))) else {
            return Ok(());
        };
        for (second, to) in unseen(key, lists) {
            self.add(from, to, Reason::Ww { key: name, first: last, second })?;
        }
        Ok(())
    }

    /// wr: the last append that a read shows; rw: the first that it does not show.
    fn reads(&mut self, name: &'a str, key: &Key<'a>, lists: &Lists<'a>) -> Result<(), TooLarge> {
        let unseen = unseen(key, lists);
        for seen in key.seen.iter().filter(|seen| key.order.starts_with(seen.list)) {
            let reader = seen.transaction;
            if let Some((element, from)) =
                seen.list.last().and_then(|last| Some((*last, writer(key, lists, *last)?)))
            {
                self.add(from, reader, Reason::Wr { key: name, element })?;
            }
            match key.order.get(seen.list.len()) {
                Some(&element) => {
                    if let Some(to) = writer(key, lists, element) {
                        self.add(reader, to, Reason::Rw { key: name, element })?;
                    }
                }
                None => {
                    for &(element, to) in &unseen {
                        self.add(reader, to, Reason::Rw { key: name, element })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Real time: from what has returned to what is invoked then, without what follows from other such edges.
    fn real_time(&mut self, transactions: &[Transaction]) -> Result<(), TooLarge> {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (number, transaction) in transactions.iter().enumerate() {
            match transaction.end {
                End::Committed { returned_at } => {
                    moments.push((transaction.invoked_at, false, number));
                    moments.push((returned_at, true, number));
                }
                End::Unknown => moments.push((transaction.invoked_at, false, number)),
                End::Aborted => {}
            }
        }
        // At one time invocations come first: what cannot be told apart counts as concurrent.
        moments.sort_unstable();
        // Those returned that no other one returned covers, each with its return.
        let mut newest: Vec<usize> = Vec::new();
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); transactions.len()];
        for (_, is_return, number) in moments {
            let Some(before) = before.get_mut(number) else { continue };
            if is_return {
                newest.retain(|earlier| !before.contains(earlier));
                newest.push(number);
            } else {
                before.clone_from(&newest);
                for &earlier in &newest {
                    self.add(earlier, number, Reason::RealTime)?;
                }
            }
        }
        Ok(())
    }
}

/// The transaction that appended an element that a read shows.
fn writer(key: &Key<'_>, lists: &Lists<'_>, element: i64) -> Option<usize> {
    let writer = key.appends.get(&element)?.transaction;
    lists.happened(writer).then_some(writer)
}

/// Appends that certainly happened and that the longest list does not show, with their transactions.
fn unseen(key: &Key<'_>, lists: &Lists<'_>) -> Vec<(i64, usize)> {
    let shown: BTreeSet<i64> = key.order.iter().copied().collect();
    let appends = key.appends.iter().map(|(element, append)| (*element, append.transaction));
    appends.filter(|(element, writer)| lists.happened(*writer) && !shown.contains(element)).collect()
}
