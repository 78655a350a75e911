//! Chaos: workload × nemesis × checker over one cluster, Jepsen-style, and the load generators.
//!
//! A run writes one history; checkers read only histories, so that any run can be judged again. A verdict is pass, fail or
//! invalid: a run that did too little, or whose faults left no witness, proves nothing and says so.

pub mod history;

pub mod check;
pub mod etcd;
pub mod kubernetes;

pub mod workload;

pub mod cluster;
pub mod nemesis;

pub mod run;

pub mod report;

pub mod export;
pub mod golden;

pub mod cli;
pub mod load;
