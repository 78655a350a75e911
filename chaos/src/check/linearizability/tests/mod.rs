//! The search against every order there is, and against the smallest example of each rule.

mod brute_force;
mod generated;
mod rules;
