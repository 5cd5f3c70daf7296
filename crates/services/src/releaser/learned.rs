//! What was learned of an endpoint's requests, as it is kept.

use muonic_scheduler::keep_alive::History;
use serde::{Deserialize, Serialize};

/// The fields of [`History`], which knows nothing of documents.
#[derive(Serialize, Deserialize)]
#[serde(remote = "History")]
struct Fields {
    gaps: [f64; 14],
    present: [[f64; 14]; 2],
    last_gap_s: Option<f64>,
    last_request_s: Option<f64>,
    last_end_s: Option<f64>,
    running: u32,
    by_hour: [f64; 24],
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Document(#[serde(with = "Fields")] History);

pub(super) fn write(history: &History) -> Option<String> {
    serde_json::to_string(&Document(history.clone())).ok()
}

/// No request runs in what was kept.
pub(super) fn read(document: &str) -> serde_json::Result<History> {
    let Document(history) = serde_json::from_str(document)?;
    Ok(History { running: 0, ..history })
}
