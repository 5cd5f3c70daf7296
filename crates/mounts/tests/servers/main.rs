//! Mounts of servers that others wrote.

mod azure;
#[path = "../common/mod.rs"]
mod common;
mod gcs;
#[cfg(feature = "hdfs")]
mod hdfs;
mod program;
mod s3;
mod walk;
