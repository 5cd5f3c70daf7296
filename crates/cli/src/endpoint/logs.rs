//! `muonic endpoint logs`

use std::io::Read;

use muonic_client::Client;
use muonic_types::endpoint::Endpoint;
use muonic_types::{ErrorCode, Name, ReplicaId};

use crate::context::{Context, note};
use crate::failure::{Exit, Outcome};
use crate::link::Link;
use crate::log::{self, Sink, Source};

/// Print the log of an endpoint's replica
///
/// A terminal gets it without control sequences, a pipe byte for byte.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic endpoint logs -f digits")]
pub struct LogsArgs {
    /// The endpoint
    name: Name,
    /// Go on until the replica ends
    #[arg(long, short)]
    follow: bool,
    /// The replica; the newest without
    #[arg(long, value_name = "ID")]
    replica: Option<ReplicaId>,
}

impl LogsArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let endpoint = client.endpoint(&self.name)?;
        // Named before reading, so that a log read again is the same one.
        let Some(replica) = self.replica.or_else(|| newest(&endpoint)) else {
            note(format!("{} has no replica yet", self.name));
            return Ok(Exit::Ok);
        };
        let mut sink = if context.json() { Sink::JsonLines(Vec::new()) } else { Sink::stdout() };
        if self.follow {
            let source = ReplicaLog { endpoint: self.name, replica };
            log::follow(&Link::new(context)?, &source, &mut sink)?;
        } else {
            log::print(client.endpoint_logs(&self.name, Some(&replica), false, 0)?, &mut sink)?;
        }
        Ok(Exit::Ok)
    }
}

fn newest(endpoint: &Endpoint) -> Option<ReplicaId> {
    endpoint.replicas.iter().max_by_key(|r| r.launched_at).map(|r| r.id.clone())
}

struct ReplicaLog {
    endpoint: Name,
    replica: ReplicaId,
}

impl Source for ReplicaLog {
    fn open(&self, client: &Client, offset: u64, follow: bool) -> muonic_client::Result<Box<dyn Read + Send>> {
        Ok(Box::new(client.endpoint_logs(&self.endpoint, Some(&self.replica), follow, offset)?))
    }

    fn ended(&self, client: &Client) -> muonic_client::Result<bool> {
        match client.endpoint(&self.endpoint) {
            // One that is not listed any more has ended long ago.
            Ok(endpoint) => Ok(!endpoint.replicas.iter().any(|r| r.id == self.replica && r.state.is_live())),
            Err(error) if error.code() == Some(ErrorCode::NotFound) => Ok(true),
            Err(error) => Err(error),
        }
    }
}
