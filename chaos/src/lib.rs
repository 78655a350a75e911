//! Chaos: workload × nemesis × checker over one cluster, Jepsen-style, and the load generators.
//!
//! A run writes one history; checkers read only histories, so that any run can be judged again. A verdict is pass, fail or
//! invalid: a run that did too little, or whose faults left no witness, proves nothing and says so.

pub mod check;
pub mod cli;
pub mod etcd;
pub mod history;
pub mod load;
