//! The server itself: whether it is well, what it holds, what it costs.

use std::io::Read;

use muonic_types::cost::CostReport;
use muonic_types::lineage::{LineageKind, LineageNode};
use muonic_types::system::{DoctorReport, Status};

use crate::{Client, Error, Result, url::part};

impl Client {
    /// Answers as soon as the server's process does; needs no key.
    pub fn healthz(&self) -> Result<()> {
        let mut text = Vec::new();
        let read = self.read("GET", "/healthz", None)?.take(1 << 16).read_to_end(&mut text);
        read.map(|_| ()).map_err(|e| Error::Connection { url: self.url().to_owned(), reason: e.to_string() })
    }

    pub fn status(&self) -> Result<Status> {
        self.get("/api/v1/status")
    }

    pub fn doctor(&self) -> Result<DoctorReport> {
        self.get("/api/v1/doctor")
    }

    pub fn cost(&self) -> Result<CostReport> {
        self.get("/api/v1/cost")
    }

    /// `name` is a name, `name@version` or a job's id.
    pub fn lineage(&self, kind: LineageKind, name: &str) -> Result<LineageNode> {
        let kind = match kind {
            LineageKind::Endpoint => "endpoint",
            LineageKind::Model => "model",
            LineageKind::Job => "job",
            LineageKind::Dataset => "dataset",
        };
        self.get(&format!("/api/v1/lineage/{kind}/{}", part(name)))
    }
}
