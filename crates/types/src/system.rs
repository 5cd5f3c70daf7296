//! The server itself: where it listens, what it has, whether it is well.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Resources, Timestamp};

/// Every answer of a server names it in this header, by what it wrote to
/// `DATA/local/server.id` when it started.
pub const SERVER_HEADER: &str = "x-muonic-server";

/// `DATA/local.json`: where the CLI on the same machine finds the server.
/// Mode 0600, since it holds the administrator's token.
#[derive(Clone, Serialize, Deserialize)]
pub struct LocalFile {
    pub version: u32,
    /// `http://127.0.0.1:7070`
    pub url: String,
    /// `http://127.0.0.1:7071`
    pub s3_url: String,
    pub key_id: String,
    pub secret: String,
    pub token: String,
    pub pid: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    /// The data folder.
    pub data: String,
    pub url: String,
    pub s3_url: String,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// What the engine has, and what of it is free.
    pub capacity: Resources,
    pub free: Resources,
    pub jobs_queued: u64,
    pub jobs_running: u64,
    pub endpoints: u64,
    pub datasets: u64,
    pub models: u64,
    /// Bytes of blobs in the store.
    pub stored_bytes: u64,
    /// False once a sync has failed or the disk is full; `reason` says.
    pub writable: bool,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    Ok,
    /// Works, with something missing that the detail names.
    Warning,
    Failed,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Check {
    pub name: String,
    pub result: CheckResult,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DoctorReport {
    pub checks: Vec<Check>,
}
