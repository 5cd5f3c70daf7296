//! `muonic status`

use muonic_types::Timestamp;
use muonic_types::system::Status;

use crate::context::Context;
use crate::failure::{Exit, Outcome};
use crate::render::{Page, Screen, human};

/// Show where the server listens, what it has and what it is doing
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic status")]
pub struct StatusArgs {}

impl StatusArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let status = context.client()?.status()?;
        context.show(&status, || text(&status, context.now(), context.screen()))?;
        Ok(Exit::Ok)
    }
}

fn text(status: &Status, now: Timestamp, screen: Screen) -> String {
    let store = match (status.writable, &status.reason) {
        (true, _) => human::size(status.stored_bytes),
        (false, None) => format!("{}, cannot be written", human::size(status.stored_bytes)),
        (false, Some(reason)) => format!("{}, cannot be written: {reason}", human::size(status.stored_bytes)),
    };
    Page::new(
        screen,
        format!(
            "muonic {} has been running for {}",
            status.version,
            human::about(human::between(status.started_at, now))
        ),
    )
    .line("address", &status.url)
    .line("S3", &status.s3_url)
    .line("data folder", &status.data)
    .line("machine", human::resources(&status.capacity))
    .line("free", human::resources(&status.free))
    .line("jobs", format!("{} running, {} queued", status.jobs_running, status.jobs_queued))
    .line("endpoints", status.endpoints)
    .line("datasets", status.datasets)
    .line("models", status.models)
    .line("stored", store)
    .text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::Resources;

    #[test]
    fn a_page() {
        let all = Resources::parse_over(Resources::default(), "cpu=2,memory=8Gi").unwrap();
        let status = Status {
            version: "0.1.0".into(),
            data: "/data".into(),
            url: "http://127.0.0.1:7070".into(),
            s3_url: "http://127.0.0.1:7071".into(),
            started_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            capacity: all,
            free: Resources::parse_over(all, "cpu=500m").unwrap(),
            jobs_queued: 1,
            jobs_running: 2,
            endpoints: 0,
            datasets: 1,
            models: 0,
            stored_bytes: 2048,
            writable: false,
            reason: Some("the disk is full".into()),
        };
        assert_eq!(
            text(&status, "2026-11-03T12:05:00Z".parse().unwrap(), Screen::PIPE),
            "muonic 0.1.0 has been running for 5m
  address       http://127.0.0.1:7070
  S3            http://127.0.0.1:7071
  data folder   /data
  machine       cpu=2 memory=8Gi
  free          cpu=500m memory=8Gi
  jobs          2 running, 1 queued
  endpoints     0
  datasets      1
  models        0
  stored        2.0 KiB, cannot be written: the disk is full
"
        );
    }
}
