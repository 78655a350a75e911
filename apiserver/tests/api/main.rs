//! The API server from outside: real TLS, real HTTP and gRPC, an in-memory store.

mod bind;
mod harness;
mod leadership;
mod node_channel;
mod objects;
mod security;
mod watch;
