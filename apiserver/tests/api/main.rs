//! The API server from outside: real TLS, real HTTP and gRPC, an in-memory store.

#[cfg(test)]
mod bind;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod leadership;
#[cfg(test)]
mod node_channel;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod security;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod watch;
