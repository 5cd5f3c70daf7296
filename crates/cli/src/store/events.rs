//! What happens to the objects of a bucket.

use std::time::Duration;

use muonic_types::store::{BucketEvent, BucketEventList};

use crate::context::{Context, json_line, note, pour};
use crate::failure::{Exit, Outcome, Result};
use crate::link::{Link, ask};
use crate::render::{human, one_line};

/// Longest single wait for an event.
const WAIT: Duration = Duration::from_secs(25);

/// Show what happened to the objects of a bucket
///
/// As far as the bucket's notification configuration asks for it; events are
/// kept for a week. With --output json and --follow, each event is a line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic store events my-bucket
  muonic store events my-bucket --follow")]
pub struct EventsArgs {
    bucket: String,
    /// Only events after the one with this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// Wait for more, until interrupted
    #[arg(long, short)]
    follow: bool,
}

impl EventsArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let link = Link::new(context)?;
        let mut all = BucketEventList { events: Vec::new(), next: self.after, gap: false };
        loop {
            let wait = if self.follow { WAIT } else { Duration::ZERO };
            let page = ask(&link, |client| client.bucket_events(&self.bucket, all.next, wait))?;
            if page.gap && !all.gap {
                note("events before these are forgotten: they are kept for a week");
            }
            all.next = page.next;
            all.gap |= page.gap;
            let is_last = page.events.is_empty() && !self.follow;
            if !context.json() {
                pour(page.events.iter().map(line).collect::<String>().as_bytes())?;
            } else if self.follow {
                pour(page.events.iter().map(json_line).collect::<Result<String>>()?.as_bytes())?;
            } else {
                all.events.extend(page.events);
            }
            if is_last {
                if context.json() {
                    context.show_json(&all)?;
                } else if all.next == self.after {
                    note(if self.after > 0 { "nothing has happened since" } else { "nothing has happened yet" });
                }
                return Ok(Exit::Ok);
            }
        }
    }
}

fn line(event: &BucketEvent) -> String {
    let name = event.name.strip_prefix("s3:").unwrap_or(&event.name);
    let size = if event.size > 0 { human::size(event.size) } else { String::new() };
    format!("{:>8}  {}  {name:<36}  {size:>9}  {}\n", event.number, human::instant(event.at), one_line(&event.key))
}
