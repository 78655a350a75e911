//! The one binary: parses arguments, runs what was asked, turns the outcome into an exit code.

mod agent;
mod args;
mod files;
mod image;
mod kubeconfig;
mod outcome;
mod server;
mod telemetry;
mod token;
mod up;
mod wiring;

use std::process::ExitCode;

pub(crate) use wiring::{runtime, stop_signal};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    wiring::abort_with_raft();
    outcome::exit_code(args::run())
}
