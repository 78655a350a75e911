//! What the client port answers beside gRPC clients of etcd: plain HTTP for people and monitors, health and reflection for tools,
//! JSON for whoever has no gRPC.

mod gateway;
mod metrics;
mod plain;
mod reads;
mod secure;
