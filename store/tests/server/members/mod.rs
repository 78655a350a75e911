//! Members come, go and move while the cluster works: real files, sockets and threads in one process.

mod changes;
mod cluster;
mod level;
mod replacement;
