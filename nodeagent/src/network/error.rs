//! What can go wrong at the kernel's network edge.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::network::Ipv4Net;

/// A network operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The program is missing or could not be started.
    #[error("cannot start {program}: {source}")]
    Start { program: &'static str, source: std::io::Error },
    /// The program refused what it was given.
    #[error("{program}: {message}")]
    Refused { program: &'static str, message: String },
    /// The program's answer was not understood.
    #[error("{program} answered {answer:?}")]
    Answer { program: &'static str, answer: String },
    /// A network namespace could not be made, entered or removed.
    #[error("network namespace {path}: {action}: {source}")]
    Netns { path: PathBuf, action: &'static str, source: std::io::Error },
    /// A kernel setting could not be written.
    #[error("cannot set {path}: {source}")]
    Sysctl { path: String, source: std::io::Error },
    /// Every address of the node's range is taken.
    #[error("no free address in {range}")]
    Exhausted { range: Ipv4Net },
    /// The range is too small or too large for what it is used for.
    #[error("unusable range {range}: {reason}")]
    Range { range: Ipv4Net, reason: &'static str },
    /// Another cluster on this machine uses the address or range.
    #[error("{address} is already in use by {owner}")]
    InUse { address: Ipv4Addr, owner: String },
    /// The machine has no IPv4 address that others could reach.
    #[error("no IPv4 address besides loopback")]
    NoAddress,
    /// The record of given addresses cannot be read or written.
    #[error("address record {path}: {reason}")]
    Record { path: PathBuf, reason: String },
    /// The thread inside the namespace ended without an answer.
    #[error("the namespace thread ended early")]
    ThreadEnded,
}
