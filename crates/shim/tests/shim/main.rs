//! The real shim as a process, against a server that keeps the attempt
//! protocol in memory.

mod builds;
mod cases;
mod server;
mod stress;
mod support;
